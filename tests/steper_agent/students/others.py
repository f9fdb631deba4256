"""What other processes do to a registry, and how they are started: forked from one that has loaded torch, since loading it
takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from steper_agent.errors import AdapterError
from steper_agent.students.registry import Registry

CHANGES = {"os.mkdir", "os.rename", "os.chmod", "os.truncate", "os.remove", "os.rmdir", "shutil.copyfile", "shutil.rmtree"}
"""Audited events that change a disk; writes and syncs are not audited."""


def start(work: Callable[..., None], *args: object) -> Any:
    """Another process, which does this work and whose exit code tells how it ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch", "pytest"])
    process = context.Process(target=work, args=args)
    process.start()
    return process


def promote(folder: Path, names: list[str]) -> None:
    for name in names:
        Registry(folder).promote(name)


def promote_expecting_none(folder: Path, name: str) -> None:
    try:
        Registry(folder).promote(name, expecting=None)
    except AdapterError:
        sys.exit(7)


def hold(folder: Path, name: str, held: Any) -> None:
    """Until it is killed."""
    with Registry(folder).hold(name):
        held.set()
        signal.pause()


def add_until(point: int, folder: Path, student: Path) -> None:
    registry = Registry(folder)
    _die_at(point)
    registry.add(student)


def prune_until(point: int, folder: Path) -> None:
    registry = Registry(folder)
    _die_at(point)
    registry.prune(keep=0, candidates=True)


def _die_at(point: int) -> None:
    """Be killed at the so-many-th change this process makes to a disk; a write is half done then."""
    numbers, write, sync = count(1), os.write, os.fsync

    def step() -> bool:
        return next(numbers) == point

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def half_write(file: int, data: bytes) -> int:
        if step():
            write(file, data[: len(data) // 2])
            die()
        return write(file, data)

    os.write = half_write  # type: ignore[assignment]
    os.fsync = lambda file: die() if step() else sync(file)  # type: ignore[assignment]
    sys.addaudithook(lambda event, _: die() if event in CHANGES and step() else None)
