"""Pictures of a training run: loss and σ per kind over the updates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from steper_agent.records import KINDS
from training.loop.curve import CurvePoint

COLOURS = {"initialization": "#0072b2", "expansion": "#d55e00", "aggregation": "#009e73"}
"""Told apart by colour-blind readers too."""


def draw_curves(curve: Sequence[CurvePoint], folder: Path) -> tuple[Path, Path]:
    """Write loss.png and sigma.png into `folder`."""
    return (_draw(curve, "loss", "loss per trajectory [nats]", folder / "loss.png"),
            _draw(curve, "sigma", "σ", folder / "sigma.png"))


def _draw(curve: Sequence[CurvePoint], figure: Literal["loss", "sigma"], label: str, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot: no global state, no display, safe in a thread.
    canvas = FigureCanvasAgg(Figure(figsize=(7, 4), layout="constrained"))
    axes = canvas.figure.add_subplot()
    for kind in KINDS:
        points = [(point.step, getattr(point, figure)[kind]) for point in curve if kind in getattr(point, figure)]
        if not points:
            continue
        steps, values = zip(*points, strict=True)
        if figure == "loss":
            axes.plot(steps, values, color=COLOURS[kind], alpha=0.25, linewidth=0.8)
            values = tuple(smoothed(values))
        axes.plot(steps, values, color=COLOURS[kind], label=kind)
    axes.set_xlabel("update")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.set_yscale("log")
        axes.legend()
    canvas.figure.savefig(path, dpi=150)
    return path


def smoothed(values: Sequence[float], share: float = 0.9) -> list[float]:
    """Exponential running mean without the pull to zero at the start."""
    made, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = share * total + (1 - share) * value, share * weight + (1 - share)
        made.append(total / weight)
    return made
