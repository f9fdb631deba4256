"""Text of others on the screen: shown as it is, never obeyed."""

from __future__ import annotations

import re

from textual.content import Content

from steper_agent.plain import plain

MOST = 20_000
"""Characters of one text on the screen; a longer one is cut, and says so."""
_INVISIBLE = re.compile(r"[\u00ad\u034f\u115f\u1160\u180e\u200b-\u200d\u2060-\u2064\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]")
"""What takes no room and hides words in words: joiners, fillers, variation selectors, tags."""
_LINES = re.compile(r"[\u2028\u2029\x85]")


def shown(text: str, most: int = MOST) -> str:
    """The text without what a terminal obeys or an eye does not see; at most so many characters."""
    cut = text[: 4 * most]
    clean = _INVISIBLE.sub("", _LINES.sub("\n", plain(cut))).replace("\t", "    ")
    return clean if len(clean) <= most and len(cut) == len(text) else f"{clean[:most]} … ({len(text):,} characters)"


def one_line(text: str, most: int = 300) -> str:
    """The same on one line."""
    clean = " ".join(shown(text, 4 * most).split())
    return clean if len(clean) <= most else f"{clean[:most]}…"


def inert(text: str, most: int = MOST) -> Content:
    """The text as content in which brackets are brackets."""
    return Content(shown(text, most))
