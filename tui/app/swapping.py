"""A swap as it is watched: its phases with their seconds, why a student was refused, and the questions before a decision."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widgets import Button, Input, Static

from tui.app.field import Field
from tui.app.text import inert, one_line, shown

if TYPE_CHECKING:
    from steper_agent.models.slot import SwapReport

PHASES = ("preflight", "load", "warm", "canary", "gate", "switch", "drain", "unload")
"""Of a swap, in their order; one that is not needed is passed over."""
Status = Literal["waiting", "running", "done", "failed", "not run"]
SIGNS: dict[Status, str] = {"waiting": "·", "running": "▶", "done": "✓", "failed": "✗", "not run": "–"}
STYLES: dict[Status, str] = {"waiting": "dim", "running": "bold $accent", "done": "$success", "failed": "bold $error", "not run": "dim"}
STILL_USED = "runs still use the old version: it stays loaded until they end"
TICK = 0.25
"""Seconds between two looks at the clock while a phase runs."""
SILENT = {"preflight", "load", "warm", "canary", "switch"}
"""What these phases tell is who is swapped in, which stands above; a gate tells how far it is, the later ones who goes."""
NO_GATE = """\
There is no gate here: nothing says whether it answers as well as what serves now. To have one, give questions with their
answers when you start: steper chat --gate QUESTIONS.jsonl"""
WORLD_QUESTIONS = 100
"""Of the micro-world's own gate; on two cores both models answer them in about a minute."""
Answered = TypeVar("Answered")


class Gate(NamedTuple):
    """What a student must pass to be swapped in: it and what serves now answer the same questions, and are compared."""

    questions: Path | None = None
    """A file of questions with their answers; None: the micro-world's own."""
    min_delta: float = -1.0
    """Least gain in points of EM; -1 allows to lose one."""

    def about(self, *, has_world: bool) -> str:
        """What is asked and what is wanted, in words; empty where there is nothing to ask."""
        if self.questions is None and not has_world:
            return ""
        asked = f"the questions of {self.questions}" if self.questions else f"{WORLD_QUESTIONS} questions about the micro-world"
        return f"{asked}; at least {self.min_delta:+.1f} points of EM are wanted"


class Stage(NamedTuple):
    """A phase as it stands."""

    phase: str
    status: Status
    seconds: float | None
    """Since it began, or that it took; None where it never began."""
    words: str


@dataclass(slots=True)
class Course:
    """A swap from its beginning to its report, added up from what it tells. Times are seconds of one clock."""

    wanted: str
    """Who is to serve."""
    begun: float
    phases: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Every phase that began → when, and the words it came with."""
    ended: float | None = None
    reason: str | None = None
    """Why it was refused; None while it runs and where it went well."""
    report: SwapReport | None = None
    """None while it runs, and where it ended without one."""

    def enter(self, phase: str, words: str, at: float) -> None:
        """`failed` is no phase: it tells how the running one ended. A phase that is entered again tells how far it is."""
        if phase == "failed":
            self.reason = words
        else:
            self.phases[phase] = (self.phases.get(phase, (at, ""))[0], words)

    def end(self, report: SwapReport, at: float) -> None:
        self.report, self.ended, self.reason = report, at, None if report.ok else report.reason

    def fail(self, reason: str, at: float) -> None:
        """It ended without a report."""
        self.ended, self.reason = at, reason

    def lasted(self, now: float) -> float:
        """Seconds from its beginning to its end, or to now."""
        return self._until(now) - self.begun

    def stages(self, now: float) -> list[Stage]:
        """Every phase; one it did not announce beforehand comes last."""
        names = (*PHASES, *(phase for phase in self.phases if phase not in PHASES))
        return [Stage(name, self._status(name), self._seconds(name, now), self._words(name)) for name in names]

    def _status(self, phase: str) -> Status:
        began = list(self.phases)
        if phase not in self.phases:
            passed = any(phase in PHASES[: PHASES.index(each)] for each in began if each in PHASES)
            return "not run" if passed or self.ended is not None or self.reason is not None else "waiting"
        if phase != began[-1]:
            return "done"
        if self.reason is not None:
            return "failed"
        return "running" if self.ended is None else "done"

    def _seconds(self, phase: str, now: float) -> float | None:
        if phase not in self.phases:
            return None
        told = {str(name): seconds for name, seconds in self.report.seconds.items()} if self.report else {}
        began = [at for at, _ in self.phases.values()]
        later = began[list(self.phases).index(phase) + 1 :]
        return told.get(phase, (later[0] if later else self._until(now)) - self.phases[phase][0])

    def _until(self, now: float) -> float:
        return now if self.ended is None else self.ended

    def _words(self, phase: str) -> str:
        if phase == "drain" and self.report and self.report.drained is False:
            return STILL_USED
        return self.phases.get(phase, (0.0, ""))[1]


def course_content(course: Course, now: float) -> Content:
    """What the swap is or came to, a refusal's reason in full, and the phases, one a line."""
    why = [] if course.reason is None else [inert(course.reason)]
    return Content("\n").join([_heading(course, now), *why, *map(_line, course.stages(now))])


def _heading(course: Course, now: float) -> Content:
    wanted, seconds = one_line(course.wanted, 60), f"{course.lasted(now):.1f} s"
    if course.ended is None:
        return Content.styled(f"▶ swapping: {wanted} is to serve here ({seconds})", "bold $accent")
    if course.reason is not None:
        stays = f"; {one_line(course.report.after, 60)} serves on" if course.report else ""
        return Content.styled(f"✗ refused: {wanted} does not serve here{stays} ({seconds})", "bold $error")
    return Content.styled(f"✓ {wanted} serves here now ({seconds})", "bold $success")


def _line(stage: Stage) -> Content:
    seconds = "" if stage.seconds is None else f"{stage.seconds:.2f} s"
    words = "" if stage.phase in SILENT else one_line(stage.words, 200)
    return Content.assemble(
        (f"{SIGNS[stage.status]} ", STYLES[stage.status]), f"{one_line(stage.phase, 20):<10}",
        (f"{stage.status:<8}", STYLES[stage.status]), f"{seconds:>9}  ", (words, "dim"),
    )  # fmt: skip


class SwapProgress(Static):
    """The last swap, running or over; no room is taken before the first."""

    DEFAULT_CSS = """
    SwapProgress { height: auto; border: round $primary; padding: 0 1; margin-bottom: 1; }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self.border_title = "swap"
        self.display = False
        self.course: Course | None = None
        self._clock: Timer | None = None

    @property
    def is_swapping(self) -> bool:
        return self.course is not None and self.course.ended is None

    def on_mount(self) -> None:
        self._clock = self.set_interval(TICK, self._draw, pause=True)

    def begin(self, wanted: str) -> None:
        """A swap starts; the one before it is seen no more."""
        self.course, self.display = Course(wanted, time.monotonic()), True
        if self._clock:
            self._clock.resume()
        self._draw()

    def enter(self, phase: str, words: str, at: float) -> None:
        """A phase began at this time of the monotonic clock."""
        if self.course:
            self.course.enter(phase, words, at)
            self._draw()

    def end(self, report: SwapReport) -> None:
        if self.course:
            self.course.end(report, time.monotonic())
            self._stop()

    def fail(self, reason: str) -> None:
        """It ended without a report."""
        if self.course:
            self.course.fail(reason, time.monotonic())
            self._stop()

    def _stop(self) -> None:
        if self._clock:
            self._clock.pause()
        self._draw()

    def _draw(self) -> None:
        if self.course:
            self.update(course_content(self.course, time.monotonic()))


class Asking(ModalScreen[Answered | None]):
    """A question before something changes: a title, what it is about, buttons. Comes to None where a person leaves it."""

    DEFAULT_CSS = """
    Asking { align: center middle; }
    Asking > Vertical {
        width: 72; max-width: 96%; height: auto; max-height: 96%; padding: 1 2; border: round $primary; background: $surface;
        overflow-y: auto;
    }
    Asking Input { margin-top: 1; }
    Asking Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    Asking Button { margin-left: 1; }
    """
    BINDINGS = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, title: str, about: str) -> None:
        super().__init__()
        self._title, self._about = title, about

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled(shown(self._title), "bold"), markup=False)
            yield Static(inert(self._about), markup=False)
            yield from self.answers()

    def answers(self) -> ComposeResult:
        """What a person chooses among."""
        raise NotImplementedError

    def action_cancel(self) -> None:
        self.dismiss(None)


class Decision(Asking[str]):
    """Asks before something changes for others too. Comes to the reason a person gives, which may be empty."""

    def __init__(self, title: str, about: str, verb: str) -> None:
        super().__init__(title, about)
        self._verb = verb

    def answers(self) -> ComposeResult:
        yield Field(placeholder="reason, kept in the history (may be empty)")
        with Horizontal():
            yield Button(self._verb, variant="primary", id="yes")
            yield Button("Cancel", id="no")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(self.query_one(Input).value if event.button.id == "yes" else None)


class SwapDecision(Asking[bool]):
    """Asks on which terms a student is swapped in. Comes to whether it goes through the gate, the first choice where there is one."""

    BINDINGS = [Binding("g", "swap(True)", "Through the gate"), Binding("w", "swap(False)", "Without a gate")]

    def __init__(self, wanted: str, serving: str, gate: str) -> None:
        """`gate`: what is asked, and what is wanted, in words; empty where there is none."""
        through = (
            f"Through the gate: first it and {serving or 'what serves now'} answer {gate}. Until then, and where it falls short, the "
            "old one serves on.\n\nWithout a gate: it serves as soon as it says what its trainer saw it say. Nobody has looked whether "
            "it answers as well."
        )
        super().__init__(f"Swap in {wanted}?", through if gate else NO_GATE)
        self._has_gate = bool(gate)

    def answers(self) -> ComposeResult:
        with Horizontal():
            if self._has_gate:
                yield Button("Through the gate", variant="primary", id="gated")
            yield Button("Without a gate", id="ungated")
            yield Button("Cancel", id="no")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss({"gated": True, "ungated": False}.get(str(event.button.id)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        return self._has_gate or (action, *parameters) != ("swap", True)

    def action_swap(self, is_gated: bool) -> None:
        self.dismiss(is_gated)
