"""Stands where a provider's model would: it knows the few questions the pages ask and speaks every strategy, word by word.
What it is shown it takes as any such model does, without a turn of its own to go on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from graphs import conversation
from graphs.strategies import STRATEGIES, self_ask


@dataclass(frozen=True)
class Known:
    """How a question is answered: what to look up and what that says, hop by hop."""

    answer: str
    hops: tuple[tuple[str | dict[str, int], str], ...]
    """A query, or the arguments of the caller's own tool; and the line of reasoning that follows."""


EMMA, FRANKENSTEIN = "Emma was written by Jane Austen.", "Frankenstein was written by Mary Shelley."
KNOWN = {
    "Where was the author of Emma born?":
        Known("Steventon", (("Who wrote Emma?", EMMA), ("Where was Jane Austen born?", "Jane Austen was born in Steventon."))),
    "Where was the author of Frankenstein born?":
        Known("London", (("Who wrote Frankenstein?", FRANKENSTEIN), ("Where was Mary Shelley born?", "Mary Shelley was born in London."))),
    "Which county is Steventon in?": Known("Hampshire", (("Steventon", "Steventon is in the county of Hampshire."),)),
    "How old was the author of Emma when it was published?":
        Known("40", (("Who wrote Emma, and when was it published?", f"{EMMA} It was published in 1815."),
                     ("When was Jane Austen born?", "Jane Austen was born in 1775."),
                     ({"first": 1775, "last": 1815}, "From 1775 to 1815 it is 40 years."))),
    "Where was the director of X born?":
        Known("Utrecht", (("Who directed X?", "X was directed by Y."), ("Where was Y born?", "Y was born in Utrecht."))),
}  # fmt: skip
STANDALONE = {"And which county is that in?": "Which county is Steventon in?"}


class Reader(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "reader"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self.bind(tools=tools)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager, kwargs
        return ChatResult(generations=[ChatGeneration(message=reply(messages))])

    def _stream(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        del stop, run_manager, kwargs
        said = reply(messages)
        for place, word in enumerate(said.text.split(" ")):
            yield ChatGenerationChunk(message=AIMessageChunk(f" {word}" if place else word))
        calls = AIMessageChunk("", tool_calls=said.tool_calls) if said.tool_calls else AIMessageChunk("", chunk_position="last")
        yield ChatGenerationChunk(message=calls)


def reply(messages: Sequence[BaseMessage]) -> AIMessage:
    """The next turn. A system message of nobody we know is a caller's own agent."""
    system = messages[0].text if messages[0].type == "system" else ""
    if system == conversation.SYSTEM:
        asked = messages[-1].text.rpartition("Last question: ")[2].splitlines()[0]
        return AIMessage(STANDALONE[asked])
    return SPEAKERS.get(system, as_agent)(messages)


def known_to(messages: Sequence[BaseMessage]) -> tuple[Known, int]:
    """What the last question needs, and how many of its hops stand in the conversation already."""
    said = "\n".join(message.text for message in messages)
    _, _, now = said.rpartition("Question: ")
    known = KNOWN[now.splitlines()[0]]
    return known, sum(line in now for _, line in known.hops)


def line_by_line(messages: Sequence[BaseMessage]) -> AIMessage:
    known, done = known_to(messages)
    if done == len(known.hops):
        return AIMessage(f"So the answer is: {known.answer}.")
    ends = f" So the answer is: {known.answer}." if done + 1 == len(known.hops) else ""
    return AIMessage(known.hops[done][1] + ends)


def all_at_once(messages: Sequence[BaseMessage]) -> AIMessage:
    known, _ = known_to(messages)
    return AIMessage(" ".join([*(line for _, line in known.hops), f"So the answer is: {known.answer}."]))


def by_heart(messages: Sequence[BaseMessage]) -> AIMessage:
    return AIMessage(f"So the answer is: {known_to(messages)[0].answer}.")


def follow_up(messages: Sequence[BaseMessage]) -> AIMessage:
    known, done = known_to(messages)
    if str(known.hops[0][0]) not in messages[-1].text:
        return AIMessage(f"{self_ask.FOLLOW_UP} {known.hops[0][0]}")
    ends = done + 1 == len(known.hops)
    then = f"{self_ask.CONCLUSION} {known.answer}." if ends else f"{self_ask.FOLLOW_UP} {known.hops[done + 1][0]}"
    return AIMessage(f"{self_ask.INTERMEDIATE} {known.hops[done][1]}\n{then}")


def by_tools(messages: Sequence[BaseMessage]) -> AIMessage:
    known, _ = known_to(messages)
    turn = sum(isinstance(message, AIMessage) for message in messages)
    said = known.hops[turn - 1][1] if turn else ""
    if turn == len(known.hops):
        return AIMessage(f"{said} So the answer is: {known.answer}.")
    wanted = known.hops[turn][0]
    name, args = ("search", {"query": wanted}) if isinstance(wanted, str) else ("years_between", dict(wanted))
    return AIMessage(said, tool_calls=[ToolCall(name=name, args=args, id=f"call{turn}", type="tool_call")])


def as_agent(messages: Sequence[BaseMessage]) -> AIMessage:
    """Hands the question on, and says what came back."""
    if messages[-1].type == "tool":
        return AIMessage(f"The answer is {messages[-1].text.splitlines()[0]}.")
    asked = {"question": messages[-1].text}
    return AIMessage("", tool_calls=[ToolCall(name="answer_question", args=asked, id="call0", type="tool_call")])


SPEAKERS: dict[str, Callable[[Sequence[BaseMessage]], AIMessage]] = {
    STRATEGIES[name].SYSTEM: speak
    for name, speak in (("ircot", line_by_line), ("single_step", all_at_once), ("direct", by_heart), ("self_ask", follow_up),
                        ("tool_calling", by_tools))
}  # fmt: skip
