"""The quality gate of a swap in the cockpit: before anybody is answered by the candidate, it and what serves now answer the same
questions, over the index and with the settings that a person asks with. It runs in the thread of the swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from langchain_core.language_models import BaseChatModel

from steper_agent.errors import AdapterError
from steper_agent.models.slot import ModelSlot, OnPhase
from steper_agent.records import Question
from tui.app.swapping import WORLD_QUESTIONS, Gate
from tui.app.world import PASSAGES, SEED

if TYPE_CHECKING:
    from graphs.state import Context


class Tally(ModelSlot):
    """A seat that tells how many runs have left it, well or not."""

    def __init__(self, model: BaseChatModel, tell: Callable[[int], None]) -> None:
        super().__init__(model)
        self._over = set[str]()
        self._tell = tell

    def release(self, run_id: str) -> None:
        super().release(run_id)
        # Once for every run: one that failed and is asked again leaves twice.
        if run_id not in self._over:
            self._over.add(run_id)
            self._tell(len(self._over))


def trial(gate: Gate, slot: ModelSlot, context: Context, tell: OnPhase) -> Callable[[BaseChatModel], None]:
    """What a candidate for this slot must bear (`steper_agent.students.swap.Terms`): raises AdapterError where it falls short.
    `tell` hears how far it is, and the verdict with its figures.

    Raises:
        DataError: the questions cannot be read, or one of them has no answer to be judged by.
    """
    questions = questions_of(gate)

    def counted(model: BaseChatModel, who: str) -> BaseChatModel:
        seat = Tally(model, lambda done: tell("gate", f"{who}: {done} of {len(questions)} questions"))
        return cast(BaseChatModel, seat)  # Wherever the graph takes a model it takes a slot.

    def through(candidate: BaseChatModel) -> None:
        from training.gate import compare

        now, new = slot.current, str(getattr(candidate, "version", "the candidate"))
        tell("gate", f"{now}: 0 of {len(questions)} questions")
        report = compare(counted(slot.model(now), now), counted(candidate, new), replace(context, journal=None), questions,
                         min_delta=gate.min_delta)  # fmt: skip
        tell("gate", str(report))
        if not report.is_passed:
            raise AdapterError(f"it falls short of {now}: {report}", where="the gate",
                               fix="train it longer, allow more with --min-delta, or swap it in without the gate")

    return through


def questions_of(gate: Gate) -> Sequence[Question]:
    """The questions that both must answer.

    Raises:
        DataError: they cannot be read, or one of them has no answer to be judged by.
    """
    if gate.questions is None:
        from training.microworld.questions import CHAINS, make_questions
        from training.microworld.world import make_world

        return make_questions(make_world(PASSAGES, split="test", seed=SEED), WORLD_QUESTIONS, seed=SEED, mix=CHAINS)
    from steper_agent.retrieval import read_questions

    return read_questions(gate.questions, need_answers=True)
