"""Dense search against brute force, for every kind of index: ties, deleted rows, additions, batches, damage, memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from steper_agent.errors import ConfigError, IndexFault
from steper_agent.records import Passage
from steper_agent.retrieval.choosing import DenseKind, Flat, Hnsw, Ivf, IvfPq, choose
from steper_agent.retrieval.dense import DenseIndex, build, extend
from steper_agent.retrieval.openmp import BLAS_FROM
from steper_agent.retrieval.ranking import Scored
from tests.steper_agent.retrieval.shelves import HashEncoder
from tests.steper_agent.retrieval.vectors import RowEncoder, shards_of, unit_mixture

Settings = Flat | Hnsw | Ivf | IvfPq
WIDTH = 32
ALL: list[Settings] = [Flat(), Hnsw(), Ivf(lists=16, probes=8), IvfPq(lists=16, probes=8, pq_bytes=16)]
WHOLE = ALL[:3]
"""Those that keep whole vectors."""


def kind_of(settings: Settings) -> str:
    return settings.kind


def opened(vectors: NDArray[np.float32], folder: Path, settings: Settings, gone: list[int] | None = None) -> DenseIndex:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "dense.faiss").exists():
        build(shards_of(vectors, folder / "vectors"), folder / "dense.faiss", settings)
    rows = np.asarray(gone, dtype=np.int64) if gone is not None else None
    width = vectors.shape[1]
    return DenseIndex(folder / "dense.faiss", RowEncoder(vectors), settings, dimension=width, gone=rows)


def brute_force(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int, gone: set[int]) -> set[int]:
    """The k best live rows and those that tie with the k-th; a zero vector finds nothing."""
    cosines = (vectors * query).sum(axis=1)
    if not query.any():
        return set()
    live = sorted((row for row in range(len(vectors)) if row not in gone), key=lambda row: -cosines[row])
    return {row for row in live if cosines[row] >= cosines[live[min(k, len(live)) - 1]]} if live else set()


def twins() -> NDArray[np.float32]:
    """Vectors of which many are equal, and some zero."""
    once = unit_mixture(40, WIDTH)
    once[7] = 0
    return np.concatenate([once, once[:20], once[:5], once[:5]])


@pytest.mark.parametrize("k", [1, 3, 50, 70, 1000])
@pytest.mark.parametrize("gone", [[], [0, 1, 40, 69], list(range(60))], ids=["none", "some", "most"])
def test_flat_search_agrees_with_brute_force_ties_included(k: int, gone: list[int], tmp_path: Path) -> None:
    vectors = twins()
    index = opened(vectors, tmp_path, Flat(), gone)
    for query, found in zip(vectors, index.search_many([str(row) for row in range(70)], k), strict=True):
        assert {row for row, _ in found} == brute_force(vectors, query, k, set(gone))
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx([float(vectors[row] @ query) for row, _ in found], abs=1e-5)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("gone", [[], [0, 7, 299]], ids=["none", "some"])
@pytest.mark.parametrize("k", [5, 250, 299, 300])
@pytest.mark.parametrize("probes", [1, 8, 15, 16])
def test_in_clusters_few_vectors_that_many_passages_share_are_all_found(
    probes: int, k: int, gone: list[int], tmp_path: Path
) -> None:
    vectors = np.repeat(unit_mixture(2, WIDTH), 150, axis=0)
    index = opened(vectors, tmp_path, Ivf(lists=16, probes=probes), gone)
    for row in (0, 299):
        # Alone: beside one that finds too few, a query looks into every cluster.
        (found,) = index.search_many([str(row)], k)
        assert {row for row, _ in found} == brute_force(vectors, vectors[row], k, set(gone))


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_a_batch_answers_as_its_queries_one_by_one(settings: Settings, tmp_path: Path) -> None:
    # So many queries FAISS multiplies by blocks, and rounds otherwise than one.
    assert 160 * WIDTH > BLAS_FROM
    vectors = np.concatenate([unit_mixture(2000, WIDTH), unit_mixture(2000, WIDTH)[:50]])
    index = opened(vectors, tmp_path, settings, [3, 2003])
    queries = [str(row) for row in range(160)]
    together = index.search_many(queries, 7)
    assert together == [index.search_many([query], 7)[0] for query in queries]
    assert all({at, at + 2000} <= {row for row, _ in together[at]} for at in range(50) if at != 3)


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_deleted_rows_are_never_found_however_many_lie_near(settings: Settings, tmp_path: Path) -> None:
    vectors = unit_mixture(2000, WIDTH, clusters=8)
    # All neighbours of a query are deleted: its clusters are empty, and others must be looked into.
    near = np.sort((vectors @ vectors[0]).argsort()[-1200:])
    index = opened(vectors, tmp_path, settings, near.tolist())
    (found,) = index.search_many(["0"], 10)
    assert len(found) >= 10
    assert not {row for row, _ in found} & set(near.tolist())


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_nothing_is_found_where_everything_is_deleted_or_nothing_is_asked(settings: Settings, tmp_path: Path) -> None:
    vectors = unit_mixture(300, WIDTH)
    assert opened(vectors, tmp_path, settings, list(range(300))).search_many(["0", "1"], 5) == [[], []]
    index = opened(vectors, tmp_path, settings)
    assert index.search_many([], 5) == []
    assert index.search_many(["0"], 0) == [[]]
    assert index.rows == 300


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_threads_share_an_index(settings: Settings, tmp_path: Path) -> None:
    index = opened(unit_mixture(2000, WIDTH), tmp_path, settings)
    queries = [[str(row), str(row + 1)] for row in range(40)]
    expected = [index.search_many(pair, 5) for pair in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda pair: index.search_many(pair, 5), queries)) == expected


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_nine_of_ten_neighbours_and_more_are_found_at_the_chosen_settings(kind: DenseKind, tmp_path: Path) -> None:
    vectors = unit_mixture(20_200, 64)
    stored, asked = vectors[:20_000], vectors[20_000:]
    index = opened(stored, tmp_path, choose(*stored.shape, kind=kind))
    assert recall(stored, asked, index.nearest(asked, 10)) >= 0.95


def recall(stored: NDArray[np.float32], asked: NDArray[np.float32], found: list[list[Scored]]) -> float:
    best = (asked @ stored.T).argsort(axis=1)[:, -10:]
    hits = [len({row for row, _ in its[:10]} & set(true.tolist())) for its, true in zip(found, best, strict=True)]
    return sum(hits) / (10 * len(hits))


def test_a_flat_file_is_the_one_that_faiss_writes(tmp_path: Path) -> None:
    vectors = unit_mixture(2500, WIDTH)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(vectors)
    faiss.write_index(index, str(tmp_path / "theirs"))
    build(shards_of(vectors, tmp_path / "vectors"), tmp_path / "ours", Flat())
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_flat_index_that_grew_is_the_one_built_at_once(tmp_path: Path) -> None:
    vectors = unit_mixture(2500, WIDTH)
    build(shards_of(vectors, tmp_path / "all"), tmp_path / "once", Flat())
    build(shards_of(vectors[:1200], tmp_path / "some"), tmp_path / "before", Flat())
    extend(tmp_path / "before", tmp_path / "after", shards_of(vectors[1200:], tmp_path / "more"))
    assert (tmp_path / "after").read_bytes() == (tmp_path / "once").read_bytes()


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_added_rows_are_found_and_the_old_file_stays(settings: Settings, tmp_path: Path) -> None:
    vectors = unit_mixture(2000, WIDTH)
    build(shards_of(vectors[:1500], tmp_path / "some"), tmp_path / "before", settings)
    before = (tmp_path / "before").read_bytes()
    extend(tmp_path / "before", tmp_path / "after", shards_of(vectors[1500:], tmp_path / "more"))
    index = DenseIndex(tmp_path / "after", RowEncoder(vectors), settings, dimension=WIDTH)
    assert index.rows == 2000
    found = index.search_many([str(row) for row in range(0, 2000, 50)], 3)
    assert [its[0][0] for its in found] == list(range(0, 2000, 50))
    assert (tmp_path / "before").read_bytes() == before


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_the_encoder_that_built_it_agrees_and_others_do_not(settings: Settings, tmp_path: Path) -> None:
    vectors = np.concatenate([unit_mixture(600, WIDTH), np.repeat(unit_mixture(1, WIDTH, seed=5), 60, axis=0)])
    index = opened(vectors, tmp_path, settings)
    rows = [0, 165, 330, 495, 659]
    passages = [Passage(id=str(row), title="", text=str(row)) for row in rows]
    assert index.agreement(rows, passages) > 0.99
    assert index.agreement(rows, passages[1:] + passages[:1]) < 0.99
    other = RowEncoder(unit_mixture(660, WIDTH, seed=3))
    assert DenseIndex(tmp_path / "dense.faiss", other, settings, dimension=WIDTH).agreement(rows, passages) < 0.99


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
@pytest.mark.parametrize("left", [0, 10, 0.5, 0.999])
def test_a_torn_file_is_refused(settings: Settings, left: float, tmp_path: Path) -> None:
    opened(unit_mixture(2000, WIDTH), tmp_path, settings)
    file = tmp_path / "dense.faiss"
    content = file.read_bytes()
    file.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.raises(IndexFault, match="dense.faiss"):
        DenseIndex(file, RowEncoder(np.empty((0, WIDTH), np.float32)), settings, dimension=WIDTH)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IndexFault, match="cannot be read"):
        DenseIndex(tmp_path / "dense.faiss", HashEncoder(), Flat(), dimension=16)


def test_another_dimension_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    vectors = unit_mixture(50, WIDTH)
    opened(vectors, tmp_path, Flat())
    file = tmp_path / "dense.faiss"
    with pytest.raises(IndexFault, match="manifest says 16 numbers a passage, the vectors have 32"):
        DenseIndex(file, HashEncoder(16), Flat(), dimension=16)
    with pytest.raises(IndexFault, match="holds 32 numbers a passage, the encoder makes 16"):
        DenseIndex(file, HashEncoder(16), Flat(), dimension=32).search_many(["engine"], 3)
    with pytest.raises(IndexFault, match="holds 32 numbers a passage, the encoder makes 8"):
        extend(file, tmp_path / "new", shards_of(unit_mixture(5, 8), tmp_path / "narrow"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (Ivf(lists=101, probes=1), "at least 101 passages"),
        (IvfPq(lists=4, probes=1, pq_bytes=8), "at least 256 passages"),
        (IvfPq(lists=4, probes=1, pq_bytes=5), "do not divide 32"),
    ],
)
def test_settings_that_do_not_suit_the_vectors_are_an_error(settings: Settings, match: str, tmp_path: Path) -> None:
    rows = 300 if "divide" in match else 100
    with pytest.raises(ConfigError, match=match):
        opened(unit_mixture(rows, WIDTH), tmp_path, settings)


@pytest.mark.parametrize("settings", ALL, ids=kind_of)
def test_a_build_that_fails_leaves_the_file_before_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(unit_mixture(300, WIDTH), tmp_path, settings)
    before = (tmp_path / "dense.faiss").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _handle: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(OSError, match="no space"):
        build(shards_of(unit_mixture(400, WIDTH), tmp_path / "more"), tmp_path / "dense.faiss", settings)
    assert (tmp_path / "dense.faiss").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense.faiss", "more", "vectors"]


def test_a_flat_build_is_the_same_every_time_and_an_ivf_build_too(tmp_path: Path) -> None:
    vectors = unit_mixture(2000, WIDTH)
    for settings in (Flat(), ALL[2], ALL[3]):
        files = []
        for turn in range(2):
            files.append(tmp_path / f"{settings.kind}{turn}")
            build(shards_of(vectors, tmp_path / f"v{settings.kind}{turn}"), files[-1], settings)
        assert files[0].read_bytes() == files[1].read_bytes()


OPENED = """
import sys, numpy as np, psutil
from pathlib import Path
from pydantic import TypeAdapter
from steper_agent.retrieval.choosing import DenseSettings
from steper_agent.retrieval.dense import DenseIndex
from steper_agent.retrieval.openmp import load_faiss
from tests.steper_agent.retrieval.vectors import RowEncoder

query = np.ones((1, 256), np.float32) / 16
load_faiss()
path, settings = Path(sys.argv[1]), TypeAdapter(DenseSettings).validate_json(sys.argv[2])
before = psutil.Process().memory_info().rss
index = DenseIndex(path, RowEncoder(query), settings, dimension=256)
print(psutil.Process().memory_info().rss - before)
"""


@pytest.mark.parametrize("settings", [Flat(), Hnsw(m=4, ef_construction=4), Ivf(lists=32, probes=4)], ids=kind_of)
def test_an_opened_index_is_mapped_and_not_read(settings: Settings, tmp_path: Path) -> None:
    opened(unit_mixture(30_000, 256), tmp_path, settings)
    file = tmp_path / "dense.faiss"
    asked = [sys.executable, "-c", textwrap.dedent(OPENED), str(file), settings.model_dump_json()]
    run = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert int(run.stdout) < file.stat().st_size / 4
