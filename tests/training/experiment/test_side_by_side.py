"""Several processes make what one makes, and nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from steper_agent.errors import ModelError
from tests.training.experiment.conftest import HEAD, ROWS, written
from tests.training.experiment.test_run import figures
from training.experiment.cells import Workshop, cells_of
from training.experiment.config import Experiment
from training.experiment.records import Report
from training.experiment.run import conduct
from training.experiment.side_by_side import LOGS, make_side_by_side

WORKERS = max(2, os.cpu_count() or 1)
"""As many as give each a single thread, as the report's had."""


def test_the_report_is_the_same(experiment: Experiment, report: Report, tmp_path: Path) -> None:
    again = experiment._replace(settings=experiment.settings.model_copy(update={"out": tmp_path / "run"}))
    told: list[str] = []
    assert figures(conduct(again, workers=WORKERS, tell=told.append)) == figures(report)
    assert sum(line.startswith("made") for line in told) == len(cells_of(again))
    assert told[-1].endswith("left: nothing")
    logs = "".join(path.read_text() for path in (tmp_path / "run" / LOGS).iterdir())
    assert all(logs.count(f"\n{cell.told()}\n") == 1 for cell in cells_of(again))


def test_cells_that_share_a_part_wait_for_each_other(folder: Path, tmp_path: Path) -> None:
    twice = written(folder, HEAD + '\n[[rows]]\nname = "one"\n[[rows]]\nname = "the same"\nweighting = "learned"\n', out=tmp_path / "run")
    told: list[str] = []
    make_side_by_side(Workshop(twice), cells_of(twice), workers=2, tell=told.append)
    assert [line.split(";")[0] for line in told] == ["begun: one, seed 0", "made:  one, seed 0", "begun: one, seed 1", "made:  one, seed 1"]


def test_what_is_wrong_with_a_cell_is_said_here(folder: Path, tmp_path: Path) -> None:
    wrong = written(folder, HEAD + ROWS.replace('model = "symbolic"', 'model = "symbolic:many"'), out=tmp_path / "run")
    teacher = [cell for cell in cells_of(wrong) if cell.row.name == "teacher"]
    with pytest.raises(ModelError, match="many"):
        make_side_by_side(Workshop(wrong), teacher, workers=2, tell=lambda _: None)
