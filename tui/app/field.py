"""A field of one line into which anything may be pasted: what reaches it is text."""

from __future__ import annotations

from textual import events
from textual.widgets import Input

from tui.app.text import pasted

MOST = 4096
"""Characters of one paste; no name, path or search is longer."""


class Field(Input):
    """Pasted lines become one. Control characters, escapes and what reorders or hides text are dropped: Textual would show them
    as they are."""

    def _on_paste(self, event: events.Paste) -> None:
        # Textual's own handler comes after this one and takes the event as it is then.
        event.text = on_one_line(event.text)

    def action_paste(self) -> None:
        self.replace(on_one_line(self.app.clipboard), *self.selection)


def on_one_line(text: str) -> str:
    return " ".join(pasted(text[:MOST]).split("\n"))
