"""Where a question is written: several lines if need be, and the questions before it at hand."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import TextArea


class Composer(TextArea):
    """Enter sends; ctrl+j (or shift+enter, where the terminal tells it apart) begins a new line. The arrows leave the text at its
    first and last line for the questions that were asked before."""

    DEFAULT_CSS = """
    Composer { height: auto; min-height: 3; max-height: 10; border: tall $border-blurred; }
    Composer:focus { border: tall $border; }
    """
    BINDINGS = [Binding("enter", "send", "Ask"), Binding("ctrl+j,shift+enter", "newline", "New line", key_display="^j")]

    class Sent(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, soft_wrap=True, show_line_numbers=False, tab_behavior="focus", highlight_cursor_line=False,
                         placeholder="Ask a question …")  # fmt: skip
        self._asked: list[str] = []
        self._back = 0
        self._draft = ""

    def put_back(self, text: str) -> None:
        self.text = text
        self.move_cursor(self.document.end)

    def remember(self, asked: str) -> None:
        self._asked.append(asked)
        self._back = 0

    async def _on_key(self, event: events.Key) -> None:
        at_edge = {"up": self.cursor_at_first_line, "down": self.cursor_at_last_line}.get(event.key, False)
        if event.key in ("enter", "ctrl+j", "shift+enter"):
            # The text area itself takes enter for a new line before any binding is asked.
            event.prevent_default().stop()
            self.action_send() if event.key == "enter" else self.action_newline()
        elif at_edge and self._turn(1 if event.key == "up" else -1):
            event.prevent_default().stop()

    def action_send(self) -> None:
        if text := self.text.strip():
            self.clear()
            self.remember(text)
            self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        self.insert("\n")

    def _turn(self, by: int) -> bool:
        """Leaf through what was asked; False at either end."""
        back = self._back + by
        if not 0 <= back <= len(self._asked):
            return False
        self._draft = self.text if self._back == 0 else self._draft
        self._back = back
        self.put_back(self._asked[-back] if back else self._draft)
        return True
