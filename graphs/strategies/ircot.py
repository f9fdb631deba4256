"""IRCoT (Trivedi et al. 2023): the last line of reasoning is the next query.

Pure functions: what is known → messages, and the reader that turns the model's text back into facts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from steper_agent.prompts import show_passage
from steper_agent.records import Passage

NAME = "ircot"
STOP = ("\n",)
"""One step is one line."""

CONCLUSION = "So the answer is:"
SYSTEM = (
    "Answer the question from the passages, step by step. Write the next line of reasoning: one sentence that the "
    f"passages support. When it settles the question, end that line with: {CONCLUSION} ANSWER."
)
CONTINUE = "Your reasoning so far:\n{lines}\n\nWrite only the next line."
CLOSE = f"No more passages can be read. Write one line: {CONCLUSION} ANSWER."


class Reading(NamedTuple):
    rationale: str
    """The first line the model wrote; empty if it wrote none."""
    answer: str | None
    """What stands behind the conclusion, if the line concludes."""


def query(question: str, rationale: Sequence[str]) -> str:
    """The question first, then always the last line of reasoning."""
    return rationale[-1] if rationale else question


def reason(
    question: str, passages: Sequence[Passage], rationale: Sequence[str], *, continues: bool
) -> list[BaseMessage]:
    """Messages that ask for the next line of reasoning.

    `continues`: the model can go on in the middle of its own turn, so the reasoning so far is that turn's prefix.
    Other models are shown it in the user's turn.
    """
    shown = show(question, passages)
    if continues:
        return [SystemMessage(SYSTEM), HumanMessage(shown), *_prefix([f"{line}\n" for line in rationale])]
    so_far = "\n\n" + CONTINUE.format(lines="\n".join(rationale)) if rationale else ""
    return [SystemMessage(SYSTEM), HumanMessage(shown + so_far)]


def answer(
    question: str, passages: Sequence[Passage], rationale: Sequence[str], *, continues: bool
) -> list[BaseMessage]:
    """Messages that ask for the answer when the step budget is spent."""
    shown = show(question, passages)
    if continues:
        return [SystemMessage(SYSTEM), HumanMessage(shown), *_prefix([f"{line}\n" for line in rationale] + [CONCLUSION])]
    so_far = "\n\nYour reasoning so far:\n" + "\n".join(rationale) if rationale else ""
    return [SystemMessage(SYSTEM), HumanMessage(f"{shown}{so_far}\n\n{CLOSE}")]


def show(question: str, passages: Sequence[Passage]) -> str:
    """The user's turn: passages in the order they were found, the question last, so that step s+1's prompt starts
    with step s's up to its last passage."""
    lines = [show_passage(number, passage) for number, passage in enumerate(passages, start=1)]
    return "\n".join([*lines, *([""] if lines else []), f"Question: {' '.join(question.split())}"])


def target(rationale: str) -> str:
    """The text a student learns to write for one step: the line and its end."""
    return rationale + "\n"


def read(text: str) -> Reading:
    """The first line that says anything, and the answer in it. Never raises: a model may write whatever it likes."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return Reading(line, find_answer(line))


def find_answer(line: str) -> str | None:
    """The text behind the conclusion, without a closing full stop; None if the line does not conclude."""
    found = re.search(r"\bthe answer is:?\s*(?P<answer>[^:\s].*)$", line, flags=re.IGNORECASE)
    if not found:
        return None
    return found["answer"].strip().removesuffix(".").strip(" *\"'") or None


def read_answer(text: str) -> str:
    """The answer in a reply to `answer`, with or without the words that lead to it."""
    line = read(text).rationale
    return find_answer(line) or line.removesuffix(".").strip()


def _prefix(blocks: list[str]) -> list[BaseMessage]:
    content: list[str | dict[Any, Any]] = [{"type": "text", "text": block} for block in blocks]
    return [AIMessage(content=content)] if blocks else []
