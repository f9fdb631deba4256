"""The passages of an index on disk, read by row or by id without loading the others."""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from steper_agent.errors import IndexFault
from steper_agent.records import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PASSAGES = "passages.jsonl"
OFFSETS = "offsets.npy"
ORDER = "order.npy"


class ShelfWriter:
    """Writes passages one by one; `close` adds where each begins and the rank of each by id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / PASSAGES).open("wb")
        self._offsets = array("q", [0])
        self._ids: list[str] = []
        self._hash = hashlib.sha256()

    def __enter__(self) -> ShelfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, passage: Passage) -> None:
        written = line(passage)
        self._hash.update(written)
        self._offsets.append(self._offsets[-1] + self._file.write(written))
        self._ids.append(passage.id)

    @property
    def digest(self) -> str:
        """SHA-256 of everything added so far."""
        return self._hash.hexdigest()

    def close(self) -> int:
        """Finish the shelf; the number of passages."""
        import numpy as np

        self._file.close()
        np.save(self._folder / OFFSETS, np.asarray(self._offsets, dtype=np.int64), allow_pickle=False)
        order = np.empty(len(self._ids), dtype=np.int32)
        order[sorted(range(len(self._ids)), key=self._ids.__getitem__)] = np.arange(len(self._ids), dtype=np.int32)
        np.save(self._folder / ORDER, order, allow_pickle=False)
        return len(self._ids)


class Shelf:
    """The passages of an opened index."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self._folder = folder
        try:
            self._offsets = np.load(folder / OFFSETS, allow_pickle=False, mmap_mode="r")
            self.order: NDArray[np.int32] = np.load(folder / ORDER, allow_pickle=False)
            with (folder / PASSAGES).open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as bad:
            raise IndexFault(f"the passages cannot be read: {bad}", where=folder, fix=REBUILD) from bad
        self.by_id: NDArray[np.int32] = np.argsort(self.order).astype(np.int32)

    @property
    def rows(self) -> int:
        return len(self._offsets) - 1

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> Passage:
        if not 0 <= row < self.rows:
            raise IndexError(row)
        try:
            return Passage.model_validate_json(self._bytes[self._offsets[row] : self._offsets[row + 1]])
        except ValidationError as bad:
            raise IndexFault("not a passage", where=f"{self._folder / PASSAGES}:{row + 1}", fix=REBUILD) from bad

    def __iter__(self) -> Iterator[Passage]:
        return (self[row] for row in range(self.rows))

    def close(self) -> None:
        self._bytes.close()

    def find(self, passage_id: str) -> Passage | None:
        """The passage of that id, by bisection."""
        low, high = 0, self.rows
        while low < high:
            middle = (low + high) // 2
            passage = self[int(self.by_id[middle])]
            if passage.id == passage_id:
                return passage
            low, high = (middle + 1, high) if passage.id < passage_id else (low, middle)
        return None


REBUILD = "build it again: steper index build SOURCE --out DIR"


def line(passage: Passage) -> bytes:
    """A passage as the shelf holds it; the SHA-256 over these lines is the digest of a corpus."""
    return passage.model_dump_json().encode() + b"\n"
