"""A journal as rows: one pass over its bytes, as cheap as can be, for journals of a hundred thousand trajectories.

A row knows where its trajectory lies in the file; the trajectory itself is read when somebody opens it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from steper_agent.errors import JournalError
from steper_agent.journal import assemble
from steper_agent.records import Finished, NodeRecord, Trajectory
from tui.app.tail import Piece, Tail

PARSE_ERROR, EMPTY_RETRIEVAL, FAILED = 1, 2, 4
"""What happened to at least one node of a run; added up in `Row.marks`."""
Filter = Literal["all", "wrong answers", "parse errors", "empty retrievals", "errors", "budget"]
FILTERS: tuple[Filter, ...] = ("all", "wrong answers", "parse errors", "empty retrievals", "errors", "budget")

MOST = 2_000
"""Characters of a question or an answer a row holds; the search sees no more."""
_NODE, _QUESTION, _NAME, _STEP = b'{"line":"node","run":"', b'","question_id":"', b'","node":"', b'","step":'
_OUTCOME, _WENT_WELL = b'"outcome":"', b'"outcome":"ok","note":""}'
_BACK = 500
"""Lines before a run's end in which its last node is looked for; runs that are under way at once take turns."""
_FINISHED = b'{"line":"finished","run":"'
_MARKS = {"ok": 0, "parse_error": PARSE_ERROR, "empty_retrieval": EMPTY_RETRIEVAL, "error": FAILED, "timeout": FAILED}
_RAW_MARKS = {name.encode(): mark for name, mark in _MARKS.items()}


class Row(NamedTuple):
    run: str
    end: int
    """Where in the journal its last line ends."""
    question: str
    answer: str
    right: bool | None
    """Whether the answer is one of the gold answers (EM); None where none is known, or the run failed."""
    steps: int
    """The step its last node was of."""
    stop: str
    """As the journal says, or `error` for a run whose last node failed and which nobody took up again."""
    model: str
    marks: int


def matches(row: Row, chosen: Filter, search: str = "") -> bool:
    """Whether a row is shown under this filter and this search of the question (lower case)."""
    if search and search not in row.question.lower():
        return False
    match chosen:
        case "wrong answers":
            return row.right is False
        case "parse errors":
            return bool(row.marks & PARSE_ERROR)
        case "empty retrievals":
            return bool(row.marks & EMPTY_RETRIEVAL)
        case "errors":
            return row.stop == "error" or bool(row.marks & FAILED)
        case "budget":
            return row.stop == "budget"
    return True


class _Noted:
    """What there is to say of a run that is not finished, where it is not that all went well."""

    __slots__ = ("marks", "place", "step")

    def __init__(self) -> None:
        self.marks = self.step = 0
        self.place: int | None = None
        """Of its row, if a node failed."""


class Rows:
    """The rows of a journal in the order the runs finished (or failed), fed with the journal's pieces."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.rows: list[Row] = []
        self.redone = 0
        """How often a row that was there changed: a failed run that was taken up again."""
        self.lines = 0
        self.bad: list[int] = []
        """Numbers of lines that are no record of a journal."""
        self._noted: dict[bytes, _Noted] = {}
        self._before: list[bytes] = []

    def take(self, piece: Piece) -> None:
        """Add a piece of the journal to the rows."""
        if piece.is_restart:
            self.clear()
        at, known = piece.start, len(self._before)
        lines = self._before + piece.data.split(b"\n")[:-1]
        for number in range(known, len(lines)):
            line = lines[number]
            at += len(line) + 1
            # Nearly every line is a node's that went well: nothing to note.
            if line.endswith(_WENT_WELL) and line.startswith(_NODE):
                continue
            try:
                self._take(at, lines, number)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.bad.append(self.lines + number - known + 1)
        self.lines += len(lines) - known
        self._before = lines[-_BACK:]

    def _take(self, end: int, lines: list[bytes], number: int) -> None:
        """One line, which ends at `end`."""
        line = lines[number]
        if line.startswith(_NODE):
            self._take_raw_node(end, line)
        elif line.startswith(_FINISHED):
            run = line[len(_FINISHED) : line.index(b'","question":', len(_FINISHED))]
            self._finish(end, run, json.loads(line), _last_step(run, lines, number))
        else:
            self._take_any(end, line)

    def _take_raw_node(self, end: int, line: bytes) -> None:
        """A node's line as pydantic writes it, in the order of its fields: faster to search than to parse.

        Inside a JSON string a quote is escaped, so none of the marks that are looked for can be part of a text.
        """
        told = line.rindex(_OUTCOME) + len(_OUTCOME)
        mark = _RAW_MARKS[line[told : line.index(b'"', told)]]
        if mark:
            self._note(line[len(_NODE) : line.index(_QUESTION, len(_NODE))], mark, end, line)

    def _take_any(self, end: int, line: bytes) -> None:
        """A line that another program wrote, or one that is no node's."""
        told = json.loads(line)
        if told["line"] == "swap":
            return
        run = json.dumps(_text(told["run"]), ensure_ascii=False).encode(errors="replace")[1:-1]
        if told["line"] == "finished":
            self._finish(end, run, told, 0)
        elif told["line"] == "node":
            self._note(run, _MARKS[told["outcome"]], end, line)
            self._noted[run].step = int(told["step"])
        else:
            raise ValueError(told["line"])

    def _note(self, run: bytes, mark: int, end: int, line: bytes) -> None:
        noted = self._noted.setdefault(run, _Noted())
        noted.marks |= mark
        if mark == FAILED:
            self._place(noted, _failed(json.loads(line), end, noted.marks))

    def _finish(self, end: int, run: bytes, told: dict[str, Any], step: int) -> None:
        asked, answer, gold = _text(told["question"]["text"]), _text(told["answer"]), told["question"].get("answers") or ()
        noted = self._noted.get(run) or _Noted()
        row = Row(_text(told["run"]), end, asked[:MOST], answer[:MOST], _is_right(answer, gold), max(step, noted.step),
                  _text(told["stop"]), _text(told["model"]), noted.marks)
        self._noted.pop(run, None)
        self._place(noted, row)

    def _place(self, noted: _Noted, row: Row) -> None:
        if noted.place is None:
            noted.place = len(self.rows)
            self.rows.append(row)
        else:
            self.rows[noted.place] = row
            self.redone += 1


def _failed(told: dict[str, Any], end: int, marks: int) -> Row:
    """The graph notes the question when a run ends; until then, only the node that forms queries was given it."""
    question = _text(told["node"] == "form_query" and told["input"] or told["question_id"])
    return Row(_text(told["run"]), end, question[:MOST], "", None, int(told["step"]), "error", _text(told["model"]), marks)


def _last_step(run: bytes, lines: list[bytes], number: int) -> int:
    """The step of the run's last node before line `number`; 0 where it is too far away."""
    mine = _NODE + run + b'"'
    for before in range(number - 1, max(-1, number - _BACK), -1):
        if lines[before].startswith(mine):
            line = lines[before]
            at = line.index(_STEP, line.index(_NAME, len(mine) + len(_QUESTION) - 2)) + len(_STEP)
            return int(line[at : line.index(b",", at)])
    return 0


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _is_right(answer: str, gold: Sequence[str]) -> bool | None:
    if not gold:
        return None
    if answer in gold:
        return True
    from training.scores.metrics import best, em

    return best(em, answer, gold) == 1


class Tally(NamedTuple):
    """What a journal came to so far."""

    runs: int
    stops: dict[str, int]
    parse_errors: int
    """Runs with at least one; so for the next."""
    empty_retrievals: int
    judged: int
    """Answered runs with gold answers."""
    right: int
    bad: tuple[int, ...]
    """Numbers of the lines that are no record."""


def tally(rows: Rows) -> Tally:
    """Count a journal's rows."""
    known = list(rows.rows)
    marks = Counter(row.marks for row in known)
    return Tally(
        runs=len(known), stops=dict(Counter(row.stop for row in known)),
        parse_errors=sum(count for mark, count in marks.items() if mark & PARSE_ERROR),
        empty_retrievals=sum(count for mark, count in marks.items() if mark & EMPTY_RETRIEVAL),
        judged=sum(row.right is not None for row in known), right=sum(row.right is True for row in known),
        bad=tuple(rows.bad),
    )  # fmt: skip


class Opened(NamedTuple):
    """A trajectory with the lines it was put together from."""

    trajectory: Trajectory | None
    """None for a run that failed: it has no end."""
    nodes: tuple[NodeRecord, ...]
    """In the order they ran, failed and repeated ones included."""


def open_row(path: Path, row: Row) -> Opened:
    """Read one trajectory out of a journal, which is searched for its run up to the row's end.

    Raises:
        JournalError: the journal does not hold the run where the row says, for it changed.
    """
    nodes: list[NodeRecord] = []
    end = None
    try:
        for line in _lines_of(path, row):
            if end is not None:
                nodes, end = [], None  # The same id was run before.
            if line.startswith(_NODE) or json.loads(line)["line"] == "node":
                nodes.append(NodeRecord.model_validate_json(line))
            else:
                end = Finished.model_validate_json(line)
    except (ValidationError, ValueError, KeyError, AttributeError, OSError) as bad:
        raise JournalError(f"the run cannot be read: {bad}", where=path, fix="look at the journal with another tool") from bad
    if not nodes and end is None:
        raise JournalError("the run is not where it was: the journal was replaced", where=path, fix="open the run folder again")
    return Opened(assemble(end, nodes) if end else None, tuple(nodes))


def _lines_of(path: Path, row: Row) -> Iterator[bytes]:
    """The run's lines, up to the row's end."""
    word = json.dumps(row.run, ensure_ascii=False).encode(errors="replace")
    mine = _NODE[:-1] + word, _FINISHED[:-1] + word
    tail = Tail(path)
    while tail.offset < row.end and (piece := tail.read()):
        lines = piece.data.split(b"\n")[:-1]
        at = piece.start
        for line in lines:
            at += len(line) + 1
            if at <= row.end and (line.startswith(mine) or _is_of(row.run, line)):
                yield line


def _is_of(run: str, line: bytes) -> bool:
    """Whether a line that another program wrote is of this run."""
    if line.startswith((_NODE, _FINISHED)):
        return False
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("run") == run
