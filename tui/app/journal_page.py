"""A collection or an evaluation on the screen: how far, how fast, how well so far, and its journal."""

from __future__ import annotations

import time
from typing import Any

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import ProgressBar, Static

from tui.app.rows import Tally
from tui.app.shelf import JOURNAL, RunFolder
from tui.app.speed import Speed, lasting
from tui.app.text import inert, one_line
from tui.app.trajectories import JournalBrowser, TrajectoryList


class JournalPage(Container):
    """Figures above, trajectories below."""

    DEFAULT_CSS = """
    JournalPage { height: 1fr; }
    JournalPage #facts { height: auto; max-height: 6; padding: 0 1; }
    JournalPage ProgressBar { height: 1; padding: 0 1; width: 100%; }
    """

    def __init__(self, run: RunFolder) -> None:
        super().__init__()
        self.run = run
        self.found: Tally | None = None
        self._speed = Speed()

    def compose(self) -> ComposeResult:
        yield Static("", id="facts", markup=False)
        yield ProgressBar(show_eta=False, total=self.run.total)
        yield JournalBrowser(self.run.path / JOURNAL)

    def on_mount(self) -> None:
        self._draw()

    def show(self, run: RunFolder) -> None:
        """The folder as it is now."""
        self.run = run
        if run.state == "running":
            self._speed.note(time.monotonic(), run.done)
        if self.is_mounted:
            self._draw()

    def enter(self) -> None:
        """Take the keyboard."""
        self.query_one(TrajectoryList).focus()

    def on_journal_browser_grew(self, grew: JournalBrowser.Grew) -> None:
        self.found = grew.found
        self._draw()

    def _draw(self) -> None:
        lines = [" · ".join(words) for words in (self._progress(), self._outcomes(), _scores(self.run.report)) if words]
        self.query_one("#facts", Static).update(inert("\n".join(lines)))
        bar = self.query_one(ProgressBar)
        bar.update(total=self.run.total, progress=self.run.done)
        bar.display = self.run.total is not None and self.run.state != "finished"

    def _progress(self) -> list[str]:
        run = self.run
        said = [run.progress]
        if run.state == "running":
            speed, left = self._speed.a_second, self._speed.left(run.total)
            said.append(f"{60 * speed:,.1f} questions a minute" if speed else "throughput is being measured")
            said += [f"{lasting(left)} left"] if left is not None else []
        elif run.kind == "collect":
            said += _past_speed(run.report)
        for name in ("teacher", "model", "strategy", "k"):
            if isinstance(run.settings.get(name), str | int):
                said.append(f"{name} {one_line(str(run.settings[name]), 60)}")
        return said

    def _outcomes(self) -> list[str]:
        found = self.found
        if found is None:
            return []
        stops = {"answered": "answered", "budget": "budget spent", "error": "failed"}
        said = [f"{found.stops[stop]:,} {word}" for stop, word in stops.items() if found.stops.get(stop)]
        said += [f"{found.parse_errors:,} with parse errors", f"{found.empty_retrievals:,} with empty retrievals"]
        if found.judged:
            said.append(f"EM {found.right / found.judged:.3f} of {found.judged:,} with gold answers")
        return said


def _past_speed(report: dict[str, Any]) -> list[str]:
    """Of the last start of a collection."""
    finished, already, seconds = (report.get(name) for name in ("finished", "already", "seconds"))
    if isinstance(finished, int) and isinstance(already, int) and isinstance(seconds, int | float) and finished > already and seconds > 0:
        return [f"{60 * (finished - already) / seconds:,.1f} questions a minute"]
    return []


def _scores(report: dict[str, Any]) -> list[str]:
    """Of a finished evaluation."""
    evaluation = report.get("evaluation")
    score = evaluation.get("score") if isinstance(evaluation, dict) else None
    if not isinstance(score, dict):
        return []
    said = [f"{name} {score[key]:.3f}" for name, key in (("EM", "em"), ("F1", "f1"), ("Acc", "acc")) if isinstance(score.get(key), int | float)]
    return [f"report: {', '.join(said)} of {score.get('n')} questions"]
