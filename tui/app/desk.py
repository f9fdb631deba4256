"""What the app answers with: models, index and graph. Nothing heavy is imported before it is asked for, and then in a thread, so
that the screen is there at once and stays quick."""

from __future__ import annotations

import asyncio
import atexit
import gc
import threading
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import Field

from steper_agent.errors import ConfigError
from steper_agent.records import Exchange, Hit, Passage, Record, Usage
from tui.app.messages import Asked, Ended, Found, Happening, Reasoned, Spent, Understood, Wrote
from tui.app.running import Background, let_others_first
from tui.app.world import open_world, world_questions

if TYPE_CHECKING:
    from graphs.state import Context
    from graphs.stepwise import StepwiseGraph
    from steper_agent.models.slot import ModelSlot, OnPhase, SwapReport
    from steper_agent.retrieval import IndexRetriever, RemoteRetriever
    from steper_agent.retrieval.why import Why
    from steper_agent.students.usher import Usher
    from tui.app.swapping import Gate

WORLD = "micro-world"
"""The index of a newcomer who has none."""
DRAIN = 10.0
"""Seconds that a swap waits for the run of the old version; it is unloaded at the next swap where that took longer."""
T = TypeVar("T")


class Choice(Record):
    """How a question is answered."""

    model: str = "symbolic"
    """A spec, as on the command line."""
    index: str = WORLD
    """Folder of an index, the address of one that is served, or the micro-world."""
    strategy: str = "ircot"
    k: int = Field(4, ge=1)
    steps: int = Field(5, ge=1)
    max_tokens: int = Field(128, ge=1)
    bare: bool = False
    """The model itself answers, though a student may sit in its seat."""


class Desk:
    """Thread-safe. A model or index is opened once and kept. With a registry to `follow`, the student that is live there answers, and
    later on whoever goes live, wherever that is decided."""

    def __init__(self, students: Sequence[Path] = (), *, follow: Path | None = None) -> None:
        self._students = tuple(students)
        self._follow = follow
        self._ushers: dict[tuple[str, int], Usher] = {}
        self._slots: dict[tuple[str, int], ModelSlot] = {}
        self._bases: dict[tuple[str, int], Any] = {}
        self._indexes: dict[str, IndexRetriever | RemoteRetriever] = {}
        self._graph: StepwiseGraph | None = None
        self._lock = threading.Lock()
        self._background = Background()

    def serving(self, choice: Choice) -> str:
        """The version that answers the next question; empty while its model is not open."""
        slot = self._slots.get((choice.model, choice.max_tokens))
        return slot.current if slot else ""

    def follows(self, choice: Choice) -> bool:
        """Whether the registry says who answers here."""
        return (choice.model, choice.max_tokens) in self._ushers

    @property
    def loaded(self) -> frozenset[str]:
        """Versions that can answer now, or that a run still uses."""
        return frozenset(version for slot in list(self._slots.values()) for version in slot.loaded)

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
        given = {"question": asked, "run": uuid.uuid4().hex, "history": _turns(history)}
        async with aclosing(self._background.listen(_run(graph, given, context, slot))) as told:
            async for happening in told:
                yield happening

    def swap(self, choice: Choice, folder: Path | None, on_phase: OnPhase, gate: Gate | None = None) -> SwapReport:
        """Bring a student into the seat of this choice's model, if it passes the gate; None: the bare base, which passes none. Blocks.

        Raises:
            ConfigError: no student can take that seat.
            DataError: the gate has no questions with answers.
        """
        from steper_agent.students.swap import Swappable, Terms, swap_base, swap_student
        from tui.app.gating import trial

        context, _, slot = self._open(choice)
        base = self._bases[choice.model, choice.max_tokens]
        if not isinstance(base, Swappable):
            raise ConfigError("no student can take the seat of this model", where=choice.model, fix="choose local:PATH or vllm:PATH")
        if folder is None:
            return swap_base(slot, base, drain=DRAIN, on_event=on_phase)
        through = trial(gate, slot, context, on_phase) if gate else None
        return swap_student(slot, base, folder, Terms(gate=through, drain=DRAIN), on_event=on_phase)

    async def why(self, choice: Choice, query: str, passage_id: str) -> Why:
        """Why the choice's index finds a passage, and where the passage comes from; nothing is opened for it.

        Raises:
            StepERError: that index is not open, is served elsewhere, or holds no such passage.
        """
        from steper_agent.retrieval import IndexRetriever
        from steper_agent.retrieval.why import explain

        index = self._indexes.get(choice.index)
        if index is None:
            raise ConfigError("the index is not open", where=choice.index, fix="wait until it is, or ask a question over it")
        if not isinstance(index, IndexRetriever):
            raise ConfigError("why a passage was found is told where the index is", where=choice.index, fix="open the index's own folder")
        return await aside(lambda: explain(index, query, passage_id))

    def question_ideas(self, choice: Choice, count: int = 4) -> list[str]:
        """Questions that the micro-world can answer; none where the index is a person's own."""
        return world_questions(count) if choice.index == WORLD else []

    def _open(self, choice: Choice) -> tuple[Context, StepwiseGraph, ModelSlot]:
        from graphs.state import Context
        from graphs.stepwise import build_graph

        at = (choice.model, choice.max_tokens)
        # What is open waits for nothing that is being opened.
        if at not in self._slots or choice.index not in self._indexes:
            with self._lock, _unswept():
                self._load(choice)
        self._graph = self._graph or build_graph()
        slot = self._slots[at]
        context = Context(model=self._bases[at] if choice.bare else slot, retriever=self._indexes[choice.index], strategy=choice.strategy,
                          k=choice.k, steps=choice.steps)
        return context, self._graph, slot

    def _load(self, choice: Choice) -> None:
        from steper_agent.models.slot import ModelSlot
        from training.models import open_model

        if choice.index not in self._indexes:
            self._indexes[choice.index] = _open_index(choice.index)
        at = (choice.model, choice.max_tokens)
        if at not in self._slots:
            self._bases[at] = open_model(choice.model, max_tokens=choice.max_tokens, students=self._students)
            slot = ModelSlot(self._bases[at])
            if self._follow:
                self._go_along(at, slot, self._follow)
            self._slots[at] = slot

    def _go_along(self, at: tuple[str, int], slot: ModelSlot, registry: Path) -> None:
        """Before anybody is answered: what is live takes the seat, and so does what goes live until the process ends."""
        from steper_agent.students.registry import Registry
        from steper_agent.students.swap import Swappable
        from steper_agent.students.usher import Usher

        if isinstance(base := self._bases[at], Swappable) and not getattr(base, "adapter", None):
            self._ushers[at] = Usher(slot, base, Registry(registry)).__enter__()


@contextmanager
def _unswept() -> Iterator[None]:
    """What is loaded here stays, and is a million objects: were they looked through for garbage, every key would wait for it, for
    as long as a third of a second, while they are loaded and ever after."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        # Else native modules complain of leaks when the process ends. Once, however often something is loaded.
        atexit.unregister(gc.unfreeze)
        atexit.register(gc.unfreeze)


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
        let_others_first()
        try:
            value = act()
        except BaseException as bad:
            failure = bad
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=work, daemon=True).start()
    return await done


async def _run(graph: StepwiseGraph, given: dict[str, Any], context: Context, slot: ModelSlot) -> AsyncGenerator[Happening]:
    """A run, which holds its model until it has ended."""
    from graphs.story import is_ours

    step, state = 0, dict[str, Any]()
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
                elif is_ours(told) and (happening := _happening(told)) is not None:
                    step = happening.step if isinstance(happening, Asked) else step
                    yield happening
        yield _ended(state, context)
    finally:
        slot.release(given["run"])


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


def _open_index(index: str) -> IndexRetriever | RemoteRetriever:
    from steper_agent.retrieval import open_retriever

    return open_world() if index == WORLD else open_retriever(index)
