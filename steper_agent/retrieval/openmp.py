"""The one door to FAISS: how many threads it may open, beside torch, which brings an OpenMP runtime of its own."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

BLAS_FROM = 4096
"""Numbers in a batch of queries from which FAISS multiplies it by blocks, ten queries of 384. Its own bound, 128,000, makes 64
queries cost 64 times one, where a block of them costs 15 times one."""
CLASH = sys.platform in ("darwin", "win32")
"""Two OpenMP runtimes in one process end it or crash it."""


def load_faiss(queries: int = sys.maxsize) -> Any:
    """The module `faiss`, for so many queries at once or for a build; call it in the thread and just before FAISS works.

    Linux: the wheels of FAISS and of torch carry two copies of libgomp that do not see each other; any order of imports
    and any mix of threads is right. A team larger than the batch only spins, and starves the other threads: eight threads with a
    query each took three times as long with teams of two on two cores. So a team is never larger than the batch.

    macOS, Windows: two copies of libomp, or two runtimes, abort a process that loads both ("OMP: Error #15") or crash it in a
    parallel loop (faiss-wheels#73, pytorch#149201, faiss#1977). There the second runtime is let in, and FAISS keeps to the calling
    thread; searches of several threads still run side by side.
    """
    if CLASH:
        # Read when the second runtime starts, so it must stand before either is imported.
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")
    import faiss

    faiss.cvar.distance_compute_blas_threshold = BLAS_FROM
    # OpenMP keeps the size of a team for each thread that opens one.
    faiss.omp_set_num_threads(1 if CLASH else min(queries, _most()))
    return faiss


@cache
def _most() -> int:
    """OMP_NUM_THREADS, or the cores; asked before anything is set."""
    import faiss

    return int(faiss.omp_get_max_threads())
