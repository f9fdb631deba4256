"""What happens in a run, as the screen is told it, and the exchange it comes to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, Self

from steper_agent.records import Exchange, Hit, Question, Step, Trajectory, Usage


class Understood(NamedTuple):
    """A follow-up question, rewritten to stand alone."""

    question: str


class Asked(NamedTuple):
    """A step begins with its query."""

    step: int
    query: str


class Found(NamedTuple):
    """What the search of a step added."""

    step: int
    hits: tuple[Hit, ...]


class Wrote(NamedTuple):
    """More of a rationale, as the model writes it."""

    step: int
    text: str


class Reasoned(NamedTuple):
    """A rationale is complete."""

    step: int
    rationale: str
    outcome: str


class Spent(NamedTuple):
    """A call of the model, and what it cost."""

    usage: Usage


class Ended(NamedTuple):
    """The last of a run that reached its end."""

    trajectory: Trajectory
    rests_on: tuple[tuple[str, ...], ...]
    supported: bool


Happening = Understood | Asked | Found | Wrote | Reasoned | Spent | Ended


class Account:
    """Adds happenings up to an exchange; of a run that was stopped or failed, to as much of one as there is."""

    def __init__(self, asked: str, *, model: str, strategy: str) -> None:
        self.asked = asked
        self.model = model
        self._strategy = strategy
        self._time = datetime.now(UTC)
        self._question = asked
        self.steps: list[Step] = []
        self._usage: Usage | None = None
        self._ended: Ended | None = None

    def add(self, happening: Happening) -> Self:
        match happening:
            case Understood(question):
                self._question = question
            case Asked(_, query):
                self.steps.append(Step(query=query, hits=(), rationale=""))
            case Found(_, hits):
                self._last(hits=hits)
            case Reasoned(step, rationale, _) if step:
                self._last(rationale=rationale)
            case Spent(usage):
                self._usage = _sum(self._usage, usage)
            case Ended():
                self._ended = happening
            case _:
                pass
        return self

    def exchange(self, seconds: float, note: str = "") -> Exchange:
        """`note`: why it did not reach its end."""
        if self._ended:
            given = {"trajectory": self._ended.trajectory, "rests_on": self._ended.rests_on, "supported": self._ended.supported}
        else:
            question = Question(id="", text=self._question)
            given = {"trajectory": Trajectory(question=question, strategy=self._strategy, steps=tuple(self.steps), answer="",
                                              stop="error", model=self.model, recipe="")}  # fmt: skip
        return Exchange.model_validate({"time": self._time, "asked": self.asked, "seconds": seconds, "usage": self._usage,
                                        "note": note, **given})  # fmt: skip

    def _last(self, **changed: object) -> None:
        if self.steps:
            self.steps[-1] = self.steps[-1].model_copy(update=changed)


def _sum(before: Usage | None, more: Usage) -> Usage:
    if before is None:
        return more
    known = [usage.cached_tokens for usage in (before, more) if usage.cached_tokens is not None]
    return Usage(prompt_tokens=before.prompt_tokens + more.prompt_tokens, cached_tokens=sum(known) if known else None,
                 completion_tokens=before.completion_tokens + more.completion_tokens)
