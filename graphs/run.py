"""Many questions through the graph at once, and what a run comes to as a record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

from graphs.asking import prompt_of, tools_of, version_of
from graphs.bridge import run_blocking
from graphs.pacing import Pace
from graphs.retrying import PACED
from graphs.state import Context, QAState, chain_of, question_of
from graphs.stepwise import StepwiseGraph, build_graph
from graphs.strategies import strategy_named
from graphs.strategies.strategy import Chain, search
from steper_agent.durable import digest
from steper_agent.errors import StepERError
from steper_agent.models.slot import ModelSlot
from steper_agent.plain import plain
from steper_agent.records import Hit, Passage, Question, Step, Trajectory

__all__ = ["Context", "answer_all", "build_graph", "recipe_of", "trajectory_of"]

LOG = logging.getLogger(__name__)
OnFinished = Callable[[Trajectory, float], None]
"""Called with a question's trajectory and the seconds since it was begun, for the last time if a rate limit stopped it."""


def answer_all(
    questions: Sequence[Question], context: Context, *, concurrency: int = 8, on_finished: OnFinished | None = None
) -> list[Trajectory]:
    """Answer every question, up to `concurrency` side by side; trajectories in question order.

    Fewer are under way while a provider refuses calls for its rate limit, and a refused question is begun again, from
    what the journal holds of it.

    A run whose node fails becomes a trajectory with `stop="error"` and is not closed in the journal, so the next call
    takes it up again where it stopped. Runs the journal holds complete are not repeated: read those from the journal.

    Raises:
        StepERError: what a person must mend (a wrong setting, a model that cannot load) ends the whole call.
    """
    return run_blocking(aanswer_all(questions, context, concurrency=concurrency, on_finished=on_finished))


async def aanswer_all(
    questions: Sequence[Question], context: Context, *, concurrency: int = 8, on_finished: OnFinished | None = None,
    pace: Pace | None = None,
) -> list[Trajectory]:  # fmt: skip
    """`answer_all` for a running event loop. Calls that share a `pace` share its places, whatever their `concurrency`."""
    shared = pace or Pace(concurrency)

    async def one(question: Question) -> Trajectory:
        trajectory, seconds = await _answer(question, context, shared)
        if on_finished:
            on_finished(trajectory, seconds)
        return trajectory

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(question)) for question in questions]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None  # One cause is enough to mend; the rest were cancelled or say the same.
    return [task.result() for task in tasks]


async def _answer(question: Question, context: Context, pace: Pace) -> tuple[Trajectory, float]:
    given: QAState = {"question": question.text, "about": question.model_dump(mode="json"), "run": question.id}
    begun = time.perf_counter()

    async def ask() -> Any:
        nonlocal begun
        begun = time.perf_counter()
        return await _graph().ainvoke(given, context=context)

    try:
        state = await pace.keep(ask)
    except StepERError:
        raise
    except Exception as bad:
        # Any provider's client may raise anything; the node that failed is in the journal, with what it said.
        LOG.warning("question %s failed: %s: %s", plain(question.id), type(bad).__name__, plain(str(bad)))
        failed = Trajectory(question=question, strategy=context.strategy, steps=(), answer="", stop="error",
                            model=model_version(context), recipe=context.recipe)
        return failed, time.perf_counter() - begun
    return trajectory_of(cast(QAState, state), context), time.perf_counter() - begun


@cache
def _graph() -> StepwiseGraph:
    """Made once: it keeps nothing between runs, and making it costs as much as some runs of it."""
    return build_graph(retry=PACED)


def trajectory_of(state: QAState, context: Context) -> Trajectory:
    """The record of a finished state."""
    return Trajectory(
        question=question_of(state), strategy=context.strategy, opening=state["opening"], steps=chain_of(state).steps,
        answer=state["answer"], stop=state["stop"], model=state["model"], recipe=context.recipe,
    )


def recipe_of(context: Context, index_digest: str) -> dict[str, object]:
    """Everything that shapes a run but the model's weights; two evaluations compare only if these are equal."""
    strategy = strategy_named(context.strategy)
    hit = Hit(passage=Passage(id="p", title="T", text="t"), score=0.0)
    golden = Chain("q", "o", (Step(query="u", hits=(hit,), rationale="r"), Step(query="v", hits=(), rationale="")), (search("w"),))
    prompts = [
        [message.model_dump() for message in prompt_of(strategy, how(golden, continues=continues), context.exemplars)]
        for how in (strategy.reason, strategy.answer) for continues in (True, False)
    ]  # fmt: skip
    return {"strategy": context.strategy, "prompts": digest([prompts, tools_of(context)]), "k": context.k,
            "steps": context.steps, "index": index_digest}


def model_version(context: Context) -> str:
    """The version that the next run would get."""
    return context.model.current if isinstance(context.model, ModelSlot) else version_of(context.model)
