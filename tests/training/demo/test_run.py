"""The demo from end to end on the smallest base: every phase is real, only the scores are poor."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from steper_agent.errors import ConfigError
from steper_agent.records import KINDS
from steper_agent.students.student import verify_student
from tests.tiny import tiny_base
from training.demo.report import DemoReport
from training.demo.run import DemoConfig, demo, main

PHASES = ["index", "collect", "dataset", "distill", "evaluate teacher", "evaluate base", "evaluate student", "swap"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DemoConfig:
    folder = tmp_path_factory.mktemp("demo")
    base = tiny_base(folder / "base", window=8192)
    return DemoConfig(out=folder / "run", base=base, passages=120, learn_passages=120, questions=16, held_out=9, k=1, steps=3,
                      batch=4, max_tokens=4)


@pytest.fixture(scope="module")
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def report(config: DemoConfig, told: io.StringIO) -> DemoReport:
    return demo(config, Console(file=told, width=120))


def test_the_report_holds_every_figure(report: DemoReport, config: DemoConfig) -> None:
    written = json.loads((config.out / "report.json").read_text())
    assert written == json.loads(report.model_dump_json())
    assert list(report.seconds) == PHASES
    for who in (report.teacher, report.base, report.student):
        assert who.n == config.held_out
        assert 0 <= who.ci[0] <= who.em <= who.ci[1] <= 1
        assert who.seconds > 0
    assert report.teacher.em > report.base.em
    assert len(report.step) == len(report.loss) == len(report.sigma) > 2
    assert set(report.sigma[-1]) == set(KINDS)
    assert report.student.parameters > report.base.parameters > 0
    assert {"settings", "digests", "versions", "student"} <= set(report.recipe)


def test_the_student_takes_the_seat_without_a_failed_run(report: DemoReport, config: DemoConfig) -> None:
    card = verify_student(config.out / "distill" / "student", config.base)
    assert report.swap.before.model.startswith("base@")
    assert report.swap.after.model == card.name
    assert report.swap.failed_runs == 0
    assert report.swap.drained
    assert report.swap.before.question == report.swap.after.question


def test_it_is_told_in_plain_words(report: DemoReport, config: DemoConfig, told: io.StringIO) -> None:
    assert all(phase in told.getvalue() for phase in PHASES)
    assert report.swap.after.question[:40] in told.getvalue()
    page = (config.out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2


def test_a_demo_killed_before_its_report_repeats_nothing(report: DemoReport, config: DemoConfig) -> None:
    journals = {path: path.read_bytes() for path in config.out.rglob("journal.jsonl")}
    assert len(journals) == 4
    (config.out / "report.json").unlink()
    again = demo(config, Console(file=io.StringIO()))
    assert [again.teacher, again.base, again.student] == [report.teacher, report.base, report.student]
    assert again.recipe == report.recipe
    assert again.loss == report.loss
    assert journals == {path: path.read_bytes() for path in config.out.rglob("journal.jsonl")}


@pytest.mark.parametrize("flag", ["--batch=0", "--epochs=0", "--k=0", "--steps=0", "--max-tokens=0", "--questions=0", "--held-out=2", "--passages=99"])
def test_what_no_phase_could_do_is_refused_before_the_first(flag: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=flag[2:].split("=")[0].replace("-", "_")):
        main([flag, f"--out={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
