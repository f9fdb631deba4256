"""Native tool calls: the rationale and `search(query)` in one assistant turn, the passages in the tool's message, turn by
turn, until a turn makes no call and gives the answer. Only ever appended to, so a step's prompt starts with the last one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage

from graphs.strategies import ircot
from graphs.strategies.layout import FENCE
from graphs.strategies.reading import bare, find_answer, first_line, one_line, silence, visible
from graphs.strategies.strategy import SEARCH, Chain, Turn, calls_of
from steper_agent.chat.turns import break_markup
from steper_agent.plain import plain
from steper_agent.prompts import show_passage
from steper_agent.records import Call, Passage, Step
from steper_agent.tool_calls.reading import check_call, read_calls

NAME = "tool_calling"
STOP = ()
OPENS = True
MOST_STEPS = None
TOOLS = True
MOST_CALLS = 8
"""Calls of one turn that are made; a model that asks for more at once has lost its way."""

SEARCH_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": SEARCH,
        "description": "Find passages.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "description": "what to look for"}},
            "required": ["query"],
        },
    },
}
CONCLUSION = ircot.CONCLUSION
SYSTEM = (
    f"Answer the question from the passages that `{SEARCH}` finds, step by step. In each turn write one sentence that the "
    f"passages support and search for what is missing. When the question is settled, call nothing and end with: "
    f"{CONCLUSION} ANSWER. {FENCE}"
)
CLOSE = f"No more searches can be made. Write one line: {CONCLUSION} ANSWER."
NOTHING_NEW = "No new passage."
NO_REASONING = "I have read the passages."
"""Stands for a turn without reasoning where templates want the roles to alternate."""


def reason(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    del continues  # Turns are whole here, for every model.
    return conversation(chain)


def answer(chain: Chain, *, continues: bool) -> list[BaseMessage]:
    del continues
    *before, last = conversation(chain)
    closing = [last] if isinstance(last, AIMessage) else [last, AIMessage(NO_REASONING)]
    return [*before, *(closing if chain.steps else [last]), HumanMessage(CLOSE)]


def repair(reply: AIMessage, fault: str) -> list[BaseMessage]:
    """What is said after a turn that could not be read, to have it written again."""
    wrong = reply.text.strip() or "(a call that cannot be read)"
    return [AIMessage(wrong), HumanMessage(f"That call was not made: {fault}. Write the turn again.")]


def conversation(chain: Chain) -> list[BaseMessage]:
    messages: list[BaseMessage] = [HumanMessage(f"Question: {one_line(chain.question)}")]
    said = [chain.opening, *(step.rationale for step in chain.steps)]
    asked = [*(calls_of(step) for step in chain.steps), chain.asks]
    first = 1
    for number, (words, calls, step) in enumerate(zip_longest(said, asked, chain.steps)):
        if words or calls:
            messages.append(AIMessage(words, tool_calls=[_tool_call(number, at, call) for at, call in enumerate(calls)]))
        if step:
            messages += [
                ToolMessage(_result(step, call, first), tool_call_id=_id(number, at), name=call.tool)
                for at, call in enumerate(calls)
            ]
            first += len(step.hits)
    return messages


def _id(step: int, at: int) -> str:
    """Nine letters and digits: some models' templates take no other."""
    return f"s{step:05d}c{at:02d}"


def _tool_call(step: int, at: int, call: Call) -> ToolCall:
    return ToolCall(name=call.tool, args=dict(call.arguments), id=_id(step, at), type="tool_call")


def _result(step: Step, call: Call, first: int) -> str:
    """What a call brought, its passages numbered through the whole chain, `first` being the step's first."""
    if call.tool != SEARCH:
        return break_markup(plain(call.result)).strip() or "(nothing)"
    numbered: list[tuple[int, Passage]] = list(enumerate((hit.passage for hit in step.hits), start=first))
    own = [show_passage(n, passage) for n, passage in numbered if not step.calls or passage.id in call.passage_ids]
    return "\n".join(own) or NOTHING_NEW


def read(reply: AIMessage, tools: Sequence[Mapping[str, Any]] = (SEARCH_TOOL,)) -> Turn:
    """The provider's own reading of the calls where it made one, ours where it did not."""
    text = visible(reply)
    if reply.tool_calls or reply.invalid_tool_calls:
        checked = [check_call(call["name"], call["args"], tools) for call in reply.tool_calls]
        # A nameless call comes from our own reader, which has put its fault where the arguments would be.
        checked += [
            check_call(bad["name"], bad["args"], tools) if bad["name"] else (None, bad["error"] or bad["args"] or "unreadable")
            for bad in reply.invalid_tool_calls
        ]
        calls, faults = [call for call, _ in checked if call], [fault for _, fault in checked if fault]
    else:
        text, found, wrong = read_calls(text, tools)
        calls, faults = list(found), list(wrong)
    said = one_line(text)
    if calls:
        return Turn(said, tuple(Call(tool=call["name"], arguments=call["args"]) for call in calls[:MOST_CALLS]))
    if faults or not said:
        return Turn(said, fault="; ".join(faults) or silence(reply))
    return Turn(said, answer=find_answer(text) or bare(said))


def read_answer(reply: AIMessage) -> str:
    text = visible(reply)
    return find_answer(text) or bare(first_line(text))
