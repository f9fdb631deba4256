"""A picture of the screen: an SVG that is the same whenever the screen is, and asks no other machine for anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from textual.app import App

from steper_agent.errors import told
from tui.app.desk import aside
from tui.app.text import one_line

_FACE = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_ID = re.compile(r"\.(terminal-\d+)-matrix")
SETTLED = 0.2
"""Seconds after which a command palette that was open is gone from the screen."""


def picture(app: App[Any]) -> str:
    """The screen as an SVG, in whatever font of one width its reader has.

    The number that Rich gives each SVG is taken out, for it changes with every change of the screen, and so are the fonts it
    fetches from a server: whoever looks at a picture should tell nobody that they do.
    """
    drawn = _FACE.sub("", app.export_screenshot(simplify=True), count=2)
    number = _ID.search(drawn)
    named = drawn.replace(number[1], "terminal") if number else drawn
    # A line for each piece of the screen: what differs between two pictures is read line by line.
    lines = named.replace("/><rect", "/>\n<rect").replace("</text><text", "</text>\n<text").split("\n")
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


def save_picture(app: App[Any]) -> None:
    """Write the screen, as soon as the command palette has left it, into a new file of the current folder, and say where."""
    app.set_timer(SETTLED, lambda: app.run_worker(_save(app), group="picture", exit_on_error=False))


async def _save(app: App[Any]) -> None:
    # Not before somebody wants it: the first paint does without conversations.
    from tui.app.history import save

    drawn = picture(app)
    try:
        path = await aside(lambda: save(drawn, app.title, "svg", Path.cwd()))
    except OSError as full:
        app.notify(one_line(told(full)), title="The picture is not saved", severity="error", timeout=15, markup=False)
    else:
        app.notify(one_line(str(path)), title="The picture is saved", markup=False)
