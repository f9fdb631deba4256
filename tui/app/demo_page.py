"""A demo on the screen: what its report says, or which phase it has come to."""

from __future__ import annotations

from typing import Any

from rich.cells import set_cell_size
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.app.shelf import SECONDS, RunFolder, table
from tui.app.speed import lasting
from tui.app.text import inert, one_line

WHO = {"teacher": "the teacher", "base": "the base model", "student": "the student"}


class DemoPage(VerticalScroll, can_focus=True):
    """The runs inside a demo are in the list of runs; this is what they came to."""

    DEFAULT_CSS = """
    DemoPage { height: 1fr; padding: 0 1; }
    DemoPage Static { height: auto; }
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run = run

    def compose(self) -> ComposeResult:
        yield Static("", id="story", markup=False)

    def on_mount(self) -> None:
        self.show(self.run)

    def show(self, run: RunFolder) -> None:
        """The folder as it is now."""
        self.run = run
        if self.is_mounted:
            self.query_one("#story", Static).update(story(run))

    def enter(self) -> None:
        """Take the keyboard."""
        self.focus()


def story(run: RunFolder) -> Content:
    """The report in words; of a demo that is not finished, its phases."""
    report = run.report
    parts = [inert(run.progress)]
    if report:
        parts += [_scores(report), _swap(report.get("swap"))]
    parts.append(_phases(report.get("seconds") or table(run.path / SECONDS)))
    return Content("\n\n").join(part for part in parts if part)


def _scores(report: dict[str, Any]) -> Content:
    lines = [Content(f"{'':15}  {'EM':>6}  {'95 % of EM':>15}  {'F1':>6}  {'s a question':>12}").stylize("bold")]
    for who, words in WHO.items():
        judged = report.get(who)
        if isinstance(judged, dict):
            interval = judged.get("ci")
            low, high = interval if isinstance(interval, list) and len(interval) == 2 else (None, None)
            cells = (_figure(judged.get("em"), 6), f"{_figure(low, 6)} – {_figure(high, 6)}", _figure(judged.get("f1"), 6), _figure(judged.get("seconds"), 12))
            lines.append(inert(f"{words:15}  {'  '.join(cells)}"))
    count = next((report[who].get("n") for who in WHO if isinstance(report.get(who), dict)), None)
    lines.append(inert(f"over {one_line(str(count))} held-out questions about names never seen in training"))
    return Content("\n").join(lines)


def _swap(swap: Any) -> Content:
    """The same question before and after."""
    if not isinstance(swap, dict):
        return Content()
    lines = [Content("the swap").stylize("bold"), inert(f"{_plain(swap.get('runs'))} runs around it, {_plain(swap.get('failed_runs'))} failed")]
    for when in ("before", "after"):
        said = swap.get(when)
        if isinstance(said, dict):
            if when == "before":
                lines.append(inert(f"question: {_plain(said.get('question'))} (gold: {_plain(said.get('gold'))})"))
            lines.append(inert(f"{when:6}  {_plain(said.get('model'))} answered: {_plain(said.get('answer')) or '(nothing)'}"))
    return Content("\n").join(lines)


def _phases(seconds: Any) -> Content:
    if not isinstance(seconds, dict) or not seconds:
        return Content("no phase has ended yet")
    lines = [Content("phases").stylize("bold")]
    lines += [inert(f"{set_cell_size(one_line(name), 18)}  {lasting(took) if isinstance(took, int | float) else '?'}") for name, took in seconds.items()]
    return Content("\n").join(lines)


def _figure(value: object, width: int) -> str:
    return f"{value:{width}.3f}" if isinstance(value, int | float) else f"{'?':>{width}}"


def _plain(value: object) -> str:
    return one_line(str(value)) if value is not None else "?"
