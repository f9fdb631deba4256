"""Encoded passages on their way into an index: shards on disk, each whole or not there, so that a killed build goes on.

A shard's name holds a digest of the encoder and of the texts it was made from: vectors of others are never taken for ours.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from steper_agent.durable import digest, write_atomic
from steper_agent.errors import ConfigError
from steper_agent.records import Passage
from steper_agent.retrieval.encoders import Encoder, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARD = 8192
"""Passages a shard: 12 MiB of 384 numbers, and the most that a kill loses."""
BLOCK = 1024
"""Passages a call of the encoder, and between two reports of progress."""


class Readable(Protocol):
    """A shelf, as far as vectors need it."""

    def __getitem__(self, row: int, /) -> Passage: ...


@dataclass(frozen=True, slots=True)
class Shards:
    """The vectors of a range of rows, on disk."""

    files: tuple[Path, ...]
    """In order of rows."""
    rows: int
    dimension: int

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """One shard after the other, mapped from disk: (rows, dimension), unit vectors."""
        import numpy as np

        for file in self.files:
            yield np.load(file, mmap_mode="r", allow_pickle=False)

    def sample(self, most: int, seed: int = 0) -> NDArray[np.float32]:
        """At most so many vectors from all over, the same ones every time: (vectors, dimension)."""
        import numpy as np

        if most >= self.rows:
            return np.concatenate(list(self.blocks()))
        chosen = np.sort(np.random.default_rng(seed).choice(self.rows, most, replace=False))
        taken, first = [], 0
        for block in self.blocks():
            last = first + len(block)
            taken.append(block[chosen[(chosen >= first) & (chosen < last)] - first])
            first = last
        return np.concatenate(taken)


def write_shards(
    passages: Readable,
    rows: range,
    encoder: Encoder,
    folder: Path,
    progress: Callable[[int], None] = lambda _done: None,
) -> Shards:
    """Encode the passages of these rows into `folder`, of which nothing else is kept; shards already there are not made again.

    Memory stays at a shard whatever the number of rows. `progress` is told the rows that are done.

    Raises:
        ConfigError: the encoder makes no vectors, or changes its dimension.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    dimension = 0
    for number, first in enumerate(range(rows.start, rows.stop, SHARD)):
        texts = [shown(passages[row]) for row in range(first, min(first + SHARD, rows.stop))]
        name = digest([encoder.spec, encoder.prefixes.model_dump(), texts])
        file = folder / f"shard-{number:05}-{name[:16]}.npy"
        made = _width(file, len(texts))
        if not made:
            vectors = _encode(encoder, texts, partial(_ahead, progress, first - rows.start))
            made = vectors.shape[1]
            _save(file, vectors)
        dimension = _same(dimension or made, made, encoder)
        files.append(file)
        progress(first - rows.start + len(texts))
    for other in set(folder.iterdir()) - set(files):
        other.unlink()
    return Shards(files=tuple(files), rows=len(rows), dimension=dimension)


def _width(file: Path, rows: int) -> int:
    """The dimension of the shard in that file; 0 where there is none of so many rows."""
    import numpy as np

    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return 0
    is_shard = vectors.ndim == 2 and len(vectors) == rows and vectors.dtype == np.float32
    return int(vectors.shape[1]) if is_shard else 0


def _encode(encoder: Encoder, texts: list[str], progress: Callable[[int], None]) -> NDArray[np.float32]:
    import numpy as np

    blocks: list[NDArray[np.float32]] = []
    for start in range(0, len(texts), BLOCK):
        if start:
            progress(start)
        blocks.append(encoder.passages(texts[start : start + BLOCK]))
        _same(blocks[0].shape[1], blocks[-1].shape[1], encoder)
    return np.concatenate(blocks)


def _ahead(progress: Callable[[int], None], done: int, more: int) -> None:
    progress(done + more)


def _same(before: int, made: int, encoder: Encoder) -> int:
    if made != before:
        raise ConfigError(
            f"the encoder makes {made} numbers after making {before}",
            where=encoder.spec,
            fix="use an encoder with one dimension",
        )
    return made


def _save(file: Path, vectors: NDArray[np.float32]) -> None:
    import numpy as np

    content = io.BytesIO()
    np.save(content, vectors, allow_pickle=False)
    write_atomic(file, content.getvalue())
