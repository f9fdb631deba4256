"""One line that says how a training run is going: step, loss and σ of each kind, tokens a second, time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from training.loop.curve import CurvePoint

SHORT = {"initialization": "first", "expansion": "middle", "aggregation": "last"}
LINE_EVERY = 30.0
"""Seconds between two lines where no terminal shows a bar."""


class Live:
    """A bar on a terminal, now and then a plain line elsewhere. Figures are running means over about ten updates."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(MofNCompleteColumn(), BarColumn(bar_width=16), TextColumn("{task.description}"),
                            console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task("", total=None)
        self.losses: dict[str, float] = {}
        self.first: CurvePoint | None = None
        self.told = float("-inf")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.bar.stop()

    def note(self, said: str) -> None:
        self.console.print(said, highlight=False, markup=False, soft_wrap=True)

    def show(self, point: CurvePoint, steps: int) -> None:
        self.first = self.first or point
        for kind, loss in point.loss.items():
            self.losses[kind] = 0.9 * self.losses.get(kind, loss) + 0.1 * loss
        said = f"{self._kinds(point)}  {self._pace(point, steps)}"
        self.bar.update(self.task, total=steps, completed=point.step, description=said)
        if not self.console.is_terminal and (point.step == steps or time.monotonic() - self.told > LINE_EVERY):
            self.told = time.monotonic()
            self.console.print(f"{point.step}/{steps}  {said}", highlight=False, soft_wrap=True)

    def _kinds(self, point: CurvePoint) -> str:
        return "  ".join(f"{SHORT[kind]} loss {self.losses[kind]:.3f} σ {sigma:.2f}"
                         for kind, sigma in point.sigma.items() if kind in self.losses)

    def _pace(self, point: CurvePoint, steps: int) -> str:
        """The first update of this process is left out: it holds the start-up."""
        first = self.first or point
        seconds, updates = point.seconds - first.seconds, point.step - first.step
        if not updates or seconds <= 0:
            return ""
        left = (steps - point.step) * seconds / updates
        return f"{(point.tokens - first.tokens) / seconds:,.0f} tokens/s  {left // 60:.0f}:{left % 60:02.0f} left"
