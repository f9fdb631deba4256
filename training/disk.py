"""A full disk is one clear error: foreseen before the first update, and told in one piece where it comes all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steper_agent.errors import StepERError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
SAID = ("no space left", "os error 28", "inline_container", "disk quota exceeded")
"""What libraries say of it that raise an error of their own: safetensors, and torch's writer of archives."""
CHECKPOINTS = 3
"""At once: the two that are kept and the one being written."""
FLOAT = 4
"""Bytes of a float32."""
FILES = 100_000
"""Bytes of a checkpoint's small files: random states, rates, settings."""


class DiskFull(StepERError):
    """There is no room for what a run must write."""


def checkpoint_bytes(trained: int) -> int:
    """Of one checkpoint: the weights that are trained, and Adam's two running means of each."""
    return 3 * FLOAT * trained + FILES


def needed(trained: int) -> int:
    """Bytes of the checkpoints that are there at once, and of the student."""
    return CHECKPOINTS * checkpoint_bytes(trained) + FLOAT * trained


def held(folder: Path) -> int:
    """Bytes that a run's checkpoints and student take already; what is written next takes their place."""
    return sum(file.stat().st_size for part in ("checkpoint-*", "student") for inside in folder.glob(part)
               for file in inside.rglob("*") if file.is_file())  # fmt: skip


def free(folder: Path) -> int:
    """Bytes free where the folder is, or will be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def refuse_too_little(what: str, folder: Path, need: int, *, taken: int = 0, or_else: str = "") -> None:
    """Before the first byte of it; what has `taken` bytes there makes room for it.

    Raises:
        DiskFull: it will not fit.
    """
    room = free(folder) + taken
    if need > room:
        raise DiskFull(f"{what} need {size(need)}, and {size(room)} are free", where=folder,
                       fix=f"make room, or give --out on a larger disk{or_else}")


@contextmanager
def room_for(what: str, path: Path) -> Iterator[None]:
    """While something is written: where the disk is full, say so; a folder of which only half would be there is taken away.

    Raises:
        DiskFull: instead of what the writing library raised.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_full(error):
            raise
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        raise DiskFull(f"the disk is full: {what} could not be written, and nothing of it is left", where=path,
                       fix="make room and run the same command again: what was whole is whole, and the run goes on from there") from error


def is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in NO_ROOM
    return any(words in str(error).lower() for words in SAID)


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
