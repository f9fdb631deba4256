"""FAISS and torch in one process, each with an OpenMP of its own: the same answers from any thread, in any order of imports."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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
from steper_agent.retrieval.openmp import load_faiss

rng = np.random.default_rng(0)
vectors = rng.standard_normal((20_000, 64), dtype=np.float32)
index = load_faiss().IndexFlatIP(64)
index.add(vectors)
matrix = torch.from_numpy(vectors[:500])

def search(at):
    load_faiss()
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
def _cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that gives OpenMP four threads, and this thread's team as it was, afterwards."""
    import faiss

    before = faiss.omp_get_max_threads()
    monkeypatch.setattr(openmp, "_most", lambda: 4)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("_cores")
@pytest.mark.parametrize(("queries", "team"), [(1, 1), (3, 3), (64, 4)])
def test_a_team_is_never_larger_than_the_batch_in_any_thread(queries: int, team: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: openmp.load_faiss(queries).omp_get_max_threads()).result() == team
    assert openmp.load_faiss(queries).omp_get_max_threads() == team
    assert openmp.load_faiss().omp_get_max_threads() == 4


@pytest.mark.usefixtures("_cores")
def test_where_runtimes_clash_faiss_keeps_to_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "CLASH", True)
    monkeypatch.setenv("KMP_DUPLICATE_LIB_OK", "TRUE")
    assert openmp.load_faiss().omp_get_max_threads() == 1
    assert openmp.load_faiss(64).omp_get_max_threads() == 1
