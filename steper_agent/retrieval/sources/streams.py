"""A file's bytes as they were before compression: gzip, bzip2 and Zstandard are told by their first bytes, and a small file
that expands without end is refused."""

from __future__ import annotations

import bz2
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import IO, Any

from steper_agent.errors import DataError

SUFFIXES = (".gz", ".bz2", ".zst")
"""What compressed files are called; whether they are is told by their content."""
BUFFER = 1 << 18
FLOOR = 64 << 20
"""Bytes that any file may expand to."""
RATIO = 200
"""Times its own size that a larger result may have; text shrinks to a third or a tenth."""
WINDOW = 1 << 27
"""Bytes of memory Zstandard may ask for; the `zstd` program stops there too unless told otherwise."""
FEED = 1 << 10
"""Compressed bytes given to Zstandard at once: it cannot be told when to stop, and makes up to 32 MiB of so many."""


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader[Any]]:
    """The decompressed bytes of a file, read forwards; `peek` shows the first ones.

    Raises:
        DataError: the file cannot be opened; while reading, the compressed stream is torn, damaged or a bomb.
    """
    try:
        file = BufferedReader(FileIO(path), BUFFER)
    except OSError as bad:
        raise DataError(
            f"cannot be read: {bad.strerror}", where=path, fix="check the path and its permissions"
        ) from bad
    with file:
        head = file.peek(10)[:10]
        form = next((form for form in _FORMS if re.match(form[1], head, re.DOTALL)), None)
        if form is None:
            yield file
            return
        name, _, decompress = form
        with BufferedReader(_Inflated(file, path, name, decompress), BUFFER) as stream:
            yield stream


def kind(path: Path) -> str:
    """The suffix that says what a file is, in lower case: what stands before `.gz` and the like, where there is such."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in SUFFIXES else suffix


def read_whole(path: Path, limit: int) -> bytes:
    """All bytes of a file that has at most `limit` of them, decompressed.

    Raises:
        DataError: it has more, or cannot be read.
    """
    with opened(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"a document of more than {limit >> 20} MiB", where=path, fix="split it, or give JSON lines")
    return content


def expansion_limit(size: int) -> int:
    """Bytes that a compressed file of that size may expand to."""
    return max(FLOOR, RATIO * size)


def bomb(path: Path, limit: int) -> DataError:
    return DataError(
        f"expands to more than {limit:,} bytes, {RATIO} times its size or more",
        where=path,
        fix="do not trust this file; if you do, decompress it yourself",
    )


class _Inflated(RawIOBase):
    def __init__(
        self, file: BufferedReader[Any], path: Path, form: str, decompress: Callable[[IO[bytes]], Iterator[bytes]]
    ) -> None:
        self._path, self._form = path, form
        self._pieces = decompress(file)
        self._piece = memoryview(b"")
        self._out = 0
        self._limit = expansion_limit(os.fstat(file.fileno()).st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._piece:
            piece = self._next()
            if piece is None:
                return 0
            self._out += len(piece)
            if self._out > self._limit:
                raise bomb(self._path, self._limit)
            self._piece = memoryview(piece)
        count = min(len(buffer), len(self._piece))
        buffer[:count], self._piece = self._piece[:count], self._piece[count:]
        return count

    def _next(self) -> bytes | None:
        try:
            return next(self._pieces, None)
        except (EOFError, OSError, zlib.error) as bad:
            raise DataError(
                f"the {self._form} stream is torn or damaged: after {self._out:,} bytes of text, {bad}",
                where=self._path,
                fix="download or compress the file again",
            ) from bad


def _gzip(file: IO[bytes]) -> Iterator[bytes]:
    return iter(partial(gzip.GzipFile(fileobj=file).read1, BUFFER), b"")


def _bzip2(file: IO[bytes]) -> Iterator[bytes]:
    return iter(partial(bz2.BZ2File(file).read1, BUFFER), b"")


def _zstandard(file: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    rest = file.read(FEED)
    while rest:
        # The library's own stream reader takes a file cut short for one that ends.
        frame = decompressor.decompressobj()
        while not frame.eof:
            if not rest:
                raise EOFError("the file ends within a frame")
            try:
                yield frame.decompress(rest)
            except zstandard.ZstdError as bad:
                raise OSError(str(bad)) from bad
            rest = frame.unused_data if frame.eof else file.read(FEED)
        rest = rest or file.read(FEED)


_FORMS: tuple[tuple[str, bytes, Callable[[IO[bytes]], Iterator[bytes]]], ...] = (
    ("gzip", rb"\x1f\x8b", _gzip),
    ("bzip2", rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", _bzip2),
    ("Zstandard", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", _zstandard),
)
"""Name, first bytes, and what undoes it."""
