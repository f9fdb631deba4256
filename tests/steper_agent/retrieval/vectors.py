"""Vectors without an encoder, for the tests of dense search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steper_agent.retrieval.encoders import Encoder, Prefixes
from steper_agent.retrieval.vectors import Shards


def unit_mixture(rows: int, dimension: int, *, clusters: int = 200, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors in clusters of unequal width, as those of real texts lie."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimension))
    widths = rng.uniform(0.3, 1.0, clusters)
    of = rng.integers(0, clusters, rows)
    vectors = centres[of] + widths[of, None] * rng.standard_normal((rows, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def shards_of(vectors: NDArray[np.float32], folder: Path, size: int = 1000) -> Shards:
    folder.mkdir(parents=True)
    files = []
    for number, start in enumerate(range(0, len(vectors), size)):
        files.append(folder / f"shard-{number:05}.npy")
        np.save(files[-1], vectors[start : start + size], allow_pickle=False)
    return Shards(files=tuple(files), rows=len(vectors), dimension=vectors.shape[1])


class RowEncoder(Encoder):
    """The text `7` is row 7 of a table."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        super().__init__("object:RowEncoder", Prefixes())
        self._table = table

    def _passages(self, texts: list[str]) -> NDArray[np.float32]:
        return self._table[[int(text) for text in texts]]

    def _queries(self, texts: list[str]) -> NDArray[np.float32]:
        return self._passages(texts)
