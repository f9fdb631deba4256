"""What a step looks up: its searches side by side, then its other tool calls in their order, and the passages nobody had seen yet."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Sequence

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langgraph.cache.base import FullKey
from langgraph.errors import GraphBubbleUp

from graphs.state import Context
from graphs.strategies.strategy import SEARCH
from steper_agent.durable import digest
from steper_agent.records import Call, Hit, Passage
from steper_agent.retrieval.foreign import search

NAMESPACE = ("steper", "search")
LONGEST_RESULT = 10_000
"""Characters of another tool's result that a model is shown."""
_NAMES: dict[int, str] = {}
"""Of the living retrievers without a digest, by their place in memory."""


async def look_up(calls: Sequence[Call], seen: set[str], context: Context, config: RunnableConfig) -> tuple[list[Call], list[Hit], int]:
    """The calls with their results, the hits that are new, and how many hits there were with those seen before."""
    searched = iter(await asyncio.gather(*(_search(call, context) for call in calls if call.tool == SEARCH)))
    # Tools may do things, so a search that fails, and is tried again, fails before them; and a person who is asked by several is
    # asked in the calls' order, by which LangGraph knows again whom it has an answer for.
    found = [next(searched) if call.tool == SEARCH else await _run(call, context, config) for call in calls]
    made, new, count = [], list[Hit](), 0
    for call, came in zip(calls, found, strict=True):
        if isinstance(came, str):
            made.append(call.model_copy(update={"result": came}))
            continue
        fresh = [hit for hit in came if hit.passage.id not in seen]
        seen = seen | {hit.passage.id for hit in fresh}
        made.append(call.model_copy(update={"passage_ids": tuple(hit.passage.id for hit in fresh)}))
        new += fresh
        count += len(came)
    return made, new, count


async def _run(call: Call, context: Context, config: RunnableConfig) -> str:
    tool = next((tool for tool in context.tools if tool.name == call.tool), None)
    if tool is None:
        return f"Error: there is no tool {call.tool}"  # A thread may go on where other tools are offered.
    try:
        result = await tool.ainvoke(call.arguments, config)
    except GraphBubbleUp:
        raise  # An interrupt inside a tool is the graph's business.
    except Exception as bad:
        # A caller's tool may raise anything; the model is told, as it would be by any tool-calling agent.
        return f"Error: {type(bad).__name__}: {bad}"[:LONGEST_RESULT]
    return str(result)[:LONGEST_RESULT]


async def _search(call: Call, context: Context) -> tuple[Hit, ...]:
    query = str(call.arguments.get("query", ""))
    if context.cache is None:
        return await search(context.retriever, query, context.k)
    key: FullKey = (NAMESPACE, digest([identity(context.retriever), query, context.k]))
    kept = (await context.cache.aget([key])).get(key)
    if kept is not None:
        return tuple(Hit(passage=Passage(id=id, title=title, text=text), score=score) for id, title, text, score in kept)
    hits = await search(context.retriever, query, context.k)
    rows = [(hit.passage.id, hit.passage.title, hit.passage.text, hit.score) for hit in hits]
    await context.cache.aset({key: (rows, None)})
    return hits


def identity(retriever: BaseRetriever) -> str:
    """Equal for retrievers that answer alike: an index knows its digest, any other is only like itself, and gets a name that nobody
    else has, for a cache may outlive it, and the place in memory that was its own."""
    if known := str(getattr(retriever, "digest", "")):
        return known
    place = id(retriever)
    if place not in _NAMES:
        _NAMES[place] = uuid.uuid4().hex
        weakref.finalize(retriever, _NAMES.pop, place, None)
    return _NAMES[place]
