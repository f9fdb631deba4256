"""Tool calls through the whole graph: side by side, repaired once, other tools beside `search`, and models that know none."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, RetryPolicy, interrupt
from pydantic import PrivateAttr

from graphs.retrying import is_passing
from graphs.run import Context, answer_all, build_graph
from steper_agent.errors import ConfigError
from steper_agent.journal import Journal, read, trajectories
from steper_agent.records import NodeRecord, Question
from tests.fakes import Script, Shelf

QUESTION = "When was the author of Emma born?"
SHELF = Shelf(texts={"Emma": "A novel by Jane Austen.", "Jane Austen": "Born in 1775.", "Rome": "A town."})
LAST = AIMessage("She was born in 1775. So the answer is: 1775.")


class Native(BaseChatModel):
    """A model with tool calls of its own: says its turns in order."""

    turns: tuple[AIMessage, ...]
    _seen: list[tuple[list[BaseMessage], Any]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "native"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self.bind(tools=tools)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager
        self._seen.append((messages, kwargs.get("tools")))
        return ChatResult(generations=[ChatGeneration(message=self.turns[len(self._seen) - 1])])


def calls(*queries: str, text: str = "", name: str = "search", **args: Any) -> AIMessage:
    made = [ToolCall(name=name, args={"query": query} if query else args, id=f"c{n}", type="tool_call") for n, query in enumerate(queries)]
    return AIMessage(text, tool_calls=made)


def run(*turns: AIMessage, **more: Any) -> tuple[dict[str, Any], Native]:
    model = Native(turns=turns)
    return build_graph(Context(model, SHELF, strategy="tool_calling", **more)).invoke({"question": QUESTION}), model


def test_searches_until_a_turn_makes_no_call() -> None:
    state, model = run(calls("Emma", text="First the author."), calls("Jane Austen", text="Austen wrote it."), LAST)
    assert (state["answer"], state["stop"], state["opening"]) == ("1775", "answered", "First the author.")
    assert [(step["query"], step["rationale"]) for step in state["steps"]] == [("Emma", "Austen wrote it."), ("Jane Austen", LAST.text)]
    messages, tools = model._seen[-1]
    assert [message.type for message in messages] == ["system", "human", "ai", "tool", "ai", "tool"]
    assert tools[0]["function"]["name"] == "search"


def test_several_searches_of_one_turn_are_made_at_once_and_share_a_step() -> None:
    all_there = asyncio.Barrier(3)

    class Gathering(Shelf):
        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            async with asyncio.timeout(30):
                await all_there.wait()
            return self._get_relevant_documents(query, run_manager=run_manager)

    model = Native(turns=(calls("Emma", "Austen", "Emma again"), LAST))
    state = build_graph(Context(model, Gathering(texts=SHELF.texts), strategy="tool_calling")).invoke({"question": QUESTION})
    (step,) = state["steps"]
    assert step["query"] == "Emma; Austen; Emma again"
    assert [call["passage_ids"] for call in step["calls"]] == [["Emma"], ["Jane Austen"], []]
    assert [message.text for message in model._seen[-1][0] if message.type == "tool"][2] == "No new passage."


def test_other_tools_are_offered_and_their_results_told() -> None:
    @tool
    def clock(zone: str) -> str:
        """The time."""
        return f"noon in {zone}"

    @tool
    def broken() -> str:
        """Never works."""
        raise RuntimeError("out of order")

    turn = AIMessage("", tool_calls=[ToolCall(name="clock", args={"zone": "Rome"}, id="a", type="tool_call"),
                                     ToolCall(name="broken", args={}, id="b", type="tool_call"),
                                     ToolCall(name="search", args={"query": "Rome"}, id="c", type="tool_call")])  # fmt: skip
    state, model = run(turn, LAST, tools=(clock, broken))
    assert [tool["function"]["name"] for tool in model._seen[0][1]] == ["search", "clock", "broken"]
    told = [message.text for message in model._seen[-1][0] if message.type == "tool"]
    assert told == ["noon in Rome", "Error: RuntimeError: out of order", "[1] Rome: A town."]
    assert state["steps"][0]["calls"][0]["result"] == "noon in Rome"


def test_a_tool_that_asks_a_person_rests_the_run_and_fails_nothing(tmp_path: Path) -> None:
    @tool
    def approve(what: str) -> str:
        """Ask a person."""
        return str(interrupt(what))

    turn = AIMessage("", tool_calls=[ToolCall(name="approve", args={"what": "go on?"}, id="a", type="tool_call")])
    with Journal(tmp_path / "j.jsonl") as journal:
        bound = Context(Native(turns=(turn, LAST)), SHELF, strategy="tool_calling", tools=(approve,), journal=journal)
        graph = build_graph(bound, checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        assert graph.invoke({"question": "Rome?"}, config)["__interrupt__"][0].value == "go on?"
        made = graph.invoke(Command(resume="yes"), config)
    assert made["steps"][0]["calls"][0]["result"] == "yes"
    assert {r.outcome for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord)} == {"ok"}


def test_each_of_several_tools_that_ask_gets_the_answer_to_its_own_question() -> None:
    waits = [0.05]

    @tool
    async def pay() -> str:
        """Takes a moment before it asks for the first time."""
        if waits:
            await asyncio.sleep(waits.pop())
        return f"pay: {interrupt('pay?')}"

    @tool
    async def delete() -> str:
        """Asks at once."""
        return f"delete: {interrupt('delete?')}"

    turn = AIMessage("", tool_calls=[ToolCall(name=name, args={}, id=name, type="tool_call") for name in ("pay", "delete")])
    graph = build_graph(Context(Native(turns=(turn, LAST)), SHELF, strategy="tool_calling", tools=(delete, pay)), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    state = graph.invoke({"question": "Rome?"}, config)
    while "__interrupt__" in state:
        asked = state["__interrupt__"][0].value
        state = graph.invoke(Command(resume=f"{asked} yes"), config)
    assert [call["result"] for call in state["steps"][0]["calls"]] == ["pay: pay? yes", "delete: delete? yes"]


def test_a_search_that_is_tried_again_runs_no_tool_twice() -> None:
    class Flaky(Shelf):
        fails: list[Exception]

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            if self.fails:
                raise self.fails.pop()
            return self._get_relevant_documents(query, run_manager=run_manager)

    sent = []

    @tool
    async def send(text: str) -> str:
        """Sends a letter."""
        sent.append(text)
        return "sent"

    turn = AIMessage("", tool_calls=[ToolCall(name="send", args={"text": "hello"}, id="a", type="tool_call"),
                                     ToolCall(name="search", args={"query": "Rome"}, id="b", type="tool_call")])  # fmt: skip
    found = Flaky(texts=SHELF.texts, fails=[ConnectionError("reset")])
    retry = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=is_passing)
    state = build_graph(Context(Native(turns=(turn, LAST)), found, strategy="tool_calling", tools=(send,)), retry=retry).invoke({"question": QUESTION})
    assert sent == ["hello"]
    assert [(call["result"], call["passage_ids"]) for call in state["steps"][0]["calls"]] == [("sent", []), ("", ["Rome"])]


def test_a_tool_of_the_name_that_is_taken_is_refused() -> None:
    @tool
    def search(query: str) -> str:
        """Would never be called."""
        return query

    with pytest.raises(ConfigError, match="`search`"):
        run(LAST, tools=(search,))


@pytest.mark.parametrize("wrong", [
    calls("", name="nonsense"), calls("", x=1), AIMessage('<tool_call>{"name": "search", "argum'), AIMessage(""),
])
def test_a_turn_that_cannot_be_read_is_asked_for_once_more(tmp_path: Path, wrong: AIMessage) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        state, model = run(wrong, calls("Emma"), LAST, journal=journal)
    assert state["answer"] == "1775"
    assert state["steps"][0]["query"] == "Emma"
    repair = model._seen[1][0]
    assert repair[-1].text.startswith("That call was not made: ")
    assert not any(isinstance(message, AIMessage) and message.tool_calls for message in repair)
    first = next(r for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord))
    assert (first.node, first.step, first.outcome) == ("reason", 0, "ok")
    assert first.note.startswith("repaired: ")


def test_after_one_repair_the_question_is_the_query_and_the_loop_goes_on(tmp_path: Path) -> None:
    wrong = calls("", name="nonsense")
    with Journal(tmp_path / "j.jsonl") as journal:
        state, model = run(wrong, wrong, calls("Jane Austen"), LAST, journal=journal)
    assert len(model._seen) == 4
    assert [step["query"] for step in state["steps"]] == [QUESTION, "Jane Austen"]
    first = next(r for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord))
    assert first.outcome == "parse_error"
    assert "nonsense" in first.note


def test_a_spent_budget_asks_for_an_answer_without_another_search() -> None:
    state, model = run(calls("Emma"), calls("Jane Austen", text="Hm."), AIMessage("So the answer is: 1775."), steps=1)
    assert (state["answer"], state["stop"], len(state["steps"])) == ("1775", "budget", 1)
    closing = model._seen[-1][0]
    assert [message.type for message in closing[-2:]] == ["ai", "human"]
    assert closing[-2].text == "Hm."


def test_a_model_that_never_answers_ends_with_its_budget() -> None:
    state, _ = run(*(calls("Emma") for _ in range(8)), steps=3)
    assert (state["stop"], state["answer"], len(state["steps"])) == ("budget", "", 3)
    assert not state["supported"]


def test_an_answer_without_any_search_is_an_answer_nothing_supports() -> None:
    state, _ = run(AIMessage("So the answer is: 1775."))
    assert (state["answer"], state["stop"], state["steps"], state["supported"]) == ("1775", "answered", [], False)


def test_a_model_that_knows_no_tools_is_told_in_words() -> None:
    script = Script(lines=('First.\n<tool_call>{"name": "search", "arguments": {"query": "Emma"}}</tool_call>', LAST.text),
                    continues_final_message=False)
    state = build_graph(Context(script, SHELF, strategy="tool_calling")).invoke({"question": QUESTION})
    assert (state["answer"], state["opening"], state["steps"][0]["query"]) == ("1775", "First.", "Emma")
    assert [message.type for message in script.seen[1]] == ["system", "human", "ai", "human"]
    assert "search(query" in script.seen[0][0].text
    assert "[1] Emma: A novel by Jane Austen." in script.seen[1][-1].text


def test_the_journal_gives_the_trajectory_back_calls_and_all(tmp_path: Path) -> None:
    question = Question(id="q", text=QUESTION)
    turns = (calls("Emma", "Rome", text="First."), calls("Jane Austen", text="Then."), LAST)
    with Journal(tmp_path / "j.jsonl") as journal:
        context = Context(Native(turns=turns), SHELF, strategy="tool_calling", journal=journal)
        made = answer_all([question], context)
    assert trajectories(tmp_path / "j.jsonl") == made
    assert made[0].opening == "First."
    assert [call.arguments["query"] for call in made[0].steps[0].calls] == ["Emma", "Rome"]


def test_a_killed_run_recalls_its_turns(tmp_path: Path) -> None:
    question, whole = Question(id="q", text=QUESTION), tmp_path / "whole.jsonl"
    turns = (calls("Emma", text="First."), calls("Jane Austen", text="Then."), LAST)
    with Journal(whole) as journal:
        undisturbed = answer_all([question], Context(Native(turns=turns), SHELF, strategy="tool_calling", journal=journal))
    lines = whole.read_text().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        half = tmp_path / f"{kept}.jsonl"
        half.write_text("".join(lines[:kept]))
        spoken = sum(1 for r in read(half) if isinstance(r, NodeRecord) and r.node == "reason")
        with Journal(half) as journal:
            left = Context(Native(turns=turns[spoken:]), SHELF, strategy="tool_calling", journal=journal)
            assert answer_all([question], left) == undisturbed
