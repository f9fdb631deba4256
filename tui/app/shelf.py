"""Which run folders there are, what each does and how far it is: read from the files they hold, nothing written."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from steper_agent.errors import StepERError
from tui.app.tail import Tail

RunKind = Literal["demo", "collect", "dataset", "distill", "evaluate", "journal"]
"""The verb that made the folder; `journal` where only a journal is there."""
State = Literal["running", "finished", "stopped"]
SIGNS: dict[State, str] = {"running": "▶", "finished": "✓", "stopped": "■"}

DEPTH, MOST_FOLDERS = 4, 2_000
"""How deep and how many folders are looked into."""
FRESH = 15.0
"""Seconds since a file changed in which a run counts as running."""
JOURNAL, REPORT, SETTINGS, CURVE, CARD, EXAMPLES, SECONDS = (
    "journal.jsonl", "report.json", "settings.json", "curve.jsonl", "card.json", "examples.jsonl", "seconds.json"
)  # fmt: skip
_LAST = 1 << 16
"""Bytes at the end of a file in which its last line is looked for."""
_FINISHED = b'{"line":"finished"'


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run, as its files tell it now."""

    path: Path
    name: str
    """Relative to where it was found."""
    kind: RunKind
    state: State
    done: int
    total: int | None
    """Questions or updates there will be; None where nothing says so."""
    changed: float
    """Seconds since the epoch."""
    settings: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    """Empty until the run has ended once."""

    @property
    def progress(self) -> str:
        """In words."""
        things = {"distill": "updates", "dataset": "examples", "demo": "phases"}.get(self.kind, "questions")
        return f"{self.done:,} {things}" if self.total in (None, self.done) else f"{self.done:,} of {self.total:,} {things}"


class Shelf:
    """The run folders below `root`, and those somebody named. `look` may take a while the first time: call it in a thread."""

    def __init__(self, root: Path, *, now: Callable[[], float] = time.time) -> None:
        self.root = root
        self._now = now
        self._named: list[Path] = []
        self._read: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._counts: dict[Path, _Count] = {}
        self._totals: dict[tuple[Any, ...], int | None] = {}

    def name(self, folder: Path) -> Path:
        """Show this folder too, wherever it is; it comes back as the path of its run here, the same however it was written."""
        root, place = self.root.resolve(), folder.expanduser().resolve()
        if place.is_relative_to(root):
            folder = self.root / place.relative_to(root)
        if folder not in self._named:
            self._named.append(folder)
        return folder

    def look(self) -> list[RunFolder]:
        """Every run folder; the newest first, and the runs inside a run after it, in the order they began."""
        found = {folder: names for folder, names in self._folders() if kind_of(folder, names, self._json) is not None}
        runs = [self._run(folder, names) for folder, names in found.items()]
        begun = {run.path: _began(run) for run in runs}
        heads = {path: next((above for above in reversed([path, *path.parents]) if above in begun), path) for path in begun}
        return sorted(runs, key=lambda run: (-begun[heads[run.path]], str(heads[run.path]), run.path != heads[run.path],
                                             begun[run.path], run.name))

    def _folders(self) -> Iterator[tuple[Path, set[str]]]:
        seen: set[Path] = set()
        for top in (self.root, *self._named):
            left = [(top, 0)]
            while left and len(seen) < MOST_FOLDERS:
                folder, depth = left.pop()
                if folder in seen:
                    continue
                seen.add(folder)
                names, inner = _listed(folder)
                yield folder, names
                left += [(each, depth + 1) for each in inner if depth < DEPTH]

    def _json(self, path: Path) -> dict[str, Any]:
        """A file's table, read again when it changed; empty if it is missing or no table."""
        try:
            about = path.stat()
            stamp = about.st_mtime_ns, about.st_size
        except OSError:
            return {}
        if self._read.get(path, ((-1, -1), {}))[0] != stamp:
            self._read[path] = stamp, table(path)
        return self._read[path][1]

    def _run(self, folder: Path, names: set[str]) -> RunFolder:
        kind = kind_of(folder, names, self._json) or "journal"
        settings, report = self._json(folder / SETTINGS), self._json(folder / REPORT)
        done, total, pace = self._progress(kind, folder, settings, report)
        changed = max((_changed(folder / name) for name in names), default=0.0)
        work = _changed(folder / {"distill": CURVE, "demo": SECONDS, "dataset": CARD}.get(kind, JOURNAL))
        state: State = "stopped"
        if kind == "dataset" or (report and _changed(folder / REPORT) >= work):
            state = "finished"
        elif self._now() - changed < max(FRESH, 3 * pace):
            state = "running"
        if kind not in ("dataset", "demo") and is_locked(folder / JOURNAL):
            state = "running"
        if kind == "demo" and state == "stopped" and self._is_busy_inside(folder):
            state = "running"
        name = str(folder.relative_to(self.root)) if folder.is_relative_to(self.root) else str(folder)
        return RunFolder(folder, folder.absolute().name if name == "." else name, kind, state, done, total, changed, settings, report)

    def _is_busy_inside(self, folder: Path) -> bool:
        """A demo's phases write in folders of their own."""
        files = [folder / "distill" / CURVE, *folder.glob(f"*/{JOURNAL}"), *folder.glob(f"evaluate/*/{JOURNAL}")]
        return any(is_locked(file) or self._now() - _changed(file) < FRESH for file in files)

    def _progress(self, kind: RunKind, folder: Path, settings: dict[str, Any], report: dict[str, Any]) -> tuple[int, int | None, float]:
        """Done, of how many, and seconds for one."""
        if kind == "distill":
            last = _last_line(folder / CURVE)
            done = _whole(last.get("step"))
            seconds = last.get("seconds")
            pace = seconds / done if done and isinstance(seconds, int | float) else 0.0
            return done, done if report else self._updates(folder, settings), pace
        if kind == "dataset":
            counts = self._json(folder / CARD).get("examples")
            return sum(map(_whole, counts.values())) if isinstance(counts, dict) else 0, None, 0.0
        if kind == "demo":
            return len(self._json(folder / SECONDS)), PHASES, 0.0
        done = self._counts.setdefault(folder, _Count(folder / JOURNAL)).now()
        return done, self._questions(folder, settings, report, done), 0.0

    def _updates(self, folder: Path, settings: dict[str, Any]) -> int | None:
        """As the settings or the newest checkpoint say, else by the data set beside it."""
        if most := _whole(settings.get("max_steps")):
            return most
        for state in sorted(folder.glob("checkpoint-*/trainer_state.json"), key=_changed, reverse=True):
            if most := _whole(self._json(state).get("max_steps")):
                return most
        batch, epochs = _whole(settings.get("batch")), _whole(settings.get("epochs"))
        for card in folder.parent.glob(f"*/{CARD}"):
            told = self._json(card)
            counts = told.get("trajectories")
            if batch and told.get("digest") == settings.get("data") and isinstance(counts, dict):
                return epochs * math.ceil(_whole(counts.get("kept")) / batch)
        return None

    def _questions(self, folder: Path, settings: dict[str, Any], report: dict[str, Any], done: int) -> int | None:
        if report and _changed(folder / REPORT) >= _changed(folder / JOURNAL):
            return done + _whole(report.get("failed"))
        held_out = self._json(folder.parent.parent / SETTINGS).get("held_out")
        if folder.parent.name == "evaluate" and _whole(held_out):
            return _whole(held_out)
        source = settings.get("questions")
        if not isinstance(source, str):
            return None
        path = Path(source)
        key = (path, _changed(path), str(settings.get("where")))
        if key not in self._totals:
            self._totals[key] = count_questions(path, settings.get("where") or ())
        return self._totals[key]


PHASES = 8
"""Of a demo: index, collect, dataset, distill, three evaluations, swap."""


def kind_of(folder: Path, names: set[str], read: Callable[[Path], dict[str, Any]]) -> RunKind | None:
    """What made a folder, by the files in it; None if it is no run's."""
    settings = read(folder / SETTINGS) if SETTINGS in names else {}
    if "held_out" in settings and "learn_passages" in settings:
        return "demo"
    if CURVE in names or {"weighting", "fingerprint"} <= settings.keys():
        return "distill"
    if {CARD, EXAMPLES} <= names:
        return "dataset"
    if "predictions.jsonl" in names or "decoding" in settings:
        return "evaluate"
    if "teacher" in settings:
        return "collect"
    return "journal" if JOURNAL in names else None


def count_questions(path: Path, where: Any) -> int | None:
    """How many questions a collection asks; None where the file cannot be read (any more)."""
    from steper_agent.retrieval import read_questions

    try:
        pairs = [condition.partition("=") for condition in where]
        return sum(all(str(each.meta.get(key)) == value for key, _, value in pairs) for each in read_questions(path))
    except (StepERError, OSError, ValueError, TypeError, AttributeError):
        return None


def is_locked(path: Path) -> bool:
    """Whether a process writes this journal. Only looked up: taking the lock to see would keep its writer out."""
    try:
        about = path.stat()
        with open("/proc/locks", encoding="ascii", errors="replace") as locks:
            return any("FLOCK" in line and line.split()[-3].endswith(f":{about.st_ino}") for line in locks)
    except (OSError, IndexError):
        return False


class _Count:
    """Finished runs of a journal, counted as it grows."""

    def __init__(self, path: Path) -> None:
        self._tail = Tail(path)
        self._done = 0

    def now(self) -> int:
        try:
            while piece := self._tail.read():
                found = piece.data.count(b"\n" + _FINISHED) + piece.data.startswith(_FINISHED)
                self._done = found + (0 if piece.is_restart else self._done)
        except OSError:
            pass
        return self._done


def _listed(folder: Path) -> tuple[set[str], list[Path]]:
    """Names of the files, and the folders worth a look."""
    names, inner = set(), []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith((".", "checkpoint-")):
                        inner.append(folder / entry.name)
                elif not entry.name.startswith("."):
                    names.add(entry.name)
    except OSError:
        pass
    return names, inner


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a file as a table; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LAST))
            told = json.loads(file.read().split(b"\n")[-2])
    except (OSError, ValueError, IndexError):
        return {}
    return told if isinstance(told, dict) else {}


def _began(run: RunFolder) -> float:
    return min((_changed(run.path / name) for name in (SETTINGS, CARD) if (run.path / name).exists()), default=run.changed)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def table(path: Path) -> dict[str, Any]:
    """A file's JSON object; empty if there is none."""
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
