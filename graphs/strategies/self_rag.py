"""Self-RAG (Asai et al. 2024), a baseline: a line a step, with reflection marks that say whether the passages found last help,
whether they support the line, and whether to search again.

The marks are plain text. The paper's are new tokens of the vocabulary, and a student with a vocabulary of its own could not be
served as an adapter beside its base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage

from graphs.strategies import ircot
from graphs.strategies.layout import FENCE
from graphs.strategies.reading import bare, find_answer, first_line, one_line, silence, visible
from graphs.strategies.strategy import Turn, search

NAME = "self_rag"
STOP = ("\n",)
OPENS = False
"""The first search is always made: no chain that is taught does without."""
MOST_STEPS = None
TOOLS = False

Support = Literal["Fully supported", "Partially supported", "No support"]

CONCLUSION = ircot.CONCLUSION
RETRIEVE = "[Retrieve]"
MOST_USEFUL, LEAST_USEFUL = 5, 1
SYSTEM = (
    "Answer the question from the passages, step by step. Write the next line: `[Relevant]` or `[Irrelevant]`, as the passages "
    "found last help or not; one sentence; `[Fully supported]`, `[Partially supported]` or `[No support]`, as the passages "
    f"support it; and `{RETRIEVE}`. When the sentence settles the question, end it with: {CONCLUSION} ANSWER. and write "
    f"`[Utility:{MOST_USEFUL}]` instead of `{RETRIEVE}`, or a lower number, as the answer helps. {FENCE}"
)
_MARK = re.compile(
    r"\[ ?(?P<name>retrieve|relevant|irrelevant|fully supported|partially supported|no support|utility ?: ?\d) ?\]", flags=re.IGNORECASE
)

reason = ircot.reason
answer = ircot.answer
conversation = ircot.conversation


def write(sentence: str, *, is_relevant: bool, support: Support, utility: int | None = None) -> str:
    """One line. `utility`, from 1 to 5, where it concludes; else it searches again."""
    last = RETRIEVE if utility is None else f"[Utility:{utility}]"
    return f"{'[Relevant]' if is_relevant else '[Irrelevant]'} {sentence} [{support}] {last}"


def unmarked(line: str) -> str:
    """What a line says, without its marks."""
    return one_line(_MARK.sub(" ", line))


def read(reply: AIMessage, tools: Sequence[Mapping[str, Any]] = ()) -> Turn:
    del tools
    line = first_line(visible(reply))
    said = unmarked(line)
    if not said:
        return Turn(line, fault="the model wrote no sentence" if line else silence(reply))
    if found := find_answer(said):
        return Turn(line, calls=(search(said),), answer=found)
    if any(mark["name"].lower() == "retrieve" for mark in _MARK.finditer(line)):
        return Turn(line, calls=(search(said),))
    return Turn(line, fault=f"neither {RETRIEVE} nor an answer")


def read_answer(reply: AIMessage) -> str:
    said = unmarked(first_line(visible(reply)))
    return find_answer(said) or bare(said)
