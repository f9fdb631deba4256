"""A teacher that replays chains somebody already has: a JSONL of question, answer and reasoning steps, from any source.

    {"id": "…", "question": "…", "answer": "…", "reasoning_steps": ["…", {"text": "…"}, …]}

Bring what you have, human-written or another framework's; the graph then runs with these lines as its reasoning.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

from graphs.strategies import ircot
from graphs.strategies.reading import find_answer
from steper_agent.errors import DataError, ModelError
from steper_agent.records import Question, Record
from steper_agent.retrieval.sources.files import written_lines

CURE = 'each line: {"id": …, "question": …, "answer": …, "reasoning_steps": [text, …]}'


class Chain(Record):
    """One question with the lines of reasoning that lead to its answer."""

    question: Question
    lines: tuple[str, ...]
    """The last one concludes."""


class ReplayTeacher(BaseChatModel):
    """Says the next line of the chain that belongs to the question in its prompt."""

    chains: dict[str, tuple[str, ...]] = Field(repr=False)
    """Question text, on one line → lines of reasoning."""
    doubled: frozenset[str] = frozenset()
    """Questions that several chains belong to."""
    continues_final_message: bool = True
    version: str = "replay"

    @property
    def _llm_type(self) -> str:
        return "replay-teacher"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del stop, run_manager, kwargs
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=self._next(messages)))])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any,
    ) -> ChatResult:  # fmt: skip
        del run_manager
        return self._generate(messages, stop, None, **kwargs)

    def _next(self, messages: Sequence[BaseMessage]) -> str:
        # The last, for worked examples stand before it.
        human = next(message for message in reversed(messages) if message.type == "human")
        asked = _key(human.text.rpartition("\n")[2].removeprefix("Question: "))
        if messages[0].text != ircot.SYSTEM:
            raise ModelError("a replay has lines of reasoning and nothing else", where="--strategy", fix="--strategy ircot")
        if asked in self.doubled:
            raise ModelError("several chains belong to this question, and its prompt cannot tell them apart", where=asked,
                             fix="keep one of them, or collect each from a file of its own")
        if asked not in self.chains:
            raise ModelError("no chain to replay for this question", where=asked, fix="ask questions of the replayed file")
        lines = self.chains[asked]
        said = messages[-1].text if isinstance(messages[-1], AIMessage) else ""
        if said.endswith(ircot.CONCLUSION):
            return f" {find_answer(lines[-1])}."
        return lines[min(said.count("\n"), len(lines) - 1)]


def read_chains(path: Path) -> list[Chain]:
    """Every chain of a file.

    Raises:
        DataError: the file is missing or empty, a line is malformed (named by its number), or an id occurs twice.
    """
    chains = [_chain(line, where) for line, where in written_lines(path, "chain", flag="--replay", cure=CURE)]
    id, count = Counter(chain.question.id for chain in chains).most_common(1)[0]
    if count > 1:
        raise DataError(f"chain id {id!r} occurs twice", where=path, fix="give every chain its own id")
    return chains


def teacher_of(chains: Sequence[Chain]) -> ReplayTeacher:
    asked = Counter(_key(chain.question.text) for chain in chains)
    return ReplayTeacher(chains={_key(chain.question.text): chain.lines for chain in chains},
                         doubled=frozenset(question for question, count in asked.items() if count > 1))


def _key(question: str) -> str:
    return " ".join(question.split())


def _chain(line: str, where: str) -> Chain:
    try:
        raw = json.loads(line)
        steps = [step if isinstance(step, str) else str(step["text"]) for step in raw["reasoning_steps"]]
        question, answer = (str(raw[key]) if raw[key] is not None else "" for key in ("question", "answer"))
    except (json.JSONDecodeError, KeyError, TypeError) as bad:
        raise DataError(f"not a chain: {type(bad).__name__} {bad}", where=where, fix=CURE) from bad
    spoken = [" ".join(step.split()) for step in steps if step.strip()]
    if isinstance(raw["reasoning_steps"], str) or not spoken or not question.strip() or not answer.strip():
        raise DataError("a chain without a list of reasoning steps, a question or an answer", where=where, fix=CURE)
    if not find_answer(spoken[-1]):
        spoken[-1] = f"{spoken[-1]} {ircot.CONCLUSION} {answer}."
    used = ("id", "question", "answer", "reasoning_steps", "contexts")
    meta = {key: value for key, value in raw.items() if key not in used}
    id = str(raw.get("id", where.rpartition(":")[2]))
    return Chain(question=Question(id=id, text=question, answers=(answer,), meta=meta), lines=tuple(spoken))
