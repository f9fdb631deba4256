"""A part's folder is named by what shapes it and by nothing else, and an evaluation is finished only if it is the one that is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from training.evaluate import EvaluateConfig, evaluate
from training.experiment.cells import Cell, Workshop
from training.experiment.config import Experiment, Taught
from training.experiment.records import Report
from training.judged import held, judged


@pytest.fixture(scope="module")
def shop(experiment: Experiment) -> Workshop:
    return Workshop(experiment)


def folders(shop: Workshop, seed: int = 0, **changes: Any) -> tuple[str, str, str]:
    row = shop.experiment.rows[1].model_copy(update=changes)
    assert isinstance(row, Taught)
    return shop.data(row, seed).out.name, shop.student(row, seed).out.name, shop.evaluation(Cell(row, seed), "near").out.name


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"name": "another"}, (False, False, False)),
        ({"seeds": (5,)}, (False, False, False)),
        ({"weighting": "ema"}, (False, True, True)),
        ({"learning_rate": 0.5}, (False, True, True)),
        ({"seed": 1}, (False, True, True)),
        ({"view": "vanilla"}, (True, True, True)),
        ({"filters": ("supported",)}, (True, True, True)),
        ({"trajectories": "1/2"}, (True, True, True)),
    ],
    ids=str,
)
def test_a_part_moves_where_something_changes_that_shapes_it(shop: Workshop, changes: dict[str, Any], moved: tuple[bool, ...]) -> None:
    assert tuple(one != other for one, other in zip(folders(shop), folders(shop, **changes), strict=True)) == moved


def test_the_seed_draws_the_data_only_where_a_part_is_drawn(shop: Workshop) -> None:
    assert folders(shop, 0)[0] == folders(shop, 1)[0]
    assert folders(shop, 0, trajectories="1/2")[0] != folders(shop, 1, trajectories="1/2")[0]


@pytest.mark.usefixtures("report")
@pytest.mark.parametrize("changes", [{"limit": 2}, {"metrics": "musique"}, {"judge": "openai:judge"}], ids=str)
def test_an_evaluation_of_other_questions_rules_or_marks_is_not_finished(shop: Workshop, changes: dict[str, Any]) -> None:
    config = shop.evaluation(Cell(shop.experiment.rows[2], 0), "near")
    assert held(config) is not None
    assert held(config.model_copy(update=changes)) is None
    assert held(config, "student@0123456789ab") is None


@pytest.mark.usefixtures("report")
def test_questions_that_failed_are_asked_once_more_where_that_is_wanted(shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = shop.evaluation(Cell(shop.experiment.rows[2], 0), "near")
    copytree(config.out, tmp_path / "copy")
    report = json.loads((tmp_path / "copy" / "report.json").read_text())
    report["evaluation"]["failures"]["error"] = 1
    (tmp_path / "copy" / "report.json").write_text(json.dumps(report))
    config, asked = config.model_copy(update={"out": tmp_path / "copy"}), list[EvaluateConfig]()
    monkeypatch.setattr("training.judged.evaluate", lambda config: asked.append(config) or evaluate(config))
    assert judged(config, again=False).report.evaluation.failures["error"] == 1
    assert not asked
    assert judged(config).report.evaluation.failures["error"] == 0
    assert asked == [config]


@pytest.mark.parametrize("changes", [{"metrics": "2wiki"}, {"aliases": Path("aliases.json")}], ids=str)
def test_a_test_set_that_is_judged_by_other_rules_has_a_folder_of_its_own(experiment: Experiment, changes: dict[str, Any]) -> None:
    tests = {"near": experiment.tests["near"], "other": experiment.tests["near"].model_copy(update=changes)}
    shop = Workshop(experiment._replace(tests=tests))
    cell = Cell(experiment.rows[2], 0)
    assert shop.evaluation(cell, "near").out != shop.evaluation(cell, "other").out


def test_what_is_missing_is_named(shop: Workshop, experiment: Experiment, report: Report) -> None:
    assert report.missing == ()
    row = experiment.rows[1]
    assert isinstance(row, Taught)
    assert shop.missing(Cell(row, 1)) == []
    new = row.model_copy(update={"weighting": "fixed:1,2,3"})
    assert [path.parent.name for path in shop.missing(Cell(new, 1))] == ["students", "judged"]
