"""What an experiment's report holds: one flat row for every (row, test set), the comparisons, and the claims by name."""

from __future__ import annotations

from typing import Any, Literal

from steper_agent.records import Kind, Record
from training.scores.metrics import Interval

Metric = Literal["em", "f1", "acc"]
METRICS: tuple[Metric, ...] = ("em", "f1", "acc")


class Group(Record):
    """Some of a row's questions, or all of one kind's scores."""

    mean: float
    """Over seeds and questions."""
    interval: Interval
    n: int
    """Questions."""


class Row(Record):
    name: str
    test: str
    """Name of the test set. What does not depend on it is repeated in every one's row."""
    em: tuple[float, ...]
    """Mean EM of every seed, a share: 0.05 is five points."""
    mean: float
    """Of `em`."""
    interval: Interval
    """95 %, over questions and seeds: training.scores.significance says how."""
    n: int
    """Questions."""
    metrics: dict[Metric, Group]
    groups: dict[str, dict[str, Group]]
    """EM by field of the questions' meta and its value; questions without the field are left out."""
    abilities: dict[Kind, Group]
    """How well each kind of step was done, from 0 to 1; empty where the verdicts do not say."""
    marks: dict[Kind, float]
    """Mean mark of the judge, from 1 to 5; empty without one."""
    unread: int = 0
    """Replies of the judge, over all seeds, that could not be read: those runs have no marks."""
    faults: dict[str, float]
    """Share of questions with each cause of failure, mean over seeds: the first thing that went wrong, where the verdicts say that."""
    support: float | None
    """Share of supporting passages found by the end, mean; None where nobody knows them."""
    searches: float
    """Mean a question."""
    seconds: float | None
    """Mean a question, many side by side; None where nobody measured."""
    tokens_read: float | None
    tokens_written: float | None
    seeds: tuple[int, ...]
    strategy: str
    """How it reasons."""
    models: tuple[str, ...]
    """Version that answered, of every seed."""
    parameters: int | None
    """To serve it, the adapter included; None where nobody knows."""
    trained: Learned | None
    """None where nothing was taught."""
    settings: dict[str, Any]
    """Of the row, as in the experiment's file."""


class Learned(Record):
    """What a row's students learned from; means over seeds."""

    trajectories: float
    """Kept of those drawn."""
    examples: float
    tokens: float
    """Read in all updates, before anything shared is computed once."""
    updates: float
    seconds: float
    """Of training alone, wall clock."""
    parameters: int
    """Trained."""


class Sigma(Record):
    """σ of every kind over one student's training."""

    row: str
    seed: int
    step: tuple[int, ...]
    sigma: dict[Kind, tuple[float, ...]]


class Comparison(Record):
    """A row minus another, question by question: shares, 0.05 is five points."""

    name: str
    against: str
    test: str
    em: float
    ci: Interval
    """95 %, over questions and seeds."""
    p: float
    """Two-sided, over questions and seeds. Not corrected for how many comparisons there are."""
    p_flip: float
    """Two-sided sign-flip test over questions: about these very students."""
    by_seed: tuple[float, ...]
    """Of every seed; empty where the two rows have not the same seeds."""
    f1: float
    acc: float
    n: int


class Ratio(Record):
    """A row over another."""

    name: str
    against: str
    test: str
    em_ratio: float | None
    """None where the other has no right answer."""
    size_ratio: float | None
    """Of the parameters to serve; None where somebody's are not known."""


class Report(Record):
    title: str
    reference: str
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    """Every row with the reference, on every test set."""
    sigma: tuple[Sigma, ...]
    same: dict[str, dict[str, Any]]
    """By test set: what holds for every evaluation on it, digests and versions."""
    settings: dict[str, Any]
    definitions: dict[str, str]
    """By test set: which rules EM, F1 and Acc go by."""
    missing: tuple[str, ...] = ()
    """Rows that are left out because not all of their cells are made."""


Row.model_rebuild()
