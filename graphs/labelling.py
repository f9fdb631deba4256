"""A teacher beside the run: what it would have said in every state that another model's run reached (DAgger: Ross, Gordon and
Bagnell 2011), or how likely it holds what was said there.

Nothing but a turn that the run takes from the teacher waits for it. The states are asked side by side when the run is at its end,
before its last line in the journal: so a run whose last line is there has all its labels, and one that was killed recalls those
it has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from graphs.asking import leased, version_of
from graphs.recording import By, Done, recorded
from graphs.state import Context, QAState, question_id
from graphs.strategies import strategy_named
from graphs.teacher import Teacher
from graphs.turns import last_turn, next_turn
from steper_agent.models.likely import likely_of
from steper_agent.models.tokens import TokenChatModel
from steper_agent.records import NodeRecord, State

Ask = Callable[[BaseChatModel, QAState, Runtime[Context], RunnableConfig, By | None], Awaitable[NodeRecord]]
ASK: dict[State, Ask] = {"reason": next_turn, "answer": last_turn}


async def turn(of: State, state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> tuple[str, NodeRecord]:
    """The run's next turn, or its last, and the version of the run's model: by that model, or taken from the teacher."""
    version, model = leased(state, runtime.context)
    # The lease of a run that failed before may be of another version: what is asked now is asked of this one.
    state = {**state, "model": version}
    teacher = runtime.context.teacher
    if teacher is None or not _takes(teacher, state, of):
        return version, await ASK[of](model, state, runtime, config, None)
    said = await _label(of, state, runtime, config, teacher)

    async def act() -> Done:
        shared = {name: getattr(said, name) for name in ("calls", "answer", "prompt_ids", "output_ids", "likely", "outcome", "note")}
        return Done(said.output, **shared)

    return version, await recorded(runtime, state, of, said.input, act, by=By(said.model))


async def label(state: QAState, runtime: Runtime[Context], config: RunnableConfig, *, asked: bool) -> None:
    """Have every state of a run that is at its end labelled, and the answer's too if it was `asked` for.

    Raises: what the first call that failed raised, when all are over.
    """
    context = runtime.context
    if context.teacher is None or context.journal is None:
        return
    work = _score if context.teacher.score else _label
    first = 0 if strategy_named(context.strategy).OPENS else 1
    states: list[tuple[State, QAState]] = [("reason", _before(state, step)) for step in range(first, len(state["steps"]) + 1)]
    if asked:
        states.append(("answer", {**state, "answer": ""}))
    ends = await asyncio.gather(*(work(of, at, runtime, config, context.teacher) for of, at in states), return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _label(of: State, state: QAState, runtime: Runtime[Context], config: RunnableConfig, teacher: Teacher) -> NodeRecord:
    return await ASK[of](teacher.model, state, runtime, config, _by(teacher, state, of))


async def _score(of: State, state: QAState, runtime: Runtime[Context], config: RunnableConfig, teacher: Teacher) -> NodeRecord:
    model = cast(TokenChatModel, teacher.model)
    # What was said is in the journal, and recalled from there.
    said = await ASK[of](leased(state, runtime.context)[1], state, runtime, config, None)

    async def act() -> Done:
        chances = await model.ascore(said.prompt_ids, said.output_ids, teacher.score)
        return Done(said.output, calls=said.calls, answer=said.answer, prompt_ids=said.prompt_ids, output_ids=said.output_ids,
                    likely=likely_of(chances, model.version))

    given = [said.prompt_ids, said.output_ids, teacher.score]
    return await recorded(runtime, state, "score", said.input, act, given=given, by=_by(teacher, state, of))


def _by(teacher: Teacher, state: QAState, of: State) -> By:
    taken = {"taken": True} if _takes(teacher, state, of) else {}
    return By(version_of(teacher.model), of, {"student": state["model"], "round": teacher.round, "mix": teacher.mix, **taken})


def _takes(teacher: Teacher, state: QAState, of: State) -> bool:
    return teacher.takes(question_id(state), len(state["steps"]), of)


def _before(state: QAState, step: int) -> QAState:
    """The state in which the turn of this step was asked for."""
    steps = [*state["steps"][: max(0, step - 1)], *({**one, "rationale": ""} for one in state["steps"][max(0, step - 1) : step])]
    earlier: dict[str, Any] = {**state, "steps": steps, "answer": "", "opening": state["opening"] if step else ""}
    return cast(QAState, earlier)
