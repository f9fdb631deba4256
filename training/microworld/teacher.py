"""The symbolic teacher: a LangChain chat model that reasons only over the passages in its prompt.

It parses the prompt like any model would see it, follows the question's relations one fact a step, says so when the
evidence is missing, and has no side door to the world's facts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from graphs.strategies import ircot
from training.microworld.language import Fact, canonical, conclusions_in, facts_in, missing
from training.microworld.questions import Meaning, understand

PASSAGE_LINE = re.compile(r"^\[\d+\] [^:\n]+: (?P<text>.+)$", re.MULTILINE)
QUESTION_LINE = re.compile(r"^Question: (?P<text>.+)$", re.MULTILINE)
UNKNOWN = "unknown"
LEADS = ("", "The passages say: ")
"""A line begins with one of these. Like a real teacher's, its wording is not to be foreseen from the question: without that a
good student's losses vanish but for rare mistakes, and a σ that follows them means nothing."""


class SymbolicTeacher(BaseChatModel):
    """Writes one line of reasoning a call, as `ircot` asks for it."""

    continues_final_message: bool = True
    version: str = "symbolic-teacher"
    leads: tuple[str, ...] = LEADS

    @property
    def _llm_type(self) -> str:
        return "symbolic-teacher"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del stop, run_manager, kwargs
        text = reply(messages)
        if not messages[-1].text.endswith(ircot.CONCLUSION):
            # The same prompt is always answered in the same words, so that a resumed run repeats an undisturbed one.
            prompt = "\n".join(message.text for message in messages)
            text = self.leads[crc32(prompt.encode()) % len(self.leads)] + text
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=text))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del run_manager
        return self._generate(messages, stop, None, **kwargs)


def reply(messages: Sequence[BaseMessage]) -> str:
    """The next line of reasoning, or the bare answer where the turn to continue already says `So the answer is:`."""
    prompt = "\n".join(message.text for message in messages if not isinstance(message, AIMessage))
    so_far = messages[-1].text if isinstance(messages[-1], AIMessage) else ""
    asked = QUESTION_LINE.findall(prompt)
    meaning = understand(asked[-1].strip()) if asked else None
    known = conclusions_in(so_far)
    if so_far.endswith(ircot.CONCLUSION):
        ends = meaning and _ends(meaning, known)
        return f" {meaning.conclude(ends) if meaning and ends else UNKNOWN}."
    if meaning is None:
        return f"The passages do not say what is asked. {ircot.CONCLUSION} {UNKNOWN}."
    read = [fact for text in PASSAGE_LINE.findall(prompt) for fact in facts_in(text)]
    return next_line(meaning, known, read)


def next_line(meaning: Meaning, known: Sequence[Fact], read: Sequence[Fact]) -> str:
    """One more fact of the chain, with the answer behind it once every path is followed to its end."""
    needed = _needed(meaning, known)
    line = ""
    if needed is not None:
        subject, label = needed
        found = next((fact for fact in read if fact[:2] == needed), None)
        if found is None:
            return missing(subject, label)
        known = [*known, found]
        line = canonical(found)
    ends = _ends(meaning, known)
    return line if ends is None else f"{line} {ircot.CONCLUSION} {meaning.conclude(ends)}.".strip()


def _needed(meaning: Meaning, known: Sequence[Fact]) -> tuple[str, str] | None:
    """Subject and relation of the first fact the reasoning has not stated yet."""
    stated = {(fact.subject, fact.label): fact.object for fact in known}
    for path in meaning.paths:
        at = path.start
        for label in path.labels:
            if (at, label) not in stated:
                return at, label
            at = stated[at, label]
    return None


def _ends(meaning: Meaning, known: Sequence[Fact]) -> tuple[str, ...] | None:
    """What each path leads to, once all are known."""
    if _needed(meaning, known) is not None:
        return None
    stated = {(fact.subject, fact.label): fact.object for fact in known}
    ends = []
    for path in meaning.paths:
        at = path.start
        for label in path.labels:
            at = stated[at, label]
        ends.append(at)
    return tuple(ends)
