"""What the app answers with: models, index and graph. Nothing heavy is imported before it is asked for, and then in a thread, so
that the screen is there at once and stays quick."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import Field

from steper_agent.errors import ConfigError
from steper_agent.records import Exchange, Hit, Passage, Record, Usage
from tui.app.messages import Asked, Ended, Found, Happening, Reasoned, Spent, Understood, Wrote

if TYPE_CHECKING:
    from graphs.state import Context
    from graphs.stepwise import StepwiseGraph
    from steper_agent.models.slot import ModelSlot, OnPhase, SwapReport
    from steper_agent.retrieval import IndexRetriever

WORLD = "micro-world"
"""The index of a newcomer who has none."""
PASSAGES, SEED = 1500, 0
"""Of the micro-world."""
HOPS = {"2": 0.5, "3": 0.5}
"""Of the questions that are offered: more than one search can answer."""

DRAIN = 10.0
"""Seconds that a swap waits for the run of the old version; it is unloaded at the next swap where that took longer."""
T = TypeVar("T")


class Choice(Record):
    """How a question is answered."""

    model: str = "symbolic"
    """A spec, as on the command line."""
    index: str = WORLD
    """Folder of an index, or the micro-world."""
    strategy: str = "ircot"
    k: int = Field(4, ge=1)
    steps: int = Field(5, ge=1)
    max_tokens: int = Field(128, ge=1)


class Desk:
    """Thread-safe. A model or index is opened once and kept."""

    def __init__(self, students: Sequence[Path] = ()) -> None:
        self._students = tuple(students)
        self._slots: dict[tuple[str, int], ModelSlot] = {}
        self._bases: dict[tuple[str, int], Any] = {}
        self._indexes: dict[str, IndexRetriever] = {}
        self._graph: StepwiseGraph | None = None
        self._lock = threading.Lock()

    def serving(self, choice: Choice) -> str:
        """The version that answers the next question; empty while its model is not open."""
        slot = self._slots.get((choice.model, choice.max_tokens))
        return slot.current if slot else ""

    async def open(self, choice: Choice) -> None:
        """Have model, index and graph ready.

        Raises:
            StepERError: the model or the index cannot be opened.
        """
        await aside(lambda: self._open(choice))

    async def ask(self, asked: str, history: Sequence[Exchange], choice: Choice) -> AsyncGenerator[Happening]:
        """A run, as it happens. Whoever stops listening ends it.

        Raises:
            StepERError, and whatever a provider raises: the run failed.
        """
        context, graph, slot = await aside(lambda: self._open(choice))
        run, step, state = uuid.uuid4().hex, 0, dict[str, Any]()
        given = {"question": asked, "run": run, "history": _turns(history)}
        try:
            running: Any = graph.astream(given, context=context, stream_mode=["custom", "messages", "values"])  # type: ignore[call-overload]
            async with aclosing(running):
                async for mode, told in running:
                    if mode == "values":
                        state = told
                    elif mode == "messages":
                        chunk, about = told
                        if about["langgraph_node"] == "reason" and chunk.text:
                            yield Wrote(step, chunk.text)
                    elif (happening := _happening(told)) is not None:
                        step = happening.step if isinstance(happening, Asked) else step
                        yield happening
            yield _ended(state, context)
        finally:
            slot.release(run)

    def swap(self, choice: Choice, folder: Path | None, on_phase: OnPhase) -> SwapReport:
        """Bring a student into the seat of this choice's model; None: the bare base. Blocks.

        Raises:
            ConfigError: no student can take that seat.
        """
        from steper_agent.students.swap import Swappable, Terms, swap_student

        _, _, slot = self._open(choice)
        base = self._bases[choice.model, choice.max_tokens]
        if not isinstance(base, Swappable):
            raise ConfigError("no student can take the seat of this model", where=choice.model, fix="choose local:PATH or vllm:PATH")
        if folder is None:
            return slot.swap(lambda: base, version=base.version, on_event=on_phase)  # type: ignore[arg-type, return-value]
        return swap_student(slot, base, folder, Terms(drain=DRAIN), on_event=on_phase)

    def question_ideas(self, choice: Choice, count: int = 4) -> list[str]:
        """Questions that the micro-world can answer; none where the index is a person's own."""
        return _world_questions(count) if choice.index == WORLD else []

    def _open(self, choice: Choice) -> tuple[Context, StepwiseGraph, ModelSlot]:
        from graphs.state import Context
        from graphs.stepwise import build_graph
        from steper_agent.models.slot import ModelSlot
        from training.models import open_model

        with self._lock:
            at = (choice.model, choice.max_tokens)
            if choice.index not in self._indexes:
                self._indexes[choice.index] = _open_index(choice.index)
            if at not in self._slots:
                self._bases[at] = open_model(choice.model, max_tokens=choice.max_tokens, students=self._students)
                self._slots[at] = ModelSlot(self._bases[at])
            self._graph = self._graph or build_graph()
            slot = self._slots[at]
            context = Context(model=slot, retriever=self._indexes[choice.index], strategy=choice.strategy, k=choice.k, steps=choice.steps)
            return context, self._graph, slot


async def aside(act: Callable[[], T]) -> T:
    """What it gives, worked out in a thread. Unlike `asyncio.to_thread`, an app that quits does not wait for it: a model may take
    minutes to open."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, failure: BaseException | None) -> None:
        if not done.done():
            done.set_exception(failure) if failure else done.set_result(cast(T, value))

    def work() -> None:
        value, failure = None, None
        try:
            value = act()
        except BaseException as bad:
            failure = bad
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, daemon=True).start()
    return await done


def _happening(told: dict[str, Any]) -> Happening | None:
    kind = told["event"]
    if kind == "question":
        return Understood(told["question"])
    if kind == "query":
        return Asked(told["step"], told["query"])
    if kind == "hits":
        hits = (Hit(passage=Passage(id=one["id"], title=one["title"], text=one["text"]), score=one["score"]) for one in told["hits"])
        return Found(told["step"], tuple(hits))
    if kind == "rationale":
        return Reasoned(told["step"], told["rationale"], told["outcome"])
    if kind == "usage":
        return Spent(Usage(**{name: told[name] for name in Usage.model_fields}))
    return None


def _ended(state: Any, context: Context) -> Ended:
    from graphs.run import trajectory_of

    rests_on = tuple(tuple(one["id"] for one in step["passages"]) for step in state["evidence"])
    return Ended(trajectory_of(state, context), rests_on, state["supported"])


def _turns(history: Sequence[Exchange]) -> list[dict[str, str]]:
    """The conversation as the graph takes it; what was not answered is no part of it."""
    return [turn for one in history if one.trajectory.answer
            for turn in ({"role": "user", "content": one.trajectory.question.text}, {"role": "assistant", "content": one.trajectory.answer})]


def _open_index(index: str) -> IndexRetriever:
    from steper_agent.retrieval import open_index

    return open_index(_world_index() if index == WORLD else Path(index))


def _world_index() -> Path:
    """Made once on this machine, and whole or not there."""
    import tempfile

    from steper_agent.retrieval import build_index
    from training.microworld.world import make_world

    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "steper" / f"microworld-{PASSAGES}-{SEED}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as made:
            passages = Path(made) / "passages.jsonl"
            world = make_world(PASSAGES, split="test", seed=SEED)
            passages.write_text("".join(one.model_dump_json() + "\n" for one in world.passages), encoding="utf-8")
            build_index([passages], Path(made) / "index")
            _settle(Path(made) / "index", place)
    return place


def _settle(made: Path, place: Path) -> None:
    try:
        made.rename(place)
    except OSError:
        if not place.is_dir():  # Else another process was quicker.
            raise


def _world_questions(count: int) -> list[str]:
    from training.microworld.questions import make_questions
    from training.microworld.world import make_world

    return [one.text for one in make_questions(make_world(PASSAGES, split="test", seed=SEED), count, seed=7, mix=HOPS)]


