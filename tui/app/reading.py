"""A file in a person's own editor or pager, at a line."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from textual.app import App, SuspendNotSupported

from steper_agent.errors import DependencyError, StepERError

PLUS = frozenset(["less", "more", "most", "vi", "vim", "nvim", "view", "nano", "pico", "micro", "emacs", "emacsclient", "kak", "ne", "joe", "jed", "mg", "gedit"])
"""They take a line as `+7`, before the file."""
COLON = frozenset(["hx", "helix", "subl", "zed"])
"""They take it as `file:7`."""
GOTO = frozenset(["code", "codium", "code-insiders", "cursor"])
"""They take that too, but behind `--goto`."""


def command(path: str, line: int, environ: Mapping[str, str]) -> list[str]:
    """`$VISUAL`, `$EDITOR` or `less`, asked for that line in the way it understands; no shell ever sees the path.

    Raises:
        StepERError: there is no such program.
    """
    named = environ.get("VISUAL") or environ.get("EDITOR") or "less"
    try:
        program, *rest = shlex.split(named)
    except ValueError as bad:
        raise StepERError(f"not a command: {bad}", where="$VISUAL or $EDITOR", fix="mend its quotes") from bad
    if shutil.which(program) is None:
        raise DependencyError("there is no such program", where=program, fix="set $EDITOR to one that is installed")
    # Absolute, so that no name of a file is taken for an option.
    file, name = os.path.abspath(path), Path(program).name
    if name in PLUS:
        return [program, *rest, f"+{line}", file]
    if name in COLON | GOTO:
        return [program, *rest, *["--goto"] * (name in GOTO), f"{file}:{line}"]
    return [program, *rest, file]


def read(app: App[object], path: str, line: int) -> None:
    """Leave the terminal to an editor until it ends.

    Raises:
        StepERError: there is no editor, or this terminal cannot be left to it.
    """
    asked = command(path, line, os.environ)
    try:
        with app.suspend(), _unmoved():
            subprocess.run(asked, check=False)
    except SuspendNotSupported as bad:
        raise StepERError("this terminal cannot be left to an editor", where=f"{path}:{line}", fix="open the file in another one") from bad
    except OSError as bad:
        raise StepERError(f"the editor does not start: {bad.strerror}", where=asked[0], fix="set $EDITOR to another one") from bad


@contextmanager
def _unmoved() -> Iterator[None]:
    """ctrl+c is the editor's. Taken by a function and not ignored, for what is ignored stays so in the editor."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
