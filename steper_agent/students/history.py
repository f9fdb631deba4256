"""What happened to the students of a registry, one JSON line an event, append-only: who is live is read from here alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from steper_agent.durable import sync_folder
from steper_agent.errors import JournalError
from steper_agent.records import StudentEvent
from steper_agent.students.locks import FileLock


class History:
    """Any number of readers, who never wait; writers one after the other, between threads and between processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[StudentEvent]:
        """Every whole line, in order; none where nothing was written yet. A half-written last line is not there yet.

        Raises:
            JournalError: a whole line is no event (named by its number).
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        return _parse(self.path, data)

    def signature(self) -> tuple[int, int, int] | None:
        """Changes whenever the file does; None where there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """The history as it is, and will be until the block ends but for what the block appends. A half line that a
        dead writer left is cut off.

        Raises:
            JournalError: a whole line is no event, or another process would not let go.
        """
        with FileLock(self.path.with_suffix(".lock")):
            is_new = not self.path.exists()
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if is_new:
                    sync_folder(self.path.parent)
                yield Writer(self.path, file)
            finally:
                os.close(file)


class Writer:
    """A history with its lock held."""

    def __init__(self, path: Path, file: int) -> None:
        data = path.read_bytes()
        self.events = _parse(path, data)
        self._path, self._file, self._whole = path, file, data.rfind(b"\n") + 1
        if self._whole < len(data):
            os.ftruncate(file, self._whole)

    def append(self, event: StudentEvent) -> None:
        """On the disk when it returns.

        Raises:
            JournalError: it could not be written, and nothing of it is left.
        """
        data = (event.model_dump_json() + "\n").encode()
        left = data
        try:
            os.lseek(self._file, self._whole, os.SEEK_SET)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as full:
            # A full disk takes half a line; left there, the next line would be joined to it.
            os.ftruncate(self._file, self._whole)
            raise JournalError(
                f"the history could not be written ({full.strerror}): nothing has changed", where=self._path,
                fix="make room on the disk, then do it again",
            ) from full  # fmt: skip
        self._whole += len(data)
        self.events.append(event)


def _parse(path: Path, data: bytes) -> list[StudentEvent]:
    events = []
    # Bytes, because a writer that died in mid-line may have died in mid-character too.
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            events.append(StudentEvent.model_validate_json(line))
        except ValidationError as bad:
            raise JournalError(f"not an event of a student: {bad.errors()[0]['msg']}", where=f"{path}:{number}",
                               fix="put the file back from a copy, or remove the line") from bad
    return events
