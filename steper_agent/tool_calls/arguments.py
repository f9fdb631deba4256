"""One call of a tool, held against the tool's schema: what is plainly meant is put right, the rest is a fault in words
that the model can act on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from langchain_core.messages import ToolCall

from steper_agent.plain import plain
from steper_agent.tool_calls.lenient_json import MOST_DEPTH, Unreadable, read_json

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MOST_BITS = 1024
"""Beyond this an integer is nonsense, and Python refuses to print some of them."""
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
    "null": (type(None),),
}
_SAMPLES = {"string": "…", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}


class _Misfit(ValueError):
    """What is wrong with the arguments, in words."""


def check_call(name: Any, arguments: Any, tools: Sequence[Mapping[str, Any]]) -> tuple[ToolCall | None, str]:
    """The call with its arguments coerced to the tool's schema, or a fault; never both, never neither."""
    tool = tool_named(name, tools)
    if tool is None:
        return None, _no_such_tool(name, tools)
    schema = tool.get("parameters") or {}
    try:
        args = _fit_object(_as_object(arguments, schema), schema, 0)
    except _Misfit as wrong:
        return None, f"{tool['name']}: {wrong}; write {_pattern(tool)}"
    return ToolCall(name=tool["name"], args=args, id="", type="tool_call"), ""


def tool_named(name: Any, tools: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The function of that name; its exact name goes before one that differs in case or outer blanks."""
    if not isinstance(name, str):
        return None
    functions: list[Mapping[str, Any]] = [tool["function"] for tool in tools]
    exact = [function for function in functions if function["name"] == name]
    alike = [function for function in functions if function["name"].casefold() == name.strip().casefold()]
    return next(iter([*exact, *alike]), None)


def how_to_call(tools: Sequence[Mapping[str, Any]]) -> str:
    """For a call whose tool cannot be told."""
    return f"write {_pattern(tools[0]['function'])}" if tools else "no tool can be called: answer in words"


def clipped(text: str) -> str:
    """The beginning of a text that nobody checked, on one line, fit for a fault."""
    return " ".join(plain(text[:200]).split())[:60]


def _no_such_tool(name: Any, tools: Sequence[Mapping[str, Any]]) -> str:
    what = f'there is no tool "{clipped(name)}"' if isinstance(name, str) else "a call names no tool"
    names = ", ".join(str(tool["function"]["name"]) for tool in tools)
    return f"{what}; the tools are: {names}; {how_to_call(tools)}" if tools else f"{what}; {how_to_call(tools)}"


def _pattern(tool: Mapping[str, Any]) -> str:
    schema = tool.get("parameters") or {}
    properties = schema.get("properties") or {}
    arguments = {key: _sample(properties.get(key)) for key in schema.get("required") or ()}
    return json.dumps({"name": tool["name"], "arguments": arguments}, ensure_ascii=False)


def _sample(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return "…"
    return schema["enum"][0] if schema.get("enum") else _SAMPLES.get(str(schema.get("type")), "…")


def _as_object(arguments: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(arguments, str):
        read = _parsed(arguments)
        # Some servers encode the arguments twice.
        read = _parsed(read) if isinstance(read, str) and read != arguments else read
        required = schema.get("required") or []
        if isinstance(read, Mapping):
            arguments = read
        elif len(required) == 1 and _is_exact("", (schema.get("properties") or {}).get(required[0])):
            arguments = {required[0]: read if isinstance(read, str) else arguments}
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise _Misfit("the arguments must be a JSON object")
    return arguments


def _parsed(text: str) -> Any:
    """The JSON value that the whole text is, or else the text itself."""
    try:
        found = read_json(text)
    except Unreadable:
        return text
    is_mere_quote = isinstance(found.value, str) and not found.is_whole
    return text if is_mere_quote or text[found.end :].strip() else found.value


def _fit_object(value: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties = schema.get("properties")
    keeps_others = not isinstance(properties, Mapping) or schema.get("additionalProperties") not in (None, False)
    known = properties if isinstance(properties, Mapping) else {}
    out: dict[str, Any] = {}
    for key, item in value.items():
        if key in known and item is None:
            # Models write null for an argument they leave out.
            with suppress(_Misfit):
                out[key] = _fit(item, known[key], key, depth + 1)
        elif key in known:
            out[key] = _fit(item, known[key], key, depth + 1)
        elif keeps_others:
            out[_sound(key, "a key", depth)] = _sound(item, str(key), depth + 1)
    for key in schema.get("required") or ():
        if key not in out or (isinstance(out[key], str) and not out[key].strip()):
            raise _Misfit(f'the argument "{key}" is missing')
    return out


def _fit(value: Any, schema: Any, name: str, depth: int) -> Any:
    if not isinstance(schema, Mapping):
        return _sound(value, name, depth)
    choices = _choices(schema)
    fitted = _fit_any(value, choices, name, depth) if choices else _fit_kind(value, schema, name, depth)
    if "enum" in schema and fitted not in schema["enum"]:
        raise _Misfit(f'"{name}" must be one of {json.dumps(schema["enum"], ensure_ascii=False)}')
    return fitted


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    kind = schema.get("type")
    if isinstance(kind, list):
        return [{**schema, "type": one} for one in kind]
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _fit_any(value: Any, choices: list[Any], name: str, depth: int) -> Any:
    # What fits as it stands goes first, so that "5" stays a string where a string or an integer is wanted.
    for choice in sorted(choices, key=lambda choice: not _is_exact(value, choice)):
        with suppress(_Misfit):
            return _fit(value, choice, name, depth + 1)
    kinds = " or ".join(str(choice.get("type", "another")) for choice in choices if isinstance(choice, Mapping))
    raise _Misfit(f'"{clipped(name)}" must be of type {kinds}')


def _fit_kind(value: Any, schema: Mapping[str, Any], name: str, depth: int) -> Any:
    kind = schema.get("type")
    if kind == "string":
        value = _as_text(value)
    elif kind in _KINDS and isinstance(value, str):
        value = _parsed(value)
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind in _KINDS and not _is_exact(value, schema):
        raise _Misfit(f'"{clipped(name)}" must be of type {kind}')
    if depth < MOST_DEPTH and kind == "object":
        return _fit_object(value, schema, depth + 1)
    if depth < MOST_DEPTH and kind == "array":
        return [_fit(item, schema.get("items"), name, depth + 1) for item in value]
    return _sound(value, name, depth)


def _is_exact(value: Any, schema: Any) -> bool:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(kind, str) and kind in _KINDS and isinstance(value, _KINDS[kind])


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) and _is_sound_number(value) else value


def _is_sound_number(value: int | float) -> bool:
    return math.isfinite(value) if isinstance(value, float) else value.bit_length() <= _MOST_BITS


def _sound(value: Any, name: str, depth: int) -> Any:
    """The same value, if it is one that JSON can carry: a lone surrogate would break every file it is written to."""
    if depth > MOST_DEPTH:
        raise _Misfit(f'"{clipped(name)}" is nested too deeply')
    if isinstance(value, str):
        paired = value.encode("utf-16-le", "surrogatepass") if _SURROGATE.search(value) else None
        return value if paired is None else paired.decode("utf-16-le", "replace")
    if value is None or isinstance(value, int | float) and _is_sound_number(value):
        return value
    if isinstance(value, list | tuple):
        return [_sound(item, name, depth + 1) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_sound(key, name, depth): _sound(item, name, depth + 1) for key, item in value.items()}
    raise _Misfit(f'"{clipped(name)}" is not a JSON value')
