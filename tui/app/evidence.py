"""A passage in full, and why it is there."""

from __future__ import annotations

import re

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from steper_agent.records import Hit
from tui.app.text import inert, one_line, shown

WORD = re.compile(r"\w+")
COMMON = frozenset(["a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the", "to", "was", "were", "which", "who", "with"])


class EvidencePane(VerticalScroll):
    """Empty until a passage is chosen."""

    DEFAULT_CSS = """
    EvidencePane { padding: 0 1; border-left: solid $surface-lighten-2; }
    EvidencePane .title { text-style: bold; padding: 0 0 1 0; }
    EvidencePane .why { color: $text-muted; padding: 1 0 0 0; }
    """
    BINDINGS = [("c", "copy", "Copy passage"), ("escape", "close", "Close")]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.hit: Hit | None = None

    def compose(self) -> ComposeResult:
        yield Static("Evidence", classes="title", markup=False)
        yield Static("Choose a passage of a step to read it here.", id="text", markup=False)
        yield Static("", classes="why", markup=False)

    def show(self, hit: Hit, *, step: int, query: str, rationale: str) -> None:
        """`rationale`: of the step, for the sentences that support it."""
        self.hit = hit
        passage = hit.passage
        self.query_one(".title", Static).update(inert(passage.title, 500))
        self.query_one("#text", Static).update(marked(passage.text, rationale))
        terms = sorted(_words(query) & _words(f"{passage.title} {passage.text}"))
        why = [f"step {step}, score {hit.score:.3f}", f"query: {one_line(query)}",
               f"words of the query in it: {', '.join(terms[:20]) or 'none'}", f"id: {one_line(passage.id)}"]  # fmt: skip
        self.query_one(".why", Static).update(Content("\n".join(why)))
        self.scroll_home(animate=False)

    def action_copy(self) -> None:
        if self.hit:
            self.app.copy_to_clipboard(shown(f"{self.hit.passage.title}\n{self.hit.passage.text}"))
            self.notify("The passage is in the clipboard.")

    def action_close(self) -> None:
        self.display = False


def marked(text: str, rationale: str) -> Content:
    """The text with the sentence that says most of what the rationale says set off, by signs and not by colour alone."""
    said, sentences = _words(rationale), re.split(r"(?<=[.!?])\s+", shown(text))
    held = [len(said & _words(sentence)) for sentence in sentences]
    best = max(held, default=0)
    parts: list[Content | str | tuple[str, str]] = []
    for sentence, count in zip(sentences, held, strict=True):
        is_support = best >= 2 and count == best
        parts += [("▶ " + sentence + " ◀", "bold underline") if is_support else sentence, " "]
    return Content.assemble(*parts)


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)} - COMMON
