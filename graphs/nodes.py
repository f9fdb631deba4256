"""The four verbs of a run. Each reads the state, uses the context, and returns what changed."""

from __future__ import annotations

import time
import uuid
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from graphs.recording import Done, fields_of, recorded
from graphs.state import Context, QAState, StepState, passages_of, rationale_of
from graphs.strategies import strategy_named
from steper_agent.models.slot import ModelSlot
from steper_agent.records import Finished, Question
from steper_agent.retrieval.foreign import search


async def form_query(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Open the next step with its query; the first one also opens the run and leases a model."""
    del config
    context = runtime.context
    opened = _open(state, context)
    steps = state.get("steps", [])
    query = strategy_named(context.strategy).query(state["question"], rationale_of(state))

    async def act() -> Done:
        return Done(query)

    await recorded(runtime, opened, "form_query", len(steps) + 1, state["question"], act)
    runtime.stream_writer({"event": "query", "step": len(steps) + 1, "query": query})
    return {**opened, "steps": [*steps, StepState(query=query, hits=[], rationale="")]}


async def retrieve(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Search with the step's query and append what has not been seen."""
    del config
    context, step = runtime.context, state["steps"][-1]
    seen = {passage["id"] for passage in state.get("passages", [])}

    async def act() -> Done:
        found = await search(context.retriever, step["query"], context.k)
        new = tuple(hit for hit in found if hit.passage.id not in seen)
        return Done("", hits=new, parameters={"k": context.k}, outcome="ok" if found else "empty_retrieval")

    done = await recorded(runtime, state, "retrieve", len(state["steps"]), step["query"], act, given=sorted(seen))
    hits = [{"id": hit.passage.id, "score": hit.score} for hit in done.hits]
    shown = [{**hit.passage.model_dump(), "score": hit.score} for hit in done.hits]
    runtime.stream_writer({"event": "hits", "step": len(state["steps"]), "hits": shown})
    passages = [*state.get("passages", []), *(hit.passage.model_dump() for hit in done.hits)]
    return {"passages": passages, "steps": [*state["steps"][:-1], {**step, "hits": hits}]}


async def reason(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Ask the model for the next line of reasoning and read it."""
    strategy, number = strategy_named(runtime.context.strategy), len(state["steps"])
    model = _model(state, runtime.context)
    messages = strategy.reason(
        state["question"], passages_of(state), rationale_of(state), continues=_continues(model)
    )

    async def act() -> Done:
        reply = await model.ainvoke(messages, config, stop=list(strategy.STOP))
        line = strategy.read(reply.text).rationale
        return Done(line, outcome="ok" if line else "parse_error", **fields_of(reply))

    done = await recorded(runtime, state, "reason", number, _show(messages), act)
    reading = strategy.read(done.output)
    runtime.stream_writer({"event": "rationale", "step": number, "rationale": reading.rationale})
    steps = [*state["steps"][:-1], {**state["steps"][-1], "rationale": reading.rationale}]
    return {"steps": steps, **({"answer": reading.answer, "stop": "answered"} if reading.answer else {})}


async def answer(state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
    """Close the run: with the chain's own answer, or, its budget spent, by asking for one."""
    context, number = runtime.context, len(state["steps"])
    strategy, stop = strategy_named(context.strategy), state.get("stop", "budget")
    text = state.get("answer", "")
    if stop == "budget":
        model = _model(state, context)
        messages = strategy.answer(
            state["question"], passages_of(state), rationale_of(state), continues=_continues(model)
        )

        async def act() -> Done:
            reply = await model.ainvoke(messages, config, stop=list(strategy.STOP))
            said = strategy.read_answer(reply.text)
            return Done(said, outcome="ok" if said else "parse_error", **fields_of(reply))

        text = (await recorded(runtime, state, "answer", number, _show(messages), act)).output
    _close(state, context, text, stop)
    runtime.stream_writer({"event": "answer", "step": number, "answer": text, "stop": stop})
    return {"answer": text, "stop": stop}


def is_open(state: QAState, runtime: Runtime[Context]) -> str:
    """After `reason`: on to the next query, or to the answer."""
    spent = len(state["steps"]) >= runtime.context.steps
    return "answer" if state.get("answer") or spent else "form_query"


def _open(state: QAState, context: Context) -> QAState:
    """Run id, model version and start time; a resumed run keeps those it has."""
    run = state.get("run") or uuid.uuid4().hex
    version = state.get("model", "")
    if isinstance(context.model, ModelSlot):
        version = context.model.lease(run, version or None)
    elif not version:
        version = version_of(context.model)
    return {"question": state["question"], "run": run, "model": version, "started": state.get("started", time.time())}


def version_of(model: BaseChatModel) -> str:
    """What the model calls itself."""
    for name in ("version", "model_name", "model"):
        if isinstance(value := getattr(model, name, None), str) and value:
            return value
    return type(model).__name__


def _model(state: QAState, context: Context) -> BaseChatModel:
    return context.model.model(state["model"]) if isinstance(context.model, ModelSlot) else context.model


def _continues(model: BaseChatModel) -> bool:
    return bool(getattr(model, "continues_final_message", False))


def _show(messages: list[BaseMessage]) -> str:
    """A prompt as one text, for the journal."""
    ends = "" if isinstance(messages[-1], AIMessage) else "\n<ai>"
    return "\n".join(f"<{message.type}>\n{message.text}" for message in messages) + ends


def _close(state: QAState, context: Context, text: str, stop: str) -> None:
    if isinstance(context.model, ModelSlot):
        context.model.release(state["run"])
    if context.journal is None:
        return
    about = {"id": state["run"], **state.get("about", {}), "text": state["question"]}
    end = {"run": state["run"], "question": Question.model_validate(about), "strategy": context.strategy, "answer": text,
           "stop": stop, "model": state["model"], "recipe": context.recipe, "seconds": time.time() - state["started"]}
    context.journal.append(Finished.model_validate(end))
