"""A conversation as the model's own chat template writes it, with a placeholder for every content, so that contents
are encoded apart from the template's text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from steper_agent.chat.codec import Codec
from steper_agent.chat.template import PLACE, as_written, keeps_system, place, writes_calls
from steper_agent.chat.turns import Turn, defused, folded, native_turns, plain_turns
from steper_agent.errors import ModelError


class Script:
    """One tokenizer's way of writing conversations that may use these tools."""

    def __init__(self, tokenizer: Any, tools: Sequence[Mapping[str, Any]]) -> None:
        self.codec = Codec.of(tokenizer)
        self._tokenizer = tokenizer
        self._tools = [defused(tool, self.codec.defuse) for tool in tools]
        self._native = writes_calls(tokenizer, tokenizer.get_chat_template(tools=self._tools or None))

    def prompt(self, messages: Sequence[BaseMessage]) -> list[int]:
        """Ids that ask for the next turn of the assistant."""
        text, turns = self._written(messages, ask=True)
        borders = [0, *self._borders(messages, text), len(text)]
        ids: list[int] = []
        for begin, end in zip(borders, borders[1:], strict=False):
            ids += self._ids(text[begin:end], turns, first=begin == 0)
        return ids

    def turn(self, messages: Sequence[BaseMessage]) -> list[int]:
        """Ids of the closing turn as the assistant writes it after `prompt`, up to its end token."""
        asked, _ = self._written(messages[:-1], ask=True)
        end = self._tokenizer.eos_token_id
        text, turns = self._followed(messages)
        ids = self._ids(text[len(asked) :], turns) if text.startswith(asked) else []
        if end not in ids:
            text, turns = self._written(messages, ask=False)
            if not text.startswith(asked):
                raise ModelError(
                    "the chat template asks for a turn otherwise than it prints it", where=f"message {len(messages) - 1}",
                    fix="use a template whose generation prompt is the beginning of the assistant's turn",
                )  # fmt: skip
            ids = self._ids(text[len(asked) :], turns)
        return ids[: ids.index(end) + 1] if end in ids else ids

    def _followed(self, messages: Sequence[BaseMessage]) -> tuple[str, list[Turn]]:
        """What stands before the content of a message that follows. The prompts to come show the closing turn as it stands there,
        and some templates (Qwen3's) write otherwise, with an empty thought, what nothing follows. Empty if nothing may follow."""
        from jinja2 import TemplateError

        calls = messages[-1].tool_calls if isinstance(messages[-1], AIMessage) else []
        after = ToolMessage("x", tool_call_id=calls[0]["id"]) if calls else HumanMessage("x")
        try:
            text, turns = self._written([*messages, after], ask=False)
        except TemplateError:
            return "", []
        return text.partition(place(len(turns) - 1))[0], turns

    def _borders(self, messages: Sequence[BaseMessage], text: str) -> list[int]:
        """Where the assistant began to write, and where it ended if no token says so: ids on both sides of a border were
        made apart, and must stay so."""
        found: list[int] = []
        for at, message in enumerate(messages):
            if at and isinstance(message, AIMessage):
                found.append(self._reach(messages[:at], text, ask=True))
                if self._tokenizer.eos_token is None or self._tokenizer.eos_token not in text[found[-1] :]:
                    found.append(self._reach(messages[: at + 1], text, ask=False))
        return sorted(found)

    def _reach(self, messages: Sequence[BaseMessage], text: str, *, ask: bool) -> int:
        """Where these messages end in the text of a longer conversation; 0 if it does not begin with them."""
        from jinja2 import TemplateError

        try:
            written, _ = self._written(messages, ask=ask)
        except TemplateError:
            return 0
        return len(written) if text.startswith(written) else 0

    def _written(self, messages: Sequence[BaseMessage], *, ask: bool) -> tuple[str, list[Turn]]:
        defuse = self.codec.defuse
        turns = native_turns(messages, defuse) if self._native else plain_turns(messages, self._tools, defuse)
        if turns and turns[0].fields["role"] == "system" and not self._keeps_system:
            turns = folded(turns)
        return self._with_words(self._apply(turns, self._tools, ask=ask), turns), turns

    def _with_words(self, text: str, turns: Sequence[Turn]) -> str:
        """The words beside a call, put where their turn begins if the template dropped them (Llama 3.1's and Mistral's
        do): they are the reasoning that a student is taught."""
        for number in range(len(turns) - 1, 0, -1):
            turn = turns[number]
            if "tool_calls" in turn.fields and turn.content and place(number) not in text:
                before = self._apply(turns[:number], self._tools, ask=True)
                if text.startswith(before):
                    text = f"{before}{place(number)}\n{text[len(before) :]}"
        return text

    @property
    def _keeps_system(self) -> bool:
        return keeps_system(self._tokenizer, self._tokenizer.get_chat_template())

    def _apply(self, turns: Sequence[Turn], tools: list[Any], *, ask: bool) -> str:
        return as_written(self._tokenizer, turns, tools if self._native and tools else None, ask=ask)

    def _ids(self, text: str, turns: Sequence[Turn], *, first: bool = False) -> list[int]:
        ids: list[int] = []
        at = 0
        for found in PLACE.finditer(text):
            before = text[at : found.start()]
            # A space before a word belongs to the word, in every tokenizer's vocabulary.
            space = " " if before.endswith(" ") and not before[:-1].endswith(" ") else ""
            ids += self.codec.markup(before.removesuffix(space), first=first and at == 0)
            ids += self._content(found, turns, space)
            at = found.end()
        return ids + self.codec.markup(text[at:], first=first and at == 0)

    def _content(self, found: re.Match[str], turns: Sequence[Turn], space: str) -> list[int]:
        ids: list[int] = []
        for part in turns[int(found[2])].content:
            text = part.text
            for _ in range(len(found[3]).bit_length()):
                text = json.dumps(text, ensure_ascii=bool(found[1]))[1:-1]
            ids += self.codec.markup(space + text) if part.ours else self.codec.encode(space + text)
            space = ""
        return ids
