"""Ids met before: the same answers as a dict, at the cost stated."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from steper_agent.retrieval.sources.ledger import Ledger

PATHS = [Path("a.jsonl"), Path("b/c.jsonl")]


@given(st.lists(st.tuples(st.text(max_size=2), st.sampled_from(PATHS), st.integers(1, 1 << 33)), max_size=60))
def test_it_remembers_what_a_dict_would(met: list[tuple[str, Path, int]]) -> None:
    ledger, known = Ledger(), dict[str, str]()
    for name, path, line in met:
        place = f"{path}:{line}"
        assert ledger.add(name, path, line) == known.get(name)
        known.setdefault(name, place)


def test_ids_are_told_apart_through_every_growth_at_thirty_bytes_each() -> None:
    count, ledger = 60_000, Ledger()
    tracemalloc.start()
    try:
        met = sum(ledger.add(f"passage-{n}", PATHS[n // 30_000], n) is not None for n in range(count))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert met == 0
    assert all(ledger.add(f"passage-{n}", PATHS[0], 1) == f"{PATHS[n // 30_000]}:{n}" for n in range(0, count, 7))
    assert held < 30 * count
