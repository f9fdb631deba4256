"""What a run knows (plain JSON-able state) and what it may use (the context). Tools never enter the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NotRequired, Required

from langchain_core.language_models import BaseChatModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import BaseTool
from langgraph.cache.base import BaseCache
from typing_extensions import TypedDict  # Of Python's own, pydantic makes a schema only from 3.12 on.

from graphs.strategies.strategy import Chain
from graphs.teacher import Teacher
from steper_agent.journal import Journal
from steper_agent.models.slot import ModelSlot
from steper_agent.records import Call, Hit, Passage, Question, Step


class CallState(TypedDict):
    tool: str
    arguments: dict[str, Any]
    passage_ids: list[str]
    result: str


class StepState(TypedDict):
    query: str
    hits: list[dict[str, Any]]
    """`id` and `score` of the passages this step added, best first; their text stands once, in `passages`."""
    rationale: str
    """Empty until the step has reasoned."""
    calls: list[CallState]
    """Empty where the strategy makes no tool calls."""


class EvidenceState(TypedDict):
    step: int
    query: str
    rationale: str
    passages: list[dict[str, Any]]
    """`id`, `title` and `score` of the passages the rationale rests on."""


class TurnState(TypedDict):
    role: str
    """`user` or `assistant`."""
    content: str


class QAState(TypedDict, total=False):
    """One question's life. Only `question` must be given; nodes return what changed."""

    question: Required[str]
    """Standing alone, once the run has begun."""
    asked: str
    """As the person put it."""
    history: list[TurnState]
    """The conversation before this question; a thread with a checkpointer keeps it by itself."""
    about: NotRequired[dict[str, Any]]
    """The question's record where the caller has one (id, gold answers, supports). No model ever sees it."""
    run: str
    """Id of the run in the journal."""
    begun: str
    """Id of the run that began last in this thread: a `run` that differs is the caller's, for a new one."""
    model: str
    """Version of the model this run leased; it keeps it to its end."""
    started: float
    """Seconds since the epoch."""
    opening: str
    """What the model said before the first search."""
    asks: list[CallState]
    """What the last turn asks for."""
    passages: list[dict[str, str]]
    """Every passage so far, in the order found; only ever appended to."""
    steps: list[StepState]
    """Finished steps, and the one in progress at the end."""
    answer: str
    stop: str
    evidence: list[EvidenceState]
    """For every step, what its rationale rests on."""
    supported: bool
    """Whether a passage that was read states the answer, or the steps it rests on."""


class Input(TypedDict, total=False):
    question: Required[str]
    history: list[TurnState]
    about: dict[str, Any]
    run: str


@dataclass(frozen=True, slots=True)
class Context:
    """The tools and limits of a run, given as LangGraph's runtime context or bound with `build_graph(context)`."""

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
    timeout: float | Mapping[str, float] | None = None
    """Seconds a model call or a search may take, for all nodes or by node's name; None waits for ever."""
    exemplars: tuple[Chain, ...] = ()
    """Worked examples shown before the question, from `read_exemplars`."""
    tools: tuple[BaseTool, ...] = ()
    """Offered beside `search` where the strategy makes tool calls."""
    approve: bool = False
    """Interrupt before every retrieval; resume with True, or with the query to use instead. Needs a checkpointer."""
    history_tokens: int = 1000
    """Most tokens of conversation a follow-up question is rewritten from; the oldest turns give way."""
    teacher: Teacher | None = None
    """Labels the states of every run that is journalled, for the run's own model to learn from."""
    cache: BaseCache[Any] | None = field(default=None, repr=False)
    """Keeps what searches found, by index, query and k."""

    def release(self, run: str) -> None:
        """Give back the model that a run leased, where it sits in a slot; twice is once, and before there was a run nothing."""
        if run and isinstance(self.model, ModelSlot):
            self.model.release(run)


def chain_of(state: QAState) -> Chain:
    """What the run knows, as strategies take it. The state is our own, so nothing in it is checked again."""
    texts = {passage["id"]: (passage["title"], passage["text"]) for passage in state.get("passages", [])}
    steps = tuple(
        Step.model_construct(
            query=step["query"], rationale=step["rationale"],
            hits=tuple(_hit(hit["id"], *texts[hit["id"]], hit["score"]) for hit in step["hits"]),
            calls=tuple(call_of(call) for call in step["calls"]),
        )
        for step in state.get("steps", [])
    )  # fmt: skip
    return Chain(state["question"], state.get("opening", ""), steps, answer=state.get("answer", ""))


@lru_cache(maxsize=4096)
def _hit(id: str, title: str, text: str, score: float) -> Hit:
    """Kept, because a run's every node asks for the hits of all steps before it."""
    return Hit.model_construct(passage=Passage.model_construct(id=id, title=title, text=text), score=score)


def call_of(call: CallState) -> Call:
    return Call.model_construct(tool=call["tool"], arguments=call["arguments"], passage_ids=tuple(call["passage_ids"]),
                                result=call["result"])


def call_state(call: Call) -> CallState:
    return CallState(tool=call.tool, arguments=call.arguments, passage_ids=list(call.passage_ids), result=call.result)


def question_of(state: QAState) -> Question:
    """The question's record: the caller's own where it is about this question, with the text the run answered."""
    return Question.model_validate({"id": state["run"], **_about(state), "text": state["question"]})


def question_id(state: QAState) -> str:
    return str(_about(state).get("id", state["run"]))


def _about(state: QAState) -> Mapping[str, Any]:
    """A thread keeps the record of its first question, which says nothing of a later one."""
    about = state.get("about", {})
    return about if about.get("text", state["asked"]) == state["asked"] else {}
