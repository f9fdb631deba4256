"""Where a question is written: several lines if need be, and the questions before it at hand."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea

from tui.app.text import MOST, pasted

NEWLINES = ("ctrl+j", "shift+enter", "alt+enter")
XTERMS = "shift+\r"
"""What Textual makes of shift+enter where the terminal, as tmux does, sends it in xterm's way."""


class Composer(TextArea):
    """Enter sends; ctrl+j (or shift+enter or alt+enter, where the terminal tells them apart) begins a new line. The arrows leave
    the text at its first and last line on the screen for the questions that were asked before; what was changed in one of them
    stays until the next question is sent."""

    DEFAULT_CSS = """
    Composer { height: auto; min-height: 3; max-height: 10; border: tall $border-blurred; }
    Composer:focus { border: tall $border; }
    """
    BINDINGS = [Binding("enter", "send", "Ask"), Binding(",".join(NEWLINES), "newline", "New line", key_display="^j")]

    class Sent(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False,
                         placeholder="Ask a question …")  # fmt: skip
        self._asked: list[str] = []
        self._back = 0
        """Which of them is shown, counted from the last; 0 is the one being written."""
        self._left: dict[int, str] = {}
        """What stood there when a person leafed on."""

    def put_back(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)

    def remember(self, asked: str) -> None:
        """Have it at hand; asked twice in a row, it is there once."""
        if self._asked[-1:] != [asked]:
            self._asked.append(asked)
        self._back = 0
        self._left.clear()

    async def _on_key(self, event: events.Key) -> None:
        if event.key in ("enter", XTERMS, *NEWLINES):
            # The text area itself takes enter for a new line before any binding is asked.
            event.prevent_default().stop()
            self.action_send() if event.key == "enter" else self.action_newline()
        elif self._is_at_edge(event.key) and self._turn(1 if event.key == "up" else -1):
            event.prevent_default().stop()

    def _is_at_edge(self, key: str) -> bool:
        """Whether the cursor cannot go further that way: a long line takes several on the screen."""
        row = self.wrapped_document.location_to_offset(self.cursor_location).y
        return row == {"up": 0, "down": self.wrapped_document.height - 1}.get(key)

    async def _on_paste(self, event: events.Paste) -> None:
        # Textual's own handler comes after this one and takes the event as it is then.
        event.text = self._fitting(event.text)

    def action_paste(self) -> None:
        self._put(self._fitting(self.app.clipboard))

    def _fitting(self, text: str) -> str:
        """So much of it that every key stays quick; a person is told where that is less than all."""
        room = max(0, MOST - len(self.text) + len(self.selected_text))
        clean = pasted(text[: 2 * MOST])
        if len(clean) > room or len(text) > 2 * MOST:
            self.notify(f"A question has room for {MOST:,} characters: not all of the {len(text):,} were pasted.", severity="warning")
        return clean[:room]

    def action_send(self) -> None:
        if text := self.text.strip():
            self.clear()
            self.remember(text)
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        self._put("\n")

    def _put(self, text: str) -> None:
        """In the place of what is selected, as a key would."""
        self.move_cursor(self.replace(text, *self.selection, maintain_selection_offset=False).end_location)

    def _turn(self, by: int) -> bool:
        """Leaf through what was asked; False at either end."""
        back = self._back + by
        if not 0 <= back <= len(self._asked):
            return False
        self._left[self._back] = self.text
        self._back = back
        self.put_back(self._left.get(back, self._asked[-back] if back else ""))
        return True
