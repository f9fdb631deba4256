"""What was found is found again by the same search only, within the bounds."""

from __future__ import annotations

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import ConfigError
from steper_agent.records import Hit, Passage
from steper_agent.retrieval.cache import Key, SearchCache, size_of
from tests.steper_agent.retrieval.stacks import hits_of

keys = st.builds(Key, st.sampled_from("xy"), st.sampled_from("abc"), st.integers(1, 3))


@given(st.lists(keys, max_size=40), st.integers(0, 6))
def test_it_answers_as_a_search_would_and_keeps_the_ones_used_last(asked: list[Key], most: int) -> None:
    cache, used = SearchCache(entries=most), list[Key]()
    for key in asked:
        found = cache.get(key)
        assert (found is not None) == (key in used)
        assert found in (None, hits_of(key.digest, key.query, key.k))
        if found is None:
            cache.put(key, hits_of(key.digest, key.query, key.k))
        used = [*(one for one in used if one != key), key][-most:] if most else []
        assert cache.counts.entries == len(used)
    assert cache.counts[:2] == (len(asked) - cache.counts.misses, cache.counts.misses)


@pytest.mark.parametrize("change", [{"digest": "y"}, {"query": "b"}, {"k": 2}])
def test_whatever_moves_hits_is_in_the_key(change: dict[str, object]) -> None:
    cache, key = SearchCache(), Key("x", "a", 1)
    cache.put(key, hits_of("x", "a", 1))
    assert cache.get(key) is not None
    assert cache.get(key._replace(**change)) is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=40))
def test_it_never_holds_more_bytes_than_it_may(puts: list[tuple[int, int]]) -> None:
    cache = SearchCache(bytes=12_000)
    for name, k in puts:
        cache.put(Key("x", str(name), k), hits_of("x", str(name), k))
        assert cache.counts.bytes <= 12_000
    cache.clear()
    assert (cache.counts.entries, cache.counts.bytes) == (0, 0)


def test_what_alone_is_larger_than_the_cache_is_not_kept_and_costs_nothing_else() -> None:
    cache, small = SearchCache(bytes=5_000), Key("x", "a", 1)
    cache.put(small, hits_of("x", "a", 1))
    cache.put(Key("x", "b", 50), hits_of("x", "b", 50))
    assert cache.get(small) is not None
    assert cache.counts.entries == 1


@pytest.mark.parametrize("text", ["plain ascii " * 40, "ümläut " * 60, "日本語" * 80, "\U0001f600" * 50])
def test_an_entry_needs_no_more_than_it_is_taken_to(text: str) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = {}
        for n in range(100):
            key = Key("x", f"{text}{n}", 4)
            kept[key] = tuple(
                Hit(passage=Passage(id=f"{n} {m}", title=f"{m}{text[:9]}", text=f"{m}{text}"), score=m + 0.5)
                for m in range(4)
            )
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    taken = sum(size_of(key, hits) for key, hits in kept.items())
    assert used <= taken + sys.getsizeof(kept) <= 3 * used


def test_threads_share_it() -> None:
    cache = SearchCache(entries=10)

    def work(seed: int) -> None:
        for n in range(300):
            key = Key("x", str((n * seed) % 23), 2)
            if (found := cache.get(key)) is None:
                cache.put(key, hits_of("x", key.query, 2))
            else:
                assert found == hits_of("x", key.query, 2)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(work, seed) for seed in (3, 5, 7, 11)]:
            done.result()
    assert cache.counts.hits + cache.counts.misses == 1200
    assert cache.counts.entries == 10


def test_less_than_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="less than nothing"):
        SearchCache(entries=-1)
