"""Questions that a student will be judged by, and must not have been taught."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steper_agent.records import Question, Trajectory
from training.scores.metrics import normalise

SAME_ID, SAME_TEXT = "held out: same id", "held out: same question"
GRAM = 8
"""Words in a row that two questions share by more than chance."""
SHOWN = 10
"""Questions that a warning names."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Questions that a student will be judged by, and must not have been taught."""

    ids: frozenset[str]
    texts: frozenset[str]
    grams: dict[tuple[str, ...], str]
    """`GRAM` words in a row → the id of a question that has them."""

    @classmethod
    def of(cls, questions: Iterable[Question]) -> HeldOut:
        asked = list(questions)
        grams = {gram: question.id for question in asked for gram in _grams(question.text)}
        return cls(frozenset(one.id for one in asked), frozenset(normalise(one.text) for one in asked), grams)

    def leaked(self, trajectory: Trajectory) -> str:
        """The filter: the same question, by its id or by its text but for case, punctuation and articles."""
        return self.holds(trajectory.question)

    def holds(self, question: Question) -> str:
        """Why the question may not be taught; empty if it may."""
        if question.id in self.ids:
            return SAME_ID
        return SAME_TEXT if normalise(question.text) in self.texts else ""

    def near(self, question: Question) -> list[str]:
        """That a held-out question has `GRAM` words in a row in common with this one, in words; nothing if none has."""
        return [f"{question.id} is like {self.grams[gram]}" for gram in _grams(question.text) if gram in self.grams][:1]


def near_told(near: Sequence[str]) -> tuple[str, ...]:
    """The warning that the card has for questions that are near a held-out one; none if there are none."""
    if not near:
        return ()
    more = f", and {len(near) - SHOWN} more" if len(near) > SHOWN else ""
    return (f"{len(near)} kept questions share {GRAM} words in a row with a held-out one: {', '.join(near[:SHOWN])}{more}",)


def _grams(text: str) -> list[tuple[str, ...]]:
    tokens = normalise(text).split()
    return [tuple(tokens[at : at + GRAM]) for at in range(len(tokens) - GRAM + 1)]
