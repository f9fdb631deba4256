"""Passages on their way onto a shelf: written as they come, and compared where an interrupted run has written them already."""

from __future__ import annotations

import os
import shutil
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from steper_agent.records import Passage
from steper_agent.retrieval.manifest import summand
from steper_agent.retrieval.shelf import GONE, ID_ROWS, IDS, OFFSETS, PASSAGES, Part, hashed, line, mapped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from steper_agent.retrieval.shelf import Shelf

JOINED = "joined"
"""Folder, in that of a generation, of a part that takes in earlier ones."""


class Changed(Exception):
    """The sources are not what they were when the interrupted run read them; the run must start afresh."""


class ShelfWriter:
    """Writes the passages of one part. The first `kept` are there already: they must come again, and be the same."""

    def __init__(self, folder: Path, kept: int = 0) -> None:
        """Raises Changed where nothing is there of what was kept."""
        if kept and not (folder / PASSAGES).is_file():
            raise Changed
        self._folder = folder
        self._kept = kept
        self._file: BinaryIO = (folder / PASSAGES).open("r+b" if kept else "wb", buffering=1 << 20)
        self._offsets = array("q", [0])
        self._ids = array("Q")
        self.digest = 0
        """Sum over the passages, as the manifest keeps it."""
        self.characters = 0
        """Of titles and texts."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, passage: Passage) -> bool:
        """Take the next passage; whether it is new, and not one of those kept.

        Raises:
            Changed: another passage was kept in its place.
        """
        written = line(passage)
        fresh = len(self._ids) >= self._kept
        if fresh:
            self._file.write(written)
        else:
            self._compare(written)
        self.digest += summand(written)
        self.characters += len(passage.title) + len(passage.text)
        self._offsets.append(self._offsets[-1] + len(written))
        self._ids.append(hashed(passage.id))
        return fresh

    def sync(self) -> None:
        """Everything added so far survives a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> NDArray[np.uint64]:
        """Write where each passage begins; the hashes of the ids, in order.

        Raises:
            Changed: fewer passages came than were kept.
        """
        import numpy as np

        if len(self) < self._kept:
            raise Changed
        self.sync()
        self._file.close()
        np.save(self._folder / OFFSETS, np.frombuffer(self._offsets, dtype=np.int64), allow_pickle=False)
        return np.frombuffer(self._ids, dtype=np.uint64)

    def _compare(self, written: bytes) -> None:
        if self._file.read(len(written)) != written:
            raise Changed
        if len(self._ids) == self._kept - 1:
            # From here on it writes; what stood behind was not checkpointed.
            self._file.seek(self._file.tell())
            self._file.truncate()


def write_ids(folder: Path, added: NDArray[np.uint64], before: Shelf) -> None:
    """The table that finds rows by id: the one before, and the ids that were added."""
    import numpy as np

    order = np.argsort(added, kind="stable")
    ids, rows = before.table()
    at = np.searchsorted(ids, added[order], side="right")
    np.save(folder / IDS, np.insert(ids, at, added[order]), allow_pickle=False)
    np.save(folder / ID_ROWS, np.insert(rows, at, (order + before.rows).astype(np.uint32)), allow_pickle=False)


def write_gone(folder: Path, rows: Sequence[int], before: Shelf) -> None:
    """The rows that are deleted: those that were, and these."""
    import numpy as np

    np.save(folder / GONE, np.union1d(before.gone, np.asarray(rows, dtype=np.int64)), allow_pickle=False)


def absorb(root: Path, parts: Sequence[Part], made: Part, folder: Path) -> tuple[Part, ...]:
    """Join parts at the end that are no longer than what follows them with the part just made in `folder`, so that thousands
    of small additions leave a few files, and every passage is copied a few times at most.

    The joined part stands in a folder of its own: the one just made stays what a next run would compare.
    """
    import numpy as np

    kept, places, rows = list(parts), [folder], made.rows
    while kept and kept[-1].rows <= rows:
        part = kept.pop()
        rows += part.rows
        places.insert(0, root / part.folder)
    if len(places) == 1:
        return (*parts, made)
    (folder / JOINED).mkdir(exist_ok=True)
    offsets, end = [np.zeros(1, dtype=np.int64)], 0
    with (folder / JOINED / PASSAGES).open("wb") as target:
        for place in places:
            with (place / PASSAGES).open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
            own = mapped(place / OFFSETS)
            offsets.append(own[1:] + end)
            end += int(own[-1])
    np.save(folder / JOINED / OFFSETS, np.concatenate(offsets), allow_pickle=False)
    return (*kept, Part(folder=f"{made.folder}/{JOINED}", rows=rows))
