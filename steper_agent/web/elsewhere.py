"""One event loop in a thread of its own, with one HTTP client on it: callers may be in any thread or event loop, may come
and go, and share its connections. One code path serves the synchronous and the asynchronous side."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
Work = Callable[[httpx.AsyncClient], Coroutine[Any, Any, T]]
_Living = tuple[asyncio.AbstractEventLoop, asyncio.Event]
LONGEST_END = 2.0
"""Seconds that open connections may take to close."""


class Elsewhere:
    """The thread starts with the first call, and ends once nobody holds this, or the process ends; it closes the client."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._living: Future[_Living] = Future()
        # The thread must not hold this object, or nobody's letting go would ever be seen.
        self._thread = threading.Thread(target=_run, args=(client, self._living), name="steper-http", daemon=True)
        self._end = weakref.finalize(self, _end, self._thread, self._living)

    def call(self, work: Work[T]) -> Future[T]:
        """What comes of the work, which runs on the loop; cancelling it ends the work.

        Raises:
            RuntimeError: it is closed.
        """
        with self._lock:
            if not self._end.alive:
                raise RuntimeError("the client is closed")
            if self._thread.ident is None:
                self._thread.start()
        loop, _ = self._living.result()
        return asyncio.run_coroutine_threadsafe(work(self._client), loop)

    def close(self) -> None:
        """End what runs, and the thread. May be called twice."""
        with self._lock:
            self._end()


def _run(client: httpx.AsyncClient, living: Future[_Living]) -> None:
    asyncio.run(_live(client, living))


async def _live(client: httpx.AsyncClient, living: Future[_Living]) -> None:
    async with client:
        end = asyncio.Event()
        living.set_result((asyncio.get_running_loop(), end))
        await end.wait()


def _end(thread: threading.Thread, living: Future[_Living]) -> None:
    if not thread.is_alive():
        return
    loop, end = living.result()
    loop.call_soon_threadsafe(end.set)
    if thread is not threading.current_thread():  # A garbage collector may be in any.
        thread.join(LONGEST_END)
