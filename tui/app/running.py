"""A run beside the screen: on an event loop of its own, in a thread of its own, so that no key waits for the graph."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from itertools import groupby

from tui.app.messages import Happening, Wrote

TOLD_EVERY = 0.1
"""Seconds between two looks at what happened: a layout for every token would leave no time for keys."""
NICE = 10
"""As `nice` without a number: about a tenth of a core beside a screen that wants it whole."""


def let_others_first() -> None:
    """This thread, and those it begins from now on (an engine's, torch's), run where the screen leaves a core free: on two cores a
    key would else wait for its turn. Linux alone gives each thread a priority of its own."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


class Background:
    """One loop for all runs, begun with the first and kept: a provider's client may hold connections that live on the loop that made
    them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def listen(self, source: AsyncGenerator[Happening]) -> AsyncGenerator[Happening]:
        """What `source` tells over there, a rationale's text in a few larger pieces. Whoever stops listening ends it, and goes on
        when it has ended: what it held is free again.

        Raises:
            Whatever `source` raises.
        """
        here, there = asyncio.get_running_loop(), self._begun()
        told, tasks, over = deque[Happening](), list[asyncio.Task[None]](), here.create_future()

        async def run() -> None:
            async with aclosing(source):
                async for happening in source:
                    told.append(happening)

        def begin() -> None:
            tasks.append(there.create_task(run()))
            tasks[0].add_done_callback(end)

        def end(task: asyncio.Task[None]) -> None:
            failure = asyncio.CancelledError() if task.cancelled() else task.exception()
            with suppress(RuntimeError):  # The screen's loop is closed: nobody listens any more.
                here.call_soon_threadsafe(over.set_result, failure)

        there.call_soon_threadsafe(begin)
        try:
            while told or not over.done():
                await asyncio.wait([over], timeout=TOLD_EVERY)
                for happening in joined(told):
                    yield happening
            if failure := over.result():
                raise failure
        finally:
            there.call_soon_threadsafe(lambda: tasks[0].cancel())
            await asyncio.wait([over])

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon: an app that quits does not wait for what a model still computes.
                threading.Thread(target=self._run, args=[self._loop], name="runs", daemon=True).start()
            return self._loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        let_others_first()
        loop.run_forever()


def joined(told: deque[Happening]) -> Iterator[Happening]:
    """Takes all there is by now; pieces of one rationale that follow each other come as one."""
    taken = [told.popleft() for _ in range(len(told))]
    for step, together in groupby(taken, key=lambda one: one.step if isinstance(one, Wrote) else None):
        if step is None:
            yield from together
        else:
            yield Wrote(step, "".join(piece.text for piece in together if isinstance(piece, Wrote)))
