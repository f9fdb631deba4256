"""Seconds are counted once each, by whoever counts, and summed up rightly."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.retrieval import timings
from steper_agent.retrieval.timings import BOUNDS, STAGES, Timings

seconds = st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=60)


@given(seconds)
def test_counts_and_totals_are_those_of_what_was_counted_and_quantiles_are_a_bucket_off_at_most(
    taken: list[float],
) -> None:
    counted = Timings()
    for one in taken:
        counted.add("dense", one)
    stage = counted.snapshot()["dense"]
    assert (stage.count, sum(stage.buckets)) == (len(taken), len(taken))
    assert stage.total == pytest.approx(sum(taken))
    for share, found in ((0.5, stage.p50), (0.95, stage.p95)):
        exact = sorted(taken)[max(0, -int(-share * len(taken) // 1) - 1)]
        assert found <= max(2 * exact, BOUNDS[0])
        assert found >= min(exact / 2, BOUNDS[-1])


def test_stages_come_in_the_order_of_a_search() -> None:
    counted = Timings()
    for name in ("other", "rerank", "lexical", "encode"):
        counted.add(name, 0.1)
    assert list(counted.snapshot()) == ["lexical", "encode", "rerank", "other"]
    assert set(STAGES) >= {"lexical", "encode", "rerank"}
    counted.clear()
    assert counted.snapshot() == {}


def test_a_block_is_counted_also_where_it_fails() -> None:
    counted = Timings()

    def read() -> None:
        with counted.stage("read"):
            time.sleep(0.002)
            raise LookupError

    with pytest.raises(LookupError):
        read()
    assert counted.snapshot()["read"].total >= 0.002


def test_threads_lose_nothing() -> None:
    counted = Timings()

    def work() -> None:
        for _ in range(500):
            with counted.stage("fuse"):
                pass

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work) for _ in range(4)]:
            done.result()
    assert counted.snapshot()["fuse"].count == 2000


def test_the_module_counts_for_the_process() -> None:
    before = timings.snapshot().get("a test's own")
    with timings.stage("a test's own"):
        pass
    assert timings.snapshot()["a test's own"].count == (before.count if before else 0) + 1
