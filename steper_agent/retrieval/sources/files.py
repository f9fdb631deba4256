"""Records out of a file, one at a time, each with its line: a JSON array, JSON lines, a table or Parquet, of any size and
compressed or not. The format is told from the content."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import DataError
from steper_agent.retrieval.sources import tables
from steper_agent.retrieval.sources.lines import LINE_LIMIT, lines, not_utf8, too_long
from steper_agent.retrieval.sources.streams import opened
from steper_agent.retrieval.sources.tally import Tally

CHUNK = 1 << 20
"""Bytes read at once from a JSON array; of an element that is longer, up to `MOST`."""
MOST = 4 << 20
FORMATS = (
    "give HotpotQA or 2WikiMultiHopQA JSON, MuSiQue JSON lines; JSON lines, CSV, TSV or Parquet with id, title and text; "
    "a BEIR folder, or one of .txt, .md, .html, .pdf and .docx files"
)
_DECODER = json.JSONDecoder()
_GAP = re.compile(r"[ \t\r\n,]*")
_BETWEEN = re.compile(r"[\s\ufeff]*")
"""What may stand before an array; files that are joined keep their byte order marks."""


class Row(NamedTuple):
    path: Path
    line: int
    """Counted from 1: where the record starts. In Parquet, which has no lines, its row."""
    value: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


def written_lines(path: Path, what: str, *, flag: str, cure: str) -> list[tuple[str, str]]:
    """Every line of a small file that people write by hand, with where it stands; blank ones are left out.

    Raises:
        DataError: the file cannot be read or holds no line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as bad:
        raise DataError(f"cannot read the {what}s: {bad.strerror}", where=path, fix=f"check {flag}") from bad
    except UnicodeDecodeError as bad:
        raise not_utf8(bad, path) from bad
    found = [(line, f"{path}:{number}") for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not found:
        raise DataError(f"no {what} in the file", where=path, fix=cure)
    return found


def rows(path: Path, tally: Tally | None = None) -> Iterator[Row]:
    """The records of a file, in order; the tally decides what becomes of a broken one.

    Raises:
        DataError: a record is broken and the tally does not skip; the file is of no format we read, torn, or broken in a
            way that leaves no next record to go on with.
    """
    tally = tally or Tally()
    with opened(path) as stream:
        head = stream.peek(1).removeprefix(BOM_UTF8)
        first = head.lstrip()[:1]
        if head.startswith(tables.PARQUET):
            found = tables.parquet_rows(path)
        elif first == b"[":
            found = _arrays(stream, path)
        elif first in (b"{", b""):
            # The one that must be fast: five million passages pass here.
            yield from _lines(stream, path, tally)
            return
        elif separator := tables.separator(head, path):
            found = tables.text_rows(stream, path, separator, tally)
        else:
            raise _unknown(head, path)
        for line, value in found:
            if isinstance(value, dict):
                yield Row(path, line, value)
            else:
                tally.refuse(_not_an_object(value, f"{path}:{line}"))


def _lines(stream: BufferedReader[Any], path: Path, tally: Tally) -> Iterator[Row]:
    for number, text in lines(stream, path, tally):
        text = text.strip()
        if not text:
            continue
        try:
            value, end = _DECODER.raw_decode(text)
            if end != len(text):
                raise json.JSONDecodeError("something follows the object", text, end)
        except (ValueError, RecursionError) as bad:
            tally.refuse(_broken(bad, path, number))
            continue
        if type(value) is dict:
            yield Row(path, number, value)
        else:
            tally.refuse(_not_an_object(value, f"{path}:{number}"))


class _Window:
    """The stretch of a file's text that is in memory, and how far in it we are."""

    def __init__(self, stream: BufferedReader[Any], path: Path) -> None:
        self.text, self.at, self.line = "", 0, 1
        self._stream, self._path = stream, path
        self._decoder = getincrementaldecoder("utf-8-sig")()

    def pass_to(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.at = end

    def widen(self, size: int) -> bool:
        """Read on, and forget what was passed; whether there was more."""
        raw = self._stream.read(size)
        try:
            self.text, self.at = self.text[self.at :] + self._decoder.decode(raw, not raw), 0
        except UnicodeDecodeError as bad:
            line = self.line + self.text.count("\n", self.at) + bad.object[: bad.start].count(b"\n")
            raise not_utf8(bad, f"{self._path}:{line}") from bad
        return bool(raw)


def _arrays(stream: BufferedReader[Any], path: Path) -> Iterator[tuple[int, Any]]:
    """The elements of every array: files that were joined end to end hold several."""
    window = _Window(stream, path)
    while _enters_array(window, path):
        yield from _array(window, path)


def _enters_array(window: _Window, path: Path) -> bool:
    """Pass into the next array; whether there is one."""
    while True:
        if gap := _BETWEEN.match(window.text, window.at):
            window.pass_to(gap.end())
        if window.at < len(window.text):
            break
        if not window.widen(CHUNK):
            return False
    if window.text[window.at] != "[":
        raise _broken(json.JSONDecodeError("something follows the array", window.text, window.at), path, window.line)
    window.pass_to(window.at + 1)
    return True


def _array(window: _Window, path: Path) -> Iterator[tuple[int, Any]]:
    """Decode element by element, so that a file of gigabytes needs the memory of its largest element."""
    size = CHUNK
    while True:
        if gap := _GAP.match(window.text, window.at):
            window.pass_to(gap.end())
        if window.text.startswith("]", window.at):
            window.pass_to(window.at + 1)
            return
        try:
            value, end = _DECODER.raw_decode(window.text, window.at)
        except (ValueError, RecursionError) as bad:
            # Either the element goes on beyond what was read, or it is broken; only the end of the file tells.
            # Doubling keeps the repeated attempts few.
            if len(window.text) - window.at > LINE_LIMIT:
                raise too_long("an element that is broken, or one", f"{path}:{window.line}") from bad
            if not window.widen(size):
                window.pass_to(bad.pos if isinstance(bad, json.JSONDecodeError) else 0)
                raise _broken(bad, path, window.line) from bad
            size = min(size * 2, MOST)
            continue
        yield window.line, value
        window.pass_to(end)
        size = CHUNK


def _unknown(head: bytes, path: Path) -> DataError:
    try:
        head.partition(b"\n")[0].decode()
    except UnicodeDecodeError as bad:
        return not_utf8(bad, f"{path}:1")
    return DataError("not a format we read", where=f"{path}:1", fix=FORMATS)


def _not_an_object(value: object, where: str) -> DataError:
    return DataError(
        f"expected a JSON object, found {type(value).__name__}", where=where, fix="write one object a line"
    )


def _broken(bad: ValueError | RecursionError, path: Path, line: int) -> DataError:
    return DataError(
        f"broken JSON: {bad.msg if isinstance(bad, json.JSONDecodeError) else bad}",
        where=f"{path}:{line}",
        fix="mend or remove this line; a download cut short ends like this",
    )
