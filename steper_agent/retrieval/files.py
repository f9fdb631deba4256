"""JSON objects out of a file, one at a time, each with its line: a JSON array or JSON lines of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import DataError

CHUNK = 1 << 20
"""Characters read at once from a JSON array."""


class Row(NamedTuple):
    line: int
    """Counted from 1: where the object starts."""
    value: dict[str, Any]


def written_lines(path: Path, what: str, *, flag: str, cure: str) -> list[tuple[str, str]]:
    """Every line of a small file that people write by hand, with where it stands; blank ones are left out.

    Raises:
        DataError: the file cannot be read or holds no line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as bad:
        raise DataError(f"cannot read the {what}s: {bad.strerror}", where=path, fix=f"check {flag}") from bad
    except UnicodeDecodeError as bad:
        raise DataError(f"not UTF-8 text: {bad.reason}", where=path, fix="convert the file to UTF-8") from bad
    found = [(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise DataError(f"no {what} in the file", where=path, fix=cure)
    return found


def rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON array or of JSON lines, told apart by the first character."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.read(4096).lstrip()[:1]
        if first == "[":
            yield from _array(path)
        elif first in {"{", ""}:
            yield from _lines(path)
        else:
            raise DataError(
                "not a format we read",
                where=f"{path}:1",
                fix="give HotpotQA or 2WikiMultiHopQA JSON, MuSiQue JSON lines, JSON lines with id, title and text, "
                "or a folder of .txt and .md files",
            )
    except UnicodeDecodeError as bad:
        raise DataError(f"not UTF-8 text: {bad.reason}", where=path, fix="convert the file to UTF-8") from bad


def _lines(path: Path) -> Iterator[Row]:
    # Read as bytes: text mode would also end lines at a bare carriage return and lose count.
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield Row(number, _object(_parse(text, path, number), path, number))


def _parse(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as bad:
        raise _broken(bad, path, line) from bad


def _array(path: Path) -> Iterator[Row]:
    """Decode element by element, so that a file of gigabytes needs the memory of its largest element."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        text, at, line, size = file.read(CHUNK), 0, 1, CHUNK
        at = text.index("[") + 1
        line += text.count("\n", 0, at)
        while True:
            start = at
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
            line += text.count("\n", start, at)
            if at < len(text) and text[at] == "]":
                return
            try:
                value, end = decoder.raw_decode(text, at)
            except json.JSONDecodeError as bad:
                # Either the element goes on beyond what was read, or it is broken; only the end of the file tells.
                # Doubling keeps the repeated attempts linear in the element's length.
                more = file.read(size)
                if not more:
                    raise _broken(bad, path, line + text.count("\n", at, bad.pos)) from bad
                text, at, size = text[at:] + more, 0, size * 2
                continue
            yield Row(line, _object(value, path, line))
            line += text.count("\n", at, end)
            at, size = end, CHUNK


def _object(value: Any, path: Path, line: int) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise DataError(
        f"expected a JSON object, found {type(value).__name__}", where=f"{path}:{line}", fix="write one object a line"
    )


def _broken(bad: json.JSONDecodeError, path: Path, line: int) -> DataError:
    return DataError(
        f"broken JSON: {bad.msg}",
        where=f"{path}:{line}",
        fix="mend or remove this line; a download cut short ends like this",
    )
