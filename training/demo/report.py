"""What the demo found out, as a record and as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from steper_agent.records import Kind, Record, Score
from training.evaluation import Failure

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>StepER Agent: demo</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .8rem;border-bottom:1px solid #ccc;text-align:right}}
td:first-child,th:first-child{{text-align:left}}img{{max-width:100%}}.chain{{display:flex;gap:2rem}}.chain>div{{flex:1}}</style>
<h1>From a question to a better student in the same live graph</h1>
<h2>Held-out questions, names never seen in training</h2>{scores}
<h2>The same question, before and after the swap</h2><p>{question}</p><div class="chain">{before}{after}</div>
<p>{runs} runs around the swap, {failed} failed.</p>
<h2>Training</h2>{plots}
<h2>Seconds</h2>{seconds}</html>
"""


class Judged(Score):
    """A score with what it cost."""

    seconds: float
    """Mean wall clock of a question's nodes over how many questions are asked side by side: by the journal, so that a resumption changes
    nothing."""
    parameters: int
    support_recall: tuple[float, ...]
    failures: dict[Failure, int]


class Answered(Record):
    model: str
    question: str
    answer: str
    gold: str
    rationale: tuple[str, ...]


class SwapStory(Record):
    before: Answered
    after: Answered
    failed_runs: int
    runs: int
    """Runs before, during and after."""
    during: dict[str, int]
    """Runs that were under way around the switch, by the version that served them."""
    drained: bool
    seconds: dict[str, float]
    """Of the swap's phases."""


class DemoReport(Record):
    teacher: Judged
    base: Judged
    student: Judged
    step: list[int]
    loss: list[dict[Kind, float]]
    """L per kind at each of `step`, in nats."""
    sigma: list[dict[Kind, float]]
    swap: SwapStory
    seconds: dict[str, float]
    """Per phase."""
    recipe: dict[str, Any]


def write_html(report: DemoReport, plots: Sequence[Path]) -> str:
    """The page; pictures are inlined, so that one file can be sent around."""
    rows = [["", "EM", "95 % of EM", "F1", "Acc", "s a question", "parameters"]]
    for who in ("teacher", "base", "student"):
        judged: Judged = getattr(report, who)
        rows.append([who, f"{judged.em:.3f}", f"{judged.ci[0]:.3f} – {judged.ci[1]:.3f}", f"{judged.f1:.3f}", f"{judged.acc:.3f}",
                     f"{judged.seconds:.3f}", f"{judged.parameters:,}" if judged.parameters else "symbolic"])
    return PAGE.format(
        scores=_table(rows), question=escape(report.swap.before.question), before=_chain("before", report.swap.before),
        after=_chain("after", report.swap.after), runs=report.swap.runs, failed=report.swap.failed_runs,
        plots="".join(_picture(path) for path in plots),
        seconds=_table([[name, f"{seconds:.1f}"] for name, seconds in report.seconds.items()]),
    )  # fmt: skip


def _table(rows: Sequence[Sequence[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{body}</table>"


def _chain(words: str, answered: Answered) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in answered.rationale)
    return f"<div><h3>{words}: {escape(answered.model)}</h3><ol>{lines}</ol><p>answer: <b>{escape(answered.answer)}</b> (right: {escape(answered.gold)})</p></div>"


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(path.stem)} per kind over training" src="data:image/png;base64,{data}">'
