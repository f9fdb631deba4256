"""A model's own chat template: conversations as it writes them, and its habits, found out by asking it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from steper_agent.chat.turns import Part, Turn
from steper_agent.tool_calls.reading import read_calls

PLACE = re.compile(r'(?:\ue000|(\\ue000))(\d+)(\\*)"(?:\ue001|\\ue001)')
"""A `place`, found again. The quote tells, by the backslashes before it, how many times a template put the content into JSON."""

OPENED = re.compile(r"<think>\s*\Z")
"""A thought that a template opens with the turn (QwQ's, DeepSeek-R1's). It is left to the model to open: behind an opened one,
a reply that thinks cannot be told from a reply that says its line at once."""

SAID = [Turn({"role": role}, [Part("x")]) for role in ("system", "user", "assistant", "user")]
ARGUMENTS = {"query": "the river"}
TOOL = {"type": "function", "function": {
    "name": "find_passages", "description": "Finds passages.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}}  # fmt: skip
CALL = {"id": "call00001", "type": "function", "function": {"name": "find_passages", "arguments": ARGUMENTS}}
CALLED = [Turn({"role": "user"}, [Part("x")]), Turn({"role": "assistant", "tool_calls": [CALL]}, []),
          Turn({"role": "tool", "tool_call_id": "call00001", "name": "find_passages"}, [Part("x")])]  # fmt: skip


def as_written(tokenizer: Any, turns: Sequence[Turn], tools: list[Any] | None, *, ask: bool, **chosen: str) -> str:
    """The turns as the template writes them, with a `place` for every content; `ask`: and the beginning of the next."""
    chat = [{**turn.fields, "content": place(number) if turn.content else ""} for number, turn in enumerate(turns)]
    text = tokenizer.apply_chat_template(
        chat, tools=tools, add_generation_prompt=ask, tokenize=False, strftime_now=same_day, **chosen
    )
    return OPENED.sub("", text) if ask else str(text)


def place(number: int) -> str:
    """What stands for the content of a turn while the template writes."""
    return f'\ue000{number}"\ue001'


def same_day(form: str) -> str:
    """What templates get that would print today's date: a student must be served the prompt it was taught."""
    return date(2024, 7, 26).strftime(form)


@lru_cache(maxsize=4)
def keeps_system(tokenizer: Any, template: str) -> bool:
    """Whether the system's words stand first in this template and stay there; some refuse them, drop them, or let them
    wander to the newest question. Kept, because every prompt asks."""
    from jinja2 import TemplateError

    try:
        text = as_written(tokenizer, SAID, None, ask=True, chat_template=template)
    except TemplateError:
        return False
    first = PLACE.search(text)
    return first is not None and int(first[2]) == 0


@lru_cache(maxsize=4)
def writes_calls(tokenizer: Any, template: str) -> bool:
    """Whether this template lists tools, and writes a call so that it is read back as that call. Some know no tools, some
    list them and drop every call (LFM2's), some write calls with control tokens that an engine's text leaves out (Gemma 4's,
    gpt-oss's). Kept, because every prompt asks."""
    from jinja2 import TemplateError

    try:
        asked = as_written(tokenizer, CALLED[:1], [TOOL], ask=True, chat_template=template)
        text = as_written(tokenizer, CALLED, [TOOL], ask=False, chat_template=template)
    except (TemplateError, TypeError, ValueError, LookupError):  # DeepSeek V3's adds a call's arguments to a text.
        return False
    said = text.removeprefix(asked).partition(place(2))[0]
    for token in tokenizer.added_tokens_decoder.values():
        said = said.replace(token.content, "") if token.special else said
    return "Finds passages." in asked and [call["args"] for call in read_calls(said, [TOOL]).calls] == [ARGUMENTS]
