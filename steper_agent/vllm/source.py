"""A server as a source of tokens: a broken line is mended, a completed request is never sent again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from steper_agent.errors import ModelError
from steper_agent.models.decoding import Done, Piece, Request
from steper_agent.models.loading import Vocabulary
from steper_agent.vllm.answer import Answer
from steper_agent.vllm.client import Busy, Client
from steper_agent.vllm.server import Server

BROKEN = (Busy, httpx.NetworkError, httpx.ProtocolError, httpx.ConnectTimeout)
"""What another try may mend. A server that stays silent is not asked again: it is working, or lost."""


class Served:
    """One name (the base, or a student) on one server.

    `most`: requests under way at once, the others wait here. `patience`: seconds without a new token until a request that
    broke off is given up; a server of ours that died is back by then.
    """

    def __init__(
        self, client: Client, model: str, vocabulary: Vocabulary, *, server: Server | None = None, most: int = 256,
        patience: float = 180.0,
    ) -> None:  # fmt: skip
        self.client = client
        self.model = model
        self.vocabulary = vocabulary
        self.server = server
        self._most = most
        self._patience = patience
        self._room = threading.BoundedSemaphore(most)
        self._rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    @property
    def tokenizer(self) -> Any:
        return self.vocabulary.tokenizer

    def named(self, model: str) -> Served:
        """The same server under another name."""
        return Served(self.client, model, self.vocabulary, server=self.server, most=self._most, patience=self._patience)

    def stream(self, request: Request) -> Iterator[Piece | Done]:
        """The events of a request as they come; closing the iterator cancels it."""
        answer, tries = self._begin(request)
        with self._room:
            while not answer.is_complete:
                try:
                    with self.client.completion(answer.body()) as chunks:
                        for chunk in chunks:
                            yield from answer.read(chunk)
                    pause = tries.after(None, answer)
                except httpx.TransportError as broken:
                    pause = tries.after(broken, answer)
                except Busy as busy:
                    pause = tries.after(busy, answer)
                if not answer.is_complete:
                    time.sleep(pause)
                    self._wait(tries)
        yield answer.done()

    async def astream(self, request: Request) -> AsyncIterator[Piece | Done]:
        """As `stream`, without blocking the event loop."""
        answer, tries = self._begin(request)
        room = self._rooms.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._most))
        async with room:
            while not answer.is_complete:
                try:
                    async with self.client.acompletion(answer.body()) as chunks:
                        async for chunk in chunks:
                            for piece in answer.read(chunk):
                                yield piece
                    pause = tries.after(None, answer)
                except httpx.TransportError as broken:
                    pause = tries.after(broken, answer)
                except Busy as busy:
                    pause = tries.after(busy, answer)
                if not answer.is_complete:
                    await asyncio.sleep(pause)
                    if self.server and not self.server.is_ready:
                        await asyncio.to_thread(self._wait, tries)
        yield answer.done()

    def _begin(self, request: Request) -> tuple[Answer, Tries]:
        where = self.client.endpoint.url
        return Answer(request, self.model, self.vocabulary, where), Tries(self._patience, where)

    def _wait(self, tries: Tries) -> None:
        if self.server:
            self.server.wait_ready(tries.left)


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
        if answer.is_complete:
            return 0.0
        if answer.length > self._progress:
            self._progress, self._at, self._failed = answer.length, time.monotonic(), 0
        self._failed += 1
        if broken is not None and not isinstance(broken, BROKEN):
            raise ModelError(f"the server went silent: {broken or type(broken).__name__}", where=self._where,
                             fix="look into its log; give it less at once, or a longer timeout") from broken
        if self.left <= 0:
            raise ModelError(f"the server does not answer: {broken or 'the stream broke off'}", where=self._where,
                             fix="look into its log, and start it again") from broken
        asked = broken.after if isinstance(broken, Busy) else 0.0
        return max(asked, min(0.1 * 2.0 ** (self._failed - 1), 5.0))
