"""From finished cells to figures: rows with intervals, comparisons with the reference, claims. Nothing is run or written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from steper_agent.models.spec import split_local
from steper_agent.records import KINDS, Kind
from steper_agent.students.weights import ADAPTER_CONFIG, count_parameters
from training.evaluate import questions_of
from training.experiment import config as wanted
from training.experiment.cells import Made, Workshop
from training.experiment.records import METRICS, Comparison, Group, Learned, Metric, Ratio, Report, Row, Sigma
from training.judged import Judged, same_recipe
from training.scores.significance import Judgements, crossed_interval, paired


def report_of(shop: Workshop, made: Sequence[Made]) -> Report:
    """What the finished rows come to; those with a missing cell are named and left out.

    Raises:
        ConfigError: two cells were judged on a test set with different things, but for how they reason.
    """
    experiment = shop.experiment
    whole = [(row, ones) for row in experiment.rows
             if len(ones := [one for one in made if one.cell.row.name == row.name]) == len(experiment.seeds(row))]
    made = [one for _, ones in whole for one in ones]
    of_test = {test: {f"{one.cell.told()} on {test}": one.judged[test].report for one in made if test in one.judged} for test in experiment.tests}
    of_test = {test: reports for test, reports in of_test.items() if reports}
    results = {test: _Results(shop, test, whole) for test in of_test}
    reference = shop.settings.reference or experiment.rows[0].name
    return Report(
        title=shop.settings.title, reference=reference,
        rows=tuple(row for result in results.values() for row in result.rows()),
        comparisons=tuple(one for result in results.values() for one in result.comparisons(reference)),
        sigma=tuple(_sigma(one) for one in made if one.student and one.student.settings["weighting"] in ("learned", "ema")),
        same={test: same_recipe(reports, where=shop.settings.out) for test, reports in of_test.items()},
        settings=json.loads(shop.settings.model_dump_json()),
        definitions={test: next(iter(reports.values())).evaluation.definition for test, reports in of_test.items()},
        missing=tuple(row.name for row in experiment.rows if row.name not in [of.name for of, _ in whole]),
    )  # fmt: skip


def claims_of(shop: Workshop, made: Sequence[Made], report: Report) -> dict[str, Comparison | Ratio]:
    """Every claim by its name; those about a missing row are left out."""
    found: dict[str, Comparison | Ratio] = {}
    for claim in shop.experiment.claims:
        test = claim.test or shop.experiment.main_test()
        rows = {row.name: row for row in report.rows if row.test == test}
        if claim.row not in rows or claim.against not in rows:
            continue
        if claim.ratio:
            found[claim.name] = _ratio(rows[claim.row], rows[claim.against])
        else:
            arrays = {name: [one.judged[test] for one in made if one.cell.row.name == name] for name in (claim.row, claim.against)}
            found[claim.name] = compare(rows[claim.row], rows[claim.against], arrays, seed=shop.settings.seed)
    return found


class _Results:
    """One test set, and the rows that are judged on it."""

    def __init__(self, shop: Workshop, test: str, whole: Sequence[tuple[wanted.Row, Sequence[Made]]]) -> None:
        self.shop, self.test, self.seed = shop, test, shop.settings.seed
        whole = [(row, ones) for row, ones in whole if test in shop.experiment.tests_of(row)]
        self.judged = {row.name: [one.judged[test] for one in ones] for row, ones in whole}
        self.metas = {one.id: one.meta for one in questions_of(shop.evaluation(whole[0][1][0].cell, test))}
        self._rows = {row.name: self._row(row, ones) for row, ones in whole}

    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def comparisons(self, reference: str) -> list[Comparison]:
        against = self._rows.get(reference)
        return [compare(row, against, self.judged, seed=self.seed) for row in self.rows() if against and row is not against]

    def _row(self, row: wanted.Row, ones: Sequence[Made]) -> Row:
        found = self.judged[row.name]
        metrics = {metric: _group(judgements(found, metric), self.seed) for metric in METRICS}
        costs = [one.report.evaluation.cost for one in found]
        support = [verdict.support for one in found for verdict in one.verdicts if verdict.support is not None]
        return Row(
            name=row.name, test=self.test, em=tuple(map(float, judgements(found, "em").mean(axis=1))), mean=metrics["em"].mean,
            interval=metrics["em"].interval, n=metrics["em"].n, metrics=metrics, groups=self._groups(found), abilities=self._abilities(found),
            marks=_marks(found), unread=sum(one.report.unread for one in found), faults=_faults(found), support=_mean(support), searches=_mean([one.report.evaluation.steps for one in found]) or 0.0,
            seconds=_mean([cost.seconds_mean for cost in costs if cost]), tokens_read=_mean([cost.prompt_tokens for cost in costs if cost]),
            tokens_written=_mean([cost.completion_tokens for cost in costs if cost]), seeds=tuple(one.cell.seed for one in ones),
            strategy=self.shop.strategy(row), models=tuple(one.report.model for one in found), parameters=parameters(self.shop, row, ones[0]),
            trained=_taught(ones), settings=json.loads(row.model_dump_json()),
        )  # fmt: skip

    def _groups(self, found: Sequence[Judged]) -> dict[str, dict[str, Group]]:
        em, metas = judgements(found, "em"), [self.metas[verdict.id] for verdict in found[0].verdicts]
        groups: dict[str, dict[str, Group]] = {}
        for field in self.shop.settings.groups:
            values = [meta.get(field) for meta in metas]
            of_value = {value: [place for place, one in enumerate(values) if _told(one) == value] for value in sorted({_told(one) for one in values} - {""})}
            if of_value:
                groups[field] = {value: _group(em[:, places], self.seed) for value, places in of_value.items()}
        return groups

    def _abilities(self, found: Sequence[Judged]) -> dict[Kind, Group]:
        """Of a kind, over the questions that every seed's verdict scores it for."""
        told = [[verdict.abilities for verdict in one.verdicts] for one in found]
        scored: dict[Kind, Group] = {}
        for kind in KINDS:
            places = [place for place in range(len(told[0])) if all(kind in seed[place] for seed in told)]
            if places:
                scored[kind] = _group(np.array([[seed[place][kind] for place in places] for seed in told]), self.seed)
        return scored


def compare(row: Row, against: Row, judged: Mapping[str, Sequence[Judged]], *, seed: int) -> Comparison:
    """`judged` by the rows' names: of every seed, in the order of the row's seeds."""
    same_seeds = row.seeds == against.seeds
    found = {metric: paired(judgements(judged[against.name], metric), judgements(judged[row.name], metric), same_seeds=same_seeds, seed=seed)
             for metric in METRICS}  # fmt: skip
    em = found["em"]
    return Comparison(name=row.name, against=against.name, test=row.test, em=em.mean, ci=em.ci, p=em.p, p_flip=em.p_flip, by_seed=em.by_seed,
                      f1=found["f1"].mean, acc=found["acc"].mean, n=em.n)


def judgements(found: Sequence[Judged], metric: Metric) -> Judgements:
    """(seeds, questions), the questions in the order of their ids."""
    return np.array([[getattr(verdict, metric) for verdict in one.verdicts] for one in found], dtype=np.float64)


def parameters(shop: Workshop, row: wanted.Row, made: Made) -> int | None:
    """How many must be in memory to serve it; None where nobody says."""
    if isinstance(row, wanted.Taught):
        return _size(shop.experiment.bases[row.base], made.student.student) if made.student else None
    if row.parameters or not row.model.startswith("local:"):
        return row.parameters or None
    base, student = split_local(row.model.removeprefix("local:"))
    return _size(Path(base), Path(student) if student else None)


def _size(base: Path, student: Path | None) -> int | None:
    """An adapter needs its base beside it, full weights do not."""
    folders = [base] if student is None else [base, student] if (student / ADAPTER_CONFIG).is_file() else [student]
    return sum(map(count_parameters, folders)) or None


def _ratio(row: Row, against: Row) -> Ratio:
    sizes = (row.parameters, against.parameters)
    return Ratio(name=row.name, against=against.name, test=row.test, em_ratio=row.mean / against.mean if against.mean else None,
                 size_ratio=sizes[0] / sizes[1] if sizes[0] and sizes[1] else None)


def _taught(ones: Sequence[Made]) -> Learned | None:
    told = [(one.card, one.student) for one in ones if one.card and one.student]
    if not told:
        return None
    cards, students = zip(*told, strict=True)
    return Learned(
        trajectories=fmean([card.trajectories["kept"] for card in cards]), examples=fmean([sum(card.examples.values()) for card in cards]),
        tokens=fmean([one.tokens for one in students]), updates=fmean([one.steps for one in students]),
        seconds=fmean([one.seconds for one in students]), parameters=students[0].parameters,
    )  # fmt: skip


def _sigma(made: Made) -> Sigma:
    curve = made.student.curve if made.student else []
    return Sigma(row=made.cell.row.name, seed=made.cell.seed, step=tuple(point.step for point in curve),
                 sigma={kind: tuple(point.sigma[kind] for point in curve) for kind in KINDS if all(kind in point.sigma for point in curve)})


def _marks(found: Sequence[Judged]) -> dict[Kind, float]:
    """Of a kind, over the seeds that have it marked."""
    marked = {kind: [one.report.marks[kind].mean for one in found if kind in one.report.marks] for kind in KINDS}
    return {kind: fmean(means) for kind, means in marked.items() if means}


def _faults(found: Sequence[Judged]) -> dict[str, float]:
    """The first thing that went wrong, as a share of all that was asked; most frequent first."""
    counts = Counter(verdict.first_fault.label for one in found for verdict in one.verdicts if verdict.first_fault)
    asked = sum(len(one.verdicts) for one in found)
    return {fault: count / asked for fault, count in counts.most_common()}


def _group(values: Judgements, seed: int) -> Group:
    return Group(mean=float(values.mean()), interval=crossed_interval(values, seed=seed), n=values.shape[1])


def _told(value: Any) -> str:
    """Of a question's meta, what can head a column: neither lists nor tables."""
    return str(value) if isinstance(value, str | int | float) else ""


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
