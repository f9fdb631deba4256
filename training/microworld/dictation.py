"""The symbolic teacher's words in the tokens of a base: the graph sends what it would send a student, and gets back what the
student should write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import Field, PrivateAttr

from graphs.run import Context, answer_all
from graphs.strategies import strategy_named
from steper_agent.durable import write_lines
from steper_agent.journal import Journal, read
from steper_agent.models.decoding import Done, Event, Piece, Request, Row, Ticket
from steper_agent.models.loading import Vocabulary
from steper_agent.models.tokens import TokenChatModel
from steper_agent.prompts import encode, segments
from steper_agent.records import NodeRecord, Question, Trajectory
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from training.microworld.questions import make_questions
from training.microworld.speech import LEADS, reply
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import make_world

PASSAGES, SEED, HOPS, K, STEPS = 150, 1, ("2", "3", "4"), 2, 6
"""Of the micro-world and its questions: small enough for prompts of about a thousand tokens in a vocabulary of bytes."""


class Turn(NamedTuple):
    """One step as the graph had it."""

    sent: tuple[int, ...]
    written: tuple[int, ...]
    """With an end token only where the turn is over."""


class Lesson(NamedTuple):
    """The same questions answered twice in one strategy."""

    strategy: str
    trajectories: list[Trajectory]
    """By the teacher itself: what the trainer is given."""
    turns: dict[tuple[str, int], Turn]
    """By a model that writes the teacher's words in tokens. Question and step → its turn."""


class Dictation:
    """A source that writes what was dictated for a prompt, token by token, as an engine would."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.turns: dict[tuple[int, ...], tuple[int, ...]] = {}

    @property
    def tokenizer(self) -> Any:
        return self.vocabulary.tokenizer

    def stream(self, request: Request) -> Iterator[Piece | Done]:
        told: list[Event] = []
        row = Row(Ticket(request, told.append), self.tokenizer, self.vocabulary.ends)
        for token in self.turns[request.prompt]:
            row.take(token)
        row.finish("length")
        return (event for event in told if isinstance(event, Piece | Done))

    async def astream(self, request: Request) -> AsyncIterator[Piece | Done]:
        for event in self.stream(request):
            yield event


class DictatedModel(TokenChatModel):
    """Says what the symbolic teacher says to the same messages, in the tokens of a vocabulary."""

    vocabulary: Vocabulary = Field(exclude=True, repr=False)
    max_tokens: int = 100_000
    _dictation: Dictation = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._dictation, self._version = Dictation(self.vocabulary), "dictated"

    @property
    def source(self) -> Dictation:
        return self._dictation

    def _request(self, messages: Sequence[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> Request:
        request = super()._request(messages, stop, options)
        self._dictation.turns[request.prompt] = self._turn(messages, reply(messages, LEADS), options.get("tools") or ())
        return request

    def _turn(self, messages: Sequence[BaseMessage], said: AIMessage, tools: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        if tools:
            return segments([*messages, said], self.tokenizer, tools)[-1].ids
        end = self.tokenizer.eos_token_id
        return (*encode(f"{said.text}\n", self.tokenizer), *([] if end is None else [end]))

    @property
    def _llm_type(self) -> str:
        return "steper-dictated"


def small_world(place: Path) -> tuple[IndexRetriever, list[Question]]:
    world = make_world(PASSAGES, split="test", seed=SEED)
    corpus = place / "passages.jsonl"
    write_lines(corpus, world.passages)
    build_index([corpus], place / "index")
    asked = [make_questions(world, 1, seed=SEED, mix={hops: 1.0})[0].model_copy(update={"id": f"{hops} hops"}) for hops in HOPS]
    return open_index(place / "index"), asked


def lesson_in(strategy: str, index: IndexRetriever, questions: Sequence[Question], runs: Vocabulary, file: Path) -> Lesson:
    given = answer_all(questions, Context(SymbolicTeacher(), index, strategy=strategy, k=K, steps=STEPS))
    with Journal(file) as journal:
        model = DictatedModel(path="the base", vocabulary=runs)
        answer_all(questions, Context(model, index, strategy=strategy, k=K, steps=STEPS, journal=journal))
    last = {one.question.id: len(one.steps) for one in given}
    end, tools = runs.tokenizer.eos_token_id, strategy_named(strategy).TOOLS
    turns = {(line.run, line.step): _turn(line, end, is_over=tools or line.step == last[line.run])
             for line in read(file) if isinstance(line, NodeRecord) and line.prompt_ids}
    return Lesson(strategy, given, turns)


def _turn(line: NodeRecord, end: int | None, *, is_over: bool) -> Turn:
    """A line that a stop string ends, and one that the end token does, are the same line to a trainer."""
    bare = line.output_ids[:-1] if line.output_ids[-1:] == (end,) else line.output_ids
    return Turn(line.prompt_ids, (*bare, end) if is_over and end is not None else bare)
