"""Locks between processes that a dead process cannot keep: the system takes an flock back with the file it was on."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from steper_agent.errors import JournalError

PATIENCE = 30.0
"""Seconds; what is done under a lock takes milliseconds, so that a longer wait means something hangs."""
EVERY = 0.01


class FileLock:
    """Held from now to `release`, by this object alone: two threads exclude each other as two processes do. The file is
    made, is empty, and stays, because a lock on a deleted file would lock nobody out.

    Raises:
        JournalError: others did not let go of it for `patience` seconds.
    """

    def __init__(self, file: Path, *, shared: bool = False, patience: float = PATIENCE) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        kind, end = fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
                return
            except BlockingIOError as held:
                if time.monotonic() >= end:
                    self.release()
                    raise JournalError("another process holds the lock", where=file, fix="wait for it, or end it") from held
                time.sleep(EVERY)

    def release(self) -> None:
        """Let others have it; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
