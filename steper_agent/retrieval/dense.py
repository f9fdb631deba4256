"""Exact dense search: FAISS inner product over unit vectors, from any LangChain or sentence-transformers encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steper_agent.errors import ConfigError, DependencyError, IndexFault
from steper_agent.records import Passage
from steper_agent.retrieval.shelf import REBUILD, Shelf

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

VECTORS = "dense.faiss"
PREFIX = "sentence-transformers:"
BATCH = 128


def encoder_from(spec: str) -> Embeddings:
    """The encoder that a spec names; `sentence-transformers:NAME` is the one kind."""
    name = spec.removeprefix(PREFIX)
    if name == spec or not name:
        raise ConfigError(
            f"unknown encoder {spec!r}",
            where="encoder",
            fix=f"write {PREFIX}NAME, or pass a LangChain Embeddings object from Python",
        )
    try:
        from steper_agent.retrieval.sentences import SentenceEncoder
    except ImportError as missing:
        raise DependencyError(
            f"dense search with this encoder needs sentence-transformers ({missing})",
            where=spec,
            fix="pip install sentence-transformers, or build with --mode bm25",
        ) from missing
    return SentenceEncoder(name)


def spec_of(encoder: str | Embeddings) -> str:
    """How the manifest names an encoder."""
    if isinstance(encoder, str):
        return encoder
    spec = getattr(encoder, "spec", None)
    return str(spec) if spec else f"object:{type(encoder).__module__}.{type(encoder).__qualname__}"


def shown(passage: Passage) -> str:
    """What the encoder reads of a passage."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def build_vectors(shelf: Shelf, encoder: Embeddings, folder: Path, progress: Callable[[int], None]) -> int:
    """Encode every passage and write the vectors; the dimension."""
    import faiss

    vectors: Any = None
    for start in range(0, len(shelf), BATCH):
        end = min(start + BATCH, len(shelf))
        block = _encode(encoder, [shown(shelf[row]) for row in range(start, end)])
        if vectors is None:
            vectors = faiss.IndexFlatIP(block.shape[1])
        elif block.shape[1] != vectors.d:
            raise ConfigError(
                f"the encoder makes {block.shape[1]} numbers after making {vectors.d}",
                where=spec_of(encoder),
                fix="use an encoder with one dimension",
            )
        vectors.add(block)
        progress(end)
    faiss.write_index(vectors, str(folder / VECTORS))
    return int(vectors.d)


class DenseIndex:
    """An opened dense index. FAISS searches a flat index without locks, so threads share it."""

    def __init__(self, folder: Path, encoder: Embeddings, order: NDArray[np.int32], *, dimension: int) -> None:
        import faiss

        self._encoder = encoder
        self._order = order
        try:
            self._vectors: Any = faiss.read_index(str(folder / VECTORS))
        except RuntimeError as bad:
            raise IndexFault("the vectors cannot be read", where=folder / VECTORS, fix=REBUILD) from bad
        if self._vectors.d != dimension:
            raise IndexFault(
                f"the manifest says {dimension} numbers a passage, the vectors have {self._vectors.d}",
                where=folder,
                fix=REBUILD,
            )
        self.rows: int = int(self._vectors.ntotal)

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """Rows with their cosines, best first, ties by passage id."""
        import numpy as np

        vector = self._checked(_normal(np.asarray([self._encoder.embed_query(query)], dtype=np.float32)))
        k = min(k, self.rows)
        wanted = min(k + 1, self.rows)
        while True:
            scores, rows = (found[0] for found in self._vectors.search(vector, wanted))
            # All rows that tie with the k-th must be seen before ids may decide between them.
            if wanted == self.rows or scores[-1] < scores[k - 1]:
                break
            wanted = min(wanted * 2, self.rows)
        best = np.lexsort((self._order[rows], -scores))[:k]
        return [(int(rows[at]), float(scores[at])) for at in best]

    def agreement(self, rows: Sequence[int], passages: Sequence[Passage]) -> float:
        """The least cosine between stored vectors and the encoder's own of the same passages."""
        import numpy as np

        fresh = self._checked(_encode(self._encoder, [shown(passage) for passage in passages]))
        stored = np.stack([self._vectors.reconstruct(int(row)) for row in rows])
        return float((fresh * stored).sum(axis=1).min())

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if vectors.shape[1] != self._vectors.d:
            raise IndexFault(
                f"the index holds {self._vectors.d} numbers a passage, the encoder makes {vectors.shape[1]}",
                where=spec_of(self._encoder),
                fix="open it with the encoder it was built with, or build it again with this one",
            )
        return vectors


def _encode(encoder: Embeddings, texts: list[str]) -> NDArray[np.float32]:
    import numpy as np

    return _normal(np.asarray(encoder.embed_documents(texts), dtype=np.float32))


def _normal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length one; a zero vector stays zero and matches nothing."""
    import numpy as np

    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ConfigError("the encoder made no vectors of numbers", where="encoder", fix="check the encoder")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
