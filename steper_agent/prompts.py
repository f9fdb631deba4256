"""From messages to token ids: one function, used by the running graph and by the trainer, so that the student is
served exactly what it was taught."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage

from steper_agent.chat.codec import Codec
from steper_agent.chat.script import Script
from steper_agent.chat.turns import break_markup, pieces
from steper_agent.errors import ModelError
from steper_agent.plain import plain
from steper_agent.records import Passage

__all__ = ["Segment", "defuse", "encode", "pieces", "render", "segments", "show_passage"]


class Segment(NamedTuple):
    """A run of token ids in the conversation that a student is trained on."""

    ids: tuple[int, ...]
    written: bool
    """True where the model wrote it."""


def show_passage(number: int, passage: Passage) -> str:
    """One passage on one line, so that its text cannot forge a line of the prompt's own, nor any model's markup."""
    return f"[{number}] {_one_line(passage.title)}: {_one_line(passage.text)}"


def render(messages: Sequence[BaseMessage], tokenizer: Any, tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
    """Token ids of a conversation, ready for the model to write the next token. `tools` are OpenAI's schemas.

    Every content is encoded block by block, apart from its neighbours and from the template's text, without outer
    whitespace. A closing assistant message that calls no tool is the prefix of the turn to be continued: nothing ends
    the turn, so that ids generated at one step are the prefix of the next.
    """
    *turns, last = messages
    begun = pieces(last) if isinstance(last, AIMessage) and not last.tool_calls else None
    if begun is None:
        turns.append(last)
    script = Script(tokenizer, tools)
    return [*script.prompt(turns), *(token for piece in begun or () for token in script.codec.encode(piece))]


def segments(messages: Sequence[BaseMessage], tokenizer: Any, tools: Sequence[Mapping[str, Any]] = ()) -> list[Segment]:
    """The conversation as a trainer sees it: what stands before a written segment is what `render` sent for it.

    A closing assistant message in blocks is one turn that grew: each block is a written segment. Otherwise every
    assistant message is a whole turn, its end token included.

    Raises:
        ModelError: the template prints a turn otherwise than it asked for it, or changes it afterwards.
    """
    last = messages[-1]
    if isinstance(last, AIMessage) and not last.tool_calls and isinstance(last.content, list):
        codec = Codec.of(tokenizer)
        head = Segment(tuple(render(messages[:-1], tokenizer, tools)), False)
        return [head, *(Segment(tuple(codec.encode(piece)), True) for piece in pieces(last))]
    return _turns(messages, Script(tokenizer, tools))


def _turns(messages: Sequence[BaseMessage], script: Script) -> list[Segment]:
    said: list[int] = []
    found: list[Segment] = []
    asked = [at for at, message in enumerate(messages) if isinstance(message, AIMessage)]
    for at in [*asked, *([] if isinstance(messages[-1], AIMessage) else [len(messages)])]:
        prompt = script.prompt(messages[:at])
        if prompt[: len(said)] != said:
            raise ModelError(
                "the chat template shows an earlier turn otherwise than the model wrote it", where=f"message {at}",
                fix="use a template that only ever appends, or train on the layout of one growing turn",
            )  # fmt: skip
        found.append(Segment(tuple(prompt[len(said) :]), False))
        said = prompt
        if at < len(messages):
            written = script.turn(messages[: at + 1])
            found.append(Segment(tuple(written), True))
            said = prompt + written
    return found


def encode(text: str, tokenizer: Any) -> list[int]:
    """Token ids of plain text: no special token is added, and none can be smuggled in."""
    return Codec.of(tokenizer).encode(text)


def defuse(text: str, tokenizer: Any) -> str:
    """Break up every control token of this tokenizer that a text spells out; retrieved text is data."""
    return Codec.of(tokenizer).defuse(text)


@lru_cache(maxsize=4096)
def _one_line(text: str) -> str:
    """Kept, because every step shows the passages of all steps before it again."""
    return break_markup(" ".join(plain(text).split()))
