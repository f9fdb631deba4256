"""Bars on the terminal for what takes long: one a stage, on standard error, and none where that is no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steper_agent.retrieval.growing import Progress

STAGES = {
    "read": "reading passages",
    "words": "merging words",
    "encode": "encoding passages",
    "seal": "sealing the folder",
    "changed": "the sources changed since the interrupted run: reading afresh",
}


def bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def shown_on(bar: Any) -> Progress:
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(STAGES[stage], total=None)
        bar.update(tasks[stage], completed=done, total=total or None)

    return show
