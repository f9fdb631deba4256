"""A file that grows, read as `tail -f` reads it: only what was appended, and only whole lines."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PIECE = 1 << 20
"""Bytes read at once; a longer line is read whole."""


class Piece(NamedTuple):
    start: int
    """Where in the file it begins."""
    data: bytes
    """Whole lines, line ends included."""
    is_restart: bool = False
    """The file was replaced or cut: what was read before is void."""


class Tail:
    """Reads a file from where it last stopped. A line without its end waits until it has one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        """Behind the last whole line that was read."""
        self.size = 0
        """Of the file, when it was last read."""
        self._inode: int | None = None

    def read(self) -> Piece | None:
        """The next lines, a piece at a time; None if there is nothing new or no file.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            about = file.seek(0, 2), _inode(self.path)
            is_restart = self._inode not in (None, about[1]) or about[0] < self.offset
            self.size, self._inode = about
            self.offset = 0 if is_restart else self.offset
            file.seek(self.offset)
            data = file.read(PIECE)
            while b"\n" not in data and (more := file.read(PIECE)):
                data += more
        whole = data[: data.rfind(b"\n") + 1]
        if not whole and not is_restart:
            return None
        piece = Piece(self.offset, whole, is_restart)
        self.offset += len(whole)
        return piece


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
