"""How sure a mean over questions and seeds is, and a difference between two such means: pure functions over arrays of
judgements from 0 to 1, a row a seed and a column a question.

Questions and seeds are both drawn by chance, and every student answers every question. Questions are resampled with replacement (the
bootstrap), all seeds together, and for two rows the same ones. To each resample is added what another set of seeds would have
changed: Student's t with S−1 degrees of freedom, as wide as the seeds' means differ beyond what so many questions explain. Resampling
the few seeds themselves is wrong both ways: it counts twice what chance does to single answers, and takes three seeds for all there are.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steper_agent.errors import DataError
from training.scores.metrics import RESAMPLES, Interval

Judgements = npt.NDArray[np.float64]
"""(seeds, questions), each from 0 to 1."""

FLIPS = 10_000
_ROUNDING = 1e-9
"""Means that differ by less are equal: sums of the same numbers in another order."""


class Paired(NamedTuple):
    """How much more the second row is than the first, on the same questions."""

    mean: float
    ci: Interval
    """95 %, over questions and seeds; within [-1, 1]."""
    p: float
    """Two-sided, from the same resamples as `ci`: small where another draw of questions and seeds would show the same sign."""
    p_flip: float
    """Two-sided sign-flip test over questions alone: about these very students, whatever another seed would have made."""
    by_seed: tuple[float, ...]
    """The difference of each seed; empty where the two were not made with the same seeds."""
    n: int
    """Questions."""


def crossed_interval(values: Judgements, *, seed: int = 0) -> Interval:
    """95 % interval of the mean of `values`, within [0, 1]; it always holds the mean.

    Raises:
        DataError: there is nothing in it.
    """
    return _interval(_resampled(_checked(values), seed), float(values.mean()), least=0.0)


def paired(first: Judgements, second: Judgements, *, same_seeds: bool, seed: int = 0) -> Paired:
    """Second minus first. With `same_seeds`, row i of both is of one seed.

    Raises:
        DataError: the two are not about equally many questions, or nothing is in them.
    """
    first, second = _checked(first), _checked(second)
    if first.shape[1] != second.shape[1] or (same_seeds and len(first) != len(second)):
        raise DataError(f"judgements of shape {first.shape} do not pair with {second.shape}", where="paired",
                        fix="judge both on the same questions, with the same seeds")
    gains = second.mean(axis=0) - first.mean(axis=0)
    resampled = _resampled(second - first, seed) if same_seeds else _resampled(second, seed) - _resampled(first, seed, stream=1)
    mean = float(gains.mean())
    by_seed = tuple(map(float, (second - first).mean(axis=1))) if same_seeds else ()
    return Paired(mean, _interval(resampled, mean, least=-1.0), _two_sided(resampled), sign_flip(gains, seed=seed), by_seed, len(gains))


def sign_flip(gains: npt.NDArray[np.float64], *, seed: int = 0) -> float:
    """Two-sided p of the mean of paired gains: how often random signs give one at least as far from zero. For gains of −1, 0
    and 1 that is McNemar's exact test, but for the finite number of flips."""
    moved = gains[np.abs(gains) > _ROUNDING]
    if not len(moved):
        return 1.0
    rng, seen = np.random.default_rng(seed), abs(float(moved.sum())) - _ROUNDING * len(moved)
    rows = max(1, min(FLIPS, 2_000_000 // len(moved)))
    blocks = [min(rows, FLIPS - done) for done in range(0, FLIPS, rows)]
    beyond = sum(int((np.abs(rng.choice((-1.0, 1.0), size=(block, len(moved))) @ moved) >= seen).sum()) for block in blocks)
    return (beyond + 1) / (FLIPS + 1)


def _checked(values: Judgements) -> Judgements:
    if values.ndim != 2 or not values.size:
        raise DataError(f"judgements of shape {values.shape} are none", where="significance", fix="give a row a seed and a column a question")
    return values


def _resampled(values: Judgements, seed: int, *, stream: int = 0) -> npt.NDArray[np.float64]:
    """`RESAMPLES` means of as many questions and seeds. Another `stream` draws other seeds and the same questions."""
    seeds, questions = values.shape
    means: npt.NDArray[np.float64] = _question_draws(questions, seed) @ values.mean(axis=0) / questions
    if seeds == 1:
        return means
    shifts: npt.NDArray[np.float64] = np.random.default_rng([seed, 1 + stream]).standard_t(seeds - 1, size=RESAMPLES)
    return means + shifts * math.sqrt(_seed_variance(values) / seeds)


def _seed_variance(values: Judgements) -> float:
    """Of one seed's mean over all questions there could be: what the seeds' means vary by, less what they would by answering these
    questions by chance (two-way analysis of variance); never below 0."""
    seeds, questions = values.shape
    of_seed, of_question = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - of_seed - of_question + values.mean()
    chance = float((rest**2).sum()) / ((seeds - 1) * max(1, questions - 1))
    spread = float(np.var(of_seed, ddof=1))
    return max(0.0, spread - float(chance / questions))


@lru_cache(maxsize=8)
def _question_draws(questions: int, seed: int) -> npt.NDArray[np.float32]:
    """(RESAMPLES, questions): how often each was drawn. Kept, for every row of a report is resampled alike."""
    rng = np.random.default_rng([seed, 0])
    counts = [np.bincount(rng.integers(0, questions, size=questions), minlength=questions) for _ in range(RESAMPLES)]
    return np.asarray(counts, dtype=np.float32)


def _interval(resampled: npt.NDArray[np.float64], mean: float, *, least: float) -> Interval:
    # Of few seeds that disagree Student's t knows so little that it would go beyond what a share can be.
    low, high = np.clip(np.quantile(resampled, (0.025, 0.975)), least, 1.0)
    return min(float(low), mean), max(float(high), mean)


def _two_sided(resampled: npt.NDArray[np.float64]) -> float:
    below, above = (resampled <= _ROUNDING).sum(), (resampled >= -_ROUNDING).sum()
    return min(1.0, 2 * (int(min(below, above)) + 1) / (len(resampled) + 1))
