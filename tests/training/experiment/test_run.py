"""What is finished is only read, what two rows share is made once, and a killed experiment comes to the same report."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import ConfigError
from tests.training.experiment.conftest import ASKED, HEAD, ROWS, written
from training import distill, judged
from training.experiment import run as room
from training.experiment.cells import Workshop, cells_of
from training.experiment.config import Experiment
from training.experiment.records import Report
from training.experiment.run import conduct, main
from training.verb import run

QUIET: Any = lambda _: None  # noqa: E731


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was trained or asked, by its folder."""
    counts: Counter[str] = Counter()
    train, ask = distill._train, judged.evaluate

    def counted_train(config: Any, *rest: Any) -> Any:
        counts[f"students/{config.out.name}"] += 1
        return train(config, *rest)

    def counted_ask(config: Any) -> Any:
        counts[f"judged/{config.out.name}"] += 1
        return ask(config)

    monkeypatch.setattr(distill, "_train", counted_train)
    monkeypatch.setattr(judged, "evaluate", counted_ask)
    return counts


def figures(report: Report) -> Any:
    """What does not depend on the clock, nor on where the students lie."""
    told = report.model_dump(exclude={"settings"})
    for row in told["rows"]:
        row.pop("seconds")
        row["trained"] = {key: value for key, value in (row["trained"] or {}).items() if key != "seconds"}
    return told


def test_every_row_is_there_with_every_seed(report: Report) -> None:
    assert [(row.name, row.seeds) for row in report.rows] == [("vanilla", (0, 1)), ("stepwise", (0, 1)), ("teacher", (0,))]
    assert all(row.n == ASKED and len(row.em) == len(row.seeds) for row in report.rows)
    assert report.missing == ()
    assert len({model for row in report.rows for model in row.models}) == 5


def test_a_finished_experiment_is_only_read(experiment: Experiment, report: Report, work: Counter[str]) -> None:
    out = experiment.settings.out
    before = {path: path.stat().st_mtime_ns for part in ("data", "students", "judged") for path in (out / part).rglob("*") if path.is_file()}
    pages = {name: (out / name).read_bytes() for name in ("report.json", "report.html", "report.md")}
    assert conduct(experiment, tell=lambda words: pytest.fail(words)) == report
    assert not work
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert pages == {name: (out / name).read_bytes() for name in pages}


def test_killed_between_and_inside_cells_it_comes_to_the_same_report(
    experiment: Experiment, report: Report, work: Counter[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    killed = experiment._replace(settings=experiment.settings.model_copy(update={"out": tmp_path / "run"}))

    class Dies(Workshop):
        """In the first student's training; then in the second's evaluation; then before the third cell."""

        deaths = 0

        def make(self, cell: Any, **given: Any) -> Any:
            if Dies.deaths == 2 and cell == cells_of(killed)[2]:
                Dies.deaths += 1
                raise KeyboardInterrupt
            return super().make(cell, **given)

    finish, judge = distill._finish, judged.evaluate

    def dies_in_training(*given: Any) -> None:
        if Dies.deaths == 0:
            Dies.deaths += 1
            raise KeyboardInterrupt
        finish(*given)

    def dies_in_judging(config: Any) -> Any:
        if Dies.deaths == 1:
            Dies.deaths += 1
            judge(config.model_copy(update={"limit": 2}))
            (config.out / "report.json").unlink()
            raise KeyboardInterrupt
        return judge(config)

    monkeypatch.setattr(room, "Workshop", Dies)
    monkeypatch.setattr(distill, "_finish", dies_in_training)
    monkeypatch.setattr(judged, "evaluate", dies_in_judging)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            conduct(killed, tell=QUIET)
        assert not (tmp_path / "run" / "report.json").exists()
    assert figures(conduct(killed, tell=QUIET)) == figures(report)
    trained = sorted(count for name, count in work.items() if name.startswith("students"))
    assert trained == [1, 1, 1, 2]


def test_a_row_added_later_makes_only_its_own_cells(folder: Path, report: Report, work: Counter[str]) -> None:
    more = written(folder, HEAD + ROWS + '\n[[rows]]\nname = "the same as stepwise"\nweighting = "learned"\n[[rows]]\nname = "ema"\nweighting = "ema"\nseeds = [1]\n')
    found = conduct(more, tell=QUIET)
    assert sorted(name.split("/")[0] for name in work) == ["judged", "students"]
    rows = {row.name: row for row in found.rows}
    assert rows["the same as stepwise"].models == rows["stepwise"].models
    assert found.rows[: len(report.rows)] == report.rows
    assert (rows["ema"].seeds, rows["ema"].settings["weighting"]) == ((1,), "ema")


def test_only_the_named_row_is_made_and_the_others_are_missing(experiment: Experiment, work: Counter[str], tmp_path: Path) -> None:
    alone = experiment._replace(settings=experiment.settings.model_copy(update={"out": tmp_path / "run"}))
    found = conduct(alone, ("teacher",), tell=QUIET)
    assert [row.name for row in found.rows] == ["teacher"]
    assert found.missing == ("vanilla", "stepwise")
    assert sum(work.values()) == 1
    assert "stepwise" in (tmp_path / "run" / "report.md").read_text()
    assert "stepwise_minus_vanilla" not in json.loads((tmp_path / "run" / "report.json").read_text())


@pytest.mark.usefixtures("report")
def test_the_dry_run_says_what_exists_and_makes_nothing(
    experiment: Experiment, folder: Path, work: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    written(folder, HEAD + ROWS + '\n[[rows]]\nname = "ema"\nweighting = "ema"\n')
    before = sorted(experiment.settings.out.rglob("*"))
    assert run(main, [str(folder / "experiment.toml"), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    lines = {cell: line for line in shown.splitlines() for cell in ("stepwise, seed 1", "ema, seed 0") if cell in line}
    assert "missing" not in lines["stepwise, seed 1"]
    assert "nothing" in lines["stepwise, seed 1"]
    assert (lines["ema, seed 0"].count("done"), lines["ema, seed 0"].count("missing")) == (1, 2)
    assert "about 0 min" in lines["ema, seed 0"]
    assert sorted(experiment.settings.out.rglob("*")) == before
    assert not work


@pytest.mark.usefixtures("report")
def test_the_command_line_shows_the_table_and_where_the_report_is(folder: Path, work: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    written(folder, HEAD + ROWS)
    assert run(main, [str(folder / "experiment.toml")]) == 0
    shown = capsys.readouterr().out
    assert "Tiny & small" in shown
    assert "report.html" in shown
    assert run(main, [str(folder / "experiment.toml"), "--only", "stepwize"]) == 2
    assert "did you mean `stepwise`?" in capsys.readouterr().err
    assert not work
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "sigma_rate" in capsys.readouterr().out


@pytest.mark.usefixtures("report")
def test_another_recipe_is_refused(experiment: Experiment) -> None:
    shop = Workshop(experiment)
    made = [shop.make(cell) for cell in cells_of(experiment)]
    held = made[-1].judged["near"]
    other = held.report.model_copy(update={"recipe": {**held.report.recipe, "k": 9}})
    with pytest.raises(ConfigError, match="teacher on near and vanilla, seed 0 on near were judged with another `k`"):
        room.report_of(shop, [*made[:-1], made[-1]._replace(judged={"near": held._replace(report=other)})])


def test_journals_of_several_k_need_one_by_name(experiment: Experiment, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text((folder / "ircot.jsonl").read_text().replace('"k":2', '"k":3'))
    with pytest.raises(ConfigError, match="ircot: 2, other: 3"):
        Workshop(experiment._replace(journals={**experiment.journals, "other": (other,)}))
