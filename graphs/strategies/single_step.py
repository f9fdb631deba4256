"""Single-step retrieval, a baseline: one search with the question, then the whole reasoning and the answer at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage

from graphs.strategies import ircot
from graphs.strategies.layout import FENCE
from graphs.strategies.reading import find_answer, one_line, silence, visible
from graphs.strategies.strategy import Turn, search

NAME = "single_step"
STOP = ()
OPENS = False
MOST_STEPS = 1
TOOLS = False

CONCLUSION = ircot.CONCLUSION
SYSTEM = (
    "Answer the question from the passages. Reason in a few short sentences that the passages support, then end with: "
    f"{CONCLUSION} ANSWER. {FENCE}"
)

reason = ircot.reason
answer = ircot.answer
conversation = ircot.conversation
read_answer = ircot.read_answer


def read(reply: AIMessage, tools: Sequence[Mapping[str, Any]] = ()) -> Turn:
    del tools
    said = one_line(visible(reply))
    if not said:
        return Turn("", fault=silence(reply))
    return Turn(said, calls=(search(said),), answer=find_answer(said))
