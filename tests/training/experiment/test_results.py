"""The report's figures are those that anybody can compute from the predictions."""

from __future__ import annotations

import json
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from steper_agent.students.weights import count_parameters
from tests.training.experiment.conftest import ASKED, HEAD, MORE_TESTS, TAUGHT, written
from training.attribution.records import Mean
from training.experiment.cells import Workshop, cells_of
from training.experiment.config import Experiment
from training.experiment.records import Report
from training.experiment.results import claims_of, report_of
from training.experiment.run import conduct, show_plan
from training.scores.significance import sign_flip


def predictions(experiment: Experiment, name: str) -> list[list[dict[str, Any]]]:
    """Of every seed, straight from the files."""
    shop = Workshop(experiment)
    folders = [shop.evaluation(cell, "near").out for cell in cells_of(experiment, (name,))]
    return [sorted(map(json.loads, (folder / "predictions.jsonl").read_text().splitlines()), key=lambda one: one["id"]) for folder in folders]


def test_means_are_those_of_the_predictions(experiment: Experiment, report: Report) -> None:
    for row in report.rows:
        told = predictions(experiment, row.name)
        assert row.em == tuple(sum(one["em"] for one in seed) / ASKED for seed in told)
        for metric, group in row.metrics.items():
            assert group.mean == pytest.approx(sum(one[metric] for seed in told for one in seed) / (ASKED * len(told)))
            assert group.interval[0] <= group.mean <= group.interval[1]
        assert (row.mean, row.interval) == (row.metrics["em"].mean, row.metrics["em"].interval)
    assert report.rows[2].mean > report.rows[0].mean, "the teacher knows more than a random base"


def test_accuracy_by_hops_is_that_of_the_questions_with_them(experiment: Experiment, report: Report, folder: Path) -> None:
    hops = {one["id"]: str(one["meta"]["hops"]) for one in map(json.loads, (folder / "near.jsonl").read_text().splitlines())}
    row = report.rows[2]
    assert {value: group.n for value, group in row.groups["hops"].items()} == Counter(hops.values())
    (told,) = predictions(experiment, "teacher")
    for value, group in row.groups["hops"].items():
        right = [one["em"] for one in told if hops[one["id"]] == value]
        assert group.mean == pytest.approx(sum(right) / len(right))
    assert set(row.groups["type"]) == {"chain"}


def test_every_wrong_answer_has_one_cause(experiment: Experiment, report: Report) -> None:
    for row in report.rows:
        told = predictions(experiment, row.name)
        assert sum(row.faults.values()) == pytest.approx(sum(one["em"] < 1 for seed in told for one in seed) / (ASKED * len(told)))


def test_comparisons_and_claims_are_paired_by_question(experiment: Experiment, report: Report) -> None:
    students = {name: predictions(experiment, name) for name in ("vanilla", "stepwise")}
    gain = [sum(one["em"] for one in after) / ASKED - sum(one["em"] for one in before) / ASKED
            for before, after in zip(students["vanilla"], students["stepwise"], strict=True)]  # fmt: skip
    told = json.loads((experiment.settings.out / "report.json").read_text())
    claim = told["stepwise_minus_vanilla"]
    assert claim["em"] == pytest.approx(sum(gain) / 2)
    assert claim["by_seed"] == pytest.approx(gain)
    assert claim["ci"][0] <= claim["em"] <= claim["ci"][1]
    assert 0 < claim["p"] <= 1
    assert report.reference == "vanilla"
    assert [one.name for one in report.comparisons] == ["stepwise", "teacher"]
    assert claim == report.comparisons[0].model_dump(mode="json")
    assert report.comparisons[1].by_seed == (), "a teacher has no seeds to pair"


def test_every_figure_follows_from_the_verdicts(experiment: Experiment, report: Report) -> None:
    """Of verdicts made up, for a random base is right about nothing."""
    assert report.missing == ()
    shop, rng = Workshop(experiment), np.random.default_rng(3)
    made = []
    for one in map(shop.make, cells_of(experiment)):
        held = one.judged["near"]
        verdicts = [verdict.model_copy(update={"em": float(rng.random() < 0.5), "f1": rng.random(), "abilities": {"expansion": rng.random()}})
                    for verdict in held.verdicts]  # fmt: skip
        marked = held.report.model_copy(update={"marks": {"expansion": Mean(mean=3.5, ci=(3, 4), n=ASKED - 1)}, "unread": 1})
        made.append(one._replace(judged={"near": held._replace(verdicts=verdicts, report=marked)}))
    found = report_of(shop, made)
    told = {name: [one.judged["near"].verdicts for one in made if one.cell.row.name == name] for name in ("vanilla", "stepwise", "teacher")}
    for row in found.rows:
        seeds = told[row.name]
        assert row.em == tuple(np.mean([verdict.em for verdict in seed]) for seed in seeds)
        assert row.metrics["f1"].mean == pytest.approx(np.mean([verdict.f1 for seed in seeds for verdict in seed]))
        assert row.abilities["expansion"].mean == pytest.approx(np.mean([verdict.abilities["expansion"] for seed in seeds for verdict in seed]))
        assert (row.marks, row.unread) == ({"expansion": 3.5}, len(seeds))
        assert sum(group.mean * group.n for group in row.groups["hops"].values()) == pytest.approx(row.mean * row.n)
    for one in found.comparisons:
        gains = np.mean([[v.em for v in seed] for seed in told[one.name]], axis=0) - np.mean([[v.em for v in seed] for seed in told["vanilla"]], axis=0)
        assert one.em == pytest.approx(gains.mean())
        assert one.p_flip == sign_flip(gains)
        assert one.ci[0] <= one.em <= one.ci[1]
    assert any(one.em for one in found.comparisons)


def test_a_ratio_is_of_accuracy_and_of_what_must_be_served(experiment: Experiment, report: Report, folder: Path) -> None:
    told = json.loads((experiment.settings.out / "report.json").read_text())["student_over_teacher"]
    student = Workshop(experiment).student(experiment.rows[1], 0).out / "student"  # type: ignore[arg-type]
    size = count_parameters(folder / "base") + count_parameters(student)
    assert report.rows[1].parameters == size
    assert told["size_ratio"] == pytest.approx(size / 1000)
    assert told["em_ratio"] == pytest.approx(report.rows[1].mean / report.rows[2].mean)


def test_the_written_report_is_the_record_and_the_claims(experiment: Experiment, report: Report) -> None:
    told = json.loads((experiment.settings.out / "report.json").read_text())
    del told["stepwise_minus_vanilla"], told["student_over_teacher"]
    assert Report.model_validate_json(json.dumps(told)) == report


def test_a_row_says_what_its_students_were_taught_and_what_a_question_costs(report: Report) -> None:
    vanilla, stepwise, teacher = report.rows
    assert teacher.trained is None
    assert vanilla.trained is not None
    assert stepwise.trained is not None
    assert (vanilla.trained.trajectories, vanilla.trained.examples, vanilla.trained.updates) == (TAUGHT, TAUGHT, 2)
    assert stepwise.trained.examples > TAUGHT
    assert all((row.seconds or 0) > 0 and (row.tokens_written or 0) > 0 for row in (vanilla, stepwise))
    assert [(one.row, one.seed, one.step) for one in report.sigma] == [("stepwise", 0, (1, 2)), ("stepwise", 1, (1, 2))]


def test_a_claim_about_a_missing_row_is_left_out(experiment: Experiment, report: Report) -> None:
    shop = Workshop(experiment)
    made = [shop.make(cell) for cell in cells_of(experiment, ("vanilla",))]
    found = report_of(shop, made)
    assert found.rows == report.rows[:1]
    assert found.missing == ("stepwise", "teacher")
    assert claims_of(shop, made, found) == {}
    assert report_of(shop, []).rows == ()


def test_a_strategy_answers_in_its_own_way_and_every_test_set_has_its_rows(folder: Path, tmp_path: Path) -> None:
    text = (HEAD + MORE_TESTS).replace("[bases]", 'self_ask = "{folder}/self_ask.jsonl"\n[bases]').replace("seeds = [0, 1]", "seeds = [0]")
    rows = '\n[[rows]]\nname = "asked"\njournal = "self_ask"\n'
    grid = '\n[[grid]]\nname = "of"\ntrajectories = ["1/2", "all"]\n'
    far = '\n[[rows]]\nname = "teacher"\nmodel = "symbolic"\ntests = ["far"]\n'
    experiment = written(folder, text.replace("max_updates = 2", "max_updates = 1") + rows + grid + far, out=tmp_path / "run")
    found = conduct(experiment, tell=lambda _: None)
    asked, *of = ("asked", "self_ask"), ("of 1/2", "ircot"), ("of all", "ircot")
    assert [(row.name, row.strategy) for row in found.rows if row.test == "near"] == [asked, *of]
    assert [(row.name, row.strategy) for row in found.rows if row.test == "far"] == [asked, ("teacher", "ircot"), *of]
    show_plan(Workshop(experiment), (), Console(file=(plan := StringIO()), width=190))
    assert "missing" not in plan.getvalue()
    assert [row.trained.trajectories for row in found.rows[:3] if row.trained] == [TAUGHT, TAUGHT / 2, TAUGHT]
    assert {one.test for one in found.comparisons} == {"near", "far"}
    page = (tmp_path / "run" / "report.md").read_text()
    assert "## Transfer" in page
    assert "| teacher, nothing here | – |" in page
    assert "## Learning curves" in page
    assert (tmp_path / "run" / "plots" / "learning.svg").is_file()
