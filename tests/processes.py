"""Processes that others started. Each may end, and be forgotten by the system, between any two looks at it."""

from __future__ import annotations

from contextlib import suppress

import psutil


def family(pid: int) -> list[psutil.Process]:
    """All that this process has started, and what they have."""
    return psutil.Process(pid).children(recursive=True)


def has_ended(pid: int) -> bool:
    """A dead process that nobody has reaped yet has ended as well."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def is_named(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.name() == name
    return False


def kill(processes: list[psutil.Process]) -> None:
    """`kill -9` of each that did not die with one before it."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
