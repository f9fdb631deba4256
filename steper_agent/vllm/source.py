"""Servers as a source of tokens: a broken line is mended, on the same server or the next, and a completed request is never
sent again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Done, Piece, Request
from steper_agent.models.loading import Vocabulary
from steper_agent.vllm.answer import Answer
from steper_agent.vllm.client import Busy, Missing
from steper_agent.vllm.replicas import Replica, Router

BROKEN = (Busy, Missing, httpx.NetworkError, httpx.ProtocolError, httpx.ConnectTimeout)
"""What another try may mend. A server that stays silent is not asked again: it is working, or lost."""
BREAKS = (httpx.TransportError, Busy, Missing)


class Served:
    """One name (the base, or a student) on the servers that have it.

    `most`: requests under way at once, the others wait here. `patience`: seconds without a new token until a request that
    broke off is given up; a server of ours that died is back by then.
    """

    def __init__(
        self, replicas: Sequence[Replica], model: str, vocabulary: Vocabulary, *, most: int = 256, patience: float = 180.0
    ) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.router = Router(replicas)
        self._most = most
        self._patience = patience
        self._room = threading.BoundedSemaphore(most)
        self._rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    @property
    def tokenizer(self) -> Any:
        return self.vocabulary.tokenizer

    def on(self, replica: Replica, patience: float) -> Served:
        """The same on one server alone."""
        return Served((replica,), self.model, self.vocabulary, most=self._most, patience=min(patience, self._patience))

    def stream(self, request: Request) -> Iterator[Piece | Done]:
        """The events of a request as they come; closing the iterator cancels it."""
        answer, tries = self._begin(request)
        with self._room:
            while not answer.is_complete:
                replica, broken = self.router.choose(answer.ids), None
                try:
                    with replica.asked(), replica.client.completion(answer.body()) as chunks:
                        for chunk in chunks:
                            yield from answer.read(chunk)
                except BREAKS as failure:
                    broken = failure
                if not answer.is_complete:
                    time.sleep(self._pause(replica, broken, answer, tries))
                    if not self.router.any_is_up:
                        self._wait(replica, tries)
        yield answer.done()

    async def astream(self, request: Request) -> AsyncIterator[Piece | Done]:
        """As `stream`, without blocking the event loop."""
        answer, tries = self._begin(request)
        room = self._rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._most))
        async with room:
            while not answer.is_complete:
                replica, broken = self.router.choose(answer.ids), None
                try:
                    with replica.asked():
                        async with replica.client.acompletion(answer.body()) as chunks:
                            async for chunk in chunks:
                                for piece in answer.read(chunk):
                                    yield piece
                except BREAKS as failure:
                    broken = failure
                if not answer.is_complete:
                    # In a thread, for a student that the server lost is loaded again there.
                    await asyncio.sleep(await asyncio.to_thread(self._pause, replica, broken, answer, tries))
                    if not self.router.any_is_up:
                        await asyncio.to_thread(self._wait, replica, tries)
        yield answer.done()

    def _begin(self, request: Request) -> tuple[Answer, Tries]:
        where = self.router.replicas[0].url
        return Answer(request, self.model, self.vocabulary, where), Tries(self._patience, where)

    def _pause(self, replica: Replica, broken: Exception | None, answer: Answer, tries: Tries) -> float:
        """Seconds to wait before the next try; 0 where another replica can go on at once."""
        if isinstance(broken, Missing) and not replica.adapters.again(self.model):
            if not self.router.drop(replica):
                raise broken
            return 0.0
        pause = tries.after(broken, answer)
        if isinstance(broken, Missing):
            return pause
        replica.rest(broken.after if isinstance(broken, Busy) else 0.0)
        return 0.0 if self.router.any_is_up else pause

    def _wait(self, replica: Replica, tries: Tries) -> None:
        if replica.server:
            replica.server.wait_ready(tries.left)


class Tries:
    """How long to wait before the next try of one request, and when to give up."""

    def __init__(self, patience: float, where: object) -> None:
        self._patience, self._where = patience, where
        self._progress, self._at, self._failed = 0, time.monotonic(), 0

    @property
    def left(self) -> float:
        """Seconds of patience."""
        return self._at + self._patience - time.monotonic()

    def after(self, broken: Exception | None, answer: Answer) -> float:
        """Seconds to wait; None broken is a stream that ended without an end.

        Raises:
            ModelError: there was no progress for too long, or another try would not help.
        """
        if answer.length > self._progress:
            self._progress, self._at, self._failed = answer.length, time.monotonic(), 0
        self._failed += 1
        if broken is not None and not isinstance(broken, BROKEN):
            raise ModelError(f"the server went silent: {broken or type(broken).__name__}", where=self._where,
                             fix="look into its log; give it less at once, or a longer timeout") from broken
        asked = broken.after if isinstance(broken, Busy) else 0.0
        if asked > self.left or self.left <= 0:
            raise ModelError(f"the server does not answer: {broken or 'the stream broke off'}", where=self._where,
                             fix="look into its log, and start it again") from broken
        return max(asked, min(0.1 * 2.0 ** (self._failed - 1), 5.0))
