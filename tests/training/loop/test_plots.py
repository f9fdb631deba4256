"""Pictures of a run: two PNGs for any curve, and a running mean that starts where the curve does."""

from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.records import KINDS, Kind
from training.loop.curve import CurvePoint
from training.loop.plots import COLOURS, draw_curves, smoothed


def points(count: int, *kinds: Kind) -> list[CurvePoint]:
    return [CurvePoint(step=step, seconds=step, tokens=step, rate=1e-3, loss=dict.fromkeys(kinds, 9.0 / step),
                       sigma=dict.fromkeys(KINDS, 1.0 + step)) for step in range(1, count + 1)]


@pytest.mark.parametrize("kinds", [KINDS, ("aggregation",), ()])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_every_curve_is_drawn(tmp_path: Path, kinds: tuple[Kind, ...], count: int) -> None:
    pictures = draw_curves(points(count, *kinds), tmp_path)
    assert [path.name for path in pictures] == ["loss.png", "sigma.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_every_kind_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(KINDS)
    assert len(set(COLOURS.values())) == len(KINDS)


def test_the_running_mean_starts_at_the_first_value_and_stays_between() -> None:
    assert smoothed([]) == []
    assert smoothed([5.0] * 20) == pytest.approx([5.0] * 20)
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    means = smoothed(values)
    assert means[0] == pytest.approx(3.0)
    assert all(1.0 <= mean <= 5.0 for mean in means)
    assert smoothed([1.0] * 200 + [2.0] * 200)[-1] == pytest.approx(2.0, abs=1e-6)
