"""The graph's own events are known from whatever else is written beside them."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from graphs.run import Context, build_graph
from graphs.story import EVENTS, is_ours
from tests.graphs.serving.served import QUESTION, SHELF, Teller


async def test_every_event_of_a_run_is_known_and_every_event_that_is_known_is_told() -> None:
    graph = build_graph(Context(Teller(lines=("Jane Austen.", "Who is she?", "So the answer is: Jane Austen.")), SHELF), checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    told = [event for _ in range(2) async for event in graph.astream({"question": QUESTION}, thread, stream_mode=["custom", "messages"])]
    custom = [event for mode, event in told if mode == "custom"]
    assert all(map(is_ours, custom))
    assert {event["event"] for event in custom} == set(EVENTS)
