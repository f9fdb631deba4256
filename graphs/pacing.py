"""How many questions are under way at once: as many as asked for, and fewer while a provider says it is too much."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from graphs.retrying import is_rate_limit, retry_after

LOG = logging.getLogger(__name__)
T = TypeVar("T")
RAISE_AFTER = 4
"""Questions answered in a row before one more may be under way."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds in which nobody starts after a refusal that names no time; doubled until a question is answered."""
TRIES = 12
"""Of one question (a prompt larger than the whole allowance is refused for ever), and of everybody in a row (a used-up
quota is called a rate limit too); then nobody is waited for until an answer comes."""
PATIENCE = 600.0
"""Seconds; a provider that wants a longer wait is not waited for."""


class Pace:
    """Additive increase, multiplicative decrease, as networks share a line: a refusal halves the number of questions that
    may be under way, answers raise it one by one. A refused question gives up its place, waits, and is done again."""

    def __init__(
        self, most: int, *, clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        self.most = most
        self.limit = most
        """Questions that may be under way now, from 1 to `most`."""
        self.under_way = 0
        self._clock, self._sleep = clock, sleep
        self._door, self._left = asyncio.Lock(), asyncio.Event()
        self._opens = float("-inf")
        self._cuts = 0
        self._in_a_row = 0
        self._refusals = 0

    async def keep(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` comes to, begun when there is room. After a rate limit it is begun again, so it should recall what
        it has done already; whatever else it raises, and the last rate limit of too many, is raised."""
        tried = 0
        while True:
            tried += 1
            cuts = await self._enter()
            try:
                made = await work()
            except Exception as bad:
                if not is_rate_limit(bad) or not self._waits(bad, cuts) or tried == TRIES:
                    raise
            else:
                self._answered()
                return made
            finally:
                self.under_way -= 1
                self._left.set()

    async def _enter(self) -> int:
        """Wait for a place; returns how often the limit had been cut by then."""
        # Only the first in line looks whether there is room; a lock is first come, first served.
        async with self._door:
            while (pause := self._opens - self._clock()) > 0 or self.under_way >= self.limit:
                if pause > 0:
                    await self._sleep(pause)
                else:
                    self._left.clear()
                    await self._left.wait()
            self.under_way += 1
            return self._cuts

    def _waits(self, refusal: Exception, cuts: int) -> bool:
        """Slow down; whether waiting may help."""
        self._in_a_row = 0
        pause = retry_after(refusal)
        # Those that were under way at the last cut say nothing of what it led to: one burst of refusals is one cut.
        if cuts == self._cuts:
            self._cuts += 1
            self.limit = max(1, self.limit // 2)
            if pause is None:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._refusals, TRIES))
            self._refusals += 1
            LOG.info("rate limit: %d questions at once, the next in %.0f s", self.limit, pause)
        if self._refusals >= TRIES or (pause or 0.0) > PATIENCE:
            return False
        self._opens = max(self._opens, self._clock() + (pause or 0.0))
        return True

    def _answered(self) -> None:
        self._refusals = 0
        self._in_a_row += 1
        if self._in_a_row >= RAISE_AFTER and self.limit < self.most:
            self.limit += 1
            self._in_a_row = 0
