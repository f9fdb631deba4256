"""What attribution, ability scores and a judge say, as records. Light: reports and verdicts hold them."""

from __future__ import annotations

from typing import Literal, get_args

from steper_agent.records import Record
from training.metrics import Interval

Certainty = Literal["chain", "supports", "answer"]
"""What a judgement rests on: the chain's facts in their order; only the passages that it needs; nothing but the answer."""

FaultLabel = Literal["error", "format", "wrong_gold", "not_retrieved", "not_used", "wrong_entity", "stopped_early", "never_stopped"]
"""What `training.attribution` tells apart; it says what each means."""

FAULTS: tuple[FaultLabel, ...] = get_args(FaultLabel)


class Fault(Record):
    """The first thing that went wrong."""

    label: FaultLabel
    step: int | None
    """Counted from 1; None where it belongs to no step."""
    detail: str
    """Which passage or entity, in words."""
    certainty: Certainty
    """What the label rests on. By `supports` alone the order of the hops is not known, nor what a line should have said: `step` and
    `wrong_entity` are then a guess. By the `answer` alone only `error`, `format` and `never_stopped` are more than that."""


class Mean(Record):
    """Of one ability over many trajectories: scores in [0, 1], or a judge's marks from 1 to 5."""

    mean: float
    ci: Interval
    """95 % bootstrap, over trajectories."""
    n: int
    """Trajectories of which it is known."""
