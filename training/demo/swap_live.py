"""Swap a student into a graph that is answering questions, and tell what the people asking would have noticed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from langchain_core.messages import BaseMessage

from graphs.asking import prompt_of
from graphs.bridge import run_blocking
from graphs.run import Context, aanswer_all
from graphs.strategies import strategy_named
from graphs.strategies.strategy import Chain
from steper_agent.errors import ModelError
from steper_agent.models.local import LocalChatModel
from steper_agent.models.slot import ModelSlot, SwapReport
from steper_agent.records import Question, Trajectory
from steper_agent.students.swap import Terms, swap_student
from training.demo.report import Answered, SwapStory
from training.scores.metrics import em

ASKING = 6
"""Questions under way at any moment."""


def swap_live(
    context: Context, student: Path, questions: Sequence[Question], *, tell: Callable[[str], None]
) -> SwapStory:
    """Keep asking while the student takes the seat of the context's model; the same questions are asked before and after."""
    base = context.model
    if not isinstance(base, LocalChatModel):
        raise ModelError("only a local model can take a student in process", where=student, fix="use a local: model")
    slot = ModelSlot(base)
    return run_blocking(_story(base, slot, student, replace(context, model=slot), list(questions), tell))


async def _story(
    base: LocalChatModel, slot: ModelSlot, student: Path, context: Context, questions: list[Question],
    tell: Callable[[str], None],
) -> SwapStory:  # fmt: skip
    a_third = len(questions) // 3
    shown = questions[:a_third]
    before = await aanswer_all(shown, context, concurrency=ASKING)
    reached = asyncio.Event()
    answered = Counter[str]()

    def count(trajectory: Trajectory, seconds: float) -> None:
        del seconds
        answered[trajectory.model] += 1
        if sum(answered.values()) >= len(questions) // 4:
            reached.set()

    asking = asyncio.create_task(aanswer_all(questions, context, concurrency=ASKING, on_finished=count))
    reaching = asyncio.create_task(reached.wait())
    await asyncio.wait([asking, reaching], return_when=asyncio.FIRST_COMPLETED)
    reaching.cancel()
    report = await asyncio.to_thread(_swap, slot, base, student, _canary(context, shown[0].text), tell)
    during = await asking
    after = await aanswer_all(shown, context, concurrency=ASKING)
    drained = await asyncio.to_thread(slot.drain, 30.0)
    chosen = _most_telling(before, after)
    for words, trajectory in (("before", before[chosen]), ("after", after[chosen])):
        _show(words, trajectory, tell)
    failed = sum(trajectory.stop == "error" for trajectory in (*before, *during, *after))
    return SwapStory(before=_answered(before[chosen]), after=_answered(after[chosen]), failed_runs=failed, drained=drained,
                     runs=len(before) + len(during) + len(after), during=dict(answered), seconds=report.seconds)


def _canary(context: Context, question: str) -> list[BaseMessage]:
    """The first prompt the student will be sent."""
    strategy = strategy_named(context.strategy)
    return prompt_of(strategy, strategy.reason(Chain(question), continues=True))


def _swap(
    slot: ModelSlot, base: LocalChatModel, student: Path, canary: list[BaseMessage], tell: Callable[[str], None]
) -> SwapReport:
    report = swap_student(slot, base, student, Terms([canary]), on_event=lambda phase, words: tell(f"  {phase}: {words}"))
    if not report.ok:
        raise ModelError(f"the student was refused: {report.reason}", where=student, fix="distil it again")
    return report


def _most_telling(before: Sequence[Trajectory], after: Sequence[Trajectory]) -> int:
    """A question of several hops that only the student answers rightly, if there is one."""
    def gain(number: int) -> tuple[float, int]:
        gold = after[number].question.answers[0]
        return em(after[number].answer, gold) - em(before[number].answer, gold), len(after[number].steps)

    return max(range(len(after)), key=gain)


def _answered(trajectory: Trajectory) -> Answered:
    return Answered(model=trajectory.model, question=trajectory.question.text, answer=trajectory.answer,
                    gold=trajectory.question.answers[0], rationale=tuple(step.rationale for step in trajectory.steps))


def _show(words: str, trajectory: Trajectory, tell: Callable[[str], None]) -> None:
    tell(f"  {words} the swap, {trajectory.model}: {trajectory.question.text}")
    for step in trajectory.steps:
        tell(f"    read {', '.join(hit.passage.title for hit in step.hits) or 'nothing new'}")
        tell(f"    → {step.rationale}")
    tell(f"    answer: {trajectory.answer}   (right: {trajectory.question.answers[0]})")
