"""Who teaches beside a run: the states that another model reaches are labelled by it, and the run may follow it."""

from __future__ import annotations

from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel

from steper_agent.durable import digest
from steper_agent.records import State


@dataclass(frozen=True, slots=True)
class Teacher:
    """Who labels the states of other models' runs, and how far the runs follow it."""

    model: BaseChatModel
    mix: float = 0.0
    """DAgger's β: the probability that the run takes the teacher's turn instead of its own model's."""
    seed: int = 0
    round: int = 1
    score: int = 0
    """If not 0, the teacher writes nothing: it tells how likely it holds what was said, and so many of the likeliest tokens in
    the place of each. The model must hold the same token ids as the run's, see `same_vocabulary`."""

    def takes(self, question: str, step: int, of: State = "reason") -> bool:
        """Whether the run takes the teacher's turn in this state of a question: a coin that falls the same way at every start."""
        return int(digest([self.seed, question, step, of])[:13], 16) < self.mix * 16**13
