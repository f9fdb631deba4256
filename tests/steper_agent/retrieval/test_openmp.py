"""FAISS and torch in one process, each with an OpenMP of its own: the same answers from any thread, in any order of imports."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from steper_agent.retrieval import openmp

TOGETHER = """
import sys
from concurrent.futures import ThreadPoolExecutor
for name in sys.argv[1].split(","):
    if name == "torch":
        import torch
    else:
        from steper_agent.retrieval.openmp import load_faiss
        load_faiss()
import numpy as np
import torch
from steper_agent.retrieval.openmp import load_faiss, team

rng = np.random.default_rng(0)
vectors = rng.standard_normal((20_000, 64), dtype=np.float32)
index = load_faiss().IndexFlatIP(64)
index.add(vectors)
matrix = torch.from_numpy(vectors[:500])

def search(at):
    with team(30):
        return index.search(vectors[at : at + 30], 5)[1].tolist()

def multiply(at):
    return float((matrix @ matrix.T)[at % 500].sum())

expected = [(search(at), multiply(at)) for at in range(40)]
with ThreadPoolExecutor(4) as pool:
    for _ in range(3):
        searches = [pool.submit(search, at) for at in range(40)]
        products = [pool.submit(multiply, at) for at in range(40)]
        assert [one.result() for one in searches] == [rows for rows, _ in expected]
        for one, (_, sum_) in zip(products, expected):
            assert abs(one.result() - sum_) < 1e-2
print("alike")
"""


@pytest.mark.parametrize("order", ["torch,faiss", "faiss,torch"])
def test_searches_between_products_of_matrices_answer_alike_from_all_threads(order: str) -> None:
    pytest.importorskip("torch")
    threads = {"OMP_NUM_THREADS": "2"}
    asked = [sys.executable, "-c", textwrap.dedent(TOGETHER), order]
    run = subprocess.run(asked, capture_output=True, text=True, timeout=240, env={**os.environ, **threads})
    assert (run.returncode, run.stdout.strip()) == (0, "alike"), run.stderr


@pytest.fixture
def _cores() -> Iterator[None]:
    """OpenMP gives this thread four, as on a machine of four cores; afterwards what it had."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(4)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("_cores")
@pytest.mark.parametrize(("queries", "size"), [(1, 1), (3, 3), (64, 4)])
def test_a_team_is_never_larger_than_the_batch_and_ends_with_the_block(queries: int, size: int) -> None:
    import faiss

    with openmp.team(queries):
        assert faiss.omp_get_max_threads() == size
    assert faiss.omp_get_max_threads() == 4


KEPT = """
import sys
from pathlib import Path
import torch
from steper_agent.retrieval import build_index, open_index
from tests.steper_agent.retrieval.shelves import HashEncoder

folder = Path(sys.argv[1])
(folder / "passages.jsonl").write_text('{"id": "a", "title": "Ada", "text": "wrote"}')
build_index([folder / "passages.jsonl"], folder / "index", mode="dense", encoder=HashEncoder())
index = open_index(folder / "index", HashEncoder())
before = torch.get_num_threads()
index.search("ada", 1)
print(before, torch.get_num_threads())
"""


def test_a_search_leaves_torch_its_threads(tmp_path: Path) -> None:
    """In a fresh process, where torch is imported first and FAISS finds its runtime."""
    pytest.importorskip("torch")
    run = subprocess.run([sys.executable, "-c", KEPT, str(tmp_path)], capture_output=True, text=True, timeout=240,
                         env={**os.environ, "OMP_NUM_THREADS": "2"}, cwd=Path(__file__).parents[3])  # fmt: skip
    assert run.stdout.split() == ["2", "2"], run.stderr


@pytest.mark.usefixtures("_cores")
def test_where_runtimes_clash_faiss_keeps_to_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "CLASH", True)
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "TRUE")
    assert openmp.load_faiss().omp_get_max_threads() == 1
    with openmp.team(64):
        assert openmp.load_faiss().omp_get_max_threads() == 1
