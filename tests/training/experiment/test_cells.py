"""A part's folder is named by what shapes it and by nothing else, and an evaluation is finished only if it is the one that is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copyfile, copytree, rmtree
from typing import Any

import pytest

from steper_agent.errors import ConfigError, StepERError
from steper_agent.retrieval import build_index
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


def test_what_rests_on_a_file_moves_with_its_contents(experiment: Experiment, folder: Path, tmp_path: Path) -> None:
    def named(journal: Path, questions: Path, index: Path) -> tuple[str, str, str]:
        """Of the first row's parts; the paths are the same, whatever is in them."""
        for name, source in (("journal.jsonl", journal), ("near.jsonl", questions), ("index", index)):
            rmtree(tmp_path / name, ignore_errors=True)
            copytree(source, tmp_path / name) if source.is_dir() else copyfile(source, tmp_path / name)
        tests = {"near": experiment.tests["near"].model_copy(update={"index": tmp_path / "index", "questions": tmp_path / "near.jsonl"})}
        return folders(Workshop(experiment._replace(journals={"ircot": (tmp_path / "journal.jsonl",)}, tests=tests)))

    journal, near, far = (folder / f"{name}.jsonl" for name in ("ircot", "near", "far"))
    (tmp_path / "longer.jsonl").write_text(journal.read_text() * 2)
    build_index([folder / "far.jsonl"], tmp_path / "other")
    before = named(journal, near, folder / "index")
    assert named(journal, near, folder / "index") == before
    assert all(one != other for one, other in zip(named(tmp_path / "longer.jsonl", near, folder / "index"), before, strict=True))
    assert all(one != other for one, other in zip(named(journal, far, folder / "index"), before, strict=True))
    moved = named(journal, near, tmp_path / "other")
    assert (moved[:2], moved[2] != before[2]) == (before[:2], True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"index": Path("no/such")}, "no such index"), ({"gold": Path("no/such.jsonl")}, "no such file"), ({"questions": Path("no/such.jsonl")}, "no such file")],
    ids=str,
)
def test_what_is_not_there_is_said_before_anybody_is_taught(experiment: Experiment, changes: dict[str, Any], words: str) -> None:
    tests = {"near": experiment.tests["near"].model_copy(update=changes)}
    with pytest.raises(StepERError, match=words):
        Workshop(experiment._replace(tests=tests))


def test_a_way_to_reason_that_is_none_is_said_before_anybody_is_taught(experiment: Experiment) -> None:
    *rows, teacher = experiment.rows
    with pytest.raises(ConfigError, match="unknown strategy `irocot`"):
        Workshop(experiment._replace(rows=(*rows, teacher.model_copy(update={"strategy": "irocot"}))))


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
def test_a_test_set_that_is_judged_by_other_rules_has_a_folder_of_its_own(
    experiment: Experiment, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("aliases.json").write_text("{}")
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
