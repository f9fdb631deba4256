"""From LangChain's messages to the turns a chat template takes, with tools in the template's way or, where it knows
none, in ours."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

CALLS = {"tool_use", "tool_call", "function_call", "invalid_tool_call"}
"""Kinds of content block that repeat what `tool_calls` says."""

MARKUP = re.compile(
    r"<[|｜][^|｜<>\s]{1,64}[|｜]>"  # ChatML, Llama 3, Phi, DeepSeek
    r"|</?(?:s|bos|eos|pad|unk|mask)>|<</?SYS>>|<(?:start|end)_of_(?:turn|image)>"  # Llama 2, Gemma
    r"|</?(?:tools?|tool_(?:calls?|responses?|results?)|think|thinking|(?:function|parameter|invoke)(?:[ =][^<>]*)?)>"
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|SYSTEM_PROMPT|ARGS|CALL_ID|THINK|gMASK)\]"
)
"""Markup that steers models of well-known families."""

FORGED = re.compile("[\ue000\ue001]|" r"\\ue00[01]")
"""What marks the place of a content while a template writes, and how JSON may spell it."""


class Part(NamedTuple):
    text: str
    ours: bool = False
    """Our own words, in which control tokens are meant."""


@dataclass(frozen=True, slots=True)
class Turn:
    fields: dict[str, Any]
    """What the template is given besides the content."""
    content: list[Part]


def pieces(message: BaseMessage) -> list[str]:
    """The text blocks of a message, in order."""
    if isinstance(message.content, str):
        return [message.content]
    blocks = [
        block for block in message.content if isinstance(block, str) or block.get("type") not in CALLS
    ]  # fmt: skip
    return [block if isinstance(block, str) else str(block["text"]) for block in blocks]


def break_markup(text: str) -> str:
    """A space behind the first letter of every piece of well-known markup, for models whose tokenizer we do not hold."""
    return MARKUP.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def native_turns(messages: Sequence[BaseMessage], defuse: Callable[[str], str]) -> list[Turn]:
    """For a template that knows tools."""
    ids = _CallIds()
    return [Turn(_fields(message, ids, defuse), _content(message)) for message in messages]


def plain_turns(
    messages: Sequence[BaseMessage], tools: Sequence[Mapping[str, Any]], defuse: Callable[[str], str]
) -> list[Turn]:
    """For a template that knows no tools: they are described in the system message, calls are text, results are the
    user's."""
    turns: list[Turn] = []
    for is_result, group in groupby(messages, lambda message: isinstance(message, ToolMessage)):
        if is_result:
            turns.append(Turn({"role": "user"}, _fenced(group)))
            continue
        for message in group:
            calls = message.tool_calls if isinstance(message, AIMessage) else []
            turns.append(Turn({"role": _role(message)}, _with_calls(_content(message), calls, defuse)))
    if not tools:
        return turns
    if not turns or turns[0].fields["role"] != "system":
        return [Turn({"role": "system"}, [Part(_described(tools), ours=True)]), *turns]
    head = [*turns[0].content, *([Part("\n\n", ours=True)] if turns[0].content else [])]
    return [Turn(turns[0].fields, [*head, Part(_described(tools), ours=True)]), *turns[1:]]


def folded(turns: list[Turn]) -> list[Turn]:
    """The system's words put before the first user's, for templates that do not keep them."""
    if [turn.fields["role"] for turn in turns[:2]] != ["system", "user"]:
        return turns
    system, user, *rest = turns
    return [Turn(user.fields, [*system.content, Part("\n\n", ours=True), *user.content]), *rest]


def defused(value: Any, defuse: Callable[[str], str]) -> Any:
    """The same JSON with every string in it defused, keys included. No string can stand for the content of another turn."""
    if isinstance(value, str):
        return FORGED.sub("\ufffd", defuse(value))
    if isinstance(value, Mapping):
        return {defused(key, defuse): defused(one, defuse) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [defused(one, defuse) for one in value]
    return value


class _CallIds:
    """Ids of tool calls, renamed in order: nine letters and digits, as Mistral's template wants, and the same prompt
    whichever model made the call."""

    def __init__(self) -> None:
        self._known: dict[str | None, tuple[str, str]] = {}
        self._count = 0

    def new(self, call: ToolCall) -> str:
        self._count += 1
        name = f"call{self._count:05d}"
        self._known[call["id"]] = (name, call["name"])
        return name

    def answered(self, message: ToolMessage) -> dict[str, str]:
        if message.tool_call_id not in self._known:
            self.new(ToolCall(name=message.name or "", args={}, id=message.tool_call_id))
        renamed, name = self._known[message.tool_call_id]
        return {"tool_call_id": renamed, "name": message.name or name}


def _fields(message: BaseMessage, ids: _CallIds, defuse: Callable[[str], str]) -> dict[str, Any]:
    if isinstance(message, ToolMessage):
        return {"role": "tool", **defused(ids.answered(message), defuse)}
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    if not calls:
        return {"role": _role(message)}
    functions = [defused({"name": call["name"], "arguments": call["args"]}, defuse) for call in calls]
    made = [
        {"id": ids.new(call), "type": "function", "function": function}
        for call, function in zip(calls, functions, strict=True)
    ]
    return {"role": "assistant", "tool_calls": made}


def _role(message: BaseMessage) -> str:
    for kind, role in ((SystemMessage, "system"), (HumanMessage, "user"), (AIMessage, "assistant")):
        if isinstance(message, kind):
            return role
    raise ValueError(f"a message of type {message.type!r} has no place in a chat template")


def _content(message: BaseMessage) -> list[Part]:
    """The blocks without the whitespace around the whole, which many templates trim and none needs."""
    blocks = pieces(message)
    while blocks and not blocks[0].strip():
        blocks.pop(0)
    while blocks and not blocks[-1].strip():
        blocks.pop()
    if blocks:
        blocks[0] = blocks[0].lstrip()
        blocks[-1] = blocks[-1].rstrip()
    # What a tool returns is other people's text, and not every template's fences are control tokens.
    clean = break_markup if isinstance(message, ToolMessage) else str
    return [Part(clean(block)) for block in blocks]


def _with_calls(content: list[Part], calls: Sequence[ToolCall], defuse: Callable[[str], str]) -> list[Part]:
    lines = [_call(*defused([call["name"], call["args"]], defuse)) for call in calls]
    return [*content, *(Part(f"\n{line}" if content or at else line, ours=True) for at, line in enumerate(lines))]


def _fenced(results: Iterator[BaseMessage]) -> list[Part]:
    parts: list[Part] = []
    for message in results:
        opening = "\n<tool_response>\n" if parts else "<tool_response>\n"
        parts += [Part(opening, ours=True), *_content(message), Part("\n</tool_response>", ours=True)]
    return parts


def _described(tools: Sequence[Mapping[str, Any]]) -> str:
    functions = [tool["function"] for tool in tools]
    lines = [f"{_signature(function)} – {' '.join(function.get('description', '').split())}" for function in functions]
    example = _call(functions[0]["name"], dict.fromkeys(_parameters(functions[0]), "…"))
    return "\n".join(["Tools:", *(line.removesuffix(" – ") for line in lines), f"To use a tool, write: {example}"])


def _signature(function: Mapping[str, Any]) -> str:
    shown = [f"{name}: {schema.get('type', 'any')}" for name, schema in _parameters(function).items()]
    return f"{function['name']}({', '.join(shown)})"


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (function.get("parameters") or {}).get("properties") or {}
    return found


def _call(name: str, arguments: Any) -> str:
    told = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>{told}</tool_call>"
