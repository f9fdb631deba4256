"""A journal, trajectory by trajectory: rows as they are found, filters, and one trajectory step by step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar, cast

from rich.cells import set_cell_size
from rich.segment import Segment
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Select, Static
from textual.worker import get_current_worker

from steper_agent.errors import JournalError, told
from tui.app.field import Field
from tui.app.rows import (
    EMPTY_RETRIEVAL,
    FAILED,
    FILTERS,
    PARSE_ERROR,
    Filter,
    Opened,
    Row,
    Rows,
    Tally,
    matches,
    open_row,
    tally,
)
from tui.app.tail import Tail
from tui.app.text import inert, one_line
from tui.app.trajectory import TrajectoryView

EVERY, DRAW_EVERY = 1.0, 0.25
"""Seconds between two looks at a journal, and between two drawings while a long one is read."""
AT_ONCE = 10_000
"""Rows that a filter goes through before a key is heard again."""
NOTES = {PARSE_ERROR: "parse error", EMPTY_RETRIEVAL: "empty retrieval", FAILED: "failed node"}


def verdict(right: bool | None) -> str:
    """A sign and a word, as wide for all."""
    return {True: "✓ right", False: "✗ wrong", None: "· no gold"}[right]


def cells(row: Row, width: int) -> str:
    """A row as one line of so many cells; what does not fit is left out, the least telling first."""
    wide = width >= 100
    notes = ", ".join(word for mark, word in NOTES.items() if row.marks & mark)
    columns = [(row.question, 0), (verdict(row.right), 9), (row.answer or "(none)", 24 if wide else 12), (f"{row.steps:>2}", 5),
               (row.stop, 8), *([(row.model, 14)] if wide else []), *([(notes, 26)] if width >= 140 else [])]  # fmt: skip
    return _line([(text, size, True) for text, size in columns], width)


def heading(width: int) -> str:
    """The names of the columns."""
    wide = width >= 100
    columns = [("question", 0), ("", 9), ("answer", 24 if wide else 12), ("steps", 5), ("stop", 8), *([("model", 14)] if wide else []),
               *([("notes", 26)] if width >= 140 else [])]  # fmt: skip
    return _line([(text, size, False) for text, size in columns], width)


def _line(columns: list[tuple[str, int, bool]], width: int) -> str:
    rest = max(8, width - sum(size + 1 for _, size, _ in columns if size) - 1)
    parts = [set_cell_size(one_line(text, 4 * (size or rest)) if foreign else text, size or rest) for text, size, foreign in columns]
    return set_cell_size(" " + " ".join(parts), width)


class TrajectoryList(ScrollView, can_focus=True):
    """The rows of a journal. Only the lines on the screen are ever drawn."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"trajectory-list--heading", "trajectory-list--cursor"}
    DEFAULT_CSS = """
    TrajectoryList { height: 1fr; }
    TrajectoryList > .trajectory-list--heading { text-style: bold; color: $text-muted; }
    TrajectoryList > .trajectory-list--cursor { background: $block-cursor-blurred-background; text-style: bold; }
    TrajectoryList:focus > .trajectory-list--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open"),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "jump(0)", "First", show=False),
        Binding("end", "jump(-1)", "Last", show=False),
    ]

    cursor = reactive(0)

    class Chosen(Message):
        """A row was opened."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    class Listed(Message):
        """More rows are shown, or others."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows = Rows()
        self.places: list[int] = []
        """Of the rows that are shown."""
        self._filter: Filter = "all"
        self._search = ""
        self._seen = 0
        self._redone = 0

    def narrow_to(self, chosen: Filter, search: str) -> None:
        """Show only rows under this filter whose question holds `search`."""
        self._filter, self._search = chosen, search.lower()
        self.cursor = 0
        self._again()

    def grow(self, rows: Rows) -> None:
        """Take in rows that are new since the last call."""
        if rows is not self.rows or rows.redone != self._redone or len(rows.rows) < self._seen:
            self.rows, self._redone = rows, rows.redone
            self._again()
        else:
            self._add()

    def _again(self) -> None:
        self.places, self._seen = [], 0
        self._add()

    def _add(self) -> None:
        """Rows that were not looked at yet; of very many, some at a time, so that keys are heard between."""
        rows, start = self.rows.rows, self._seen
        end = self._seen = min(len(rows), start + AT_ONCE)
        if self._filter == "all" and not self._search:
            self.places += range(start, end)
        else:
            self.places += [place for place in range(start, end) if matches(rows[place], self._filter, self._search)]
        if end < len(rows):
            self.call_later(self._add)
        else:
            self.cursor = max(0, min(self.cursor, len(self.places) - 1))
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.places) + 1)
        self.refresh()
        self.post_message(self.Listed())

    def row_at(self, number: int) -> Row | None:
        """The row in a line of the list; None where it has none (any more)."""
        rows = self.rows.rows
        return rows[self.places[number]] if 0 <= number < len(self.places) and self.places[number] < len(rows) else None

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y == 0:
            return Strip([Segment(heading(width), self.get_component_rich_style("trajectory-list--heading"))], width)
        number = self.scroll_offset.y + y - 1
        row = self.row_at(number)
        style = self.get_component_rich_style("trajectory-list--cursor") if number == self.cursor else self.rich_style
        return Strip([Segment(cells(row, width), style)], width) if row else Strip.blank(width, self.rich_style)

    def watch_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False, force=True)
        self.refresh()

    def on_resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self.places) + 1)

    def on_click(self, event: events.Click) -> None:
        number = self.scroll_offset.y + event.y - 1
        if event.y > 0 and self.row_at(number):
            if event.chain > 1 or number == self.cursor:
                self.cursor = number
                self.action_open()
            self.cursor = number

    def action_move(self, by: int) -> None:
        self.cursor = max(0, min(self.cursor + by, len(self.places) - 1))

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.size.height - 2))

    def action_jump(self, to: int) -> None:
        self.cursor = to if to >= 0 else max(0, len(self.places) - 1)

    def action_open(self) -> None:
        if row := self.row_at(self.cursor):
            self.post_message(self.Chosen(row))


class JournalBrowser(Container):
    """A journal that may still grow. The file is read in a thread, once a second, from where it was last read."""

    DEFAULT_CSS = """
    JournalBrowser { height: 1fr; }
    JournalBrowser #bar { height: 1; }
    JournalBrowser #filter { width: 22; }
    JournalBrowser #search { width: 1fr; display: none; }
    JournalBrowser #search.-shown { display: block; }
    JournalBrowser #count { width: auto; padding: 0 1; color: $text-muted; }
    JournalBrowser #trouble { height: auto; max-height: 4; color: $text-error; display: none; }
    JournalBrowser.-opened #list, JournalBrowser.-opened #bar { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search"),
        Binding("f", "filter(1)", "Filter"),
        Binding("F", "filter(-1)", "Filter back", show=False),
        Binding("escape", "back", "Back"),
    ]

    class Grew(Message):
        """The journal was read on."""

        def __init__(self, found: Tally) -> None:
            super().__init__()
            self.found = found

    class Read(Message):
        """A trajectory was read, or why it cannot be."""

        def __init__(self, row: Row, opened: Opened | None, trouble: str) -> None:
            super().__init__()
            self.row, self.opened, self.trouble = row, opened, trouble

    def __init__(self, path: Path, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.path = path
        self.rows = Rows()
        self._tail = Tail(path)
        self._is_reading = False

    def compose(self) -> ComposeResult:
        with Horizontal(id="bar"):
            yield Select(((name, name) for name in FILTERS), value="all", allow_blank=False, compact=True, id="filter")
            yield Field(placeholder="words of the question", compact=True, id="search")
            yield Static("", id="count", markup=False)
        yield Static("", id="trouble", markup=False)
        yield TrajectoryList(id="list")

    def on_mount(self) -> None:
        self.query_one(TrajectoryList).rows = self.rows
        self.set_interval(EVERY, self.follow)
        self.follow()

    def follow(self) -> None:
        """Read what was appended, unless that is being done."""
        if not self._is_reading:
            self._is_reading = True
            self._read_on()

    @work(thread=True, group="follow", exit_on_error=False)
    def _read_on(self) -> None:
        worker, is_new, drawn = get_current_worker(), False, 0.0
        try:
            while not worker.is_cancelled and (piece := self._tail.read()):
                self.rows.take(piece)
                is_new = True
                if time.monotonic() - drawn > DRAW_EVERY:
                    self.call_later(self._draw)
                    drawn = time.monotonic()
            if is_new:
                self.post_message(self.Grew(tally(self.rows)))
        except OSError as bad:
            self.call_later(self._tell, told(bad))
        finally:
            self._is_reading = False

    def on_journal_browser_grew(self) -> None:
        self._draw()
        if self.rows.bad:
            lines = ", ".join(str(number) for number in self.rows.bad[:5])
            self._tell(f"{len(self.rows.bad)} lines are no journal records: line {lines}{' …' * (len(self.rows.bad) > 5)}")

    def _draw(self) -> None:
        if self.is_mounted:
            self.query_one(TrajectoryList).grow(self.rows)

    @on(TrajectoryList.Listed)
    def _count(self) -> None:
        shown, every = len(self.query_one(TrajectoryList).places), len(self.rows.rows)
        self.query_one("#count", Static).update(f"{every:,} trajectories" if shown == every else f"{shown:,} of {every:,} trajectories")

    def _tell(self, trouble: str) -> None:
        if self.is_mounted:
            self.query_one("#trouble", Static).update(inert(trouble))
            self.query_one("#trouble").display = bool(trouble)

    @on(Select.Changed, "#filter")
    @on(Input.Changed, "#search")
    def _narrow(self) -> None:
        chosen = cast(Filter, self.query_one("#filter", Select).value)
        self.query_one(TrajectoryList).narrow_to(chosen, self.query_one("#search", Input).value)

    @on(Input.Submitted, "#search")
    def _to_list(self) -> None:
        self.query_one(TrajectoryList).focus()

    def action_search(self) -> None:
        self.query_one("#search").add_class("-shown")
        self.query_one("#search").focus()

    def action_filter(self, by: int) -> None:
        chosen: Select[str] = self.query_one("#filter", Select)
        chosen.value = FILTERS[(FILTERS.index(cast(Filter, chosen.value)) + by) % len(FILTERS)]

    async def action_back(self) -> None:
        """From a trajectory to the list; from the list, to all of it."""
        if self.has_class("-opened"):
            await self.query(TrajectoryView).remove()
            self.remove_class("-opened")
        else:
            self.query_one("#search", Input).value = ""
            self.query_one("#search").remove_class("-shown")
            self.query_one("#filter", Select).value = "all"
        self.query_one(TrajectoryList).focus()

    @on(TrajectoryList.Chosen)
    def _open(self, chosen: TrajectoryList.Chosen) -> None:
        self._read_row(chosen.row)

    @work(thread=True, group="open", exclusive=True)
    def _read_row(self, row: Row) -> None:
        try:
            self.post_message(self.Read(row, open_row(self.path, row), ""))
        except JournalError as bad:
            self.post_message(self.Read(row, None, told(bad)))

    async def on_journal_browser_read(self, read: Read) -> None:
        self._tell(read.trouble)
        if read.opened and not self.has_class("-opened"):
            view = TrajectoryView(read.row, read.opened, verdict(read.row.right))
            await self.mount(view)
            self.add_class("-opened")
            view.focus()
