"""SAIL (Luo et al. 2023), a baseline: one search with the question, every result judged, then the answer."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.strategies import single_step
from graphs.strategies.layout import FENCE

NAME = "sail"
STOP = ()
OPENS = False
MOST_STEPS = 1
TOOLS = False

CONCLUSION = single_step.CONCLUSION
SYSTEM = (
    "Answer the question from the passages. First judge every passage, in their order: `[1] is informative.` or `[1] is "
    "distracting.` Then reason in a few short sentences that the informative ones support, and end with: "
    f"{CONCLUSION} ANSWER. {FENCE}"
)

reason = single_step.reason
answer = single_step.answer
conversation = single_step.conversation
read = single_step.read
read_answer = single_step.read_answer


def write(informative: Sequence[bool], rationale: str) -> str:
    """The whole turn, on one line; a judgement for every passage, in their order."""
    said = [f"[{number}] is {'informative' if is_so else 'distracting'}." for number, is_so in enumerate(informative, start=1)]
    return " ".join([*said, rationale])
