"""How many runs go on at once, whether new ones are let in, and when one is given up: its client left, or time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TypeVar

from steper_agent.web.refusal import Refusal

T = TypeVar("T")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
CLOSING = "the server is closing"


class Gate:
    """Belongs to one event loop; only `close` may be called from elsewhere."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.inflight = 0
        self.is_closing = False
        self._cut = asyncio.Event()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Counted in for as long as the block lasts.

        Raises:
            Refusal: 503 where the server is closing, 429 where it is full.
        """
        if self.is_closing:
            raise Refusal(503, CLOSING, code="closing", headers={"Retry-After": "5"})
        if self.inflight >= self.most:
            raise Refusal(
                429,
                f"{self.most} requests are being answered already",
                code="too_many_requests",
                headers={"Retry-After": "1"},
            )
        self.inflight += 1
        try:
            yield
        finally:
            self.inflight -= 1

    async def listening(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
        """What the work comes to; None if the client left before it was done.

        Raises:
            Refusal: the server was cut off before it was done.
        """
        doing, leaving, cutting = (asyncio.create_task(work), asyncio.create_task(_left(receive)),
                                   asyncio.create_task(self._cut.wait()))  # fmt: skip
        try:
            await asyncio.wait((doing, leaving, cutting), return_when=asyncio.FIRST_COMPLETED)
            is_done, is_cut = doing.done(), cutting.done()
        finally:
            for task in (doing, leaving, cutting):
                task.cancel()
            # Waited for, so that a run has given everything back before its place is given to another.
            await asyncio.gather(doing, leaving, cutting, return_exceptions=True)
        if is_done:
            return doing.result()
        if is_cut:
            raise Refusal(503, CLOSING, code="closing")
        return None

    def close(self) -> None:
        """Let nobody in any more; who is in may finish."""
        self.is_closing = True

    def cut(self) -> None:
        """End what still runs."""
        self._cut.set()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
