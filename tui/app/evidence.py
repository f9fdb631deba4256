"""A passage in full: why it was found, what rests on it, and where it comes from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from steper_agent.errors import StepERError
from steper_agent.records import Exchange, Hit, Step
from tui.app.reading import read
from tui.app.text import one_line, shown

if TYPE_CHECKING:
    from steper_agent.retrieval.why import Search, Why

WORD = re.compile(r"\w+")
COMMON = frozenset(["a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the", "to", "was", "were", "which", "who", "with"])
MOST_WORDS = 20


class EvidencePane(VerticalScroll):
    """Empty until a passage is chosen. What only the index knows of it comes later, by `explain`."""

    DEFAULT_CSS = """
    EvidencePane { padding: 0 1; border-left: solid $surface-lighten-2; }
    EvidencePane .title { text-style: bold; padding: 0 0 1 0; }
    EvidencePane .why { color: $text-muted; padding: 1 0 0 0; }
    """
    BINDINGS = [("c", "copy", "Copy passage"), ("o", "open", "Open source"), ("escape", "close", "Close")]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.hit: Hit | None = None
        self.why: Why | None = None
        self._rationale = ""
        self._known: list[str] = []
        """What is said of it whether or not the index explains more."""
        self._held = ""
        """The words of the query in it, as far as they can be told without the index."""

    def compose(self) -> ComposeResult:
        yield Static("Evidence", classes="title", markup=False)
        yield Static("Choose a passage of a step to read it here.", id="text", markup=False)
        yield Static("", classes="why", markup=False)

    def show(self, hit: Hit, *, step: int, query: str, rationale: str, exchange: Exchange | None = None) -> None:
        """`rationale`: of the step, for the sentences that support it. `exchange`: as far as it has come, for the steps that used
        the passage."""
        self.hit, self.why, self._rationale = hit, None, rationale
        passage = hit.passage
        terms = sorted(_words(query) & _words(f"{passage.title} {passage.text}"))
        self._known = [f"step {step}, score {hit.score:.3f}", *([used(exchange, passage.id)] if exchange else []),
                       f"query: {one_line(query)}", f"id: {one_line(passage.id)}"]  # fmt: skip
        self._held = f"words of the query in it: {_listed(terms)}"
        self._draw(self._held)
        self.scroll_home(animate=False)

    def explain(self, why: Why) -> None:
        """What the index says of the passage that is shown."""
        self.why = why
        self._draw(f"words of the query in it: {_listed(why.shared)}; not in it: {_listed(why.lacking)}", ranks(why), source(why))

    def leave_unexplained(self, reason: str) -> None:
        """The index cannot say more."""
        self._draw(self._held, f"ranks and source are not known: {one_line(reason)}")

    def action_copy(self) -> None:
        if self.hit:
            self.app.copy_to_clipboard(shown(f"{self.hit.passage.title}\n{self.hit.passage.text}"))
            self.notify("The passage is in the clipboard.")

    def action_open(self) -> None:
        """Its file, in the person's own editor."""
        if self.why is None:
            self.notify("No source is known of this passage." if self.hit else "Choose a passage first.", severity="warning")
            return
        try:
            read(self.app, self.why.place.path, self.why.place.line)
        except StepERError as refused:
            self.notify(shown(str(refused)), title="The source cannot be opened", severity="error", timeout=15, markup=False)

    def action_close(self) -> None:
        self.display = False

    def _draw(self, *told: str) -> None:
        if self.hit is None:
            return
        passage, words = self.hit.passage, frozenset(self.why.words if self.why else ())
        self.query_one(".title", Static).update(lit(shown(passage.title, 500), words))
        self.query_one("#text", Static).update(marked(passage.text, self._rationale, words))
        self.query_one(".why", Static).update(Content("\n".join((*self._known, *told))))


def query_of(exchange: Exchange, passage_id: str) -> str:
    """The query that found a passage: of a step with several searches side by side, the one that added it."""
    steps = exchange.trajectory.steps
    calls = (call for step in steps for call in step.calls if passage_id in call.passage_ids)
    queries = (step.query for step in steps if _holds(step, passage_id))
    return next((str(call.arguments.get("query", "")) for call in calls), next(queries, ""))


def used(exchange: Exchange, passage_id: str) -> str:
    """The steps that found a passage, and those whose rationale rests on it, which may be later ones."""
    found = [number for number, step in enumerate(exchange.trajectory.steps, start=1) if _holds(step, passage_id)]
    rests = [number for number, ids in enumerate(exchange.rests_on, start=1) if passage_id in ids]
    told = f"found by {_steps(found)}"
    if not exchange.rests_on:
        return told
    return f"{told}; ◆ the rationale of {_steps(rests)} rests on it" if rests else f"{told}; no rationale rests on it"


def ranks(why: Why) -> str:
    """Where it stands in each search of the index, and in both together."""
    told = [_rank(why, search) for search in why.searches]
    if len(told) == 1:
        return f"{told[0]}; the index has no other search"
    together = f"rank {why.fused:,}" if why.fused else "not among the first hundred"
    return "; ".join((*told, f"both together: {together}"))


def source(why: Why) -> str:
    place = f"{one_line(why.place.path, 1000)}:{why.place.line}"
    return f"source: {place}" if not why.place.is_copy else f"source: not at hand; as the index keeps it: {place}"


def marked(text: str, rationale: str, words: frozenset[str] = frozenset()) -> Content:
    """The text with the sentence that says most of what the rationale says set off, and with those words, by signs and not by
    colour alone."""
    said, sentences = _words(rationale), re.split(r"(?<=[.!?])\s+", shown(text))
    held = [len(said & _words(sentence)) for sentence in sentences]
    best = max(held, default=0)
    parts: list[Content | str] = []
    for sentence, count in zip(sentences, held, strict=True):
        told = lit(sentence, words)
        is_support = best >= 2 and count == best
        parts += [Content.assemble("▶ ", told, " ◀").stylize("bold underline") if is_support else told, " "]
    return Content.assemble(*parts)


def lit(text: str, words: frozenset[str]) -> Content:
    """The text with these words in `‹›`, bold and italic."""
    parts: list[str | tuple[str, str]] = []
    end = 0
    for found in WORD.finditer(text) if words else ():
        if found[0].lower() in words:
            parts += [text[end : found.start()], (f"‹{found[0]}›", "bold italic")]
            end = found.end()
    return Content.assemble(*parts, text[end:])


def _rank(why: Why, search: Search) -> str:
    standing = why.lexical if search == "lexical" else why.dense
    return f"{search}: rank {standing.rank:,}, score {standing.score:.3f}" if standing else f"{search}: not among its first {why.looked:,}"


def _holds(step: Step, passage_id: str) -> bool:
    return any(hit.passage.id == passage_id for hit in step.hits)


def _steps(numbers: list[int]) -> str:
    told = ", ".join(map(str, numbers))
    return f"step{'s' * (len(numbers) > 1)} {told}" if numbers else "no step"


def _listed(words: tuple[str, ...] | list[str]) -> str:
    return one_line(", ".join(words[:MOST_WORDS])) + " …" * (len(words) > MOST_WORDS) or "none"


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)} - COMMON
