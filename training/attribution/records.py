"""The right chain, and what attribution, ability scores and a judge say, as records. Light: reports and verdicts hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from steper_agent.records import KINDS, Kind, Record
from training.scores.metrics import Interval, interval

Certainty = Literal["chain", "supports", "answer"]
"""What a judgement rests on: the chain's facts in their order; only the passages that it needs; nothing but the answer."""


class Link(Record):
    """One hop of a right chain. What nobody knows is empty."""

    subject: str = ""
    relation: str = ""
    objects: tuple[str, ...] = ()
    """Names and numbers that the hop brings up; a line states the hop if it names more than half of them."""
    passages: tuple[str, ...] = ()
    """Ids; any one of these passages states it."""
    titles: tuple[str, ...] = ()
    """Of such passages, where their ids are not known."""


class Gold(Record):
    """A right chain, or what is known of one."""

    links: tuple[Link, ...]
    """In the order of the chain; of mere supports, in no order that means anything."""
    answer: str = ""
    """What the links come to by themselves, whatever the data set accepts. Empty where that is not known."""
    certainty: Certainty
    closed: bool = False
    """A micro-world's: its lines can be parsed, and the links are all there is to say, so that any other fact is wrong."""


FaultLabel = Literal["error", "format", "wrong_gold", "not_retrieved", "not_used", "wrong_entity", "stopped_early", "never_stopped"]
"""What `training.attribution.first_fault` tells apart; it says what each means."""

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


def mean_by_kind(scored: Sequence[Mapping[Kind, float]], *, seed: int = 0) -> dict[Kind, Mean]:
    """Means with their intervals; a kind of which nothing is known is left out."""
    values = {kind: [float(one[kind]) for one in scored if kind in one] for kind in KINDS}
    return {kind: Mean(mean=sum(each) / len(each), ci=interval(each, seed=seed), n=len(each)) for kind, each in values.items() if each}
