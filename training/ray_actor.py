"""What runs inside a Ray actor, and the records that cross between it and the driver; nothing here knows of Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from graphs.pacing import Pace
from graphs.run import Context, aanswer_all
from graphs.strategies import strategy_named
from graphs.strategies.exemplars import read_exemplars
from steper_agent.errors import IndexFault
from steper_agent.journal import Entry, Journal, Line
from steper_agent.records import NodeRecord, Question, Record, Stop
from steper_agent.retrieval import open_retriever
from training.models import open_model


class Order(Record):
    """What an actor makes its graph from: specs and paths, that mean the same on every machine."""

    folder: Path
    """The driver's working folder, from which the teacher's relative paths are meant."""
    teacher: str
    max_tokens: int
    seed: int
    index: Path
    index_digest: str
    exemplars: Path | None
    strategy: str
    k: int
    steps: int
    recipe: str
    concurrency: int
    """Questions one actor has under way."""


class Dealt(Record):
    """A question on its way to an actor."""

    question: Question
    known: tuple[NodeRecord, ...]
    """What the journal holds of this question's run, to be recalled."""


class Ended(Record):
    """A run on its way back: the lines to append to the journal, the last one `Finished` unless it failed."""

    run: str
    stop: Stop
    lines: tuple[Line, ...]


class Notes(Journal):
    """The journal of one run, in memory."""

    def __init__(self, known: Iterable[NodeRecord]) -> None:
        self.finished, self._recalled = {}, {}
        self.lines: list[Entry] = []
        for record in known:
            self._remember(record)

    def append(self, record: Entry) -> None:
        self.lines.append(record)
        self._remember(record)


class Actor:
    """The graph in a process of its own, somewhere in the cluster. Records cross as JSON, checked at each end."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._pace = Pace(order.concurrency)

    def open(self) -> str:
        """Open the teacher and the index; returns where this actor is. Not done in `__init__`, because Ray tells of an
        error there in words only.

        Raises:
            ModelError, IndexFault, DataError, DependencyError: as in the driver's own process.
        """
        return f"process {os.getpid()} on {socket.gethostname()}: {type(self._context.model).__name__}"

    async def answer(self, dealt: str) -> str:
        given = Dealt.model_validate_json(dealt)
        notes = Notes(given.known)
        (made,) = await aanswer_all([given.question], replace(self._context, journal=notes), pace=self._pace)
        return Ended(run=given.question.id, stop=made.stop, lines=tuple(notes.lines)).model_dump_json()

    @cached_property
    def _context(self) -> Context:
        order = self._order
        if order.folder.is_dir():
            os.chdir(order.folder)
        model = open_model(order.teacher, max_tokens=order.max_tokens, seed=order.seed)
        index = open_retriever(order.index)
        if index.digest != order.index_digest:
            raise IndexFault(f"the index on {socket.gethostname()} is another one than the driver's", where=order.index,
                             fix="give a path that is the same folder, or an equal copy, on every machine")
        exemplars = read_exemplars(order.exemplars, strategy_named(order.strategy)) if order.exemplars else ()
        return Context(model=model, retriever=index, strategy=order.strategy, k=order.k, steps=order.steps,
                       exemplars=exemplars, recipe=order.recipe)
