"""Around every node: recall work a killed run already did, time it, bound it, and write one journal line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime

from graphs.state import Context, QAState, question_id
from steper_agent.durable import digest
from steper_agent.models.likely import likely_in
from steper_agent.records import Call, Hit, Likely, Node, NodeRecord, Outcome, State, Usage


@dataclass(frozen=True, slots=True)
class Done:
    """What a node's work came to."""

    output: str
    hits: tuple[Hit, ...] = ()
    calls: tuple[Call, ...] = ()
    answer: str = ""
    prompt_ids: tuple[int, ...] = ()
    output_ids: tuple[int, ...] = ()
    likely: Likely | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    outcome: Outcome = "ok"
    note: str = ""


@dataclass(frozen=True, slots=True)
class By:
    """Who did a node's work, where it was not the run's own model."""

    version: str
    of: State | None = None
    """For work beside the run: which state of it."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """To be recorded with the node's own."""


async def recorded(
    runtime: Runtime[Context], state: QAState, node: Node, given_text: str,
    act: Callable[[], Awaitable[Done]], *, given: object = None, by: By | None = None,
) -> NodeRecord:  # fmt: skip
    """Run `act` once for this input, within the time limit, and journal how it ended.

    The key names the work: the node, its step, everything it was given, the recipe, and the versions of the run's model and of
    whoever else did it. A failure is journalled too, and is raised.
    """
    context, start, whose = runtime.context, time.perf_counter(), by or By(state["model"])
    # A query opens the step that all after it belong to.
    step, others = len(state["steps"]) + (node == "form_query"), [[by.version, by.of]] if by else []
    key = digest([node, step, given_text, given, state["model"], context.k, context.strategy, context.recipe, *others])
    if context.journal is not None and (known := context.journal.recall(state["run"], key)):
        return known

    def write(done: Done) -> NodeRecord:
        fields = {name: getattr(done, name) for name in Done.__slots__}
        fields["parameters"] = {**done.parameters, **whose.parameters}
        record = NodeRecord(
            run=state["run"], question_id=question_id(state), node=node, step=step, key=key,
            of=whose.of, input=given_text, model=whose.version, seconds=time.perf_counter() - start, **fields,
        )  # fmt: skip
        if context.journal is not None:
            context.journal.append(record)
        if done.usage:
            runtime.stream_writer({"event": "usage", "node": node, "step": step, **done.usage.model_dump()})
        return record

    try:
        limit = context.timeout.get(node) if isinstance(context.timeout, Mapping) else context.timeout
        return write(await asyncio.wait_for(act(), limit))
    except GraphBubbleUp:
        raise  # A tool asks a person: the run rests, and has not failed.
    except BaseException as bad:
        # A cancelled node is journalled like a failed one; whatever it was is raised again.
        write(Done("", outcome="timeout" if isinstance(bad, TimeoutError) else "error", note=f"{type(bad).__name__}: {bad}"))
        raise


def fields_of(reply: AIMessage, *before: AIMessage) -> dict[str, Any]:
    """Token ids and finish reason of a model's reply, and what it cost with the replies before it, as far as they tell."""
    about = reply.response_metadata
    usage = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    for one in (reply, *before):
        usage = add_usage(usage, one.usage_metadata)
    return {
        "prompt_ids": tuple(about.get("prompt_ids", ())),
        "output_ids": tuple(about.get("output_ids", ())),
        "likely": likely_in(about),
        "usage": _usage(usage) if usage["total_tokens"] else None,
        "parameters": {"finish_reason": about["finish_reason"]} if "finish_reason" in about else {},
    }


def _usage(told: UsageMetadata) -> Usage:
    return Usage(prompt_tokens=told["input_tokens"], completion_tokens=told["output_tokens"],
                 cached_tokens=told.get("input_token_details", {}).get("cache_read"))
