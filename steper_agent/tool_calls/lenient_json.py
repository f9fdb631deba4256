"""JSON as language models write it: Python's words and quotes, stray commas, raw line ends, a text that breaks off.

One pass from left to right, bounded in length and depth. What a text was found to be never changes when more text
follows, but for a value that breaks off at its end; a reader of streams rests on that.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

MOST_CHARS = 16_384
"""A longer value is refused: no call needs it, and it bounds the time one value can take."""
MOST_DEPTH = 64

_BLANK = re.compile(r"[\x00-\x20]*+")
_STRINGS = {
    '"': re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL),
    "'": re.compile(r"'([^'\\]*+(?:\\.[^'\\]*+)*+)'", re.DOTALL),
}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "/": "/", "\\": "\\"}
_HALF_AN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_WORD = re.compile(r"[-+.\w]++", re.ASCII)
_INTEGER = re.compile(r"[-+]?[0-9]++")
_NUMBER = re.compile(r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?+")
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_KEYWORD = re.compile(r"([A-Za-z_]\w*+)\s*+=")
_CUT = object()
"""Stands for a value that the end of the text left without any meaning, as `tru`."""


class Unreadable(ValueError):
    """No mending helps."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        """Where reading stopped, in characters from the start of the text."""


class Found(NamedTuple):
    value: Any
    end: int
    """The first character after the value."""
    is_whole: bool
    """False where the text broke off and everything open was closed for it."""


def read_json(text: str, at: int = 0, end: int | None = None) -> Found:
    """The value that begins at `at`, in a text that counts up to `end`.

    Raises:
        Unreadable: it cannot be mended, is too long, or too deep.
    """
    reading = _Reading(text, at, end)
    return reading.found(reading.value(reading.peek(), 0))


def read_keywords(text: str, at: int, end: int | None = None) -> Found:
    """The arguments of a call in Python's way, from its `(` on: an object, or the one argument that has no name.

    Raises:
        Unreadable: as `read_json`.
    """
    reading = _Reading(text, at, end)
    return reading.found(reading.keywords())


class _Reading:
    def __init__(self, text: str, at: int, end: int | None) -> None:
        end = len(text) if end is None else end
        self.text = text
        self.at = at
        self.limit = min(end, at + MOST_CHARS)
        self.is_clipped = self.limit < end
        self.is_whole = True

    def found(self, value: Any) -> Found:
        if not self.is_whole and self.is_clipped:
            raise Unreadable(f"it is longer than {MOST_CHARS} characters", self.limit)
        if value is _CUT:
            raise Unreadable("it breaks off before it says anything", self.limit)
        return Found(value, self.at, self.is_whole)

    def peek(self) -> str:
        """The next character that is not blank; nothing where the text ends, and then the value is not whole."""
        if self.at < self.limit and self.text[self.at] > " ":
            return self.text[self.at]
        self.at = _BLANK.match(self.text, self.at, self.limit).end()  # type: ignore[union-attr]
        if self.at >= self.limit:
            self.is_whole = False
            return ""
        return self.text[self.at]

    def step(self) -> None:
        self.at = min(self.at + 1, self.limit)

    def value(self, mark: str, depth: int) -> Any:
        """The value whose first character is `mark`."""
        if not mark:
            return _CUT
        if mark in "{[":
            if depth >= MOST_DEPTH:
                raise Unreadable(f"it is nested deeper than {MOST_DEPTH}", self.at)
            self.step()
            return self.object(depth) if mark == "{" else self.array(depth)
        return self.string(mark) if mark in _STRINGS else self.word()

    def object(self, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while (mark := self.peek()) and mark != "}":
            if mark not in _STRINGS:
                raise Unreadable("a key in quotes is missing", self.at)
            key = self.string(mark)
            if self.peek() not in ("", ":"):
                raise Unreadable('":" is missing after a key', self.at)
            self.step()
            value = self.value(self.peek(), depth + 1)
            if value is not _CUT:
                out[key] = value
            self.next("}")
        self.step()
        return out

    def array(self, depth: int) -> list[Any]:
        out: list[Any] = []
        while (mark := self.peek()) and mark != "]":
            value = self.value(mark, depth + 1)
            if value is not _CUT:
                out.append(value)
            self.next("]")
        self.step()
        return out

    def keywords(self) -> Any:
        self.step()
        out: dict[str, Any] = {}
        while (mark := self.peek()) and mark != ")":
            name = _KEYWORD.match(self.text, self.at, self.limit)
            self.at = name.end() if name else self.at
            value = self.value(self.peek(), 1)
            if value is not _CUT:
                out[name[1] if name else ""] = value
            self.next(")")
        self.step()
        if "" in out and len(out) > 1:
            raise Unreadable("an argument has no name", self.at)
        return out.get("", out)

    def next(self, closer: str) -> None:
        """Past the comma; a comma too many before the closer does no harm."""
        mark = self.peek()
        if mark == ",":
            self.step()
        elif mark and mark != closer:
            raise Unreadable(f'"," or "{closer}" is missing', self.at)

    def string(self, quote: str) -> str:
        whole = _STRINGS[quote].match(self.text, self.at, self.limit)
        if whole:
            self.at = whole.end()
            return _unescaped(whole[1])
        self.is_whole = False
        rest = self.text[self.at + 1 : self.limit]
        self.at = self.limit
        return _unescaped(_HALF_AN_ESCAPE.sub("", rest))

    def word(self) -> Any:
        found = _WORD.match(self.text, self.at, self.limit)
        if found is None:
            raise Unreadable("a value is missing", self.at)
        word, end = found[0], found.end()
        value = _WORDS[word] if word in _WORDS else _number(word)
        if end >= self.limit:
            self.is_whole = False
        elif value is _CUT:
            raise Unreadable("a word stands where a value in quotes should", self.at)
        self.at = end
        return value


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    # A backslash that escapes nothing is meant: LaTeX, Windows paths.
    return chr(int(escape[1], 16)) if escape[1] else _ESCAPED.get(escape[2], escape[0])


def _number(word: str) -> Any:
    try:
        if _INTEGER.fullmatch(word):
            return int(word)
    except ValueError:  # Python refuses to turn more than some thousand digits into an integer
        return _CUT
    number = float(word) if _NUMBER.fullmatch(word) else math.inf
    return number if math.isfinite(number) else _CUT
