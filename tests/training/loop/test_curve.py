"""A run's curve: appended, cut back to a checkpoint, read up to its last whole line, and told as one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from steper_agent.errors import DataError
from training.loop.curve import Curve, CurvePoint
from training.loop.live import Live


def point(step: int, *, loss: float = 2.0, seconds: float | None = None) -> CurvePoint:
    return CurvePoint(step=step, seconds=step if seconds is None else seconds, tokens=100 * step, rate=1e-3,
                      loss={"initialization": loss, "aggregation": loss / 2},
                      sigma={"initialization": 1.0, "expansion": 1.0, "aggregation": 0.5})


@pytest.fixture
def curve(tmp_path: Path) -> Curve:
    made = Curve(tmp_path / "curve.jsonl")
    for step in range(1, 6):
        made.append(point(step))
    return made


def test_points_come_back_as_they_were_written(curve: Curve) -> None:
    assert curve.read() == [point(step) for step in range(1, 6)]


def test_no_file_is_an_empty_curve(tmp_path: Path) -> None:
    assert Curve(tmp_path / "none.jsonl").read() == []


@pytest.mark.parametrize("step", [0, 3, 5, 9])
def test_points_after_a_checkpoint_are_dropped(curve: Curve, step: int) -> None:
    curve.keep_until(step)
    assert curve.read() == [point(kept) for kept in range(1, 1 + min(step, 5))]
    curve.append(point(step + 1))
    assert curve.read()[-1] == point(step + 1)


def test_a_half_written_last_line_is_left_out(curve: Curve) -> None:
    whole = curve.path.read_bytes()
    for cut in range(1, len(whole) // 5, 7):
        curve.path.write_bytes(whole[:-cut])
        assert curve.read() == [point(step) for step in range(1, 5)]
    curve.keep_until(9)
    curve.append(point(5))
    assert curve.path.read_bytes() == whole


def test_a_whole_line_that_is_no_point_is_named(curve: Curve) -> None:
    with curve.path.open("a") as file:
        file.write('{"step": 6}\n')
    with pytest.raises(DataError) as caught:
        curve.read()
    assert caught.value.where == f"{curve.path}:6"


def test_a_terminal_or_a_log_is_told_how_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with Live() as live:
        live.show(point(1), 100)
        live.show(point(2), 100)
        live.show(point(100), 100)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("1/100  first loss 2.000 σ 1.00  last loss 1.000 σ 0.50")
    assert last.startswith("100/100  ")
    assert last.endswith("100 tokens/s  0:00 left")
    assert "middle" not in last


@pytest.mark.parametrize(("seconds", "left"), [(2.0, "1:38 left"), (1.5, "0:49 left"), (121.0, "196:00 left")])
def test_the_pace_leaves_the_first_update_out(seconds: float, left: str) -> None:
    live = Live()
    live.console = Console(quiet=True)
    live.show(point(1, seconds=1.0), 100)
    live.show(point(2, seconds=seconds), 100)
    assert live.bar.tasks[0].description.endswith(left)


def test_losses_are_running_means() -> None:
    live = Live()
    live.console = Console(quiet=True)
    live.show(point(1, loss=2.0), 9)
    live.show(point(2, loss=1.0), 9)
    assert live.losses == pytest.approx({"initialization": 1.9, "aggregation": 0.95})
