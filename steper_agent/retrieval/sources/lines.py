"""The lines of a stream as text, numbered and of a stated length at most."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from steper_agent.errors import DataError
from steper_agent.retrieval.sources.tally import Tally

LINE_LIMIT = 16 << 20
"""Bytes of one line, and of one record of a file that has no lines."""


def lines(stream: BufferedReader[Any], path: Path, tally: Tally) -> Iterator[tuple[int, str]]:
    """Each line with its end, counted from 1. A bad one is refused at the tally, so that it may be left out.

    Raises:
        DataError: a line is not UTF-8, or longer than `LINE_LIMIT`.
    """
    if stream.peek(3).startswith(BOM_UTF8):
        stream.read(3)
    # Read as bytes: text mode would also end lines at a bare carriage return and lose count.
    read = partial(stream.readline, LINE_LIMIT + 1)
    for number, raw in enumerate(iter(read, b""), start=1):
        if len(raw) > LINE_LIMIT:
            tally.refuse(too_long("a line", f"{path}:{number}"))
            while raw and not raw.endswith(b"\n"):
                raw = read()
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError as bad:
            tally.refuse(not_utf8(bad, f"{path}:{number}"))
            continue
        yield number, text


def too_long(what: str, where: str) -> DataError:
    return DataError(
        f"{what} of more than {LINE_LIMIT >> 20} MiB",
        where=where,
        fix="write one record a line, and split what is longer",
    )


def not_utf8(bad: UnicodeDecodeError, where: object) -> DataError:
    return DataError(f"not UTF-8 text: {bad.reason}", where=where, fix="convert the file to UTF-8")
