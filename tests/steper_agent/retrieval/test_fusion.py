"""Fusion by its laws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.retrieval.fusion import fuse

rankings = st.lists(st.lists(st.integers(min_value=0, max_value=9), unique=True, max_size=8), max_size=4)


@given(rankings, st.lists(st.sampled_from([0.3, 0.5, 1.0, 1.7]), min_size=4, max_size=4), st.randoms())
def test_fusion_ignores_the_order_of_the_rankings(
    given_rankings: list[list[int]], weights: list[float], random: Any
) -> None:
    weighted = list(zip(given_rankings, weights, strict=False))
    random.shuffle(weighted)
    shuffled, their_weights = [one for one, _ in weighted], [weight for _, weight in weighted]
    assert fuse(shuffled, weights=their_weights) == fuse(given_rankings, weights=weights[: len(given_rankings)])
    assert fuse(shuffled) == fuse(given_rankings)


@given(rankings)
def test_weights_of_one_are_no_weights(given_rankings: list[list[int]]) -> None:
    assert fuse(given_rankings, weights=[1.0] * len(given_rankings)) == fuse(given_rankings)


@given(st.lists(st.integers(min_value=0, max_value=9), unique=True), st.integers(min_value=1, max_value=3))
def test_fusing_a_ranking_with_itself_changes_nothing(ranking: list[int], times: int) -> None:
    assert [row for row, _ in fuse([ranking] * times)] == ranking


@given(rankings, st.permutations(range(10)))
def test_fusion_does_not_look_at_what_the_rows_are(given_rankings: list[list[int]], names: list[int]) -> None:
    renamed = [[names[row] for row in ranking] for ranking in given_rankings]
    assert sorted((names[row], score) for row, score in fuse(given_rankings)) == sorted(fuse(renamed))


@given(rankings, st.integers(min_value=0, max_value=9))
def test_one_more_ranking_that_opens_with_a_row_never_lowers_it(given_rankings: list[list[int]], row: int) -> None:
    before, after = dict(fuse(given_rankings)), dict(fuse([*given_rankings, [row]]))
    assert after[row] > before.get(row, 0.0)


def test_fusion_adds_weighted_reciprocal_places() -> None:
    expected = {2: 1 / 61 + 0.5 / 62, 1: 1 / 62 + 0.5 / 61, 3: 2 / 61}
    found = dict(fuse([[2, 1], [1, 2], [3]], weights=(1, 0.5, 2), k0=60))
    assert found == {row: pytest.approx(score) for row, score in expected.items()}


def test_a_first_place_in_one_beats_middling_places_in_both() -> None:
    lexical, dense = [1, *range(10, 20), 2], [3, *range(20, 30), 2]
    assert [row for row, _ in fuse([lexical, dense])[:2]] == [1, 3]
    assert fuse([lexical, dense], k0=60)[0][0] == 2


def test_a_weight_for_each_ranking_is_needed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        fuse([[1], [2]], weights=(1.0,))
