"""From messages to token ids: one function, used by the running graph and by the trainer, so that the student is
served exactly what it was taught."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from steper_agent.records import Passage

ROLES = {"system": "system", "human": "user", "ai": "assistant"}


def show_passage(number: int, passage: Passage) -> str:
    """One passage on one line, so that its text cannot forge a line of the prompt's own."""
    return f"[{number}] {_one_line(passage.title)}: {_one_line(passage.text)}"


def pieces(message: BaseMessage) -> list[str]:
    """The text blocks of a message, in order."""
    if isinstance(message.content, str):
        return [message.content]
    return [block if isinstance(block, str) else str(block["text"]) for block in message.content]


def render(messages: Sequence[BaseMessage], tokenizer: Any) -> list[int]:
    """Token ids of a conversation, ready for the model to write the next token.

    A closing assistant message is the prefix of the turn to be continued: its blocks are encoded one by one and
    nothing ends the turn, so that ids generated at one step are the prefix of the next.
    """
    *turns, last = messages
    prefix = pieces(last) if isinstance(last, AIMessage) else []
    if not prefix:
        turns.append(last)
    chat = [{"role": ROLES[m.type], "content": defuse("".join(pieces(m)), tokenizer)} for m in turns]
    ids = list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=False))
    for piece in prefix:
        ids += encode(piece, tokenizer)
    return ids


def encode(text: str, tokenizer: Any) -> list[int]:
    """Token ids of plain text: no special token is added, and none can be smuggled in."""
    return list(tokenizer.encode(defuse(text, tokenizer), add_special_tokens=False))


def defuse(text: str, tokenizer: Any) -> str:
    """Break up every control token of this tokenizer that a text spells out; retrieved text is data."""
    pattern = _control_tokens(tuple(sorted(tokenizer.get_added_vocab())))
    return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if pattern else text


@lru_cache(maxsize=16)
def _control_tokens(tokens: tuple[str, ...]) -> re.Pattern[str] | None:
    long_enough = [re.escape(token) for token in tokens if len(token) > 1]
    return re.compile("|".join(long_enough)) if long_enough else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
