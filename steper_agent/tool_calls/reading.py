"""Our own reader of the tool calls that models write as text: servers' parsers fail on streams and on malformed output.

Text comes in, whole or in pieces; what was said, the calls and the faults come out. It never raises, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from langchain_core.messages import ToolCall

from steper_agent.tool_calls.arguments import check_call, clipped, how_to_call, tool_named
from steper_agent.tool_calls.lenient_json import MOST_CHARS, Found, Unreadable, read_json, read_keywords
from steper_agent.tool_calls.marks import CLOSERS, OPENERS, TAG, Mark, Past, next_mark, parts

__all__ = ["CallReading", "CallStream", "check_call", "read_calls"]

MOST_CALLS = 32
"""Calls and faults of one turn."""
_ALWAYS_LOOK = 64
"""Characters held up to which every new piece is looked at."""

_BLANK = re.compile(r"\s*+")
_BETWEEN = re.compile(r"[\s,;}\]]*+")
_FENCE_BEFORE = re.compile(r"```\w*+\s*+(?=[{\[<])")
_CLOSER = re.compile(r"(?:```)?\s*+</tool_call>")
_NAMED = re.compile(r"([A-Za-z_][\w.-]{0,99}?)(?:\.call)?(?:\[CALL_ID\]\w*+)?(?:\[ARGS\])?\s*+(?=[({])")
_FUNCTION = re.compile(r"<function=([^<>\n]{1,200})>")
_FUNCTION_CLOSER = re.compile(r"\s*+</function>")
_PARAMETER = re.compile(r"\s*+<parameter=([^<>\n]{1,200})>")
_PARAMETER_END = re.compile(r"</parameter>|<parameter=|</function>|</?tool_call>")
_BLANK_LINE = re.compile(r"\n[ \t\r]*+\n")

_Reads = Callable[[str, int, int | None], Found]


class CallReading(NamedTuple):
    text: str
    """What was said besides the calls."""
    calls: tuple[ToolCall, ...]
    """Well-formed calls of known tools, in order; their id is empty."""
    faults: tuple[str, ...]
    """One for each call that could not be read: what is wrong with it and how to write it right."""


def read_calls(text: str, tools: Sequence[Mapping[str, Any]]) -> CallReading:
    """Read one whole turn of a model; `tools` are OpenAI's tool schemas."""
    reading = _Turn(text, tools).read(Past())
    return reading._replace(text=reading.text.strip())


class CallStream:
    """One turn as it arrives. However the text is cut into pieces, it is read as `read_calls` reads the whole."""

    def __init__(self, tools: Sequence[Mapping[str, Any]]) -> None:
        self._tools = tools
        self._pieces: list[str] = []
        self._size = 0
        """Characters held back."""
        self._due = 0
        """How many must be held before it is worth looking again."""
        self._past = Past()
        self._is_a_call = False
        """A call has begun: what follows is told at the end."""
        self._has_spoken = False

    def push(self, piece: str) -> str:
        """The text that is now certain to be content and no (beginning of a) tool call."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._is_a_call or self._size < self._due:
            return ""
        held = "".join(self._pieces)
        mark = next_mark(held, 0, self._past, partial(_is_tool, self._tools), is_final=False)
        self._is_a_call = mark.start < len(held) and not mark.is_open
        self._past = mark.past
        self._pieces = [held[mark.start :]]
        self._size = len(held) - mark.start
        # Looking at a long value once for each piece of it would take quadratic time.
        self._due = 0 if self._size < _ALWAYS_LOOK else self._size + self._size // 4
        self._has_spoken = self._has_spoken or bool(held[: mark.start].strip())
        return held[: mark.start]

    def close(self) -> CallReading:
        """The turn is over: the text not yet released, and every call and fault of the turn."""
        reading = _Turn("".join(self._pieces), self._tools).read(self._past)
        return reading._replace(text=reading.text.rstrip() if self._has_spoken else reading.text.strip())


def _is_tool(tools: Sequence[Mapping[str, Any]], name: Any) -> bool:
    return tool_named(name, tools) is not None


class _Turn:
    """The reading of one whole text, or of what a stream held back of it."""

    def __init__(self, text: str, tools: Sequence[Mapping[str, Any]]) -> None:
        self.text = text
        self.tools = tools
        self.said: list[str] = []
        self.calls: list[ToolCall] = []
        self.faults: list[str] = []
        self.is_over = False
        """More calls than we read."""
        self.is_fenced = False
        """A code fence was opened in front of a call, so one that closes is no content either."""

    def read(self, past: Past) -> CallReading:
        at = 0
        while not self.is_over:
            mark = next_mark(self.text, at, past, partial(_is_tool, self.tools), is_final=True)
            self.say(self.text[at : mark.start])
            if mark.start == len(self.text):
                break
            has_fence = mark.start != mark.at
            self.is_fenced = self.is_fenced or has_fence
            past = mark.past._replace(in_code=mark.past.in_code or has_fence)
            at = self.bare(mark.at, mark.found) if mark.found else self.tagged(mark)
            at = max(at, mark.at + 1)
        if self.is_over:
            self.faults.append(f"more than {MOST_CALLS} calls in one turn; the rest was not read: write fewer at once")
        return CallReading("".join(self.said), tuple(self.calls), tuple(self.faults))

    def say(self, text: str) -> None:
        if self.is_fenced and "```" in text:
            text = text.replace("```", "", 1)
            self.is_fenced = False
        self.said.append(text)

    def add(self, name: Any, arguments: Any) -> None:
        call, fault = check_call(name, arguments, self.tools)
        if call is None:
            self.fault(fault)
        elif self.has_room():
            self.calls.append(call)

    def fault(self, fault: str) -> None:
        if self.has_room():
            self.faults.append(fault)

    def has_room(self) -> bool:
        self.is_over = len(self.calls) + len(self.faults) >= MOST_CALLS
        return not self.is_over

    def spoilt(self, what: str, at: int) -> None:
        near = clipped(self.text[at : at + 40])
        where = f" at {near}" if near else ", the text ends there"
        self.fault(f"a tool call could not be read: {what}{where}; {how_to_call(self.tools)}")

    def bare(self, at: int, found: Found | Unreadable) -> int:
        """JSON without a tag around it."""
        if isinstance(found, Unreadable):
            self.spoilt(found.what, found.at)
            end = self.block_end(at)
            blank = _BLANK_LINE.search(self.text, found.at, end)
            return blank.start() if blank else end
        self.add_all(found.value)
        return _BETWEEN.match(self.text, found.end).end()  # type: ignore[union-attr]

    def add_all(self, value: Any) -> None:
        for part in parts(value):
            if self.is_over:
                return
            self.add(part.name, part.arguments)

    def tagged(self, mark: Mark) -> int:
        closers = CLOSERS.match(self.text, mark.at)
        if closers:
            return closers.end()
        opener = OPENERS.match(self.text, mark.at)
        return self.run(opener.end() if opener else mark.at)

    def run(self, at: int) -> int:
        """The calls that follow one tag, whatever form each has; then the tag that closes."""
        start, item = at, self.item(at, is_first=True)
        while item is not None and not self.is_over:
            at = item
            item = self.item(at, is_first=False)
        if at == start:
            self.spoilt("no call follows its tag", at)
            at = self.block_end(at)
        closer = _CLOSER.match(self.text, at)
        return closer.end() if closer else at

    def item(self, at: int, is_first: bool) -> int | None:
        """One call, or several in one JSON value; where it ends, or nothing if none begins there."""
        fence = _FENCE_BEFORE.match(self.text, at)
        at = fence.end() if fence else at
        if TAG.match(self.text, at):
            return self.function(at) if self.text.startswith("<function=", at) else None
        named = _NAMED.match(self.text, at)
        if named and (is_first or _is_tool(self.tools, named[1])):
            name = named[1]
            reads: _Reads = read_json if self.text[named.end()] == "{" else read_keywords
            return self.value(named.end(), reads, lambda arguments: self.add(name, arguments))
        return self.value(at, read_json, self.add_all) if self.text[at : at + 1] in ("{", "[") else None

    def value(self, at: int, reads: _Reads, take: Callable[[Any], None]) -> int:
        try:
            found = self.in_block(at, reads)
        except Unreadable as bad:
            self.spoilt(bad.what, bad.at)
            return self.block_end(at)
        take(found.value)
        return _BETWEEN.match(self.text, found.end).end()  # type: ignore[union-attr]

    def in_block(self, at: int, reads: _Reads) -> Found:
        """The value at `at`. One that does not close itself is closed by the next tag; one that does may hold a tag."""
        end = self.block_end(at, most=MOST_CHARS)
        try:
            found = reads(self.text, at, None)
        except Unreadable:
            if end == len(self.text):
                raise
        else:
            if found.is_whole or end == len(self.text):
                return found
        return reads(self.text, at, end)

    def block_end(self, at: int, most: int | None = None) -> int:
        """The next tag, or else the end of the text."""
        tag = TAG.search(self.text, at) if most is None else TAG.search(self.text, at, at + most)
        return tag.start() if tag else len(self.text)

    def function(self, at: int) -> int:
        head = _FUNCTION.match(self.text, at)
        if head is None:
            self.spoilt("a function's tag has no name or no end", at)
            return self.block_end(at + 1)
        name, at = head[1], head.end()
        arguments, end = self.parameters(at)
        start = _BLANK.match(self.text, at).end()  # type: ignore[union-attr]
        if end == at and self.text.startswith("{", start):
            end = self.value(start, read_json, lambda value: self.add(name, value))
        elif end == at:
            end = self.block_end(at)
            self.add(name, self.text[at:end].strip() or {})
        else:
            self.add(name, arguments)
        closer = _FUNCTION_CLOSER.match(self.text, end)
        return closer.end() if closer else end

    def parameters(self, at: int) -> tuple[dict[str, str], int]:
        """Qwen's way to write arguments, each between tags of its own."""
        out: dict[str, str] = {}
        while head := _PARAMETER.match(self.text, at):
            stop = _PARAMETER_END.search(self.text, head.end())
            end = stop.start() if stop else len(self.text)
            out[head[1].strip()] = self.text[head.end() : end].removeprefix("\n").removesuffix("\n")
            at = stop.end() if stop and stop[0] == "</parameter>" else end
        return out, at
