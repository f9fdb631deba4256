"""The length planner counts every example once and never asks for more than the base can see."""

from __future__ import annotations

import random

import pytest

from steper_agent.errors import ConfigError
from steper_agent.records import Example
from training.examples.lengths import BUCKETS, LONGEST, MORE, Tally, lengths_of, quantile, window_for
from training.examples.views import Fit


def drawn(seed: int) -> list[int]:
    rng = random.Random(seed)
    return [int(rng.lognormvariate(6, 2)) + 1 for _ in range(rng.randint(1, 300))]


@pytest.mark.parametrize("seed", range(5))
def test_every_length_is_in_one_bucket_and_the_quantiles_are_what_they_say(seed: int) -> None:
    tokens = drawn(seed)
    found = lengths_of(tokens)
    assert found.examples == sum(found.histogram.values()) == len(tokens)
    assert found.longest == max(tokens)
    for share, value in ((0.5, found.p50), (0.95, found.p95)):
        assert sum(length <= value for length in tokens) >= share * len(tokens)
        assert sum(length < value for length in tokens) < share * len(tokens)
    for edge, below in zip(BUCKETS, (0, *BUCKETS), strict=False):
        assert found.histogram.get(str(edge), 0) == sum(below < length <= edge for length in tokens)
    assert found.histogram.get(MORE, 0) == sum(length > BUCKETS[-1] for length in tokens)


def test_of_nothing_everything_is_zero() -> None:
    assert quantile([], 0.5) == 0
    assert lengths_of([]).model_dump() == {"examples": 0, "p50": 0, "p95": 0, "longest": 0, "histogram": {}}


@pytest.mark.parametrize(("asked", "window", "given"), [(0, 512, 512), (0, 10**6, LONGEST), (0, None, LONGEST), (10**6, None, 10**6), (512, 512, 512)])
def test_an_example_is_as_long_as_asked_or_as_the_base_allows(asked: int, window: int | None, given: int) -> None:
    assert window_for(asked, window, "base") == given


def test_more_than_the_base_sees_is_refused_with_what_it_sees() -> None:
    with pytest.raises(ConfigError, match=r"513, and this base sees 512(.|\n)*models/small(.|\n)*--max-length 512"):
        window_for(513, 512, "models/small")


def test_a_tally_accounts_for_every_step_and_tells_it() -> None:
    example = Example(trajectory=0, kind="expansion", step=2, ids=(1, 2, 3), learn=(0, 1, 1), turn=1)
    tally = Tally(("expansion", "aggregation"))
    tally.add("", [Fit("expansion", 9, example, trimmed=2), Fit("aggregation", 12, None, reason="far too long")])
    tally.add("", [Fit("expansion", 3, example)])
    tally.add("wrong answer", [])
    assert dict(tally.trajectories) == {"read": 3, "kept": 2, "wrong answer": 1}
    assert (tally.examples["expansion"], tally.tokens, tally.learned) == (2, 6, 4)
    cuts = tally.cuts
    assert (cuts["expansion"].trimmed, cuts["expansion"].passages, cuts["expansion"].dropped) == (1, 2, {})
    assert cuts["aggregation"].dropped == {"far too long": 1}
    plan = "\n".join(tally.told(10))
    assert "expansion: 2 examples, tokens p50 3, p95 9, longest 9" in plan
    assert "1 examples lose 2 passages" in plan
    assert "1 examples, far too long" in plan
    assert "initialization" not in plan
