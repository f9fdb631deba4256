"""Several servers of one base as one: who has a student, and who of them is asked next."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from steper_agent.errors import AdapterError, StepERError
from steper_agent.vllm.adapters import ServedAdapters
from steper_agent.vllm.client import Client
from steper_agent.vllm.server import Server

BLOCK = 64
"""Tokens of a prompt that are remembered as one."""
REMEMBERED = 65_536
"""Such blocks, of which the oldest are forgotten first."""
SLACK = 4
"""Requests that a replica may have under way beyond the idlest one before what it remembers counts no more."""
REST = 2.0
"""Seconds that a replica which failed is asked only if no other is left."""


class Replica:
    """One server; `server` where it is ours."""

    def __init__(self, client: Client, adapters: ServedAdapters, server: Server | None = None) -> None:
        self.client = client
        self.adapters = adapters
        self.server = server
        self.under_way = 0
        self.rests_until = 0.0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.client.endpoint.url

    @property
    def is_up(self) -> bool:
        """As far as is known."""
        return time.monotonic() >= self.rests_until and (self.server is None or self.server.is_ready)

    def rest(self, asked: float = 0.0) -> None:
        """Leave it alone for a while, or the seconds that it asked for."""
        self.rests_until = time.monotonic() + max(REST, asked)

    @contextmanager
    def asked(self) -> Iterator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._lock:
            self.under_way += more


class Router:
    """Which of the replicas that have a version is asked next: the one that computed most of the prompt before, so that the
    steps of a run find their prefix in its cache, unless others idle meanwhile. Thread-safe."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = tuple(replicas)
        self._computed: OrderedDict[int, Replica] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def replicas(self) -> tuple[Replica, ...]:
        return self._replicas

    @property
    def any_is_up(self) -> bool:
        return any(replica.is_up for replica in self._replicas)

    def choose(self, prompt: Sequence[int]) -> Replica:
        """One that is up; where none is, the one that may be again first."""
        if len(self._replicas) == 1:
            return self._replicas[0]
        with self._lock:
            up = [one for one in self._replicas if one.is_up] or [min(self._replicas, key=lambda one: one.rests_until)]
            idlest = min(up, key=lambda one: one.under_way)
            blocks = _blocks(prompt)
            # What all prompts begin with, the instructions, says nothing: half of the prompt must be known.
            known = next((self._computed[one] for one in reversed(blocks[len(blocks) // 2 :]) if one in self._computed), None)
            chosen = known if known in up and known.under_way <= idlest.under_way + SLACK else idlest
            self._computed |= dict.fromkeys(blocks, chosen)
            for block in blocks:
                self._computed.move_to_end(block)
            while len(self._computed) > REMEMBERED:
                self._computed.popitem(last=False)
            return chosen

    def drop(self, replica: Replica) -> bool:
        """Ask it no more; False, and nothing is done, where it is the last."""
        with self._lock:
            left = tuple(one for one in self._replicas if one is not replica)
            self._replicas = left or self._replicas
            return bool(left)


def _blocks(prompt: Sequence[int]) -> list[int]:
    """A hash for every prefix of whole blocks, shortest first."""
    hashes, so_far = list[int](), 0
    for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
        so_far = hash((so_far, *prompt[start : start + BLOCK]))
        hashes.append(so_far)
    return hashes


def on_all(replicas: Sequence[Replica], act: Callable[[Replica], object]) -> dict[Replica, StepERError]:
    """Do it on all of them at once; the refusals."""

    def refusal(replica: Replica) -> StepERError | None:
        try:
            act(replica)
        except StepERError as refused:
            return refused
        return None

    with ThreadPoolExecutor(len(replicas) or 1) as pool:
        told = zip(replicas, pool.map(refusal, replicas), strict=True)
        return {replica: refused for replica, refused in told if refused}


def too_few(name: str, held: int, quorum: int, refusals: dict[Replica, StepERError]) -> StepERError:
    """Why a student is refused that not enough replicas took. A single server's own words need no others."""
    if quorum == 1 and held == 0 and len(refusals) == 1:
        return next(iter(refusals.values()))
    told = "; ".join(f"{replica.url}: {refused.what}" for replica, refused in refusals.items())
    return AdapterError(f"{name} is on {held} of {held + len(refusals)} servers, and {quorum} must have it", where=told,
                        fix="bring the others back, and try again")
