"""When something in the background fails unexpectedly: a panel tells what, in plain words, and the app lives on."""

from __future__ import annotations

import traceback
from typing import Any, NamedTuple

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Footer, Input, Static, TabPane, TextArea
from textual.worker import Worker, WorkerState
from textual.worker_manager import WorkerManager

from steper_agent.errors import StepERError
from tui.app.text import inert, shown

MOST_WHAT = 600
"""Characters of what an exception says; the rest is in the traceback."""
MOST_TRACE = 20_000
"""Characters of a traceback, its end: that is where it failed."""
KEPT = 5
"""Different crashes that a panel remembers."""


class Crash(NamedTuple):
    """Equal ones are the same fault again."""

    where: str
    what: str
    """The exception, in a line or a few."""
    trace: str
    """Where it came from, for whoever is to mend it."""


class WatchedWorkers(WorkerManager):
    """The workers of an app that tells whenever one of them fails, and never exits for it: `exit_on_error` says nothing here."""

    def add_worker(self, worker: Worker[Any], start: bool = True, exclusive: bool = True) -> None:
        worker.exit_on_error = False
        super().add_worker(worker, start, exclusive)

    def _remove_worker(self, worker: Worker[Any]) -> None:
        super()._remove_worker(worker)
        error = worker.error if worker.state is WorkerState.ERROR else None
        # A pane that listens to its workers tells what we refuse (nothing has crashed then) in its own place.
        is_told = isinstance(error, StepERError) and hasattr(worker.node, "on_worker_state_changed")
        if error is not None and not is_told:
            self._app.call_later(tell_crash, self._app, crash_of(worker.node, worker.group, error))


def crash_of(node: DOMNode, group: str, error: BaseException) -> Crash:
    """What is told of an exception that a worker of this node and group ended with."""
    pane = next((one for one in node.ancestors_with_self if isinstance(one, TabPane)), None)
    where = str(pane.id).capitalize() if pane else "the cockpit"
    said = str(error) if isinstance(error, StepERError) else "".join(traceback.format_exception_only(error)).strip()
    return Crash(where if group == "default" else f"{where} ({group})", said, "".join(traceback.format_exception(error)))


def tell_crash(app: App[Any], crash: Crash) -> None:
    """On the panel at the bottom of the first screen, which is put there with the first crash."""
    screen = next(iter(app.screen_stack), None)
    if screen is None or not screen.is_running:
        return  # The app is closing: whatever is left of it may fail, and nobody looks any more.
    panel = next(iter(screen.query(CrashPanel)), None)
    if panel is None:
        panel = CrashPanel()
        screen.mount(panel, before=next(iter(screen.query(Footer)), None))
    panel.tell(crash)


class CrashPanel(Vertical):
    """The newest crash, how often it came, and what else failed. A fault that was closed is not told again.

    It takes the keys only from somebody who is not writing; tab leads to it, too.
    """

    DEFAULT_CSS = """
    CrashPanel { height: auto; max-height: 50%; padding: 0 1; background: $surface; border-top: thick $error; }
    CrashPanel #what { height: auto; max-height: 6; }
    CrashPanel #keys { height: 1; }
    CrashPanel Button { margin: 0 2 0 0; }
    CrashPanel #trace { height: auto; max-height: 20; display: none; border-top: solid $error; }
    """
    BINDINGS = [Binding("t", "trace", "Traceback"), Binding("c", "copy", "Copy"), Binding("escape", "close", "Close")]

    def __init__(self) -> None:
        super().__init__()
        self._crashes: dict[Crash, int] = {}
        self._dismissed = frozenset[Crash]()
        self._before: Widget | None = None

    def compose(self) -> ComposeResult:
        yield VerticalScroll(Static("", markup=False), id="what", can_focus=False)
        with Horizontal(id="keys"):
            yield Button("Traceback", id="show", compact=True)
            yield Button("Copy", id="copy", compact=True)
            yield Button("Close", id="close", compact=True)
        yield VerticalScroll(Static("", markup=False), id="trace")

    def on_mount(self) -> None:
        self._draw()
        self._take_keys()

    def tell(self, crash: Crash) -> None:
        """It is shown as the newest."""
        self._crashes[crash] = self._crashes.pop(crash, 0) + 1
        for oldest in list(self._crashes)[:-KEPT]:
            del self._crashes[oldest]
        if crash not in self._dismissed and self.is_mounted:
            was_hidden, self.display = not self.display, True
            self._draw()
            if was_hidden:
                self._take_keys()

    @property
    def report(self) -> str:
        """All that is remembered, the newest first, for the clipboard and for whoever is to mend it."""
        return shown("\n\n".join(f"{one.where}: {one.what}\n\n{one.trace[-MOST_TRACE:]}" for one in reversed(self._crashes)), KEPT * 2 * MOST_TRACE)

    def on_button_pressed(self, pressed: Button.Pressed) -> None:
        pressed.stop()
        {"show": self.action_trace, "copy": self.action_copy, "close": self.action_close}[str(pressed.button.id)]()

    def action_trace(self) -> None:
        trace = self.query_one("#trace")
        trace.display = not trace.display
        self._draw()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.report)
        self.notify("What failed, and its traceback, is in the clipboard.")

    def action_close(self) -> None:
        self._dismissed = frozenset(self._crashes)
        had_keys, self.display = self.has_focus_within, False
        if had_keys and self._before is not None and self._before.is_attached:
            self._before.focus()

    def _take_keys(self) -> None:
        screen = self.screen
        if isinstance(screen, Screen) and not isinstance(screen.focused, Input | TextArea):
            self._before = screen.focused
            self.query_one("#show").focus()

    def _draw(self) -> None:
        newest = list(self._crashes)[-1]
        times, others = self._crashes[newest], len(self._crashes) - 1
        told = [f"✗ Something failed in {newest.where}", *([f"{times} times"] if times > 1 else []), *([f"{others} other faults before"] if others else [])]
        what = Content.assemble((", ".join(told), "bold"), "\n", inert(newest.what, MOST_WHAT), ("\nThe rest of the cockpit goes on.", "dim"))
        self.query_one("#what > Static", Static).update(what)
        if self.query_one("#trace").display:
            self.query_one("#trace > Static", Static).update(Content(self.report))
