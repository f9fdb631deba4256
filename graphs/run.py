"""Many questions through the graph at once, and what a run comes to as a record."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import cast

from graphs.asking import prompt_of, tools_of, version_of
from graphs.bridge import run_blocking
from graphs.nodes import question_of
from graphs.state import Context, QAState, chain_of
from graphs.stepwise import StepwiseGraph, build_graph
from graphs.strategies import strategy_named
from graphs.strategies.strategy import Chain, search
from steper_agent.durable import digest
from steper_agent.errors import StepERError
from steper_agent.models.slot import ModelSlot
from steper_agent.records import Hit, Passage, Question, Step, Trajectory

__all__ = ["Context", "answer_all", "build_graph", "recipe_of", "trajectory_of"]

LOG = logging.getLogger(__name__)
OnFinished = Callable[[Trajectory, float], None]


def answer_all(
    questions: Sequence[Question], context: Context, *, concurrency: int = 8, on_finished: OnFinished | None = None
) -> list[Trajectory]:
    """Answer every question, up to `concurrency` side by side; trajectories in question order.

    A run whose node fails becomes a trajectory with `stop="error"` and is not closed in the journal, so the next call
    takes it up again where it stopped. Runs the journal holds complete are not repeated: read those from the journal.

    Raises:
        StepERError: what a person must mend (a wrong setting, a model that cannot load) ends the whole call.
    """
    return run_blocking(aanswer_all(questions, context, concurrency=concurrency, on_finished=on_finished))


async def aanswer_all(
    questions: Sequence[Question], context: Context, *, concurrency: int = 8, on_finished: OnFinished | None = None
) -> list[Trajectory]:
    """`answer_all` for a running event loop."""
    graph, gate = build_graph(), asyncio.Semaphore(concurrency)

    async def one(question: Question) -> Trajectory:
        async with gate:
            start = time.perf_counter()
            trajectory = await _answer(graph, question, context)
            if on_finished:
                on_finished(trajectory, time.perf_counter() - start)
            return trajectory

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(question)) for question in questions]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None  # One cause is enough to mend; the rest were cancelled or say the same.
    return [task.result() for task in tasks]


async def _answer(graph: StepwiseGraph, question: Question, context: Context) -> Trajectory:
    given: QAState = {"question": question.text, "about": question.model_dump(mode="json"), "run": question.id}
    try:
        state = await graph.ainvoke(given, context=context)
    except StepERError:
        raise
    except Exception as bad:
        # Any provider's client may raise anything; the node that failed is in the journal, with what it said.
        LOG.warning("question %s failed: %s: %s", question.id, type(bad).__name__, bad)
        return Trajectory(question=question, strategy=context.strategy, steps=(), answer="", stop="error",
                          model=model_version(context), recipe=context.recipe)
    return trajectory_of(cast(QAState, state), context)


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
