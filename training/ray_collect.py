"""Collect over several machines with Ray: actors ask, one driver writes.

An actor opens the teacher and the index once and is dealt one question after another while it has room, so a slow one
keeps nobody waiting. What a run wrote comes back whole when the run ends, and the driver alone appends it to the journal:
a question stands there once, however often it had to be dealt. An actor that dies is replaced, and what it had under way
is dealt again. A killed driver loses the runs under way (the local engine: one call each); they are asked again, from
what the journal holds of them.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import socket
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steper_agent.errors import ConfigError, DependencyError, ModelError
from steper_agent.journal import Journal, read
from steper_agent.records import Finished, NodeRecord, Question, Stop
from training.ray_actor import Actor, Dealt, Ended, Order

__all__ = ["Order", "answer_on_ray", "cluster"]

LOG = logging.getLogger(__name__)
MOST_LOST = 3
"""Actors that may die over one question before it is given up."""
MOST_ROUNDS = 3
"""Times a whole crew may die with nothing answered in between."""
TELL_AFTER = 30.0
"""Seconds without an actor before the person waiting is told why."""
CONNECT = 10.0
"""Seconds to reach a cluster's door."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
"""What actors print stays in Ray's log files; what a person should know is in the journal or told by the driver."""
SMALL: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 200 * 2**20}
"""Of a cluster of our own: a run comes back in some ten thousand bytes."""
OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Elsewhere than on macOS and Windows it would listen on every network; so it keeps to 127.0.0.1.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # At Ray's own 15, any other program on the machine starves the actors.
    "RAY_worker_niceness": "0",
}
"""Environment of a cluster of our own, unless it is set otherwise; Ray reads it when it is imported and started."""


class Deal:
    """Which question is asked next, and which again. It knows nothing of Ray."""

    def __init__(self, questions: Iterable[Question]) -> None:
        self._waiting = deque(questions)
        self._lost: Counter[str] = Counter()

    def next_for(self, company: Collection[Question]) -> Question | None:
        """The next question for an actor that has these under way. One that two actors died over is asked alone: it takes
        no other with it, and is not given up for another's fault."""
        if not self._waiting or any(map(self._is_suspect, company)):
            return None
        if company and self._is_suspect(self._waiting[0]):
            return None
        return self._waiting.popleft()

    def again(self, question: Question) -> bool:
        """Take back, behind all others, a question whose actor died; False where that happened too often."""
        self._lost[question.id] += 1
        if self._lost[question.id] >= MOST_LOST:
            return False
        self._waiting.append(question)
        return True

    def _is_suspect(self, question: Question) -> bool:
        return self._lost[question.id] == MOST_LOST - 1


@dataclass(eq=False, slots=True)
class Member:
    """An actor as the driver sees it."""

    actor: Any
    asked: dict[Any, Question] = field(default_factory=dict)
    """What it has under way, by the reference that will hold the result."""
    alive: bool = True


class Crew:
    """As many actors as ordered, the dead ones replaced, kept busy until every question has ended."""

    def __init__(self, order: Order, questions: Sequence[Question], known: Mapping[str, Sequence[NodeRecord]], size: int) -> None:
        self._ray = the_ray()
        self._order, self._known, self._size, self._left = order, known, size, len(questions)
        self._deal = Deal(questions)
        gpus = share_of_gpu(self._ray.cluster_resources().get("GPU", 0), size) if loads_weights(order.teacher) else 0
        # Not restarted by Ray, which would bring an actor back without telling what it had under way.
        self._hire = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0,
                                      scheduling_strategy="SPREAD", max_concurrency=order.concurrency)(Actor)
        self._opening: dict[Any, Member] = {}
        self._open: list[Member] = []
        self._asked: dict[Any, Member] = {}
        self._deaths = 0

    def ended(self, on_open: Callable[[], object]) -> Iterator[Ended]:
        """Every question's end, once. `on_open` is called when an actor has opened what it needs, before it is asked.

        Raises:
            StepERError: an actor met what a person must mend, or they die one after the other.
        """
        for _ in range(self._size):
            self._add()
        while self._left:
            for ref in self._arrived():
                if ref in self._opening:
                    self._opened(ref, on_open)
                elif end := self._end(ref):
                    self._left -= 1
                    yield end
            self._ask()

    def dismiss(self) -> None:
        for member in {*self._opening.values(), *self._open}:
            self._ray.kill(member.actor)

    def _add(self) -> None:
        member = Member(self._hire.remote(self._order))
        self._opening[member.actor.open.remote()] = member

    def _arrived(self) -> list[Any]:
        done, _ = self._ray.wait([*self._opening, *self._asked], timeout=None if self._asked else TELL_AFTER)
        if not done:
            LOG.warning("no actor is ready yet: each wants a CPU (%g are free) and time to open the teacher",
                        self._ray.available_resources().get("CPU", 0))
        return list(done)

    def _opened(self, ref: Any, on_open: Callable[[], object]) -> None:
        member = self._opening.pop(ref)
        try:
            where = result(ref)
        except self._ray.exceptions.RayError as died:
            self._replace(member, died)
            return
        LOG.info("an actor is ready: %s", where)
        self._open.append(member)
        on_open()

    def _end(self, ref: Any) -> Ended | None:
        """How a run ended; None where its actor died and it is asked again."""
        member = self._asked.pop(ref)
        question = member.asked.pop(ref)
        try:
            end = Ended.model_validate_json(result(ref))
        except self._ray.exceptions.RayError as died:
            again = self._deal.again(question)
            self._replace(member, died)
            return None if again else given_up(question, f"{MOST_LOST} actors died over it, the last: {in_short(died)}")
        self._deaths = 0
        return end

    def _replace(self, member: Member, died: Exception) -> None:
        if not member.alive:
            return
        member.alive = False
        self._open = [one for one in self._open if one.alive]
        self._ray.kill(member.actor)  # It may live on, out of reach.
        self._deaths += 1
        if self._deaths >= MOST_ROUNDS * (self._size + 1):
            raise ModelError(f"{self._deaths} actors died in a row: {in_short(died)}", where="--engine ray",
                             fix="see Ray's logs; if memory ran out, lower --workers")
        LOG.warning("an actor died and is replaced, what it had under way is asked again: %s", in_short(died))
        self._add()

    def _ask(self) -> None:
        """Deal round and round until nobody has room, to those with the fewest questions first."""
        dealt = True
        while dealt:
            dealt = False
            for member in sorted(self._open, key=lambda one: len(one.asked)):
                has_room = len(member.asked) < self._order.concurrency
                if has_room and (question := self._deal.next_for(member.asked.values())):
                    given = Dealt(question=question, known=tuple(self._known.get(question.id, ())))
                    ref = member.actor.answer.remote(given.model_dump_json())
                    member.asked[ref], self._asked[ref] = question, member
                    dealt = True


def answer_on_ray(
    questions: Sequence[Question], order: Order, journal: Journal, *, workers: int, address: str = "",
    on_open: Callable[[], object], on_stop: Callable[[Stop], object],
) -> None:  # fmt: skip
    """Answer every question, and append what its run wrote to the journal, once.

    A run that fails, or over which actors die again and again, is told as `error` and not closed in the journal, so the
    next call takes it up again.

    Raises:
        StepERError: what a person must mend, here or where an actor is.
    """
    if not questions:
        return
    known, size = unfinished(journal.path), min(workers, len(questions))
    with cluster(address, size):
        crew = Crew(order, questions, known, size)
        try:
            for end in crew.ended(on_open):
                for line in end.lines if end.run not in journal.finished else ():
                    journal.append(line)
                if end.stop == "error":
                    LOG.warning("question %s failed: %s", end.run, next((r.note for r in reversed(end.lines) if isinstance(r, NodeRecord)), ""))
                on_stop(end.stop)
        finally:
            crew.dismiss()


@contextmanager
def cluster(address: str, size: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or to one on this machine that ends with the connection. One that the
    program already has is used as it is, and left.

    Raises:
        DependencyError: Ray is not installed.
        ConfigError: no cluster that can be joined is at `address`.
    """
    if not address:
        for name, value in OWN.items():
            os.environ.setdefault(name, value)
    ray = the_ray()
    if ray.is_initialized():
        yield
        return
    if address:
        _knock(address)
    try:
        ray.init(address or "local", **QUIET, **({} if address else {"num_cpus": size, **SMALL}))
    except Exception as bad:  # Ray raises the bare class, too.
        raise ConfigError(
            f"no Ray cluster: {bad}", where=f"--ray-address {address}" if address else "--engine ray on this machine",
            fix="start one (ray start --head --port 6379) and name it; without --ray-address one is started here",
        ) from bad  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def the_ray() -> Any:
    """Ray's module, imported when it is needed and untyped: its annotations do not cover what is called here.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as missing:
        raise DependencyError("Ray is not installed", where="--engine ray", fix="pip install 'steper-agent[ray]'") from missing


def _knock(address: str) -> None:
    """Ray would go on trying an address where nothing is for a quarter of an hour."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT).close()
        except OSError as bad:
            raise ConfigError(f"no Ray cluster: {bad.strerror or bad}", where=f"--ray-address {address}",
                              fix="start one there: ray start --head --port 6379") from bad


def unfinished(path: Path) -> dict[str, list[NodeRecord]]:
    """The nodes that a journal holds of runs that did not finish, by run."""
    runs: defaultdict[str, list[NodeRecord]] = defaultdict(list)
    for record in read(path):
        if isinstance(record, NodeRecord):
            runs[record.run].append(record)
        elif isinstance(record, Finished):
            runs.pop(record.run, None)
    return runs


def result(ref: Any) -> Any:
    """What an actor returned.

    Raises:
        Exception: what the actor raised, or a RayError where it died.
    """
    ray = the_ray()
    try:
        return ray.get(ref)
    except ray.exceptions.RayTaskError as bad:
        raise bad.cause from bad


def given_up(question: Question, note: str) -> Ended:
    line = NodeRecord(run=question.id, question_id=question.id, node="begin", step=0, key="", input=question.text,
                      output="", seconds=0.0, outcome="error", note=note)
    return Ended(run=question.id, stop="error", lines=(line,))


def loads_weights(spec: str) -> bool:
    return spec.startswith("local:") or (spec.startswith("vllm:") and "://" not in spec)


def share_of_gpu(gpus: float, actors: int) -> float:
    """What an actor with a model in its own process takes, so that all find room: one, or a fraction they share it in."""
    return 1 / math.ceil(actors / gpus) if gpus >= 1 else 0.0


def in_short(died: Exception) -> str:
    """Ray says what happened to an actor in its last line, and then what may have."""
    return (str(died) or type(died).__name__).splitlines()[-1].split(" Some common causes")[0]
