"""How training goes, drawn in the terminal: loss and σ of each kind of step, live."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import ProgressBar, Static
from textual.worker import get_current_worker
from textual_plotext import PlotextPlot

from steper_agent.errors import told
from steper_agent.records import KINDS, Kind
from training.loop.curve import CurvePoint
from tui.app.shelf import CURVE, RunFolder
from tui.app.speed import lasting
from tui.app.tail import Tail
from tui.app.text import inert

EVERY = 1.0
LETTERS: dict[Kind, str] = {"initialization": "I", "expansion": "E", "aggregation": "A"}
"""What stands on a kind's line, so that nobody needs to tell colours apart."""
WORDS: dict[Kind, str] = {"initialization": "first step", "expansion": "middle steps", "aggregation": "last step"}
COLORS = {"initialization": "blue+", "expansion": "orange+", "aggregation": "green+"}
MOST, MARKS, RECENT = 400, 6, 50
"""Points of a line, letters on it, and the updates that the throughput is measured over."""


class CurveFollower:
    """The points of a `curve.jsonl` that grows; a resumed run, which writes the file anew, is read anew."""

    def __init__(self, path: Path) -> None:
        self.points: list[CurvePoint] = []
        self.bad = 0
        """Whole lines that are no point of a curve."""
        self._tail = Tail(path)

    def read(self) -> bool:
        """Take in what is new; whether there was anything."""
        piece = self._tail.read()
        if piece is None:
            return False
        if piece.is_restart:
            self.points, self.bad = [], 0
        for line in piece.data.splitlines():
            try:
                self.points.append(CurvePoint.model_validate_json(line))
            except ValidationError:
                self.bad += 1
        return True


def smooth(values: Sequence[float], keep: float = 0.9) -> list[float]:
    """A running mean over about ten updates, as the trainer prints it."""
    means: list[float] = []
    for value in values:
        means.append(keep * means[-1] + (1 - keep) * value if means else value)
    return means


def thin(xs: Sequence[float], ys: Sequence[float], most: int = MOST) -> tuple[list[float], list[float]]:
    """At most about so many of the points, evenly spaced, the last one always."""
    every = max(1, len(xs) // most)
    rows = sorted({*range(0, len(xs), every), len(xs) - 1}) if xs else []
    return [xs[row] for row in rows], [ys[row] for row in rows]


def pace(points: Sequence[CurvePoint], total: int | None) -> tuple[float, float | None]:
    """Tokens a second, and seconds left where the number of updates is known: over the newest updates.

    A resumed run goes on counting its seconds, so its break is not in them.
    """
    if len(points) < 2:
        return 0.0, None
    first, last = points[max(0, len(points) - RECENT)], points[-1]
    seconds = last.seconds - first.seconds
    if seconds <= 0 or last.step <= first.step:
        return 0.0, None
    left = None if total is None else max(0, total - last.step) * seconds / (last.step - first.step)
    return (last.tokens - first.tokens) / seconds, left


class Plot(PlotextPlot):
    """A line for each kind, with its letter on it."""

    can_focus = False

    def draw(self, title: str, lines: dict[Kind, tuple[list[float], list[float]]]) -> None:
        """Draw these lines (updates, values) instead of those before."""
        plot = self.plt
        plot.clear_data()
        plot.title(title)
        last = max((xs[-1] for xs, _ in lines.values() if xs), default=1.0)
        ticks = sorted({1.0, *(float(round(last * part / 4)) for part in range(1, 5))})
        plot.xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        drawn = [(kind, xs, ys) for kind, (xs, ys) in lines.items() if xs]
        for kind, xs, ys in drawn:
            plot.plot(xs, ys, color=COLORS[kind], marker="braille")
        for place, (kind, xs, ys) in enumerate(drawn, start=1):
            # Lines that lie on each other carry their letters in turn.
            rows = sorted({round((len(xs) - 1) * (number + place / len(drawn)) / MARKS) for number in range(MARKS)})
            plot.scatter([xs[row] for row in rows], [ys[row] for row in rows], color=COLORS[kind], marker=LETTERS[kind])
        self.refresh()


class DistillPage(Container):
    """A distillation: how far, how fast, and its curves; `s` changes between loss and σ where there is room for one."""

    DEFAULT_CSS = """
    DistillPage { height: 1fr; }
    DistillPage #facts { height: auto; padding: 0 1; }
    DistillPage ProgressBar { height: 1; padding: 0 1; width: 100%; }
    DistillPage #plots { height: 1fr; min-height: 6; }
    DistillPage #legend { height: auto; padding: 0 1; }
    DistillPage.-narrow #sigma { display: none; }
    DistillPage.-narrow.-sigma #loss { display: none; }
    DistillPage.-narrow.-sigma #sigma { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("s", "switch", "Loss / σ")]

    class Read(Message):
        """The curve was read on, or why it cannot be."""

        def __init__(self, trouble: str = "") -> None:
            super().__init__()
            self.trouble = trouble

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run = run
        self.follower = CurveFollower(run.path / CURVE)
        self._is_reading = False
        self.can_focus = True

    def compose(self) -> ComposeResult:
        yield Static("", id="facts", markup=False)
        yield ProgressBar(show_eta=False, total=self.run.total)
        with Horizontal(id="plots"):
            yield Plot(id="loss")
            yield Plot(id="sigma")
        yield Static("", id="legend", markup=False)

    def on_mount(self) -> None:
        self.set_interval(EVERY, self._follow)
        self._draw()
        self._follow()

    def on_resize(self) -> None:
        self.set_class(self.size.width < 90, "-narrow")
        self._draw()

    def show(self, run: RunFolder) -> None:
        """The folder as it is now."""
        self.run = run
        if self.is_mounted:
            self._draw_facts()

    def enter(self) -> None:
        """Take the keyboard."""
        self.focus()

    def action_switch(self) -> None:
        self.toggle_class("-sigma")

    def _follow(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self._read_on()

    @work(thread=True, group="follow", exit_on_error=False)
    def _read_on(self) -> None:
        worker, is_new = get_current_worker(), False
        try:
            while not worker.is_cancelled and self.follower.read():
                is_new = True
            if is_new:
                self.post_message(self.Read())
        except OSError as bad:
            self.post_message(self.Read(told(bad)))
        finally:
            self._is_reading = False

    def on_distill_page_read(self, read: Read) -> None:
        if read.trouble:
            self.query_one("#legend", Static).update(inert(read.trouble))
        else:
            self._draw()

    def _draw(self) -> None:
        points = list(self.follower.points)
        self._draw_facts()
        losses = {kind: _line([(point.step, point.loss[kind]) for point in points if kind in point.loss], is_smooth=True) for kind in KINDS}
        sigmas = {kind: _line([(point.step, point.sigma[kind]) for point in points if kind in point.sigma]) for kind in KINDS}
        self.query_one("#loss", Plot).draw("loss by update", losses)
        self.query_one("#sigma", Plot).draw("σ by update", sigmas)
        self.query_one("#legend", Static).update(_legend(losses, sigmas, self.follower.bad, self.has_class("-narrow")))

    def _draw_facts(self) -> None:
        points, run = self.follower.points, self.run
        speed, left = pace(points, run.total)
        facts = [run.progress]
        if points:
            facts += [f"{points[-1].tokens:,} tokens", f"rate {points[-1].rate:.1e}"]
        if speed:
            facts.append(f"{speed:,.0f} tokens a second")
        if left is not None and run.state == "running":
            facts.append(f"{lasting(left)} left")
        if name := run.report.get("name"):
            facts.append(f"made {name}")
        self.query_one("#facts", Static).update(inert(" · ".join(facts)))
        self.query_one(ProgressBar).update(total=run.total, progress=points[-1].step if points else run.done)


def _line(pairs: Sequence[tuple[int, float]], *, is_smooth: bool = False) -> tuple[list[float], list[float]]:
    xs, ys = [float(x) for x, _ in pairs], [y for _, y in pairs]
    return thin(xs, smooth(ys) if is_smooth else ys)


def _legend(losses: dict[Kind, tuple[list[float], list[float]]], sigmas: dict[Kind, tuple[list[float], list[float]]], bad: int, is_narrow: bool) -> Content:
    if not any(xs for xs, _ in losses.values()):
        return Content("no update yet: the base model is being loaded, or the run was stopped before its first update")
    said = []
    for kind in KINDS:
        loss, sigma = losses[kind][1], sigmas[kind][1]
        figures = (f"loss {loss[-1]:.3f}" if loss else "not met yet") + (f", σ {sigma[-1]:.2f}" if sigma else "")
        said.append(Content.assemble((LETTERS[kind], "bold"), f" {kind}{'' if is_narrow else f' ({WORDS[kind]})'}: {figures}"))
    if bad:
        said.append(Content(f"! {bad} lines of {CURVE} are no points of a curve"))
    return Content(" · " if is_narrow else "\n").join(said)
