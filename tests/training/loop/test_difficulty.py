"""σ follows the losses of the kinds it sees, leaves the others alone, and goes on from its memory as if nothing had happened."""

from __future__ import annotations

import torch

from training.loop.difficulty import Difficulty, Memory
from training.objective import Whole, combine, parse_weighting

LOSSES = torch.tensor([0.2, 1.0, 3.0])
ALL, NO_EXPANSION = Whole(4, (4, 4, 4)), Whole(4, (4, 0, 4))
CPU = torch.device("cpu")


def update(difficulty: Difficulty, whole: Whole) -> None:
    difficulty.begin_update()
    combine(LOSSES * whole.trajectories, sum(whole.examples), whole, parse_weighting("learned"), difficulty.log_variance).backward()  # type: ignore[no-untyped-call]
    difficulty.learn(whole)


def test_a_kind_that_an_update_does_not_hold_keeps_its_sigma() -> None:
    difficulty = Difficulty(parse_weighting("learned"), 0.1, CPU)
    update(difficulty, ALL)
    before = difficulty.told()
    for _ in range(5):
        update(difficulty, NO_EXPANSION)
    after = difficulty.told()
    assert after["expansion"] == before["expansion"]
    assert after["initialization"] < before["initialization"]
    assert after["aggregation"] > before["aggregation"]


def test_it_goes_on_from_its_memory_to_the_digit() -> None:
    whole = Difficulty(parse_weighting("learned"), 0.1, CPU)
    for _ in range(3):
        update(whole, ALL)
    resumed = Difficulty(parse_weighting("learned"), 0.1, CPU)
    resumed.remember(Memory.model_validate_json(whole.memory().model_dump_json()))
    for one in (whole, resumed):
        update(one, ALL)
    assert resumed.memory() == whole.memory()


def test_what_is_not_learned_is_not_moved() -> None:
    for weighting in ("uniform", "fixed:1.5,1,0.5", "ema"):
        difficulty = Difficulty(parse_weighting(weighting), 0.1, CPU)
        difficulty.learn(ALL)
        assert set(difficulty.told().values()) == {1.0}
        assert difficulty.memory().adam == {}
