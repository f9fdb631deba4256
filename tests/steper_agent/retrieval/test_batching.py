"""Searches that come together go together, and nobody pays for anybody else's."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import ConfigError, SearchError
from steper_agent.records import Hit
from steper_agent.retrieval.batching import Batcher
from tests.steper_agent.retrieval.stacks import Stack, hits_of
from tests.waiting import eventually

questions = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "bad"]), st.integers(1, 3)), max_size=20)


@given(questions, st.integers(1, 4), st.booleans())
def test_everybody_gets_what_a_search_alone_would_give(asked: list[tuple[str, int]], workers: int, split: bool) -> None:
    batcher = Batcher(Stack().search_many, workers=workers, split=split)

    async def ask_all() -> list[tuple[Hit, ...] | BaseException]:
        return await asyncio.gather(*(batcher.search(query, k) for query, k in asked), return_exceptions=True)

    for (query, k), found in zip(asked, asyncio.run(ask_all()), strict=True):
        if query == "bad":
            assert isinstance(found, LookupError)
        else:
            assert found == hits_of("one", query, k)
    batcher.close()


async def test_what_is_asked_in_one_turn_of_the_loop_is_one_call_with_each_query_once() -> None:
    stack = Stack()
    batcher = Batcher(stack.search_many)
    await asyncio.gather(*(batcher.search(query, 2) for query in "abcab"))
    assert stack.calls == [(("a", "b", "c"), 2)]


async def test_a_search_that_comes_alone_waits_for_nobody() -> None:
    batcher = Batcher(Stack().search_many, wait=30.0)
    async with asyncio.timeout(5):
        assert await batcher.search("a", 1) == hits_of("one", "a", 1)
        assert await batcher.search("b", 1) == hits_of("one", "b", 1)


async def test_what_comes_while_a_batch_runs_is_gathered_for_the_next() -> None:
    stack = Stack()
    stack.may_go.clear()
    batcher = Batcher(stack.search_many, wait=30.0, workers=2)
    asked = [asyncio.create_task(batcher.search("first", 1))]
    assert await asyncio.to_thread(eventually, lambda: len(stack.calls) == 1)
    for query in "abc":
        asked.append(asyncio.create_task(batcher.search(query, 1)))
        await asyncio.sleep(0.01)
    assert len(stack.calls) == 1
    stack.may_go.set()
    await asyncio.gather(*asked)
    assert stack.calls == [(("first",), 1), (("a", "b", "c"), 1)]


async def test_who_was_answered_together_is_waited_for_together() -> None:
    stack = Stack()
    batcher = Batcher(stack.search_many, wait=30.0)
    await asyncio.gather(*(batcher.search(query, 1) for query in "abc"))
    again = []
    for query in "def":
        assert len(stack.calls) == 1
        again.append(asyncio.create_task(batcher.search(query, 1)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*again)
    assert stack.calls[1:] == [(("d", "e", "f"), 1)]


async def test_who_comes_alone_after_many_waits_once() -> None:
    stack = Stack()
    batcher = Batcher(stack.search_many, wait=0.02)
    await asyncio.gather(*(batcher.search(query, 1) for query in "abc"))
    async with asyncio.timeout(5):
        assert await batcher.search("d", 1) == hits_of("one", "d", 1)
    assert stack.calls[1:] == [(("d",), 1)]


@pytest.mark.parametrize(("wait", "most"), [(0.02, 64), (30.0, 3)])
async def test_a_second_batch_goes_once_it_has_waited_or_is_full(wait: float, most: int) -> None:
    stack = Stack()
    stack.may_go.clear()
    batcher = Batcher(stack.search_many, wait=wait, most=most, workers=2)
    asked = [asyncio.create_task(batcher.search("first", 1))]
    assert await asyncio.to_thread(eventually, lambda: len(stack.calls) == 1)
    asked += [asyncio.create_task(batcher.search(query, 1)) for query in "abc"]
    assert await asyncio.to_thread(eventually, lambda: len(stack.calls) == 2)
    assert stack.calls[1] == (("a", "b", "c"), 1)
    stack.may_go.set()
    await asyncio.gather(*asked)


async def test_no_batch_is_larger_than_the_most_and_every_k_has_its_own() -> None:
    stack = Stack()
    batcher = Batcher(stack.search_many, most=10, workers=1)
    await asyncio.gather(*(batcher.search(f"q{n}", 1 + n % 2) for n in range(50)))
    assert all(len(queries) <= 10 for queries, _ in stack.calls)
    assert sorted(query for queries, _ in stack.calls for query in queries) == sorted(f"q{n}" for n in range(50))
    assert {k for _, k in stack.calls} == {1, 2}


async def test_a_bad_query_fails_its_asker_and_no_other() -> None:
    stack = Stack()
    batcher = Batcher(stack.search_many)
    found = await asyncio.gather(
        *(batcher.search(query, 1) for query in ("a", "bad", "b", "bad")), return_exceptions=True
    )
    assert found[0] == hits_of("one", "a", 1)
    assert found[2] == hits_of("one", "b", 1)
    assert [str(found[place]) for place in (1, 3)] == ["1 with a bad one"] * 2


async def test_a_search_that_answers_too_little_is_an_error_and_not_somebody_elses_hits() -> None:
    def too_few(queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        return [hits_of("one", query, k) for query in queries][1:]

    with pytest.raises(ValueError, match="shorter"):
        await Batcher(too_few).search_many(["a", "b"], 1)


async def test_an_asker_that_leaves_disturbs_nobody() -> None:
    stack = Stack()
    stack.may_go.clear()
    batcher = Batcher(stack.search_many, workers=1)
    asked = [asyncio.create_task(batcher.search("first", 1))]
    assert await asyncio.to_thread(eventually, lambda: len(stack.calls) == 1)
    asked += [asyncio.create_task(batcher.search(query, 1)) for query in "abc"]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    asked[2].cancel()
    await asyncio.sleep(0.01)
    stack.may_go.set()
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in done] == [True, False, True, False]
    assert (done[1], done[3]) == (hits_of("one", "a", 1), hits_of("one", "c", 1))
    assert stack.calls == [(("first",), 1), (("a", "c"), 1)]


async def test_who_waits_too_long_is_told_and_the_next_is_served() -> None:
    stack = Stack()
    stack.may_go.clear()
    batcher = Batcher(stack.search_many, timeout=0.05)
    with pytest.raises(SearchError, match=r"no hits within 0\.05 s"):
        await batcher.search("a", 1)
    stack.may_go.set()
    assert await batcher.search("b", 1) == hits_of("one", "b", 1)


async def test_a_timeout_of_the_encoder_is_not_taken_for_ours() -> None:
    def slow(_queries: Sequence[str], _k: int) -> list[tuple[Hit, ...]]:
        raise TimeoutError("the encoder's")

    with pytest.raises(TimeoutError, match="the encoder's"):
        await Batcher(slow, timeout=5).search("a", 1)


def test_loops_and_threads_share_one_batcher() -> None:
    stack = Stack(seconds=0.001)
    batcher = Batcher(stack.search_many, workers=2)

    def one_loop(name: int) -> bool:
        async def ask() -> list[tuple[Hit, ...]]:
            return await asyncio.gather(*(batcher.search(f"{name}-{n}", 1) for n in range(20)))

        return asyncio.run(ask()) == [hits_of("one", f"{name}-{n}", 1) for n in range(20)]

    with ThreadPoolExecutor(6) as threads:
        loops = [threads.submit(one_loop, name) for name in range(6)]
        plain = [batcher.ask(f"plain-{n}", 2) for n in range(20)]
        assert [one.result(10) for one in plain] == [hits_of("one", f"plain-{n}", 2) for n in range(20)]
        assert all(loop.result(10) for loop in loops)
    assert len(stack.calls) < 140


def test_a_batcher_that_nobody_holds_leaves_no_thread() -> None:
    def use() -> None:
        batcher = Batcher(Stack().search_many)
        for n in range(3):
            asyncio.run(batcher.search(f"q{n}", 1))

    before = threading.active_count()
    use()
    gc.collect()
    assert eventually(lambda: threading.active_count() <= before)


def test_a_loop_that_ends_while_its_search_runs_harms_nobody() -> None:
    stack = Stack()
    stack.may_go.clear()
    batcher = Batcher(stack.search_many)

    async def ask_and_leave() -> None:
        asyncio.get_running_loop().create_task(batcher.search("a", 1))
        await asyncio.sleep(0.02)

    asyncio.run(ask_and_leave())
    stack.may_go.set()
    assert asyncio.run(batcher.search("b", 1)) == hits_of("one", "b", 1)


async def test_many_lexical_queries_are_shared_out_over_the_workers() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def counted(queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * len(queries))
        with lock:
            running -= 1
        return [hits_of("one", query, k) for query in queries]

    batcher = Batcher(counted, workers=4, split=True)
    queries = [f"q{n}" for n in range(64)]
    assert await batcher.search_many(queries, 2) == [hits_of("one", query, 2) for query in queries]
    assert most == 4


async def test_sixty_four_askers_share_a_few_searches() -> None:
    stack = Stack(seconds=0.005)
    queries = [f"q{n}" for n in range(64)]
    batcher = Batcher(stack.search_many)
    for query in queries:
        await batcher.search(query, 4)
    assert len(stack.calls) == 64
    await asyncio.gather(*(batcher.search(query, 4) for query in queries))
    assert len(stack.calls) - 64 <= 64 / 3


async def test_a_closed_batcher_tells_who_waits_and_who_comes() -> None:
    stack = Stack()
    stack.may_go.clear()
    batcher = Batcher(stack.search_many, workers=1)
    asked = [asyncio.create_task(batcher.search("first", 1))]
    assert await asyncio.to_thread(eventually, lambda: len(stack.calls) == 1)
    asked.append(asyncio.create_task(batcher.search("a", 1)))
    await asyncio.sleep(0.01)
    batcher.close()
    stack.may_go.set()
    first, waiting = await asyncio.gather(*asked, return_exceptions=True)
    assert first == hits_of("one", "first", 1)
    assert isinstance(waiting, SearchError)
    with pytest.raises(SearchError, match="closed"):
        await batcher.search("b", 1)


async def test_nothing_asked_is_nothing_found() -> None:
    assert await Batcher(Stack().search_many).search_many([], 3) == []


@pytest.mark.parametrize("settings", [{"most": 0}, {"workers": -1}, {"wait": -1.0}, {"timeout": 0.0}])
def test_settings_without_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="make no batches"):
        Batcher(Stack().search_many, **settings)  # type: ignore[arg-type]
