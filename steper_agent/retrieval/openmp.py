"""The one door to FAISS: how many threads it may open, beside torch, which brings an OpenMP runtime of its own or shares it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BLAS_FROM = 4096
"""Numbers in a batch of queries from which FAISS multiplies it by blocks, ten queries of 384. Its own bound, 128,000, makes 64
queries cost 64 times one, where a block of them costs 15 times one."""
CLASH = sys.platform in ("darwin", "win32")
"""Two OpenMP runtimes in one process end it or crash it."""


def load_faiss() -> Any:
    """The module `faiss`.

    macOS, Windows: two copies of libomp, or two runtimes, abort a process that loads both ("OMP: Error #15") or crash it in a
    parallel loop (faiss-wheels#73, pytorch#149201, faiss#1977). There the second runtime is let in, and FAISS keeps to the calling
    thread; searches of several threads still run side by side.
    """
    if CLASH:
        # Read when the second runtime starts, so it must stand before either is imported.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    import faiss

    faiss.cvar.distance_compute_blas_threshold = BLAS_FROM
    if CLASH:
        faiss.omp_set_num_threads(1)
    return faiss


@contextmanager
def team(queries: int) -> Iterator[None]:
    """FAISS searches for so many queries at once with no more threads than that, in this block and this thread.

    A larger team only spins, and starves the other threads: eight threads with a query each took three times as long with teams of
    two on two cores. Where torch was imported first, FAISS finds torch's runtime, so what it sets is torch's number of threads too, and
    is given back: an encoder that went on with one thread took half as long again.
    """
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(queries, before))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
