"""What the running graph wrote, one JSON line a node, append-only: the only thing the trainer ever reads."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from steper_agent.errors import JournalError
from steper_agent.records import Finished, Label, NodeRecord, Step, Swapped, Trajectory

LOG = logging.getLogger(__name__)
Entry = NodeRecord | Finished | Swapped
Line = Annotated[Entry, Field(discriminator="line")]
SYNC_EVERY = 1.0
"""Seconds; waiting for the disk after every run would cost several times what the rest of a short run does."""

_LINE: TypeAdapter[Entry] = TypeAdapter(Line)


class Journal:
    """One writer, many readers. A line is with the operating system before `append` returns, so `kill -9` loses at most
    the line being written, and a power cut about a second; a half-written last line is cut off when the journal is opened
    again.

    `lossy`: a line that cannot be written (the disk is full) is lost, and told to the log, instead of ending the run that
    wrote it: for whoever answers people first and keeps a record second. No run is resumed there, so none is remembered: a
    server's memory does not grow with what it answered.
    """

    def __init__(self, path: Path, *, lossy: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.Lock()
        self._synced = 0.0
        self._lossy = lossy
        self._lost = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as bad:
            os.close(self._file)
            raise JournalError(
                "another process writes this journal", where=path, fix="wait for it, or use another folder"
            ) from bad
        self._recalled: dict[str, dict[str, NodeRecord]] = {}
        """By run and key, of runs that have not finished."""
        self.finished: dict[str, Finished] = {}
        """Runs that are complete, by run id."""
        try:
            self._cut_half_line()
            for record in () if lossy else read(path):
                self._remember(record)
        except JournalError:
            self.close()
            raise

    def append(self, record: Entry) -> None:
        data = _line(record)
        with self._lock:
            whole = os.lseek(self._file, 0, os.SEEK_CUR)
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError as full:
                # A full disk takes half a line; left there, the next line would be joined to it.
                os.ftruncate(self._file, whole)
                os.lseek(self._file, whole, os.SEEK_SET)
                if not self._lossy:
                    raise
                self._lose(full)
                return
            self._found_room()
            if not self._lossy:
                self._remember(record)
            if isinstance(record, Finished) and time.monotonic() - self._synced > SYNC_EVERY:
                os.fsync(self._file)
                self._synced = time.monotonic()

    def _lose(self, full: OSError) -> None:
        self._lost += 1
        if self._lost == 1:
            LOG.warning("%s: %s; lines are lost until there is room", self.path, full.strerror)

    def _found_room(self) -> None:
        if self._lost:
            LOG.warning("%s: there is room again, %d lines are lost", self.path, self._lost)
            self._lost = 0

    def recall(self, run: str, key: str) -> NodeRecord | None:
        """The node of an unfinished run that already did exactly this work, if any."""
        return self._recalled.get(run, {}).get(key)

    def close(self) -> None:
        """Let others write; a second call does nothing."""
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remember(self, record: Entry) -> None:
        if isinstance(record, Finished):
            self.finished[record.run] = record
            self._recalled.pop(record.run, None)
        elif isinstance(record, NodeRecord) and record.outcome in ("ok", "parse_error", "empty_retrieval"):
            self._recalled.setdefault(record.run, {})[record.key] = record

    def _cut_half_line(self) -> None:
        size = os.lseek(self._file, 0, os.SEEK_END)
        whole = 0
        with self.path.open("rb") as file:
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
        if whole < size:
            os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)


def _line(record: Entry) -> bytes:
    """Halves of a character, which a provider's JSON may hold and UTF-8 may not, are put together, or replaced."""
    try:
        return (record.model_dump_json() + "\n").encode()
    except PydanticSerializationError:
        text = json.dumps(record.model_dump(mode="json"), ensure_ascii=False)
        return (text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") + "\n").encode()


def read(path: Path) -> Iterator[Entry]:
    """Every whole line of a journal, in order.

    Raises:
        JournalError: the file is missing, or a whole line is no record (named by its number).
    """
    if not path.is_file():
        raise JournalError("there is no journal here", where=path, fix="run: python -m training.collect --out FOLDER")
    # Bytes, because a writer that died in mid-line may have died in mid-character too.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield _LINE.validate_json(line)
            except ValidationError as bad:
                raise JournalError(f"not a journal line: {bad.errors()[0]['msg']}", where=f"{path}:{number}",
                                   fix="remove the line, or the folder, and collect again") from bad


def trajectories(path: Path) -> list[Trajectory]:
    """Every finished run, put together from its node lines, in the order the runs finished."""
    open_runs: dict[str, list[NodeRecord]] = {}
    done = []
    for record in read(path):
        if isinstance(record, NodeRecord):
            open_runs.setdefault(record.run, []).append(record)
        elif isinstance(record, Finished):
            done.append(assemble(record, open_runs.pop(record.run, [])))
    return done


def assemble(end: Finished, nodes: list[NodeRecord]) -> Trajectory:
    """The trajectory of one finished run. A node that ran twice (a retry) counts with its last line that did not
    fail; a strategy without a search leaves steps without hits."""
    whole = _standing([node for node in nodes if node.outcome not in ("error", "timeout")])
    last = {(node.node, node.step): node for node in whole if node.of is None}
    steps = []
    for number in sorted(step for name, step in last if name == "reason" and step > 0):
        query, found = last.get(("form_query", number)), last.get(("retrieve", number))
        steps.append(Step(query=query.output if query else "", hits=found.hits if found else (),
                          rationale=last["reason", number].output, calls=found.calls if found else ()))
    opening = last.get(("reason", 0))
    return Trajectory(question=end.question, strategy=end.strategy, opening=opening.output if opening else "",
                      steps=tuple(steps), answer=end.answer, stop=end.stop, model=end.model, recipe=end.recipe,
                      labels=_labels(whole), likely={step: node.likely for (name, step), node in last.items() if name == "reason" and node.likely})


def _standing(nodes: list[NodeRecord]) -> list[NodeRecord]:
    """Of a run that was begun anew, because what it rested on had changed, what still stands: whatever it does at a step takes the
    place of all that an earlier beginning did behind it."""
    standing: list[NodeRecord] = []
    for node in nodes:
        if node.of is None:
            standing = [one for one in standing if one.step <= node.step]
        standing.append(node)
    return standing


def _labels(nodes: list[NodeRecord]) -> tuple[Label, ...]:
    """What could be read of what a teacher said, the states in their order."""
    last = {(node.step, node.of == "answer", node.node): node for node in nodes if node.of}
    return tuple(
        Label(step=node.step, of=node.of, rationale=node.output, calls=node.calls, likely=node.likely, model=node.model,
              answer=node.output if node.of == "answer" else node.answer, scored=node.node == "score",
              taken=bool(node.parameters.get("taken")), round=int(node.parameters.get("round", 1)))
        for _, node in sorted(last.items()) if node.of and node.outcome == "ok"
    )  # fmt: skip
