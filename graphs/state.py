"""What a run knows (plain JSON-able state) and what it may use (the context). Tools never enter the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired, Required, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever

from steper_agent.journal import Journal
from steper_agent.models.slot import ModelSlot
from steper_agent.records import Passage


class StepState(TypedDict):
    query: str
    hits: list[dict[str, Any]]
    """`id` and `score` of the passages this step added, best first; their text stands once, in `passages`."""
    rationale: str
    """Empty until the step has reasoned."""


class QAState(TypedDict, total=False):
    """One question's life. Only `question` must be given; nodes return what changed."""

    question: Required[str]
    about: NotRequired[dict[str, Any]]
    """The question's record where the caller has one (id, gold answers, supports). No model ever sees it."""
    run: str
    """Id of the run in the journal."""
    model: str
    """Version of the model this run leased; it keeps it to its end."""
    started: float
    """Seconds since the epoch."""
    passages: list[dict[str, str]]
    """Every passage so far, in the order found; only ever appended to."""
    steps: list[StepState]
    """Finished steps, and the one in progress at the end."""
    answer: str
    stop: str


class Input(TypedDict, total=False):
    question: Required[str]
    about: dict[str, Any]
    run: str


@dataclass(frozen=True, slots=True)
class Context:
    """The tools and limits of a run, given as LangGraph's runtime context."""

    model: BaseChatModel | ModelSlot
    retriever: BaseRetriever
    strategy: str = "ircot"
    k: int = 4
    """Passages a search returns; those seen before are not shown twice."""
    steps: int = 5
    """Step budget; when it is spent the answer node asks for an answer."""
    journal: Journal | None = None
    recipe: str = ""
    """Digest of the recipe, written into the journal."""
    timeout: float | None = None
    """Seconds a model call or a search may take; None waits for ever."""


def passages_of(state: QAState) -> list[Passage]:
    return [Passage(**passage) for passage in state.get("passages", [])]


def rationale_of(state: QAState) -> list[str]:
    """The lines of reasoning so far."""
    return [step["rationale"] for step in state.get("steps", []) if step["rationale"]]
