"""The passages of an index on disk, read by row or by id without loading the others.

A row is a passage's number in order of addition. Rows are never given twice: a deleted passage keeps its own.
"""

from __future__ import annotations

import os
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from steper_agent.errors import IndexFault
from steper_agent.records import Passage, Record
from steper_agent.retrieval.sources.normal import clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PASSAGES = "passages.jsonl"
OFFSETS = "offsets.npy"
IDS = "ids.npy"
ID_ROWS = "id_rows.npy"
GONE = "gone.npy"
REBUILD = "build it again: steper index build SOURCE --out DIR"


class Part(Record):
    """Passages that one generation added: rows that follow those of the part before."""

    folder: str
    """Below the index folder."""
    rows: int


class Shelf:
    """The passages of an opened index. Nothing in it changes, and it reads at offsets, so threads share it.

    Read by `pread` and not through a memory map, so that resident memory stays small whatever is read.
    """

    def __init__(self, folder: Path, parts: Sequence[Part] = (), *, ids: str = "", gone: str = "") -> None:
        """`ids` and `gone` name the folders, below the index folder, of the table of ids and of the deleted rows. Without parts
        it is empty.

        Raises:
            IndexFault: a file cannot be read.
        """
        import numpy as np

        self._files: list[int] = []
        self._close = weakref.finalize(self, _close, self._files)
        self._paths = [folder / part.folder / PASSAGES for part in parts]
        self._starts = list(accumulate((part.rows for part in parts), initial=0))
        self.rows: int = self._starts[-1]
        try:
            self._offsets = [mapped(folder / part.folder / OFFSETS) for part in parts]
            self._ids: NDArray[np.uint64] = mapped(folder / ids / IDS) if ids else np.empty(0, np.uint64)
            self._id_rows: NDArray[np.uint32] = mapped(folder / ids / ID_ROWS) if ids else np.empty(0, np.uint32)
            self.gone: NDArray[np.int64] = mapped(folder / gone / GONE) if gone else np.empty(0, np.int64)
            self._files += [os.open(path, os.O_RDONLY) for path in self._paths]
        except (OSError, ValueError) as bad:
            raise IndexFault(f"the passages cannot be read: {bad}", where=folder, fix=REBUILD) from bad
        held = sum(len(offsets) - 1 for offsets in self._offsets)
        if not held == self.rows == len(self._ids) == len(self._id_rows):
            raise IndexFault(f"the shelf holds {held} rows, the manifest says {self.rows}", where=folder, fix=REBUILD)

    def __len__(self) -> int:
        """Passages that are not deleted."""
        return self.rows - len(self.gone)

    def __getitem__(self, row: int) -> Passage:
        """The passage of a row, deleted or not.

        Raises:
            IndexFault: the file does not hold a passage there.
        """
        try:
            return Passage.model_validate_json(self.line(row))
        except ValidationError as bad:
            part = bisect_right(self._starts, row) - 1
            where = f"{self._paths[part]}:{row - self._starts[part] + 1}"
            raise IndexFault("not a passage", where=where, fix=REBUILD) from bad

    def __iter__(self) -> Iterator[Passage]:
        return (self[row] for row in self.live())

    def live(self) -> Iterator[int]:
        """The rows that are not deleted, in order."""
        gone = iter(self.gone.tolist())
        skipped = next(gone, None)
        for row in range(self.rows):
            if row == skipped:
                skipped = next(gone, None)
            else:
                yield row

    def is_live(self, row: int) -> bool:
        at = bisect_left(self.gone, row)
        return 0 <= row < self.rows and not (at < len(self.gone) and self.gone[at] == row)

    def line(self, row: int) -> bytes:
        """A row as it stands in the file."""
        if not 0 <= row < self.rows:
            raise IndexError(row)
        part = bisect_right(self._starts, row) - 1
        offsets, at = self._offsets[part], row - self._starts[part]
        start, end = int(offsets[at]), int(offsets[at + 1])
        return os.pread(self._files[part], end - start, start)

    def find(self, passage_id: str) -> int | None:
        """The row of the passage of that id, however it is spelt in Unicode, if it is not deleted."""
        import numpy as np

        passage_id = clean(passage_id)
        key = np.uint64(hashed(passage_id))
        first = int(np.searchsorted(self._ids, key))
        last = int(np.searchsorted(self._ids, key, side="right"))
        return next((row for row in self._id_rows[first:last].tolist() if self._is(row, passage_id)), None)

    def may_have(self, keys: Sequence[int]) -> list[bool]:
        """Of hashes of ids, whether a passage may have had it. Quicker than `find`, many at once."""
        import numpy as np

        wanted = np.asarray(keys, dtype=np.uint64)
        at = np.searchsorted(self._ids, wanted).clip(max=self.rows - 1)
        found: list[bool] = (self._ids[at] == wanted).tolist()
        return found

    def table(self) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
        """The hashes of all ids, sorted, and their rows."""
        return self._ids, self._id_rows

    def close(self) -> None:
        self._close()

    def _is(self, row: int, passage_id: str) -> bool:
        return self.is_live(row) and self[row].id == passage_id


def line(passage: Passage) -> bytes:
    """A passage as the shelf holds it."""
    return Passage.__pydantic_serializer__.to_json(passage) + b"\n"


def hashed(passage_id: str) -> int:
    """64 bits of an id, the same on every machine."""
    return int.from_bytes(blake2b(passage_id.encode(), digest_size=8).digest(), "little")


def mapped(path: Path) -> Any:
    """An array on disk, paged in as it is read."""
    import numpy as np

    return np.load(path, mmap_mode="r", allow_pickle=False)


def _close(files: list[int]) -> None:
    while files:
        os.close(files.pop())
