"""Shards of vectors: what is there is not made again, what is not ours is never taken, and memory stays small."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from steper_agent.errors import ConfigError
from steper_agent.records import Passage
from steper_agent.retrieval import vectors
from steper_agent.retrieval.encoders import Encoder, LangChainEncoder, Prefixes
from steper_agent.retrieval.vectors import Shards, write_shards
from tests.steper_agent.retrieval.shelves import HashEncoder

PASSAGES = [Passage(id=str(at), title=f"t{at % 7}", text=f"word{at % 5} word{at}") for at in range(100)]


class Counting(Encoder):
    """Counts the texts it encodes, and dies when it may encode no more."""

    def __init__(self, allowed: int = 10**9, spec: str = "counting", prefixes: Prefixes | None = None) -> None:
        super().__init__(spec, prefixes or Prefixes())
        self.texts = 0
        self._allowed = allowed
        self._inner = HashEncoder(8)

    def _passages(self, texts: list[str]) -> list[list[float]]:
        self.texts += len(texts)
        if self.texts > self._allowed:
            raise KeyboardInterrupt
        return self._inner.embed_documents([self.prefixes.passage + text for text in texts])

    def _queries(self, texts: list[str]) -> list[list[float]]:
        return self._passages(texts)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SHARD", 16)
    monkeypatch.setattr(vectors, "BLOCK", 5)


def all_of(shards: Shards) -> list[list[float]]:
    return [row for block in shards.blocks() for row in block.tolist()]


def test_what_is_encoded_is_read_in_the_order_of_rows(tmp_path: Path) -> None:
    told: list[int] = []
    shards = write_shards(PASSAGES, range(100), Counting(), tmp_path, told.append)
    assert (shards.rows, shards.dimension, len(shards.files)) == (100, 8, 7)
    assert all_of(shards) == [Counting().passages([f"{one.title}\n{one.text}"])[0].tolist() for one in PASSAGES]
    assert told == sorted(set(told))
    assert told[-1] == 100


@pytest.mark.parametrize("died", [0, 15, 16, 47, 99])
def test_a_run_that_died_goes_on_at_the_first_missing_shard(died: int, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_shards(PASSAGES, range(100), Counting(allowed=died), tmp_path)
    encoder = Counting()
    resumed = write_shards(PASSAGES, range(100), encoder, tmp_path)
    assert encoder.texts == 100 - died // 16 * 16
    assert all_of(resumed) == all_of(write_shards(PASSAGES, range(100), Counting(), tmp_path / "other"))


def test_the_same_again_encodes_nothing(tmp_path: Path) -> None:
    write_shards(PASSAGES, range(100), Counting(), tmp_path)
    assert all_of(write_shards(PASSAGES, range(100), Counting(allowed=0), tmp_path))


@pytest.mark.parametrize(
    "other",
    [Counting(spec="another"), Counting(prefixes=Prefixes(passage="passage: "))],
    ids=["encoder", "prefix"],
)
def test_shards_of_another_encoder_are_never_taken(other: Counting, tmp_path: Path) -> None:
    write_shards(PASSAGES, range(100), Counting(), tmp_path)
    shards = write_shards(PASSAGES, range(100), other, tmp_path)
    assert other.texts == 100
    assert sorted(tmp_path.iterdir()) == list(shards.files)


def test_only_the_shard_of_a_changed_passage_is_made_again(tmp_path: Path) -> None:
    write_shards(PASSAGES, range(100), Counting(), tmp_path)
    changed = [*PASSAGES[:40], Passage(id="40", title="", text="changed"), *PASSAGES[41:]]
    encoder = Counting()
    write_shards(changed, range(100), encoder, tmp_path)
    assert encoder.texts == 16


@pytest.mark.parametrize("left", [0, 40, 200])
def test_a_torn_shard_is_made_again(left: int, tmp_path: Path) -> None:
    shards = write_shards(PASSAGES, range(100), Counting(), tmp_path)
    expected = all_of(shards)
    shards.files[2].write_bytes(shards.files[2].read_bytes()[:left])
    encoder = Counting()
    assert all_of(write_shards(PASSAGES, range(100), encoder, tmp_path)) == expected
    assert encoder.texts == 16


def test_rows_behind_others_are_encoded_alone(tmp_path: Path) -> None:
    encoder = Counting()
    shards = write_shards(PASSAGES, range(90, 100), encoder, tmp_path)
    assert (encoder.texts, shards.rows) == (10, 10)
    assert all_of(shards) == all_of(write_shards(PASSAGES, range(100), Counting(), tmp_path / "all"))[90:]


def test_an_encoder_that_changes_its_dimension_is_an_error(tmp_path: Path) -> None:
    class Growing(Counting):
        def _passages(self, texts: list[str]) -> list[list[float]]:
            self.texts += 1
            return [[1.0] * (8 if self.texts < 6 else 9) for _ in texts]

    with pytest.raises(ConfigError, match="makes 9 numbers after making 8"):
        write_shards(PASSAGES, range(100), Growing(), tmp_path)


@pytest.mark.parametrize("most", [1, 17, 99, 100, 500])
def test_a_sample_is_a_part_and_the_same_every_time(most: int, tmp_path: Path) -> None:
    shards = write_shards(PASSAGES, range(100), Counting(), tmp_path)
    sample = shards.sample(most)
    assert sample.shape == (min(most, 100), 8)
    rows = all_of(shards)
    assert all(row in rows for row in sample.tolist())
    assert np.array_equal(sample, shards.sample(most))


def test_memory_stays_at_a_shard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Cheap(Counting):
        def _passages(self, texts: list[str]) -> list[list[float]]:
            return np.ones((len(texts), 1000), dtype=np.float32)  # type: ignore[return-value]

    monkeypatch.setattr(vectors, "SHARD", 256)
    monkeypatch.setattr(vectors, "BLOCK", 64)
    many = [Passage(id=str(at), title="", text="x") for at in range(256 * 24)]
    tracemalloc.start()
    shards = write_shards(many, range(len(many)), Cheap(), tmp_path)
    sums = sum(float(block[:, 0].sum()) for block in shards.blocks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums > 0
    shard = 256 * 1000 * 4
    assert peak < 6 * shard, f"{peak / shard:.1f} shards at the peak"


SLOW = """
import sys, time
from pathlib import Path
from steper_agent.records import Passage
from steper_agent.retrieval import vectors
from tests.steper_agent.retrieval.test_vectors import PASSAGES, Counting

class Slow(Counting):
    def _passages(self, texts):
        time.sleep(0.02)
        return super()._passages(texts)

vectors.SHARD, vectors.BLOCK = 16, 5
vectors.write_shards(PASSAGES, range(100), Slow(), Path(sys.argv[1]))
"""


def test_a_run_that_was_killed_loses_no_whole_shard(tmp_path: Path) -> None:
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SLOW), str(tmp_path)])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("shard-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    whole = {file: file.stat().st_mtime_ns for file in tmp_path.glob("shard-*")}
    assert len(whole) >= 2
    encoder = Counting()
    shards = write_shards(PASSAGES, range(100), encoder, tmp_path)
    assert encoder.texts == 100 - sum(16 for file in whole if "00006" not in file.name)
    assert {file: file.stat().st_mtime_ns for file in whole} == whole
    assert sorted(tmp_path.iterdir()) == list(shards.files)


def test_a_langchain_encoder_fills_shards_too(tmp_path: Path) -> None:
    encoder = LangChainEncoder(HashEncoder(8), "object:hash", Prefixes())
    assert (
        all_of(write_shards(PASSAGES, range(20), encoder, tmp_path))
        == encoder.passages([f"{one.title}\n{one.text}" for one in PASSAGES[:20]]).tolist()
    )
