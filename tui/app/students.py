"""The students of a registry: who there is, who serves here, what sets two apart; swap, promote and roll back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Static
from textual.worker import Worker, WorkerState

from steper_agent.plain import plain
from steper_agent.records import StudentCard
from steper_agent.students.standing import Roll
from tui.app.desk import aside
from tui.app.student_card import (
    ABOUT,
    COLUMNS,
    Seen,
    StudentTable,
    card_content,
    difference_content,
    glance,
    history_content,
    read_difference,
    read_students,
    row_of,
    words_of,
)
from tui.app.swapping import Decision, SwapDecision, SwapProgress
from tui.app.text import inert

if TYPE_CHECKING:
    from steper_agent.models.slot import OnPhase, SwapReport
    from steper_agent.students.registry import Change, Registry

    Bring = Callable[[str | None, OnPhase, bool], SwapReport]

BARE = "base"
"""Key of the row that is no student: the base alone."""
BY = "steper tui"
POLL = 1.0
"""Seconds between two looks at the registry's history."""
NARROW = 110
"""Columns; below, the card is under the table instead of beside it."""
NOT_HERE = "no student can be swapped in here: the model that answers is none that students sit in (choose local:PATH or vllm:PATH)"


class StudentsPane(Container):
    """The registry's students beside the card of the chosen one.

    `serving()` is the version that answers in this app now, empty where none does yet; it is asked every second, so it must
    not block. `swap(name, on_phase, is_gated)` brings a student, or with None the bare base, into this app's seat; it is called in
    a thread, may block, and tells its phases from any thread. Without it nothing can be swapped here, and the pane says so.
    `gate()` says in words what a student must pass where it goes through the gate; empty where there is none. `follows`: this app
    goes along with what is live in the registry.
    """

    DEFAULT_CSS = """
    StudentsPane { layout: vertical; height: 1fr; }
    StudentsPane #body { layout: horizontal; height: 1fr; }
    StudentsPane DataTable { width: 3fr; height: 100%; }
    StudentsPane #beside { width: 2fr; height: 100%; padding: 0 1; border-left: solid $primary; }
    StudentsPane #difference { height: auto; border: round $primary; padding: 0 1; margin-bottom: 1; display: none; }
    StudentsPane #card { height: auto; }
    StudentsPane #note { height: auto; max-height: 8; padding: 0 1; background: $boost; display: none; }
    StudentsPane.narrow #body { layout: vertical; }
    StudentsPane.empty #beside { width: 100%; border: none; }
    StudentsPane.narrow DataTable { width: 100%; height: 2fr; }
    StudentsPane.narrow #beside { width: 100%; height: 3fr; border-left: none; border-top: solid $primary; }
    StudentsPane.narrow.empty #beside { border: none; }
    """
    BINDINGS = [
        Binding("s", "swap", "Swap here", show=False),
        Binding("p", "promote", "Promote"),
        Binding("b", "roll_back", "Roll back"),
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare"),
        Binding("u", "refresh", "Refresh"),
    ]

    class Swapped(Message):
        """A swap here has ended, well or not."""

        def __init__(self, report: SwapReport) -> None:
            super().__init__()
            self.report = report

    def __init__(
        self, registry: Registry | None, *, serving: Callable[[], str], swap: Bring | None = None,
        gate: Callable[[], str] = str, follows: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._registry, self._serving_now, self._bring, self._gate, self._follows = registry, serving, swap, gate, follows
        self._serving = ""
        self._seen = Seen(Roll(), {}, [])
        self._is_read = registry is None
        self._signature: tuple[int, int, int] | str | None = None
        self._cards: dict[str, StudentCard] = {}
        self._marked: list[str] = []

    def compose(self) -> ComposeResult:
        with Container(id="body"):
            table = StudentTable(cursor_type="row", zebra_stripes=True)
            for name in COLUMNS:
                table.add_column(Text(name))
            # Hidden from the start where it has nothing to show, so that the focus never falls on it.
            table.display = self._registry is not None
            yield table
            with VerticalScroll(id="beside"):
                yield SwapProgress()
                yield Static(id="difference", markup=False)
                yield Static(id="card", markup=False)
        with VerticalScroll(id="note"):
            yield Static(markup=False)

    def on_mount(self) -> None:
        self._serving = self._serving_now()
        self._draw()
        if self._registry is not None:
            self._read(self._registry)
        self.set_interval(POLL, self._look)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < NARROW, "narrow")

    def on_data_table_row_highlighted(self) -> None:
        self._draw_card()

    def on_student_table_taken(self) -> None:
        self.action_swap()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Whatever goes wrong in the background is read here, and the app lives on."""
        if event.state is not WorkerState.ERROR or event.worker.error is None:
            return
        words = words_of(event.worker.error)
        if event.worker.group == "swap":
            self.query_one(SwapProgress).fail(words)
        else:
            self._say(f"✗ {words}")

    def action_swap(self) -> None:
        """Bring the chosen student into this app's seat, on the terms a person chooses; the bare base comes back without asking."""
        progress = self.query_one(SwapProgress)
        if self._bring is None:
            self._say(NOT_HERE)
        elif progress.is_swapping:
            self._say("a swap is running: wait for its end, then swap again")
        elif not self._seen.students:
            self._say("there is no student to swap in")
        elif self._serves(self._chosen):
            self._say(f"{_name(self._chosen)} serves here already")
        elif self._chosen == BARE:
            self._begin(self._bring, None, is_gated=False)
        else:
            self._decide(self._bring, self._chosen)

    @work(exit_on_error=False)
    async def _decide(self, bring: Bring, name: str) -> None:
        is_gated = await self.app.push_screen_wait(SwapDecision(name, self._serving, self._gate()))
        if is_gated is not None:
            self._begin(bring, name, is_gated=is_gated)

    def _begin(self, bring: Bring, name: str | None, *, is_gated: bool) -> None:
        self._say("")
        self.query_one(SwapProgress).begin(name or _name(BARE))
        self.query_one("#beside").scroll_home(animate=False)
        self._swap(bring, name, is_gated)

    @work(group="swap", exit_on_error=False)
    async def _swap(self, bring: Bring, name: str | None, is_gated: bool) -> None:
        progress, loop, serving = self.query_one(SwapProgress), asyncio.get_running_loop(), self._serving

        def tell(phase: str, words: str) -> None:
            with suppress(RuntimeError):  # The app has quit: nobody watches any more.
                loop.call_soon_threadsafe(progress.enter, phase, words, time.monotonic())

        # A gate may take minutes, and nobody who quits shall wait for it.
        report = await aside(lambda: _reported(lambda: bring(name, tell, is_gated), serving))
        progress.end(report)
        self.post_message(self.Swapped(report))
        self._look()

    def action_promote(self) -> None:
        """Make the chosen student live in the registry, once a person has confirmed it."""
        known = self._seen.students.get(self._chosen)
        if self._registry is None or known is None:
            self._say("choose a student to promote; the bare base comes back by rolling back")
            return
        # Who was live when this was decided: another one by then is told, not overwritten.
        name, live = known.standing.name, self._seen.roll.live(known.standing.base)
        about = f"It goes live in every process that follows the registry. Live now: {live or _name(BARE)}."
        self._change(Decision(f"Promote {name}?", about, "Promote"), partial(self._registry.promote, name, expecting=live))

    def action_roll_back(self) -> None:
        """Make live in the registry what was live before, on the chosen student's base, or on the only base there is."""
        known, roll = self._seen.students.get(self._chosen), self._seen.roll
        bases = {known.standing.base} if known else {each.standing.base for each in self._seen.students.values()}
        if self._registry is None or len(bases) != 1:
            self._say("choose a student of the base that is to roll back")
            return
        base = bases.pop()
        live, back = roll.live(base), roll.before(base) or _name(BARE)
        if live is None:
            self._say(f"no student is live on base {base[:12]}: there is nothing to go back from")
            return
        about = f"On base {base[:12]}, {live} retires in every process that follows the registry, and {back} goes live."
        self._change(Decision(f"Roll back to {back}?", about, "Roll back"), partial(self._registry.rollback, base, expecting=live))

    @work(exit_on_error=False)
    async def _change(self, decision: Decision, change: Callable[..., Change]) -> None:
        reason = await self.app.push_screen_wait(decision)
        if reason is not None:
            self._say("checking …")
            done = await aside(lambda: change(by=BY, reason=reason))
            here = "" if self._follows else ". This app does not follow the registry: enter swaps it in here"
            self._say(f"✓ live now on base {done.base[:12]}: {done.after or _name(BARE)}; before: {done.before or _name(BARE)}{here}")
            self._look()

    def action_mark(self) -> None:
        """Mark the chosen student, or take its mark away; of three marks the oldest goes."""
        if self._chosen in self._marked:
            self._marked.remove(self._chosen)
        elif self._chosen in self._seen.students:
            self._marked = [*self._marked[-1:], self._chosen]
        else:
            self._say("only students are compared: mark two of them")
        self._draw()

    def action_compare(self) -> None:
        """Show what the two marked students differ in."""
        if self._registry is None or len(self._marked) != 2:
            self._say(f"mark two students with the space bar, then compare ({len(self._marked)} marked)")
        else:
            self._say("comparing …")
            self._compare(self._registry, *self._marked)

    @work(group="compare", exclusive=True, exit_on_error=False)
    async def _compare(self, registry: Registry, a: str, b: str) -> None:
        found = await aside(lambda: read_difference(registry, a, b))
        pane = self.query_one("#difference", Static)
        pane.update(difference_content(a, b, found))
        pane.display = True
        self._say("")
        self.call_after_refresh(self.query_one("#beside").scroll_to_widget, pane, animate=False, top=True)

    def action_refresh(self) -> None:
        """Read everything again, cards included."""
        self._cards = {}
        self._say("")
        if self._registry is not None:
            self._read(self._registry)

    def _look(self) -> None:
        serving = self._serving_now()
        if serving != self._serving:
            self._serving = serving
            self._draw()
        if self._registry is not None and glance(self._registry) != self._signature:
            self._read(self._registry)

    @work(group="read", exclusive=True, exit_on_error=False)
    async def _read(self, registry: Registry) -> None:
        # Taken before the reading, so that what is written meanwhile is seen at the next look.
        self._signature = glance(registry)
        self._seen = await aside(lambda: read_students(registry, self._cards))
        self._cards = {name: known.card for name, known in self._seen.students.items() if known.card}
        self._marked = [name for name in self._marked if name in self._seen.students]
        self._is_read = True
        self._draw()

    @property
    def _chosen(self) -> str:
        """Key of the row under the cursor; of the bare base where there are no students."""
        table = self.query_one(DataTable)
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value) if table.row_count else BARE

    def _serves(self, key: str) -> bool:
        return key == self._serving or key == BARE and self._serving.startswith("base@")

    def _say(self, words: str) -> None:
        self.query_one("#note > Static", Static).update(inert(words))
        self.query_one("#note").display = bool(words)

    def _draw(self) -> None:
        table, beside = self.query_one(DataTable), self.query_one("#beside")
        is_empty = self._is_read and not self._seen.students
        self.set_class(is_empty, "empty")
        if table.display == is_empty:
            follows = (beside if is_empty else table) if self.has_focus_within else None
            table.display = not is_empty
            if follows:
                follows.focus()
        if self._seen.students:
            self._draw_table()
        self._draw_card()

    def _draw_table(self) -> None:
        table: DataTable[Text] = self.query_one(DataTable)
        names = [*self._seen.students, BARE]
        chosen = self._chosen if table.row_count and self._chosen in names else names[0]
        with table.prevent(DataTable.RowHighlighted):
            table.clear()
            for name, known in self._seen.students.items():
                table.add_row(*row_of(known, is_serving=self._serves(name), is_marked=name in self._marked), key=name)
            bare = (f"  {_name(BARE)}", "● serving" if self._serves(BARE) else "", *("" for _ in COLUMNS[2:]))
            table.add_row(*map(Text, bare), key=BARE)
            table.move_cursor(row=names.index(chosen))

    def _draw_card(self) -> None:
        self.query_one("#card", Static).update(self._about() if self.has_class("empty") else self._card())

    def _card(self) -> Content:
        known = self._seen.students.get(self._chosen)
        happened = [event for event in self._seen.events if event.student == (self._chosen if known else None)]
        said = [card_content(known) if known else Content("the bare base: what serves where no student does"), Content("")]
        if self._bring is None:
            said = [Content.styled(NOT_HERE, "$text-warning"), Content(""), *said]
        return Content("\n").join([*said, history_content(happened)])

    def _about(self) -> Content:
        where = f"There are no students in {self._registry.folder} yet." if self._registry else "No registry is open here."
        return inert(f"{where}\n\n{ABOUT}")


def _reported(swap: Callable[[], SwapReport], serving: str) -> SwapReport:
    """A swap comes to a report, also where it raises what a bad student makes it raise."""
    from steper_agent.models.slot import SwapReport

    try:
        return swap()
    except Exception as refusal:
        return SwapReport(before=serving, after=serving, seconds={}, ok=False, reason=plain(words_of(refusal)))


def _name(key: str) -> str:
    return "the bare base" if key == BARE else key
