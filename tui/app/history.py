"""The conversations there were: searched, opened, named, deleted, exported."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from rich.segment import Segment
from rich.text import Text
from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Button, Input, Static

from steper_agent.errors import StepERError, told
from steper_agent.records import Conversation
from tui.app.conversations import Conversations
from tui.app.field import Field
from tui.app.text import inert, one_line

T = TypeVar("T")
TYPING = 0.08
"""Seconds a search waits for the next key, so that only the last of those typed quickly is looked for."""
PAGE = 100
"""Conversations read at once."""
NAME = 80
"""Bytes of a file name, its ending not counted."""
_UNSAFE = re.compile(r"""[\s/\\:*?"'<>|\[\](){}$&;!#%~`^,=]+""")
UNTITLED = "(no question yet)"


def day(moment: datetime) -> str:
    """The hour of today, else the date, on this machine's clock; of ten cells at most."""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == datetime.now().date() else f"{local:%Y-%m-%d}"


def questions(conversation: Conversation) -> str:
    return f"{conversation.exchanges:,} question{'' if conversation.exchanges == 1 else 's'}"


def save(text: str, title: str, ending: str, folder: Path) -> Path:
    """Write to a new file named after the title; nothing is ever overwritten, a number is added instead.

    Raises:
        OSError: it cannot be written.
    """
    name = _UNSAFE.sub("-", one_line(title)).encode()[:NAME].decode(errors="ignore").strip("-. ") or "conversation"
    for number in itertools.count(1):
        path = folder / f"{name}{'' if number == 1 else f'-{number}'}.{ending}"
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as file:
            file.write(text)
            return path
    raise AssertionError("numbers do not end")


class ConversationList(ScrollView, can_focus=True):
    """Any number of conversations, of which only those on the screen are drawn, and only those near it asked for."""

    DEFAULT_CSS = """
    ConversationList { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; }
    ConversationList > .conversation-list--cursor { background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground; }
    ConversationList:focus > .conversation-list--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"conversation-list--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "leap(-1)", "page up", show=False),
        Binding("pagedown", "leap(1)", "page down", show=False),
        Binding("home", "move(-1000000000)", "first", show=False),
        Binding("end", "move(1000000000)", "last", show=False),
    ]
    ALLOW_SELECT = False
    cursor: var[int] = var(0)

    def __init__(self, want: Callable[[int], None], *, id: str | None = None) -> None:
        """`want` is told an offset when the rows from there on come near the screen, once; `fill` brings them."""
        super().__init__(id=id)
        self.total = 0
        self._tell = want
        self._rows: dict[int, Conversation] = {}
        self._asked: set[int] = set()
        """Offsets that are being read, or were."""

    @property
    def chosen(self) -> Conversation | None:
        """The one under the cursor, as soon as it was read."""
        return self._rows.get(self.cursor)

    def show(self, total: int, offset: int, rows: Sequence[Conversation]) -> None:
        """Start over with another list, of which these are the rows from `offset` on."""
        self.total = total
        self._rows.clear()
        self._asked.clear()
        self.cursor = max(0, min(self.cursor, total - 1))
        self.virtual_size = Size(0, total)
        self.fill(offset, rows)

    def fill(self, offset: int, rows: Sequence[Conversation]) -> None:
        """More rows of the same list."""
        self._rows.update(enumerate(rows, start=offset))
        self.refresh()
        self._want()

    def _want(self) -> None:
        height = max(1, self.scrollable_content_region.height)
        first, last = max(0, self.scroll_offset.y - height), min(self.total, self.scroll_offset.y + 2 * height)
        for offset in range(first - first % PAGE, last, PAGE):
            if offset not in self._asked and any(row not in self._rows for row in range(offset, min(self.total, offset + PAGE))):
                self._asked.add(offset)
                self._tell(offset)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._want()

    def on_resize(self) -> None:
        self.watch_cursor()
        self._want()

    def watch_cursor(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False, force=True, immediate=True)
        self.refresh()

    def action_move(self, rows: int) -> None:
        self.cursor = max(0, min(self.cursor + rows, self.total - 1))

    def action_leap(self, pages: int) -> None:
        self.action_move(pages * max(1, self.scrollable_content_region.height - 1))

    def on_click(self, event: events.Click) -> None:
        row = self.scroll_offset.y + event.y
        self.cursor = row if row < self.total else self.cursor
        if row >= self.total:
            event.stop()

    def render_line(self, y: int) -> Strip:
        row, width = self.scroll_offset.y + y, self.scrollable_content_region.width
        here = row == self.cursor < self.total
        style = self.get_component_rich_style("conversation-list--cursor") if here else self.rich_style
        if row >= self.total:
            return Strip.blank(width, style)
        text = self._line(one, width - 2) if (one := self._rows.get(row)) else "…"
        return Strip([Segment("▸ " if here else "  ", style), Segment(text, style)]).adjust_cell_length(width, style)

    @staticmethod
    def _line(conversation: Conversation, width: int) -> str:
        tail = f"{questions(conversation):>14}  {day(conversation.updated):>10} "
        title = Text(one_line(conversation.title) or UNTITLED, no_wrap=True, end="")
        title.truncate(max(1, width - len(tail)), overflow="ellipsis", pad=True)
        return title.plain + tail


class About(Message):
    """A message about one conversation."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self.conversation = conversation


class HistoryPane(Container):
    """All conversations, the newest first. Posts `Opened` for the one a person chooses, `Deleted` for one that is gone."""

    DEFAULT_CSS = """
    HistoryPane > #history-sure { height: auto; padding: 0 1; }
    HistoryPane > #history-sure > Static { width: 1fr; height: auto; max-height: 3; }
    HistoryPane > #history-sure > Button { margin-left: 2; }
    HistoryPane > #history-note { height: auto; max-height: 6; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open"),
        Binding("slash", "search", "search"),
        Binding("r", "rename", "rename"),
        Binding("d", "delete", "delete"),
        Binding("e", "export('markdown')", "export"),
        Binding("E", "export('json')", "as JSON"),
        Binding("y", "answer(True)", "delete it"),
        Binding("n", "answer(False)", "keep it"),
        Binding("escape", "leave", "back"),
    ]

    class Opened(About):
        """A person wants to see this conversation."""

    class Deleted(About):
        """This conversation is gone; whoever shows it can no longer add to it."""

    def __init__(self, conversations: Conversations, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._conversations = conversations
        self._edition = 0
        """Counts the lists asked for, so that rows of an older one are dropped."""
        self._target: Conversation | None = None
        """Which one is being renamed or deleted."""
        self._search = Field(placeholder="search titles, questions, answers, rationales", id="history-search")
        self._rows = ConversationList(self._want, id="history-list")
        self._title = Field(placeholder="the first question", id="history-title")
        self._title.border_title = "new title (enter: keep, escape: leave)"
        self._whether = Static(id="history-whether", markup=False)
        self._sure = Horizontal(
            self._whether, Button("keep (n)", id="history-keep", compact=True),
            Button("delete (y)", id="history-delete", variant="error", compact=True), id="history-sure")
        self._note = Static(id="history-note", markup=False)
        self._title.display = self._sure.display = self._note.display = False

    def compose(self) -> ComposeResult:
        yield from (self._search, self._rows, self._title, self._sure, self._note)

    def on_mount(self) -> None:
        self._rows.focus()
        self.refresh_list()

    def refresh_list(self) -> None:
        """Read the list again: somebody added to it. The cursor and the scroll stay where they are."""
        self._edition += 1
        offset = max(0, self._rows.scroll_offset.y - PAGE // 2)
        self._behind(partial(self._read, self._edition, self._search.value, offset), partial(self._show, self._edition))

    @work(thread=True, group="history")
    def _behind(self, act: Callable[[], T], then: Callable[[T], object]) -> None:
        """Do slow work off the screen's thread, then on it what comes of that."""
        try:
            self.call_later(then, act())
        except (StepERError, OSError) as bad:
            self.call_later(self._say, told(bad))

    def _say(self, text: str) -> None:
        self._note.display = bool(text)
        self._note.update(inert(text))

    def _read(self, edition: int, search: str, offset: int) -> tuple[int, int, list[Conversation]]:
        time.sleep(TYPING if search else 0)
        if edition != self._edition:
            return 0, 0, []
        total = self._conversations.count(search)
        offset = min(offset, max(0, total - PAGE))
        return total, offset, self._conversations.page(search, offset, PAGE)

    def _show(self, edition: int, read: tuple[int, int, list[Conversation]]) -> None:
        if edition == self._edition:
            self._rows.show(*read)
            self._search.border_subtitle = f"{read[0]:,} {'found' if self._search.value else 'in all'}"
            if not read[0]:
                self._say("nothing found" if self._search.value else "no conversation yet: ask a question, and it is kept here")
            self.refresh_bindings()

    def _want(self, offset: int) -> None:
        self._behind(partial(self._conversations.page, self._search.value, offset, PAGE), partial(self._fill, self._edition, offset))

    def _fill(self, edition: int, offset: int, rows: list[Conversation]) -> None:
        if edition == self._edition:
            self._rows.fill(offset, rows)

    @on(Input.Changed, "#history-search")
    def _find(self) -> None:
        self._say("")
        self._rows.cursor = 0
        self._rows.scroll_to(y=0, animate=False)
        self.refresh_list()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Only what can be done now is offered; an escape that means nothing here is left to the app."""
        is_asking = self._title.display or self._sure.display
        if action == "answer":
            return bool(self._sure.display)
        if action == "leave":
            return bool(is_asking or self._search.has_focus or self._search.value)
        return not is_asking and (action == "search" or self._rows.chosen is not None)

    def action_search(self) -> None:
        self._search.focus()

    def on_click(self, event: events.Click) -> None:
        """One click picks a row, two open it."""
        if event.widget is self._rows and event.chain == 2:
            self.action_open()

    def action_open(self) -> None:
        if target := self._rows.chosen:
            self.post_message(self.Opened(target))

    @on(Input.Submitted, "#history-search")
    def action_leave(self) -> None:
        """Out of a question, else out of the search field, else out of the search."""
        if not (self._title.display or self._sure.display or self._search.has_focus):
            self._search.clear()
        self._title.display = self._sure.display = False
        self._rows.focus()
        self.refresh_bindings()

    def action_rename(self) -> None:
        if target := self._take_target():
            self._title.value = one_line(target.title)
            self._title.display = True
            self._title.focus()

    @on(Input.Submitted, "#history-title")
    def _rename(self, message: Input.Submitted) -> None:
        self.action_leave()
        if target := self._target:
            self._behind(partial(self._conversations.rename, target.id, message.value), lambda _: self._changed("renamed"))

    def action_delete(self) -> None:
        if target := self._take_target():
            self._whether.update(inert(f"Delete “{one_line(target.title, 100) or UNTITLED}” and {questions(target)} for good?"))
            self._sure.display = True
            self.query_one("#history-keep").focus()

    @on(Button.Pressed)
    def _press(self, message: Button.Pressed) -> None:
        message.stop()
        self.action_answer(message.button.id == "history-delete")

    def action_answer(self, yes: bool) -> None:
        self.action_leave()
        if yes and (target := self._target):
            gone = self.Deleted(target)
            self._behind(partial(self._conversations.delete, target.id), lambda _: self._changed("deleted", gone))

    def _changed(self, said: str, *messages: Message) -> None:
        self._say(said)
        self.refresh_list()
        for message in messages:
            self.post_message(message)

    def action_export(self, form: Literal["markdown", "json"]) -> None:
        if target := self._rows.chosen:
            ending = {"markdown": "md", "json": "json"}[form]
            self._behind(lambda: save(self._conversations.export(target.id, form), target.title, ending, Path.cwd()),
                         lambda path: self._say(f"exported to {path}"))

    def _take_target(self) -> Conversation | None:
        self._target = self._rows.chosen
        self.call_after_refresh(self.refresh_bindings)
        return self._target
