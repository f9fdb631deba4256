"""IRCoT (Trivedi et al. 2023): the last line of reasoning is the next query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from graphs.strategies.layout import FENCE, prefix, show, user
from graphs.strategies.reading import bare, find_answer, first_line, silence, visible
from graphs.strategies.strategy import Chain, Turn, search

NAME = "ircot"
STOP = ("\n",)
"""One step is one line."""
OPENS = False
"""The first query is the question."""
MOST_STEPS = None
TOOLS = False

CONCLUSION = "So the answer is:"
SYSTEM = (
    "Answer the question from the passages, step by step. Write the next line of reasoning: one sentence that the "
    f"passages support. When it settles the question, end that line with: {CONCLUSION} ANSWER. {FENCE}"
)
CONTINUE = "\n\nYour reasoning so far:\n{lines}\n\nWrite only the next line."
CLOSE = "\n\nYour reasoning so far:\n{lines}\n\nNo more passages can be read. Write one line: " + CONCLUSION + " ANSWER."


def reason(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    shown = show(chain.question, chain.passages)
    if continues:
        return [user(shown, continues=True), *prefix(blocks(chain))]
    so_far = [CONTINUE.format(lines="\n".join(chain.lines))] if chain.lines else []
    return [user([*shown, *so_far], continues=False)]


def answer(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    shown = show(chain.question, chain.passages)
    if continues:
        return [user(shown, continues=True), *prefix([*blocks(chain), CONCLUSION])]
    return [user([*shown, CLOSE.format(lines="\n".join(chain.lines))], continues=False)]


def conversation(chain: Chain) -> list[BaseMessage]:
    return reason(chain, continues=True)


def blocks(chain: Chain) -> list[str]:
    """What the model wrote, turn by turn: a line and its end."""
    return [f"{line}\n" for line in chain.lines]


def read(reply: AIMessage, tools: Sequence[Mapping[str, Any]] = ()) -> Turn:
    del tools
    line = first_line(visible(reply))
    if not line:
        return Turn("", fault=silence(reply))
    return Turn(line, calls=(search(line),), answer=find_answer(line))


def read_answer(reply: AIMessage) -> str:
    line = first_line(visible(reply))
    return find_answer(line) or bare(line)
