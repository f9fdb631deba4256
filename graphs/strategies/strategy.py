"""What every way of reasoning in steps offers, to the running graph and to the trainer alike: what is known becomes
messages, and the model's reply becomes facts again. Pure: no model is called here and nothing is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage

from steper_agent.records import Call, Passage, Step

SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Turn:
    """What one reply of the model says."""

    rationale: str
    """On one line; empty if it says nothing."""
    calls: tuple[Call, ...] = ()
    """What it wants to know next; empty if it does not say."""
    answer: str = ""
    """Empty unless it concludes."""
    fault: str = ""
    """Why nothing could be made of it; empty if something could."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What is known of one question at one moment."""

    question: str
    opening: str = ""
    """What the model said before the first search."""
    steps: tuple[Step, ...] = ()
    """The last one has no rationale while the model is still to reason about it."""
    asks: tuple[Call, ...] = ()
    """What the last turn asks for, before that becomes a step."""
    answer: str = ""

    @property
    def passages(self) -> list[Passage]:
        """All passages, in the order they were found."""
        return [hit.passage for step in self.steps for hit in step.hits]

    @property
    def lines(self) -> list[str]:
        """The rationale so far."""
        return [step.rationale for step in self.steps if step.rationale]


class Strategy(Protocol):
    """A module of pure functions. Messages come without the system's, which is `SYSTEM`, and without exemplars."""

    @property
    def NAME(self) -> str: ...
    @property
    def SYSTEM(self) -> str: ...
    @property
    def CONCLUSION(self) -> str:
        """The words before an answer."""

    @property
    def STOP(self) -> tuple[str, ...]:
        """Texts that end the turn of a model that can go on in the middle of it; what another writes behind them is not read."""

    @property
    def OPENS(self) -> bool:
        """The model speaks before the first search, and its turn says what to search."""

    @property
    def MOST_STEPS(self) -> int | None:
        """Steps it ever takes, whatever the budget."""

    @property
    def TOOLS(self) -> bool:
        """The model asks by tool calls."""

    def reason(self, chain: Chain, *, continues: bool) -> list[BaseMessage]:
        """Ask for the next turn. `continues`: the model can go on in the middle of its own turn, so the reasoning so
        far is that turn's prefix, and content comes in blocks to be encoded one by one; other models are shown it."""

    def answer(self, chain: Chain, *, continues: bool) -> list[BaseMessage]:
        """Ask for the answer when nothing more may be read."""

    def conversation(self, chain: Chain) -> list[BaseMessage]:
        """The conversation with everything the model said in it: what a student is taught, and what exemplars show."""

    def read(self, reply: AIMessage, tools: Sequence[Mapping[str, Any]]) -> Turn:
        """The inverse of what `reason` asks for. Never raises: a model may write whatever it likes."""

    def read_answer(self, reply: AIMessage) -> str:
        """The answer in a reply to `answer`; empty if there is none."""


def search(query: str) -> Call:
    """The call every strategy makes."""
    return Call(tool=SEARCH, arguments={"query": query})


def calls_of(step: Step) -> tuple[Call, ...]:
    """What opened a step."""
    return step.calls or (search(step.query),)


def query_of(calls: Sequence[Call]) -> str:
    """The searches among the calls as one text, for people and for the journal."""
    return "; ".join(str(call.arguments.get("query", "")) for call in calls if call.tool == SEARCH)
