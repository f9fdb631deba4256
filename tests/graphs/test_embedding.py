"""The graph inside other people's programs: bound context, batches, agents, parents, checkpoints, approval, retries, cache."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy
from pydantic import PrivateAttr

from graphs.checkpoints import async_sqlite_checkpoints, sqlite_checkpoints, strict_serializer
from graphs.retrying import is_passing
from graphs.run import Context, build_graph
from graphs.searching import identity
from graphs.tool import as_tool
from steper_agent.errors import ConfigError, ModelError
from steper_agent.journal import Journal, read, trajectories
from steper_agent.models.slot import ModelSlot
from steper_agent.records import NodeRecord
from tests.fakes import Script, Shelf, shelf

LINES = ("Jane Austen wrote Emma.", "Jane Austen was born in 1775. So the answer is: 1775.")
QUESTION = "When was the author of Emma born?"
SHELF = Shelf(texts={"Emma": "Jane Austen wrote Emma.", "Jane Austen": "Jane Austen was born in 1775.", "Rome": "A town."})


def context(*lines: str, **more: Any) -> Context:
    return Context(Script(lines=lines or LINES), SHELF, **more)


def test_a_bound_context_needs_no_other_and_a_given_one_comes_first() -> None:
    graph = build_graph(context())
    assert graph.invoke({"question": QUESTION})["answer"] == "1775"
    assert graph.invoke({"question": QUESTION}, context=context("So the answer is: other."))["answer"] == "other"


def test_without_a_context_it_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="no model and no retriever"):
        build_graph().invoke({"question": QUESTION})


class Counting(Shelf):
    """Knows how many searches there were, and how many at once."""

    _now: int = PrivateAttr(default=0)
    _most: int = PrivateAttr(default=0)
    _all: int = PrivateAttr(default=0)

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        self._now, self._all = self._now + 1, self._all + 1
        self._most = max(self._most, self._now)
        await asyncio.sleep(0.02)
        self._now -= 1
        return self._get_relevant_documents(query, run_manager=run_manager)


async def test_batches_are_bounded() -> None:
    found = Counting(texts=SHELF.texts)
    graph = build_graph(Context(Script(lines=("So the answer is: x.",) * 12), found))
    made = await graph.abatch([{"question": f"{QUESTION} {n}"} for n in range(12)], {"max_concurrency": 3})
    assert [state["answer"] for state in made] == ["x"] * 12
    assert found._most == 3


def test_sync_batches_answer_in_order() -> None:
    graph = build_graph(Context(Script(lines=("So the answer is: x.",) * 6), SHELF))
    made = graph.batch([{"question": f"{n}?"} for n in range(6)], {"max_concurrency": 2})
    assert [state["asked"] for state in made] == [f"{n}?" for n in range(6)]


async def test_events_tell_the_whole_story_in_order() -> None:
    events = [event async for event in build_graph(context()).astream({"question": QUESTION}, stream_mode="custom")]
    assert [(event["event"], event["step"]) for event in events] == [
        ("query", 1), ("hits", 1), ("rationale", 1), ("query", 2), ("hits", 2), ("rationale", 2), ("answer", 2)]  # fmt: skip
    assert events[-1] == {"event": "answer", "step": 2, "answer": "1775", "stop": "answered", "supported": True}


async def test_node_updates_come_as_they_happen() -> None:
    updates = [name async for update in build_graph(context()).astream({"question": QUESTION}, stream_mode="updates") for name in update]
    assert updates == ["begin", "form_query", "retrieve", "reason", "form_query", "retrieve", "reason", "answer"]


def test_an_agent_uses_it_as_a_tool() -> None:
    from langchain.agents import create_agent

    class Agent(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **_: Any) -> Any:
            assert [tool.name for tool in tools] == ["answer_question"]
            return self

    call = ToolCall(name="answer_question", args={"question": QUESTION}, id="1", type="tool_call")
    model = Agent(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("It was 1775.")]))
    said = create_agent(model, [as_tool(context())]).invoke({"messages": [HumanMessage("Emma?")]})["messages"]
    (told,) = [message for message in said if isinstance(message, ToolMessage)]
    assert told.content == "1775\nBased on: Emma; Jane Austen."
    assert told.artifact["steps"][0]["rationale"] == LINES[0]
    assert said[-1].text == "It was 1775."


@pytest.mark.parametrize("limit", [{}, {"recursion_limit": 3}])
async def test_the_tool_ends_by_its_budget_and_not_by_anybodys_recursion_limit(limit: Any) -> None:
    lines = (*(f"Line {number}." for number in range(10)), "late")
    for ask in (as_tool(context(*lines, steps=10)).ainvoke, as_tool(context(*lines, steps=10)).invoke):
        made = ask({"question": QUESTION}, limit)
        assert "late" in (await made if asyncio.iscoroutine(made) else made)


async def test_the_tool_serves_async_callers_and_owns_up_to_an_unsupported_answer() -> None:
    told = await as_tool(context("So the answer is: Atlantis.")).ainvoke({"question": QUESTION})
    assert told == "Atlantis\nNo passage that was read supports this answer."


class Parent(TypedDict, total=False):
    question: str
    answer: str
    note: str


@pytest.mark.parametrize("parent_context", [None, {"anything": 1}])
def test_it_is_a_node_of_another_graph(parent_context: Any) -> None:
    parent = StateGraph(Parent, context_schema=dict)
    parent.add_node("research", build_graph(context()))
    parent.add_node("sign", lambda state: {"note": f"says {state['answer']}"})
    parent.add_edge(START, "research")
    parent.add_edge("research", "sign")
    parent.add_edge("sign", END)
    made = parent.compile().invoke({"question": QUESTION}, context=parent_context)
    assert (made["answer"], made["note"]) == ("1775", "says 1775")


async def test_tokens_of_a_sub_graph_stream_once() -> None:
    parent = StateGraph(Parent)
    parent.add_node("research", build_graph(Context(GenericFakeChatModel(messages=iter([AIMessage("So the answer is: 1775.")])), SHELF)))
    parent.add_edge(START, "research")
    stream = parent.compile().astream({"question": QUESTION}, stream_mode="messages", subgraphs=True)
    text = "".join([chunk[1][0].text async for chunk in stream])
    assert text == "So the answer is: 1775."


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def test_a_thread_begins_every_question_anew_and_remembers_the_conversation() -> None:
    lines = (*LINES, "Where was Jane Austen born?", "So the answer is: Steventon.")
    model = Script(lines=lines)
    graph = build_graph(Context(model, SHELF), checkpointer=InMemorySaver(serde=strict_serializer()))
    first = graph.invoke({"question": QUESTION}, thread("t"))
    second = graph.invoke({"question": "And where was she born?"}, thread("t"))
    assert (second["question"], second["asked"]) == ("Where was Jane Austen born?", "And where was she born?")
    assert (second["answer"], len(second["steps"])) == ("Steventon", 1)
    assert first["run"] != second["run"]
    assert [turn["content"] for turn in second["history"]] == [QUESTION, "1775", "And where was she born?", "Steventon"]
    assert f"Q: {QUESTION}\nA: 1775\n" in model.seen[2][-1].text


def test_the_record_of_a_threads_first_question_is_not_that_of_a_later_one(tmp_path: Path) -> None:
    lines = (*LINES, "Where was Jane Austen born?", "So the answer is: Steventon.")
    with Journal(tmp_path / "j.jsonl") as journal:
        graph = build_graph(context(*lines, journal=journal), checkpointer=InMemorySaver(serde=strict_serializer()))
        graph.invoke({"question": QUESTION, "about": {"id": "own", "text": QUESTION}}, thread("t"))
        second = graph.invoke({"question": "And where was she born?"}, thread("t"))
    ids = {record.run: record.question_id for record in read(tmp_path / "j.jsonl") if isinstance(record, NodeRecord)}
    assert sorted(ids.values()) == sorted(("own", second["run"]))
    assert ids[second["run"]] == second["run"]


def test_a_run_that_was_given_up_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        waiting = Context(Script(lines=("Hm.", "So the answer is: x.", "Rome?")), SHELF, approve=True, journal=journal)
        graph = build_graph(waiting, checkpointer=InMemorySaver(serde=strict_serializer()))
        graph.invoke({"question": QUESTION}, thread("t"))
        given_up = graph.invoke(Command(resume=True), thread("t"))
        graph.invoke({"question": "Rome?"}, thread("t"))
        made = graph.invoke(Command(resume=True), thread("t"))
        assert made["run"] != given_up["run"]
        assert graph.invoke({"question": "Rome?", "run": "mine"}, thread("t"))["run"] == "mine"
    (finished,) = trajectories(tmp_path / "j.jsonl")
    assert (finished.question.text, len(finished.steps)) == ("Rome?", 1)


async def test_sqlite_keeps_a_thread_for_another_connection(tmp_path: Path) -> None:
    with sqlite_checkpoints(tmp_path / "threads.db") as saver:
        build_graph(context(), checkpointer=saver).invoke({"question": QUESTION}, thread("t"))
    async with async_sqlite_checkpoints(tmp_path / "threads.db") as later:
        state = await build_graph(context(), checkpointer=later).aget_state(thread("t"))
    assert state.values["answer"] == "1775"
    assert not state.next


KILLED = """
import os, sys
from graphs.checkpoints import sqlite_checkpoints
from graphs.run import build_graph
from tests.fakes import Script
from tests.graphs.test_embedding import LINES, QUESTION, SHELF, Context, thread

class Dying(Script):
    def _generate(self, messages, *args, **kwargs):
        if len(self.seen) == int(sys.argv[2]):
            os._exit(9)
        return super()._generate(messages, *args, **kwargs)

with sqlite_checkpoints(sys.argv[1]) as saver:
    build_graph(Context(Dying(lines=LINES), SHELF), checkpointer=saver).invoke({"question": QUESTION}, thread("t"), durability="sync")
"""


@pytest.mark.parametrize("spoken", [0, 1])
def test_a_killed_process_goes_on_from_its_checkpoint(tmp_path: Path, spoken: int) -> None:
    undisturbed = build_graph(context()).invoke({"question": QUESTION})
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "t.db"), str(spoken)], check=False,
                          cwd=Path(__file__).parents[2])
    assert died.returncode == 9
    with sqlite_checkpoints(tmp_path / "t.db") as saver:
        graph = build_graph(context(*LINES[spoken:]), checkpointer=saver)
        assert graph.get_state(thread("t")).next == ("reason",)
        resumed = graph.invoke(None, thread("t"))
    for key in ("answer", "stop", "steps", "passages", "evidence"):
        assert resumed[key] == undisturbed[key]


def test_a_hostile_checkpoint_builds_no_object() -> None:
    import ormsgpack

    # The extension asks for a function of any module to be called; LangGraph's permissive serializer does.
    hostile = ormsgpack.packb(ormsgpack.Ext(1, ormsgpack.packb(("os.path", "basename", ("a/called",)))))
    assert JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(("msgpack", hostile)) == "called"
    assert strict_serializer().loads_typed(("msgpack", hostile)) != "called"


def test_every_state_is_plain_data_the_strict_serializer_gives_back() -> None:
    serde, graph = strict_serializer(), build_graph(context())
    for values in graph.stream({"question": QUESTION}, stream_mode="values"):
        assert serde.loads_typed(serde.dumps_typed(values)) == values


def test_a_person_may_change_the_query_before_it_is_searched(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        graph = build_graph(context(approve=True, journal=journal), checkpointer=InMemorySaver(serde=strict_serializer()))
        asked = graph.invoke({"question": QUESTION}, thread("t"))["__interrupt__"][0].value
        assert asked == {"step": 1, "query": QUESTION}
        again = graph.invoke(Command(resume="Emma novel"), thread("t"))["__interrupt__"][0].value
        assert again == {"step": 2, "query": LINES[0]}
        made = graph.invoke(Command(resume=True), thread("t"))
    assert [step["query"] for step in made["steps"]] == ["Emma novel", LINES[0]]
    assert made["answer"] == "1775"
    assert {record.outcome for record in read(tmp_path / "j.jsonl") if isinstance(record, NodeRecord)} == {"ok"}


class Flaky(Script):
    """Fails with each error in turn before it says its lines."""

    errors: list[Exception]

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return super()._generate(messages, *args, **kwargs)


QUICK = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=is_passing)


class Refused(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(status_code)
        self.status_code = status_code


def test_a_passing_fault_is_tried_again_and_every_try_is_journalled(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        slot = ModelSlot(Flaky(lines=LINES, errors=[Refused(429), ConnectionError("reset")]))
        graph = build_graph(Context(slot, SHELF, journal=journal), retry=QUICK)
        assert graph.invoke({"question": QUESTION})["answer"] == "1775"
    reasons = [r.outcome for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and r.node == "reason"]
    assert reasons == ["error", "error", "ok", "ok"]
    assert slot.drain(0.0)


def test_a_turn_that_is_tried_again_is_journalled_under_the_version_that_wrote_it(tmp_path: Path) -> None:
    new = Script(lines=LINES, version="new")

    class Leaves(Script):
        """Fails; before it is tried again its version is gone."""

        def _generate(self, *_: Any, **__: Any) -> Any:
            slot.swap(lambda: new)
            threading.Thread(target=slot.drain, args=(5.0,)).start()
            raise ConnectionError("reset")

    slot = ModelSlot(Leaves(lines=(), version="old"))

    def once_it_is_gone(bad: Exception) -> bool:
        deadline = time.monotonic() + 20
        while "old" in slot.loaded and time.monotonic() < deadline:
            time.sleep(0.01)
        return is_passing(bad)

    patient = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=once_it_is_gone)
    with Journal(tmp_path / "j.jsonl") as journal:
        made = build_graph(Context(slot, SHELF, journal=journal), retry=patient).invoke({"question": QUESTION})
    assert (made["model"], slot.loaded) == ("new", ("new",))
    turns = [(r.model, r.outcome) for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and r.node == "reason"]
    assert turns == [("old", "error"), ("new", "ok"), ("new", "ok")]


def test_a_run_that_was_given_up_keeps_no_model() -> None:
    slot = ModelSlot(Script(lines=("Rome?", "So the answer is: x."), version="old"))
    graph = build_graph(Context(slot, SHELF, approve=True), checkpointer=InMemorySaver(serde=strict_serializer()))
    graph.invoke({"question": QUESTION}, thread("t"))
    slot.swap(lambda: Script(lines=LINES, version="new"))
    assert not slot.drain(0), "the run may go on"
    graph.invoke({"question": "Rome?"}, thread("t"))
    assert slot.drain(0)


@pytest.mark.parametrize("given", [{}, {"run": "mine"}, {"history": [{"role": "user", "content": "Who?"}]}])
@pytest.mark.parametrize("how", ["invoke", "ainvoke"])
async def test_a_node_that_fails_before_it_is_recorded_gives_its_model_back(given: Any, how: str) -> None:
    class Odd(Script):
        """Cannot count the tokens of a conversation."""

        @property
        def tokenizer(self) -> Any:
            raise LookupError("no tokenizer")

    @tool("search")
    def taken(query: str) -> str:
        """Has a name that is taken."""
        return query

    slot = ModelSlot(Odd(lines=LINES, version="old"))
    graph = build_graph(Context(slot, SHELF, strategy="tool_calling", tools=(taken,)))
    with pytest.raises((ConfigError, LookupError)):
        await getattr(graph, how)({"question": QUESTION, **given})
    slot.swap(lambda: Script(lines=LINES, version="new"))
    assert slot.drain(0)


@pytest.mark.parametrize("error", [Refused(401), ValueError("bad"), ModelError("x", where="y", fix="z")])
def test_what_a_person_must_mend_is_not_tried_again(error: Exception) -> None:
    model = Flaky(lines=LINES, errors=[error])
    with pytest.raises(type(error)):
        build_graph(Context(model, SHELF), retry=QUICK).invoke({"question": QUESTION})
    assert not model.seen


def test_a_fault_that_does_not_pass_ends_after_the_last_try() -> None:
    model = Flaky(lines=LINES, errors=[Refused(503)] * 5)
    with pytest.raises(Refused):
        build_graph(Context(model, SHELF), retry=QUICK).invoke({"question": QUESTION})
    assert len(model.errors) == 2


def test_retries_and_time_limits_may_differ_by_node() -> None:
    class Late(Shelf):
        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            await asyncio.sleep(0.2)
            return self._get_relevant_documents(query, run_manager=run_manager)

    found = Late(texts=SHELF.texts)
    patient = Context(Script(lines=LINES), found, timeout={"retrieve": 5.0, "reason": 5.0})
    assert build_graph(patient).invoke({"question": QUESTION})["answer"] == "1775"
    hasty = Context(Script(lines=LINES), found, timeout={"retrieve": 0.01})
    with pytest.raises(TimeoutError):
        build_graph(hasty, retry={"reason": QUICK}).invoke({"question": QUESTION})
    flaky = Context(Flaky(lines=LINES, errors=[Refused(503)]), SHELF)
    with pytest.raises(Refused):
        build_graph(flaky, retry={"retrieve": QUICK}).invoke({"question": QUESTION})
    assert build_graph(flaky, retry={"reason": QUICK}).invoke({"question": QUESTION})["answer"] == "1775"


async def test_a_model_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    class Hanging(Script):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            del args, kwargs
            await asyncio.Event().wait()

    with Journal(tmp_path / "j.jsonl") as journal, pytest.raises(TimeoutError):
        await build_graph(Context(Hanging(lines=()), SHELF, timeout=0.05, journal=journal), retry=None).ainvoke({"question": "Emma?"})
    assert [r.outcome for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord)][-1] == "timeout"


class LoopBound(Script):
    """Like a provider's async client: works in the event loop that used it first, and in no other."""

    _loop: Any = PrivateAttr(default=None)

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        self._loop = self._loop or asyncio.get_running_loop()
        assert self._loop is asyncio.get_running_loop()
        return self._generate(messages, *args, **kwargs)


async def test_sync_and_async_calls_may_be_mixed_whatever_loop_a_client_is_bound_to() -> None:
    graph = build_graph(Context(LoopBound(lines=LINES * 3), SHELF))
    for made in (graph.invoke({"question": QUESTION}), await graph.ainvoke({"question": QUESTION}), graph.invoke({"question": QUESTION})):
        assert made["answer"] == "1775"


def test_a_sync_call_that_hangs_is_a_timeout_too() -> None:
    let_go = threading.Event()

    class Hanging(Script):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            del args, kwargs
            let_go.wait()

    try:
        with pytest.raises(TimeoutError):
            build_graph(Context(Hanging(lines=()), SHELF, timeout=0.05), retry=None).invoke({"question": "Emma?"})
    finally:
        let_go.set()


def test_searches_are_cached_by_index_query_and_k() -> None:
    found, cache = Counting(texts=SHELF.texts), InMemoryCache()

    def ask(retriever: Counting, k: int) -> Any:
        return build_graph(Context(Script(lines=LINES), retriever, k=k, cache=cache)).invoke({"question": QUESTION})

    first, again = ask(found, 4), ask(found, 4)
    assert found._all == 2
    assert again["passages"] == first["passages"]
    ask(found, 1)
    assert found._all == 4
    other = Counting(texts={"Emma": "Something else about Emma."})
    assert ask(other, 4)["passages"] != first["passages"]


def test_retrievers_without_a_digest_are_never_taken_for_one_another() -> None:
    found = Counting(texts=SHELF.texts)
    assert identity(found) == identity(found)
    assert len({identity(Counting(texts={})) for _ in range(50)}) == 50


def test_many_threads_may_ask_at_once() -> None:
    graph = build_graph(Context(Script(lines=("So the answer is: x.",) * 16), shelf("Emma")))
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(graph.invoke({"question": "Emma?"})["answer"])) for _ in range(16)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert answers == ["x"] * 16
