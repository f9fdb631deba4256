"""Cells made by several processes at once, each on its part of the cores. A small student cannot keep many busy: two processes of one
thread read 33,000 tokens a second where one of two threads reads 28,700 (the micro-world's base)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import torch

from training.experiment.cells import Cell, Workshop
from training.experiment.config import Experiment
from training.experiment.estimate import Estimator

LOGS = "logs"
"""What the processes print, a file each; the terminal has one line a cell."""


def make_side_by_side(shop: Workshop, cells: Sequence[Cell], *, workers: int, tell: Callable[[str], None]) -> None:
    """Make the cells' missing parts; two cells that share one wait for each other. Every process has an equal part of the cores.

    Raises:
        ConfigError, DataError, JournalError, OSError: of the first cell that fails, when those that are being made are finished.
    """
    waiting, running = list(cells), dict[Future[None], Cell]()
    threads, context = max(1, (os.cpu_count() or 1) // workers), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(shop.settings.out / LOGS, threads)) as pool:
        while (waiting := [cell for cell in waiting if shop.missing(cell)]) or running:
            for cell in _free(shop, waiting, list(running.values()))[: workers - len(running)]:
                waiting.remove(cell)
                running[pool.submit(_make, shop.experiment, cell)] = cell
                tell(f"begun: {cell.told()}")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                future.result()
                guess = Estimator(shop).left([*running.values(), *waiting])
                tell(f"made:  {cell.told()}; left: {guess._replace(seconds=guess.seconds / workers).told()}")


def _free(shop: Workshop, waiting: Sequence[Cell], running: Sequence[Cell]) -> list[Cell]:
    """Those that share nothing that is missing with a cell that is being made, nor with one another."""
    busy, free = {path for cell in running for path in shop.missing(cell)}, list[Cell]()
    for cell in waiting:
        missing = set(shop.missing(cell))
        if not missing & busy:
            free.append(cell)
            busy |= missing
    return free


def _begin(logs: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    logs.mkdir(parents=True, exist_ok=True)
    log = os.open(logs / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)


def _make(experiment: Experiment, cell: Cell) -> None:
    print(f"\n{cell.told()}", flush=True)
    Workshop(experiment).make(cell)
