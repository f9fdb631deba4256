"""Native tool calls: what the conversation looks like, and what is made of a turn, whoever read its calls."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, HumanMessage, InvalidToolCall, ToolCall, ToolMessage

from graphs.strategies import tool_calling
from graphs.strategies.strategy import Chain, Turn, search
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.records import Call, Hit, Step
from tests.graphs.strategies.chains import chain, passage

QUESTION = "When was the author of Emma born?"
KNOWN = chain(QUESTION, ("author of Emma", [passage(1), passage(2)], "Austen wrote it."),
              ("birth of Austen", [passage(3)], "In 1775. So the answer is: 1775."), opening="First the author.")  # fmt: skip


def test_rationale_and_search_share_a_turn_and_passages_answer_it() -> None:
    messages = tool_calling.conversation(KNOWN)
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai", "tool", "ai"]
    human, opening, first, turn, second, last = messages
    assert (human.text, opening.text, turn.text, last.text) == (
        f"Question: {QUESTION}", "First the author.", "Austen wrote it.", "In 1775. So the answer is: 1775.")
    assert isinstance(opening, AIMessage)
    assert opening.tool_calls[0]["args"] == {"query": "author of Emma"}
    assert isinstance(first, ToolMessage)
    assert first.tool_call_id == opening.tool_calls[0]["id"] == "s00000c00"
    assert first.text == "[1] Title 1: Text of passage 1.\n[2] Title 2: Text of passage 2."
    assert second.text == "[3] Title 3: Text of passage 3."
    assert isinstance(last, AIMessage)
    assert not last.tool_calls


def test_several_calls_of_one_turn_get_their_own_messages() -> None:
    hits = tuple(Hit(passage=passage(n), score=1.0) for n in (1, 2, 3))
    calls = (Call(tool="search", arguments={"query": "a"}, passage_ids=("p1", "p2")), Call(tool="clock", arguments={}, result="noon"),
             Call(tool="search", arguments={"query": "b"}, passage_ids=("p3",)), Call(tool="search", arguments={"query": "c"}))
    messages = tool_calling.conversation(Chain(QUESTION, steps=(Step(query="a; b; c", hits=hits, rationale="", calls=calls),)))
    assert [m.text for m in messages[2:]] == [
        "[1] Title 1: Text of passage 1.\n[2] Title 2: Text of passage 2.", "noon", "[3] Title 3: Text of passage 3.", "No new passage."]
    assert len({m.tool_call_id for m in messages[2:] if isinstance(m, ToolMessage)}) == 4


def test_the_closing_prompt_alternates_roles_and_makes_no_call() -> None:
    for steps in (KNOWN.steps, (KNOWN.steps[0].model_copy(update={"rationale": ""}),)):
        messages = tool_calling.answer(Chain(QUESTION, steps=steps), continues=True)
        assert isinstance(messages[-1], HumanMessage)
        assert isinstance(messages[-2], AIMessage)
        assert not messages[-2].tool_calls
        assert messages[-2].text


def native(*calls: ToolCall, text: str = "", invalid: tuple[InvalidToolCall, ...] = ()) -> AIMessage:
    return AIMessage(text, tool_calls=list(calls), invalid_tool_calls=list(invalid))


def call(name: str, **args: object) -> ToolCall:
    return ToolCall(name=name, args=args, id="x", type="tool_call")


@pytest.mark.parametrize(
    ("reply", "turn"),
    [
        (native(call("search", query="a"), text="So."), Turn("So.", (search("a"),))),
        (native(call("search", query="a"), call("search", query="b")), Turn("", (search("a"), search("b")))),
        (native(call("Search", query="a"), call("nonsense", x=1)), Turn("", (search("a"),))),
        (native(invalid=(InvalidToolCall(name="search", args='{"query": "a",}', id="x", error=None, type="invalid_tool_call"),)), Turn("", (search("a"),))),
        (AIMessage('So.\n<tool_call>\n{"name": "search", "arguments": {"query": "a"}}\n</tool_call>'), Turn("So.", (search("a"),))),
        (AIMessage('<think>{"name": "search"}</think>In 1775. So the answer is: 1775.'), Turn("In 1775. So the answer is: 1775.", (), "1775")),
        (AIMessage("1775."), Turn("1775.", (), "1775")),
    ],
)
def test_reader(reply: AIMessage, turn: Turn) -> None:
    assert tool_calling.read(reply, [SEARCH_TOOL]) == turn


@pytest.mark.parametrize("reply", [
    native(call("nonsense", x=1)), native(call("search")), AIMessage('<tool_call>{"name": "search", "arguments": {"q'), AIMessage(""),
])
def test_what_cannot_be_read_is_a_fault_that_says_why(reply: AIMessage) -> None:
    turn = tool_calling.read(reply, [SEARCH_TOOL])
    assert turn.fault
    assert not turn.calls
    assert not turn.answer


def test_a_turn_never_makes_more_calls_than_the_limit() -> None:
    reply = native(*(call("search", query=str(n)) for n in range(50)))
    assert len(tool_calling.read(reply, [SEARCH_TOOL]).calls) == tool_calling.MOST_CALLS
