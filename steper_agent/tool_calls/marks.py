"""Where a tool call may begin in what a model says, and what is certainly no call.

One function decides it for a whole text and for a stream: what it calls content, no further text can turn into a call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from steper_agent.tool_calls.lenient_json import Found, Unreadable, read_json

_CLOSERS = ("</tool_call>", "</function>")
_OPENERS = ("<tool_call>", "<|python_tag|>", "[TOOL_CALLS]")
_TAGS = (*_OPENERS, "<function=", *_CLOSERS)
_LONGEST_TAG = max(map(len, _TAGS))
_MOST_LOOKED = 100_000
"""Characters of JSON in prose that are looked at for calls; beyond, only a tag begins a call."""
_LEAST_LOOKED = 16
"""What a value or a code fence costs besides its length, in the same unit."""

TAG = re.compile("|".join(map(re.escape, _TAGS)))
OPENERS = re.compile(rf"(?:(?:{'|'.join(map(re.escape, _OPENERS))})\s*+)++")
CLOSERS = re.compile(rf"(?:\s*+(?:{'|'.join(_CLOSERS)}))++")
_VALUE = re.compile(r"""(?:\[\s*+)?+\{\s*+["']""")
_MARK = re.compile(f"{TAG.pattern}|```|{_VALUE.pattern}")
_FENCE = re.compile(r"```([\w+-]*+)\s*+")
_BEGINNINGS = sorted({word[:size] for word in (*_TAGS, "```") for size in range(1, len(word))}, reverse=True)
_MAY_BEGIN = re.compile(rf"(?:{'|'.join(map(re.escape, _BEGINNINGS))}|(?:\[\s*+)?+\{{\s*+|\[\s*+)\Z")
_HEAD = re.compile(r"""(?:\[\s*+)?+\{\s*+["'](?:name|function)["']\s*+:\s*+["']([^"'\\]{1,100})["']""")
_ARGUMENTS = ("arguments", "parameters", "args", "input")
_WRAPPERS = ("tool_calls", "tool_call", "function_call")
_BESIDES = ("name", "function", "id", "type", "index")

IsTool = Callable[[Any], bool]


class Past(NamedTuple):
    """All that the next search must know of the text before it."""

    looked: int = 0
    """Characters of JSON looked at."""
    in_code: bool = False
    """A code fence is open."""


class Mark(NamedTuple):
    """The first place from which a text is not certain to be content."""

    start: int
    """Everything before is content."""
    at: int
    """Where the tag or value begins; after `start` where a code fence opens in front of it."""
    past: Past
    """As it was in front of the mark."""
    found: Found | Unreadable | None = None
    """The JSON of a call without a tag, or why it cannot be read."""
    is_open: bool = False
    """Only more text, or the end, can tell."""


class Part(NamedTuple):
    """One call as it was written, unchecked."""

    name: Any
    arguments: Any


def next_mark(text: str, at: int, past: Past, is_tool: IsTool, is_final: bool) -> Mark:
    """The next call, or what may become one, from `at` on; the end of the text where there is none.

    `is_final` says that no more text will come; then no mark is open.
    """
    while mark := (_MARK if past.looked < _MOST_LOOKED else TAG).search(text, at):
        step = _step(text, mark.start(), past, is_tool, is_final)
        if isinstance(step, Mark):
            return step
        at, past = step
    tail = None if is_final else _MAY_BEGIN.search(text, at)
    start = tail.start() if tail else len(text)
    return Mark(start, start, past, is_open=tail is not None)


def _step(text: str, start: int, past: Past, is_tool: IsTool, is_final: bool) -> Mark | tuple[int, Past]:
    """What stands where a mark stands; a place if it is content up to there."""
    fence = _FENCE.match(text, start)
    at = fence.end() if fence else start
    if not is_final and (at == len(text) or _MAY_BEGIN.match(text, at)):
        return Mark(start, at, past, is_open=True)
    if fence and past.in_code and not fence[1]:
        return at, Past(past.looked + _LEAST_LOOKED)
    if TAG.match(text, at):
        return Mark(start, at, past)
    after = Past(past.looked + _LEAST_LOOKED, past.in_code or fence is not None)
    if not _VALUE.match(text, at):
        return at, after
    judged = _judge(text, at, is_tool, is_final)
    if judged is None:
        return Mark(start, at, past, is_open=True)
    if isinstance(judged, int):
        return judged, after._replace(looked=after.looked + judged - at)
    return Mark(start, at, past, judged)


def _judge(text: str, at: int, is_tool: IsTool, is_final: bool) -> Found | Unreadable | int | None:
    """What the JSON at `at` is: a call, a call spoilt, content up to a place, or not yet known."""
    try:
        found = read_json(text, at)
    except Unreadable as bad:
        if not is_final and len(text) - bad.at < _LONGEST_TAG:
            return None
        head = _HEAD.match(text, at, bad.at)
        return bad if head and is_tool(head[1]) else _up_to_a_tag(text, at, bad.at)
    if not found.is_whole and not is_final:
        return None
    if is_call(found.value, is_tool):
        return found
    return found.end if found.is_whole else _up_to_a_tag(text, at, found.end)


def _up_to_a_tag(text: str, at: int, end: int) -> int:
    """What only looked like JSON must not hide a call behind it."""
    tag = TAG.search(text, at, end + _LONGEST_TAG)
    return tag.start() if tag and tag.start() < end else end


def is_call(value: Any, is_tool: IsTool) -> bool:
    """Whether JSON without any tag around it is meant as calls: each in a call's shape, one of a known tool."""
    entries = list(_entries(value))
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        return False
    shapes = [(name, arguments is not None) for name, arguments in map(_shape, entries)]
    return all(isinstance(name, str) and has for name, has in shapes) and any(is_tool(name) for name, _ in shapes)


def parts(value: Any) -> Iterator[Part]:
    """The calls that a JSON value holds; where no key holds the arguments, the other keys are the arguments."""
    for entry in _entries(value):
        if not isinstance(entry, dict):
            yield Part(None, entry)
            continue
        name, key = _shape(entry)
        inner = _inner(entry)
        rest = {other: item for other, item in inner.items() if other not in _BESIDES}
        yield Part(name, rest if key is None else inner[key])


def _entries(value: Any) -> list[Any]:
    if isinstance(value, dict):
        wrapped = next((value[word] for word in _WRAPPERS if isinstance(value.get(word), list | dict)), value)
        return wrapped if isinstance(wrapped, list) else [wrapped]
    return value if isinstance(value, list) else [value]


def _inner(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    function = entry.get("function")
    return function if isinstance(function, dict) else entry


def _shape(entry: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The name, and the key that holds the arguments."""
    inner = _inner(entry)
    return inner.get("name", inner.get("function")), next((key for key in _ARGUMENTS if key in inner), None)
