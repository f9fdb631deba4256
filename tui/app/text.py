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
_JOINERS = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""Of those, what some scripts and emoji are written with."""
_ENDS = re.compile(r"\r\n?|[\u2028\u2029\x85]")
_INLINE = re.compile(r"[\\`*_\[\]<>&~|$]")
_LINK = re.compile(r"(:|www)([/.])", re.IGNORECASE)
_LEADING = re.compile(r"^(\d*)([#+\-=:.)])")


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


def pasted(text: str) -> str:
    """What a person pasted, as they would have typed it: without what a terminal obeys, reorders or hides. Every kind of line end
    is a newline: most terminals paste a lone carriage return for it."""
    clean = plain(_ENDS.sub("\n", text)).replace("\t", "    ")
    return _INVISIBLE.sub(lambda found: found[0] if found[0] in _JOINERS else "", clean)


def escaped(text: str) -> str:
    """One line of Markdown that says the text and nothing else: no link, picture, heading, list, table or HTML."""
    line = _INLINE.sub(r"\\\g<0>", " ".join(plain(text).split()))
    return _LEADING.sub(r"\1\\\2", _LINK.sub(r"\1\\\2", line))


def quoted(text: str) -> str:
    """The same as a quotation that keeps its line breaks."""
    return "\n".join(f"> {escaped(line)}  " for line in plain(text).split("\n"))
