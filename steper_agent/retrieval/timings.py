"""Where the time of searches goes: seconds per stage, counted as they happen, for /metrics and `index search --timings`.

A stage costs about a microsecond, so it is always counted:

    with timings.stage("lexical"):
        ...
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from types import TracebackType

from steper_agent.records import Record

STAGES = ("analyze", "lexical", "encode", "dense", "fuse", "read", "rerank")
"""In the order of a search. Others may be named; they stand behind these."""
BOUNDS = tuple(1e-5 * 2.0**n for n in range(22))
"""Upper bounds of the histogram's buckets, in seconds: 10 microseconds to 21 seconds. What took longer is counted last."""


class Stage(Record):
    count: int
    total: float
    """Seconds, all together."""
    p50: float
    """Seconds; read from the histogram, so it is right to the width of a bucket."""
    p95: float
    buckets: tuple[int, ...]
    """How often it took at most each of `BOUNDS`, and longer; not cumulative."""


class Timings:
    """Counters of any number of threads. The module's own `stage` and `snapshot` count for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total: dict[str, float] = {}
        self._buckets: dict[str, list[int]] = {}

    def stage(self, name: str) -> _Running:
        """A block that is counted, also where it fails."""
        return _Running(self, name)

    def add(self, name: str, seconds: float) -> None:
        bucket = bisect_left(BOUNDS, seconds)
        with self._lock:
            self._total[name] = self._total.get(name, 0.0) + seconds
            self._buckets.setdefault(name, [0] * (len(BOUNDS) + 1))[bucket] += 1

    def snapshot(self) -> dict[str, Stage]:
        """What was counted so far, in the order of a search."""
        with self._lock:
            counted = {name: (self._total[name], tuple(buckets)) for name, buckets in self._buckets.items()}
        ordered = [*(name for name in STAGES if name in counted), *sorted(counted.keys() - set(STAGES))]
        return {name: _stage(*counted[name]) for name in ordered}

    def clear(self) -> None:
        with self._lock:
            self._total.clear()
            self._buckets.clear()


class _Running:
    """A class and not a generator: it costs a third."""

    __slots__ = ("_name", "_start", "_timings")

    def __init__(self, timings: Timings, name: str) -> None:
        self._timings = timings
        self._name = name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timings.add(self._name, time.perf_counter() - self._start)


def _stage(total: float, buckets: tuple[int, ...]) -> Stage:
    return Stage(
        count=sum(buckets), total=total, p50=_quantile(buckets, 0.5), p95=_quantile(buckets, 0.95), buckets=buckets
    )


def _quantile(buckets: tuple[int, ...], share: float) -> float:
    """As if what a bucket holds were spread evenly over it; the last bucket has no end, and counts as its beginning."""
    wanted, before = share * sum(buckets), 0
    for place, count in enumerate(buckets[:-1]):
        if count and before + count >= wanted:
            low = BOUNDS[place - 1] if place else 0.0
            return low + (BOUNDS[place] - low) * (wanted - before) / count
        before += count
    return BOUNDS[-1] if before < sum(buckets) else 0.0


PROCESS = Timings()
stage = PROCESS.stage
snapshot = PROCESS.snapshot
