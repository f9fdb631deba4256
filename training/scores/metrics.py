"""Answers judged by the data sets' published rules (HotpotQA's `hotpot_evaluate_v1.py`, SQuAD's normalisation), and how
sure the mean of many such judgements is. Pure functions; nothing here knows of graphs or files."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steper_agent.errors import DataError
from steper_agent.records import Score

DEFINITION = "hotpotqa-v1: em, f1 as hotpot_evaluate_v1.py; acc = normalised gold tokens occur in the prediction"
"""Travels with every report, so that nobody has to guess which EM a column holds."""

RESAMPLES = 2000
CLOSED = frozenset({"yes", "no", "noanswer"})
"""Answers that are right or wrong as a whole; sharing a token with them is worth nothing."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_BLOCK = 4_000_000
"""Draws held in memory at once."""

Metric = Callable[[str, str], float]
Interval = tuple[float, float]


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces, in the published order."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def em(prediction: str, answer: str) -> float:
    """1 if both are the same after normalisation."""
    return float(normalise(prediction) == normalise(answer))


def f1(prediction: str, answer: str) -> float:
    """Harmonic mean of token precision and recall. As published, two texts with no token left share none: 0."""
    said, gold = normalise(prediction), normalise(answer)
    if said != gold and (said in CLOSED or gold in CLOSED):
        return 0.0
    return overlap(said.split(), gold.split())


def overlap(said: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of tokens, each counted as often as it occurs; 0 where none is shared."""
    shared = (Counter(said) & Counter(gold)).total()
    return 2 * shared / (len(said) + len(gold)) if shared else 0.0


def acc(prediction: str, answer: str) -> float:
    """1 if the answer's tokens stand together in the prediction, both normalised (StepER's Acc, often cover-EM).

    Whole tokens, so `no` is not in `Nolan`. An answer that normalises to nothing must be matched exactly.
    """
    said, gold = normalise(prediction), normalise(answer)
    return float(f" {gold} " in f" {said} " if gold else said == gold)


class Rules(NamedTuple):
    """How a data set judges an answer."""

    definition: str
    """Travels with every report."""
    em: Metric
    f1: Metric
    acc: Metric


HOTPOTQA = Rules(DEFINITION, em, f1, acc)
"""The default; those of other data sets are in training.scores.official."""


def best(metric: Metric, prediction: str, answers: Sequence[str]) -> float:
    """The judgement against the accepted answer that suits the prediction best.

    Raises:
        DataError: no answer is known.
    """
    if not answers:
        raise DataError("a question without an answer cannot be scored", where=f"prediction `{prediction}`",
                        fix="give the question an answer, or leave it out")
    return max(metric(prediction, answer) for answer in answers)


def score(pairs: Sequence[tuple[str, Sequence[str]]], *, rules: Rules = HOTPOTQA, seed: int = 0) -> Score:
    """Means over (prediction, accepted answers), with the 95 % bootstrap interval of `em`.

    Raises:
        DataError: there is nothing to score, or a question has no answer.
    """
    if not pairs:
        raise DataError("there are no predictions to score", where="score", fix="give at least one question")
    ems, f1s, accs = ([best(metric, said, answers) for said, answers in pairs] for metric in (rules.em, rules.f1, rules.acc))
    return Score(em=_mean(ems), f1=_mean(f1s), acc=_mean(accs), n=len(pairs), ci=interval(ems, seed=seed))


def interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Percentile bootstrap, 95 %, of the mean; the same seed gives the same interval. Always holds the mean itself."""
    array = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(_resampled_means(array, seed), (0.025, 0.975))
    return min(float(low), _mean(values)), max(float(high), _mean(values))


class Difference(NamedTuple):
    """Second minus first, over the same questions."""

    mean: float
    ci: Interval
    n: int

    @property
    def is_clear(self) -> bool:
        """The interval leaves out zero."""
        return self.ci[0] > 0 or self.ci[1] < 0


def paired_difference(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Difference:
    """How much better the second is on the same questions in the same order.

    Raises:
        DataError: the two do not pair up.
    """
    if not first or len(first) != len(second):
        raise DataError(f"{len(first)} judgements do not pair with {len(second)}", where="paired_difference",
                        fix="judge both on the same questions, in the same order")
    gains = [after - before for before, after in zip(first, second, strict=True)]
    return Difference(_mean(gains), interval(gains, seed=seed), len(gains))


def recall_at(found_ids: Sequence[str], supporting_ids: Sequence[str], k: int) -> float:
    """Share of the supporting passages among the first `k` found.

    Raises:
        DataError: no supporting passage is known.
    """
    gold = set(supporting_ids)
    if not gold:
        raise DataError("recall of a question without supporting passages has no meaning", where="recall_at",
                        fix="leave out questions whose supporting_ids are empty")
    return len(gold & set(found_ids[:k])) / len(gold)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _resampled_means(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    rng, n = np.random.default_rng(seed), len(values)
    rows = max(1, min(RESAMPLES, _BLOCK // n))
    blocks = [min(rows, RESAMPLES - done) for done in range(0, RESAMPLES, rows)]
    return np.concatenate([values[rng.integers(0, n, size=(block, n))].mean(axis=1) for block in blocks])
