"""Intervals hold what they say they hold, and a p is small by chance as seldom as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.errors import DataError
from training.scores.metrics import interval
from training.scores.significance import crossed_interval, paired, sign_flip

QUESTIONS = 200


def worlds(count: int, *, gain: float = 0.0, seeds: int = 3, seed_noise: float = 0.0, questions: int = QUESTIONS):
    """Pairs of judgements of two rows, as 0 and 1: questions differ in difficulty, the second row is better by `gain`."""
    rng = np.random.default_rng(7)
    for _ in range(count):
        easy = rng.uniform(0.2, 0.8, size=questions)
        shifts = rng.normal(0, seed_noise, size=(2, seeds, 1)) if seed_noise else np.zeros((2, seeds, 1))
        first, second = (rng.random((seeds, questions)) < np.clip(easy + shift + more, 0, 1) for shift, more in zip(shifts, (0.0, gain), strict=True))
        yield first.astype(float), second.astype(float)


def binomial(wins: int, losses: int) -> float:
    """McNemar's exact two-sided p."""
    n, least = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)


@pytest.mark.parametrize(("wins", "losses"), [(9, 1), (15, 5), (30, 20), (6, 6), (3, 0)])
def test_sign_flips_of_right_and_wrong_are_mcnemars_exact_test(wins, losses):
    gains = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 40)
    assert sign_flip(gains) == pytest.approx(binomial(wins, losses), abs=0.015)


def test_no_difference_has_no_significance():
    same = np.ones((2, 9))
    found = paired(same, same, same_seeds=True)
    assert (found.mean, found.ci, found.p, found.p_flip) == (0, (0, 0), 1, 1)


@pytest.mark.parametrize("seed_noise", [0.0, 0.03])
def test_under_the_null_p_is_uniform(seed_noise):
    found = np.array([paired(*world, same_seeds=True).p for world in worlds(200, seed_noise=seed_noise)])
    assert found.mean() == pytest.approx(0.5, abs=0.08)
    assert (found < 0.05).mean() <= 0.1
    assert (found > 0.5).mean() == pytest.approx(0.5, abs=0.12)


def test_under_the_null_the_flips_are_uniform_while_seeds_do_not_matter():
    found = np.array([paired(*world, same_seeds=True).p_flip for world in worlds(100, seeds=1)])
    assert found.mean() == pytest.approx(0.5, abs=0.1)
    assert (found < 0.05).mean() <= 0.1


def test_the_interval_is_as_wide_as_the_difference_varies():
    found = [paired(*world, same_seeds=True) for world in worlds(150, seeds=3)]
    held = np.mean([one.ci[0] <= 0 <= one.ci[1] for one in found])
    assert 0.9 <= held <= 1
    widths = np.array([one.ci[1] - one.ci[0] for one in found])
    assert np.median(widths) == pytest.approx(2 * 1.96 * np.std([one.mean for one in found]), rel=0.35)


def test_a_clear_effect_has_a_small_p_and_an_interval_without_zero():
    for first, second in worlds(5, gain=0.2, seeds=5, questions=400):
        found = paired(first, second, same_seeds=True)
        assert found.p < 0.01
        assert found.p_flip < 0.01
        assert found.ci[0] > 0
        assert all(gain > 0 for gain in found.by_seed)


def test_what_is_luck_of_the_seeds_is_called_clear_less_often_than_by_the_questions_alone():
    found = [paired(*world, same_seeds=True) for world in worlds(60, seed_noise=0.08, questions=400)]
    lucky, sober = (np.mean([getattr(one, p) < 0.05 for one in found]) for p in ("p_flip", "p"))
    assert lucky > 0.3
    assert sober < lucky / 1.5


def test_swapping_the_two_turns_the_sign_around():
    first, second = next(worlds(1, gain=0.05))
    forth, back = paired(first, second, same_seeds=True), paired(second, first, same_seeds=True)
    assert forth.mean == pytest.approx(-back.mean)
    assert forth.ci == (pytest.approx(-back.ci[1]), pytest.approx(-back.ci[0]))
    assert forth.p == pytest.approx(back.p, abs=0.005)


def test_one_seed_is_the_plain_bootstrap():
    values = np.random.default_rng(0).random((1, 300))
    assert crossed_interval(values) == pytest.approx(interval(list(values[0])), abs=0.004)


def test_seeds_that_disagree_widen_the_interval():
    agree = np.tile(np.array([0.0, 1.0] * 100), (3, 1))
    disagree = np.array([[0.3], [0.5], [0.7]]) * np.ones((3, 200))
    low, high = crossed_interval(disagree)
    assert high - low > 0.2
    low, high = crossed_interval(agree)
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(200), abs=0.02)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 12), st.integers(0, 100))
def test_the_interval_holds_the_mean_and_is_the_same_every_time(seeds, questions, seed):
    values = np.random.default_rng(seed).random((seeds, questions))
    low, high = crossed_interval(values, seed=seed)
    assert low <= values.mean() <= high
    assert (low, high) == crossed_interval(values, seed=seed)


def test_rows_of_other_seeds_pair_by_question_alone():
    first, second = next(worlds(1, gain=0.2))
    found = paired(first[:1], second, same_seeds=False)
    assert found.by_seed == ()
    assert found.mean == pytest.approx(second.mean() - first[:1].mean())
    assert found.ci[0] > 0


def test_no_interval_goes_beyond_what_shares_can_be():
    hopeless, split = np.zeros((3, 50)), np.repeat([[0.0], [0.0], [1.0]], 50, axis=1)
    assert crossed_interval(split) == (0.0, 1.0)
    assert paired(hopeless, split, same_seeds=True).ci == (-1.0, 1.0)
    assert paired(split, hopeless, same_seeds=True).ci == (-1.0, 1.0)


def test_what_does_not_pair_is_refused():
    with pytest.raises(DataError, match="do not pair"):
        paired(np.ones((1, 3)), np.ones((1, 4)), same_seeds=True)
    with pytest.raises(DataError, match="do not pair"):
        paired(np.ones((1, 3)), np.ones((2, 3)), same_seeds=True)
    with pytest.raises(DataError, match="are none"):
        crossed_interval(np.ones((2, 0)))
