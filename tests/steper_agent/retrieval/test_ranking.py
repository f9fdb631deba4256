"""Which rows come first, and how many are fetched to know it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from steper_agent.retrieval.ranking import Scored, cut, levelled, with_ties

scores = st.lists(st.integers(min_value=0, max_value=4), max_size=80)


def name(row: int) -> str:
    return f"p{97 * row % 101:03}"


@given(scores, st.integers(min_value=0, max_value=90))
def test_the_cut_is_the_sorted_beginning_with_ties_by_passage_id(values: list[int], k: int) -> None:
    scored = [(row, float(value)) for row, value in enumerate(values)]
    assert cut(scored, k, name) == sorted(scored, key=lambda pair: (-pair[1], name(pair[0])))[:k]


@given(st.lists(st.integers(), unique=True), st.integers(min_value=0, max_value=9))
def test_ids_are_asked_for_only_where_they_decide(values: list[int], k: int) -> None:
    def nobody(_row: int) -> str:
        raise AssertionError("nothing ties")

    scored = [(row, float(value)) for row, value in enumerate(values) if abs(value) < 2**50]
    assert len(cut(scored, k, nobody)) == min(k, len(scored))


@given(scores, st.integers(min_value=1, max_value=90), st.integers(min_value=1, max_value=16))
def test_every_row_that_ties_with_the_last_one_wanted_is_fetched_and_no_more(
    values: list[int], k: int, first: int
) -> None:
    ranked: list[Scored] = sorted(((row, float(value)) for row, value in enumerate(values)), key=lambda pair: -pair[1])
    least = ranked[k - 1][1] if len(ranked) >= k else -1.0
    assert with_ties(lambda wanted: ranked[:wanted], k, first=first) == [one for one in ranked if one[1] >= least]


def test_scores_that_only_rounding_tells_apart_are_one_score() -> None:
    apart = [(0, 17.345678), (1, 17.345676), (2, 17.3456), (3, -1.0), (4, -1.0000001), (5, -1.1)]
    assert levelled(apart) == [(0, 17.3457), (1, 17.3457), (2, 17.3456), (3, -1.0), (4, -1.0), (5, -1.1)]
