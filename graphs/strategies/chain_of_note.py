"""Chain-of-Note (Yu et al. 2023), a baseline: one search with the question, a reading note on every passage, then the answer."""

from __future__ import annotations

from collections.abc import Sequence

from graphs.strategies import single_step
from graphs.strategies.layout import FENCE

NAME = "chain_of_note"
STOP = ()
OPENS = False
MOST_STEPS = 1
TOOLS = False

CONCLUSION = single_step.CONCLUSION
SYSTEM = (
    "Answer the question from the passages. First write a note on every passage, in their order: `Note [1], relevant: WHAT IT "
    "SAYS` or `Note [1], irrelevant.` Then reason in a few short sentences that the passages support, and end with: "
    f"{CONCLUSION} ANSWER. {FENCE}"
)

reason = single_step.reason
answer = single_step.answer
conversation = single_step.conversation
read = single_step.read
read_answer = single_step.read_answer


def write(notes: Sequence[str], rationale: str) -> str:
    """The whole turn, on one line. A note is what a passage says to the question, in the passages' order; an empty one says that
    the passage is irrelevant."""
    said = [f"Note [{number}], relevant: {note}" if note else f"Note [{number}], irrelevant." for number, note in enumerate(notes, start=1)]
    return " ".join([*said, rationale])
