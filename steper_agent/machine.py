"""What memory there is here: the machine's, or where that is less the control group's (a container's limit)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PROC, GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
UNTOLD = 8 << 30
"""Bytes of a machine that does not tell."""


class _Names(NamedTuple):
    """What a version of control groups calls its files, and the line of memory.stat with what the kernel may drop."""

    limit: str
    used: str
    spare: str


_V2 = _Names("memory.max", "memory.current", "inactive_file")
_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class _Group(NamedTuple):
    limit: int
    used: int
    """Bytes that stay; files that were read and can be read again do not count."""


def whole_memory() -> int:
    """Bytes that all programs here can have together."""
    return min([_of_the_machine("MemTotal"), *(group.limit for group in _groups())])


def free_memory() -> int:
    """Bytes that programs here can still have."""
    return min([_of_the_machine("MemAvailable"), *(max(group.limit - group.used, 0) for group in _groups())])


def _of_the_machine(name: str) -> int:
    with suppress(OSError):
        for line in (PROC / "meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) << 10
    with suppress(AttributeError, ValueError, OSError):
        # Other systems do not tell what is free; what the machine has is the least wrong.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return UNTOLD


def _groups() -> Iterator[_Group]:
    """Every group with a limit that this process is in, its own and those above it."""
    with suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                root, names = (GROUPS / controllers, _V1) if controllers else (GROUPS, _V2)
                # A container may be told the path that its host knows; what it sees of it then begins at the root.
                own = root / path.lstrip("/")
                for folder in (own, *own.parents):
                    yield from _group(folder, names)
                    if folder == root:
                        break


def _group(folder: Path, names: _Names) -> Iterator[_Group]:
    # The file is missing in the group of all, and says `max` where there is no limit.
    with suppress(OSError, ValueError):
        limit = int((folder / names.limit).read_text(encoding="ascii"))
        used = int((folder / names.used).read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        yield _Group(limit, used - int(stat.get(names.spare, 0)))
