"""Searches that come at the same time go together: one call of the encoder and one of the index for many askers.

A search that comes alone goes at once. While batches run, what comes in is gathered and goes with the next; after a batch of many, the
next waits for as many, because those who were answered together ask again together.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from steper_agent.errors import ConfigError, SearchError
from steper_agent.records import Hit

Hits = tuple[Hit, ...]
_Found = dict[str, Hits]
SearchMany = Callable[[Sequence[str], int], Sequence[Hits]]

WAIT = 0.005
MOST = 64


class _Asked(NamedTuple):
    query: str
    hits: Future[Hits]
    at: float
    """On the monotonic clock."""


@dataclass(slots=True, eq=False)
class _Batch:
    k: int
    asked: list[_Asked] = field(default_factory=list)

    @property
    def queries(self) -> list[str]:
        """Each once, in the order they came."""
        return list(dict.fromkeys(one.query for one in self.asked))


class Batcher:
    """One for an opened index. Askers may be in any number of threads and event loops; the batcher keeps nothing of
    theirs but what they wait for.

    `wait`: seconds that a search waits for company at most. `most`: queries in a batch. `workers`: batches at
    once, by default one a core. `timeout`: seconds after which an asker is told to give up. `split`: a call costs next to
    nothing beside its queries, as where no encoder is asked, so many queries are shared out over the workers instead.

    Raises:
        ConfigError: a setting makes no sense.
    """

    def __init__(
        self,
        search_many: SearchMany,
        *,
        wait: float = WAIT,
        most: int = MOST,
        workers: int | None = None,
        timeout: float | None = None,
        split: bool = False,
    ) -> None:
        workers = workers or os.cpu_count() or 1
        if min(most, workers) < 1 or wait < 0 or (timeout is not None and timeout <= 0):
            raise ConfigError(
                f"wait {wait}, most {most}, workers {workers}, timeout {timeout} make no batches",
                where="Batcher",
                fix="give at least one query, one worker, and times above nothing",
            )
        self._search_many = search_many
        self._wait = 0.0 if split else wait
        self._most = most
        self._workers = workers
        self._timeout = timeout
        self._split = split
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="steper-search")
        self._changed = threading.Condition()
        self._asked: dict[int, deque[_Asked]] = {}
        """By k: what no batch has taken yet, oldest first; no k without one."""
        self._gathering: set[int] = set()
        """The k of batches that were begun and have not taken theirs yet."""
        self._busy = 0
        self._company = 1
        """Searches in the last batch: when it ends, as many may come again."""
        self._is_closed = False

    async def search(self, query: str, k: int) -> Hits:
        """The hits of one query.

        Raises:
            SearchError: they did not come in time.
        """
        (hits,) = await self.search_many([query], k)
        return hits

    async def search_many(self, queries: Sequence[str], k: int) -> list[Hits]:
        """The hits of every query, in their order. What the search raises for one of them is raised here.

        Raises:
            SearchError: they did not come in time.
        """
        asked = self._ask(queries, k)
        found = asyncio.gather(*map(asyncio.wrap_future, asked))
        try:
            async with asyncio.timeout(self._timeout) as limit:
                # What is asked in the same turn of the event loop goes together.
                await asyncio.sleep(0)
                self._begin(k)
                return await found
        except TimeoutError as late:
            if limit.expired():
                raise self._too_late() from late
            raise
        finally:
            found.cancel()

    def ask(self, query: str, k: int) -> Future[Hits]:
        """The same for a program without an event loop: the hits to come."""
        (hits,) = self._ask([query], k)
        self._begin(k)
        return hits

    def close(self) -> None:
        """Take no more searches. Those that run end, those that wait are told."""
        with self._changed:
            self._is_closed = True
            self._pool.shutdown(wait=False, cancel_futures=True)
            waiting = [one for asked in self._asked.values() for one in asked]
            self._asked.clear()
        _fail([one for one in waiting if one.hits.set_running_or_notify_cancel()], _closed())

    def _ask(self, queries: Sequence[str], k: int) -> list[Future[Hits]]:
        now = time.monotonic()
        asked = [_Asked(query, Future(), now) for query in queries]
        with self._changed:
            if self._is_closed:
                raise _closed()
            if asked:
                self._asked.setdefault(k, deque()).extend(asked)
            self._changed.notify_all()
        return [one.hits for one in asked]

    def _begin(self, k: int) -> None:
        """Begin a batch, where something waits for one and there is a worker for it."""
        with self._changed:
            if k not in self._asked or k in self._gathering or self._busy >= self._workers:
                return
            self._gathering.add(k)
            batch = _Batch(k)
            run = self._submitted(self._gather_and_run, batch)
        run.add_done_callback(partial(self._ended, batch))

    def _submitted(self, work: Callable[[_Batch], _Found], batch: _Batch) -> Future[_Found]:
        self._busy += 1
        return self._pool.submit(work, batch)

    def _run(self, batch: _Batch) -> _Found:
        queries = batch.queries
        return dict(zip(queries, self._search_many(queries, batch.k), strict=True)) if queries else {}

    def _gather_and_run(self, batch: _Batch) -> _Found:
        """Wait for company, then take what has come."""
        with self._changed:
            asked = self._asked.get(batch.k, deque())
            if asked:
                patience = asked[0].at + self._wait - time.monotonic()
                self._changed.wait_for(lambda: len(asked) >= (min(self._company, self._most) if self._busy == 1 else self._most), timeout=max(0.0, patience))
            batch.asked = [one for one in self._taken(batch.k) if one.hits.set_running_or_notify_cancel()]
            self._gathering.discard(batch.k)
            self._company = len(batch.asked)
        self._begin(batch.k)
        return self._run(batch)

    def _taken(self, k: int) -> list[_Asked]:
        asked = self._asked.pop(k, deque())
        share = -(-len(asked) // self._workers) if self._split else len(asked)
        taken = [asked.popleft() for _ in range(min(share, self._most))]
        if asked:
            # Behind every other k, so that none is left waiting for long.
            self._asked[k] = asked
        return taken

    def _ended(self, batch: _Batch, run: Future[_Found]) -> None:
        """Give every asker what came of it. Where a batch failed, each query is tried alone: one bad query is one asker's."""
        with self._changed:
            self._busy -= 1
            waiting = list(self._asked)
            self._changed.notify_all()
        for k in waiting:
            self._begin(k)
        error = _closed() if run.cancelled() else run.exception()
        if error is None:
            for one in batch.asked:
                one.hits.set_result(run.result()[one.query])
        elif run.cancelled() or len(batch.queries) < 2:
            _fail(batch.asked, error)
        else:
            for query in batch.queries:
                self._try_alone(_Batch(batch.k, [one for one in batch.asked if one.query == query]))

    def _try_alone(self, batch: _Batch) -> None:
        with self._changed:
            run = None if self._is_closed else self._submitted(self._run, batch)
        if run is None:
            _fail(batch.asked, _closed())
        else:
            run.add_done_callback(partial(self._ended, batch))

    def _too_late(self) -> SearchError:
        return SearchError(
            f"no hits within {self._timeout} s",
            where="search",
            fix="try again when less is asked at once, or give it more time",
        )


def _fail(asked: Sequence[_Asked], error: BaseException) -> None:
    for one in asked:
        one.hits.set_exception(error)


def _closed() -> SearchError:
    return SearchError("the index was closed", where="search", fix="open it again")
