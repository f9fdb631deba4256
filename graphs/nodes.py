"""The verbs of a run. Each reads the state, uses the context, and returns what changed."""

from __future__ import annotations

import time
import uuid
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from graphs.asking import leased
from graphs.bridge import given_back
from graphs.conversation import rewritten
from graphs.evidence import evidence_of
from graphs.labelling import label, turn
from graphs.recording import Done, recorded
from graphs.searching import look_up
from graphs.state import Context, QAState, StepState, call_of, call_state, chain_of, question_of
from graphs.strategies import strategy_named
from graphs.strategies.strategy import SEARCH, query_of, search
from steper_agent.records import Finished

MOST_TURNS = 100
"""Turns of a conversation that a thread keeps; a question is rewritten from far fewer."""


async def begin(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Open the run: forget the thread's last one, lease a model, and let a follow-up question stand alone."""
    given = state.get("run", "")
    run = given if given != state.get("begun", "") else uuid.uuid4().hex
    opened: QAState = {
        "question": state["question"], "asked": state["question"], "run": run, "begun": run, "model": "", "started": time.time(),
        "opening": "", "asks": [], "passages": [], "steps": [], "answer": "", "stop": "", "evidence": [], "supported": False,
    }  # fmt: skip
    # A run that was given up, its approval left open, gives nothing back by itself.
    runtime.context.release(state.get("begun", ""))
    with given_back(runtime.context, run):
        version, model = leased(opened, runtime.context)
        opened["model"] = version
        if state.get("history"):
            opened["question"] = await rewritten({**state, **opened}, model, runtime, config)
            runtime.stream_writer({"event": "question", "question": opened["question"]})
    return {**opened}


async def form_query(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Open the next step with what the last turn asks for, and with the question where it asks for nothing."""
    del config
    steps, asks = state["steps"], state["asks"] or [call_state(search(state["question"]))]
    query = query_of([call_of(call) for call in asks])

    async def act() -> Done:
        return Done(query)

    await recorded(runtime, state, "form_query", state["question"], act, given=asks)
    runtime.stream_writer({"event": "query", "step": len(steps) + 1, "query": query})
    calls = asks if strategy_named(runtime.context.strategy).TOOLS else []
    return {"asks": [], "steps": [*steps, StepState(query=query, hits=[], rationale="", calls=calls)]}


async def retrieve(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Look up what the step asks for and append what has not been seen."""
    context, number, step = runtime.context, len(state["steps"]), state["steps"][-1]
    if context.approve:
        step = _approved(step, number)
    calls = [call_of(call) for call in step["calls"]] or [search(step["query"])]
    seen = {passage["id"] for passage in state["passages"]}

    async def act() -> Done:
        made, new, count = await look_up(calls, seen, context, config)
        searched = any(call.tool == SEARCH for call in calls)
        return Done("", hits=tuple(new), calls=tuple(made) if step["calls"] else (), parameters={"k": context.k},
                    outcome="empty_retrieval" if searched and not count else "ok")

    given = [sorted(seen), [call.model_dump() for call in calls]]
    done = await recorded(runtime, state, "retrieve", step["query"], act, given=given)
    shown = [{**hit.passage.model_dump(), "score": hit.score} for hit in done.hits]
    runtime.stream_writer({"event": "hits", "step": number, "hits": shown})
    read = {**step, "hits": [{"id": hit.passage.id, "score": hit.score} for hit in done.hits],
            "calls": [call_state(call) for call in done.calls]}
    passages = [*state["passages"], *(hit.passage.model_dump() for hit in done.hits)]
    return {"passages": passages, "steps": [*state["steps"][:-1], read]}


async def reason(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Ask the model for its next turn and read it; before the first search that turn only says what to look up."""
    number = len(state["steps"])
    version, done = await turn("reason", state, runtime, config)
    runtime.stream_writer({"event": "rationale", "step": number, "rationale": done.output, "outcome": done.outcome})
    told: dict[str, Any] = {"model": version, "asks": [call_state(call) for call in done.calls]}
    if number:
        told["steps"] = [*state["steps"][:-1], {**state["steps"][-1], "rationale": done.output}]
    else:
        told["opening"] = done.output
    return {**told, **({"answer": done.answer, "stop": "answered"} if done.answer else {})}


async def answer(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Close the run: with the chain's own answer, or, where it has none, by asking for one."""
    context, number = runtime.context, len(state["steps"])
    strategy, text = strategy_named(context.strategy), state["answer"]
    # A strategy that never searches has spent nothing: asking is all it does.
    stop = state["stop"] or ("budget" if strategy.MOST_STEPS != 0 else "answered")
    version = state["model"]
    if not text:
        version, done = await turn("answer", state, runtime, config)
        text = done.output
    await label({**state, "model": version}, runtime, config, asked=not state["answer"])
    evidence, supported = evidence_of(chain_of({**state, "answer": text}))
    _close({**state, "model": version}, context, text, stop)
    runtime.stream_writer({"event": "answer", "step": number, "answer": text, "stop": stop, "supported": supported})
    said = [{"role": "user", "content": state["asked"]}, {"role": "assistant", "content": text}]
    return {"answer": text, "stop": stop, "model": version, "evidence": evidence, "supported": supported,
            "history": [*state.get("history", []), *said][-MOST_TURNS:]}


def after_begin(state: QAState, context: Context) -> str:
    """To the first query; to the model where it speaks first; straight to the answer where nothing is ever searched."""
    del state
    strategy = strategy_named(context.strategy)
    if strategy.MOST_STEPS == 0:
        return "answer"
    return "reason" if strategy.OPENS else "form_query"


def after_reason(state: QAState, context: Context) -> str:
    """On to the next query, or to the answer: there is one, or the budget is spent."""
    most = strategy_named(context.strategy).MOST_STEPS
    budget = context.steps if most is None else min(most, context.steps)
    return "answer" if state["answer"] or len(state["steps"]) >= budget else "form_query"


def _approved(step: StepState, number: int) -> StepState:
    """The step as a person lets it pass: as it is, or with a query of theirs."""
    said = interrupt({"step": number, "query": step["query"]})
    if not isinstance(said, str) or not said.strip():
        return step
    calls = [call_state(search(said))] if step["calls"] else []
    return {**step, "query": said, "calls": calls}


def _close(state: QAState, context: Context, text: str, stop: str) -> None:
    context.release(state["run"])
    if context.journal is None:
        return
    end = {"run": state["run"], "question": question_of(state).model_dump(), "strategy": context.strategy, "answer": text,
           "stop": stop, "model": state["model"], "recipe": context.recipe, "seconds": time.time() - state["started"]}
    context.journal.append(Finished.model_validate(end))
