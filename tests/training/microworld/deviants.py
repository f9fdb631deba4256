"""Symbolic teachers and searches with one known flaw, for the real graph: what follows the flaw is what the teacher does then."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever

from graphs.strategies import ircot, self_ask, tool_calling
from graphs.strategies.reading import find_answer, unconcluded
from training.microworld.speech import reply
from training.microworld.teacher import SymbolicTeacher

See = Callable[[str], str]
Say = Callable[[AIMessage, list[BaseMessage]], AIMessage]
"""From the teacher's turn, and what it was asked, to the turn it takes instead."""


def as_it_is(text: str) -> str:
    return text


def unchanged(turn: AIMessage, asked: list[BaseMessage]) -> AIMessage:
    del asked
    return turn


class Deviant(SymbolicTeacher):
    """The teacher, but for what it sees and how its turn comes out."""

    see: See = as_it_is
    at: int | None = None
    """The only turn in which it sees like that; None: in all."""
    say: Say = unchanged

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager, kwargs
        see = self.see if self.at in (None, turn_of(messages)) else as_it_is
        seen = [message if isinstance(message, AIMessage) else _mapped(message, see) for message in messages]
        return ChatResult(generations=[ChatGeneration(message=self.say(reply(seen, self.leads), messages))])


class Forgetful(BaseRetriever):
    """A search that never finds one passage."""

    search: Any
    without: str

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        del run_manager
        return [found for found in self.search.invoke(query) if found.id != self.without]


class Broken(BaseRetriever):
    """A search that fails, and will not pass."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        del run_manager
        raise ZeroDivisionError(query)


def turn_of(asked: Sequence[BaseMessage]) -> int:
    """Which turn is asked for: of step 1, 2, …; 0 before the first search; -1 for the answer at the budget's end."""
    said = "".join(message.text for message in asked if isinstance(message, AIMessage))
    if asked[-1].text == tool_calling.CLOSE or asked[-1].text.endswith((ircot.CONCLUSION, self_ask.CONCLUSION)):
        return -1
    if asked[0].text == self_ask.SYSTEM:
        return said.count(self_ask.FOLLOW_UP)
    if asked[0].text == tool_calling.SYSTEM:
        return sum(bool(message.tool_calls) for message in asked if isinstance(message, AIMessage))
    return said.count("\n") + 1


def cut(step: int, object: str) -> Say:
    """Concludes in a step, with what its line says."""

    def say(turn: AIMessage, asked: list[BaseMessage]) -> AIMessage:
        if turn_of(asked) != step:
            return turn
        line = turn.text.split(f"\n{self_ask.FOLLOW_UP}")[0]
        if asked[0].text == self_ask.SYSTEM:
            return AIMessage(f"{line}\n{self_ask.CONCLUSION} {object}.")
        return AIMessage(f"{line} {ircot.CONCLUSION} {object}.")

    return say


def stuck(step: int) -> Say:
    """From a step on says what it said in the step before."""

    def say(turn: AIMessage, asked: list[BaseMessage]) -> AIMessage:
        if turn_of(asked) < step:
            return turn
        said = [message for message in asked if isinstance(message, AIMessage)]
        if asked[0].text == tool_calling.SYSTEM:
            return AIMessage(said[-1].text, tool_calls=said[-1].tool_calls)
        if asked[0].text == self_ask.SYSTEM:
            return AIMessage(re.findall(rf"{self_ask.INTERMEDIATE}[^\n]*\n[^\n]*", said[-1].text)[-1])
        return AIMessage(said[-1].text.strip().splitlines()[-1])

    return say


def concluding(other: Callable[[str], str]) -> Say:
    """Where it concludes, with another answer than its own."""

    def say(turn: AIMessage, asked: list[BaseMessage]) -> AIMessage:
        if turn_of(asked) == -1:
            return turn
        answer = find_answer(turn.text)
        return AIMessage(turn.text[: turn.text.rindex(answer)] + other(answer) + ".") if answer else turn

    return say


def mumbling(turn: AIMessage, asked: list[BaseMessage]) -> AIMessage:
    """Never says `the answer is`, and nothing at all when it is asked for the answer."""
    if turn_of(asked) == -1:
        return AIMessage(" ")
    answer = find_answer(turn.text)
    return AIMessage(f"{unconcluded(turn.text)} Therefore -> {answer}") if answer else turn


def asking(of: str, other: str) -> Say:
    """Asks about another entity, whenever it should ask about this one; its lines stay as they are."""

    def say(turn: AIMessage, asked: list[BaseMessage]) -> AIMessage:
        del asked
        if turn.tool_calls:
            calls = [{**call, "args": {"query": call["args"]["query"].replace(of, other)}} for call in turn.tool_calls]
            return AIMessage(turn.text, tool_calls=calls)
        line, follow_up, query = turn.text.rpartition(self_ask.FOLLOW_UP)
        return AIMessage(f"{line}{follow_up}{query.replace(of, other)}") if follow_up else turn

    return say


def _mapped(message: BaseMessage, see: See) -> BaseMessage:
    content = message.content
    if isinstance(content, str):
        return message.model_copy(update={"content": see(content)})
    blocks = [{**cast(dict[str, Any], block), "text": see(str(cast(dict[str, Any], block)["text"]))} for block in content]
    return message.model_copy(update={"content": blocks})
