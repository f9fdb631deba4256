"""One trajectory out of a journal, as it was run: queries, passages, rationales, what failed, and the prompts, folded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Collapsible, Static

from steper_agent.records import Hit, NodeRecord, Step, Trajectory
from tui.app.rows import Opened, Row
from tui.app.text import inert, one_line, shown

MOST_PASSAGE = 2_000
"""Characters of a passage on the screen."""


class TrajectoryView(VerticalScroll, can_focus=True):
    """Scrolls with the arrow keys; a prompt unfolds with enter or a click."""

    DEFAULT_CSS = """
    TrajectoryView { height: 1fr; padding: 0 1; }
    TrajectoryView Static { height: auto; }
    TrajectoryView .head { margin-bottom: 1; }
    TrajectoryView .step { text-style: bold; margin-top: 1; }
    TrajectoryView .hit { padding-left: 2; }
    TrajectoryView .failed { color: $text-error; padding-left: 2; }
    TrajectoryView Collapsible { border: none; padding: 0 0 0 2; background: transparent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("p", "unfold", "Prompts")]

    def __init__(self, row: Row, opened: Opened, verdict: str) -> None:
        super().__init__()
        self.row = row
        self.opened = opened
        self._verdict = verdict

    def compose(self) -> ComposeResult:
        yield Static(self._head(), classes="head", markup=False)
        trajectory = self.opened.trajectory
        if trajectory and trajectory.opening:
            yield Static(Content.assemble("opening: ", inert(trajectory.opening)), markup=False)
        steps = dict(enumerate(trajectory.steps if trajectory else (), start=1))
        nodes = sorted(self.opened.nodes, key=lambda node: node.step)
        for number, group in groupby(nodes, key=lambda node: node.step):
            yield from _step(number, steps.get(number), list(group))
        if trajectory:
            yield Static(Content.assemble(("answer  ", "bold"), inert(trajectory.answer) if trajectory.answer else "(none)",
                                          f"  {self._verdict}"), classes="step", markup=False)  # fmt: skip

    def action_unfold(self) -> None:
        folds = list(self.query(Collapsible))
        is_open = any(not fold.collapsed for fold in folds)
        for fold in folds:
            fold.collapsed = is_open

    def _head(self) -> Content:
        trajectory = self.opened.trajectory
        question = inert(trajectory.question.text if trajectory else self.row.question).stylize("bold")
        if trajectory is None:
            return Content.assemble(question, "\nfailed; the same command takes it up again where it stopped")
        return Content.assemble(question, "\n", _facts(trajectory))


def _facts(trajectory: Trajectory) -> Content:
    gold = " | ".join(one_line(answer) for answer in trajectory.question.answers) or "none known"
    stop = {"answered": "answered", "budget": "step budget spent", "error": "failed"}[trajectory.stop]
    return Content(f"gold: {gold}\n{stop} · {len(trajectory.steps)} steps · {one_line(trajectory.strategy)} · "
                   f"model {one_line(trajectory.model) or '?'} · question {one_line(trajectory.question.id)}")


def _step(number: int, step: Step | None, nodes: list[NodeRecord]) -> Iterator[Widget]:
    """A step as the trajectory has it, or, of a run without one, as its nodes left it."""
    by_name = {node.node: node for node in nodes if node.outcome not in ("error", "timeout")}
    query = step.query if step else by_name["form_query"].output if "form_query" in by_name else ""
    hits = step.hits if step else by_name["retrieve"].hits if "retrieve" in by_name else ()
    rationale = step.rationale if step else by_name["reason"].output if "reason" in by_name else ""
    if number > 0 and (query or hits or rationale):
        yield Static(Content.assemble(f"step {number}  ", inert(query) if query else "(no search)"), classes="step", markup=False)
        yield from map(_hit, hits)
        if not hits and "retrieve" in by_name:
            yield Static("no new passage", classes="hit", markup=False)
        yield Static(Content.assemble("→ ", inert(rationale) if rationale else "(nothing)"), markup=False)
    for node in nodes:
        if node.outcome != "ok":
            note = f": {shown(node.note)}" if node.note else ""
            yield Static(Content(f"! {_words(node.node)}: {_words(node.outcome)}{note}"), classes="failed", markup=False)
    for node in nodes:
        if node.node in ("reason", "answer", "begin") and node.input:
            yield _prompt(node)


def _hit(hit: Hit) -> Static:
    passage = hit.passage
    return Static(Content.assemble(f"{hit.score:8.3f}  ", (one_line(passage.title), "bold"), f"  [{one_line(passage.id)}]  ",
                                   inert(passage.text, MOST_PASSAGE)), classes="hit", markup=False)  # fmt: skip


def _prompt(node: NodeRecord) -> Collapsible:
    usage = node.usage
    cost = f", {usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out" if usage else ""
    title = f"prompt of {_words(node.node)} at step {node.step} ({len(node.input):,} characters{cost}, {node.seconds:.2f} s)"
    said = Content.assemble(inert(node.input), ("\n── reply ──\n", "bold"), inert(node.output))
    return Collapsible(Static(said, markup=False), title=cast("str", Content(title)), collapsed=True)


def _words(name: str) -> str:
    return name.replace("_", " ")
