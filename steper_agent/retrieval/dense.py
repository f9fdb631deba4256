"""Dense search: FAISS over unit vectors by inner product, flat, HNSW or IVF, built from shards and searched in batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steper_agent.durable import whole_file
from steper_agent.errors import ConfigError, IndexFault
from steper_agent.records import Passage
from steper_agent.retrieval import flat
from steper_agent.retrieval.choosing import PQ_CODES, Flat, Hnsw, Ivf, IvfPq, sampled
from steper_agent.retrieval.encoders import Encoder, encoder_from, shown
from steper_agent.retrieval.openmp import load_faiss, team
from steper_agent.retrieval.ranking import Scored
from steper_agent.retrieval.shelf import REBUILD
from steper_agent.retrieval.timings import stage
from steper_agent.retrieval.vectors import Shards

if TYPE_CHECKING:
    import numpy as np
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

SPARE = 8
"""Rows asked for beyond the k-th, to see whether it has ties."""
SLACK = 1e-5
"""Cosines nearer than this may be in the wrong order: FAISS multiplies a batch by blocks, and rounds otherwise than alone."""
TWINS = 32
"""Neighbours of a passage among which its own row is looked for."""


def build(shards: Shards, file: Path, settings: Flat | Hnsw | Ivf | IvfPq) -> None:
    """Write the index of these vectors; the file is whole or not there. HNSW links vary a little from build to build.

    Raises:
        ConfigError: the settings do not suit so many vectors of this dimension.
    """
    with whole_file(file) as beside:
        if isinstance(settings, Flat):
            flat.write(beside, shards)
        else:
            _fill(_trained(shards, settings), shards, beside)


def extend(old: Path, new: Path, shards: Shards) -> None:
    """Write the index `old` with these vectors behind its own; clusters stay as they were trained.

    Raises:
        IndexFault: the old index cannot be read, or has another dimension.
    """
    faiss = load_faiss()
    index = _read(old)
    if index.d != shards.dimension:
        raise IndexFault(
            f"the index holds {index.d} numbers a passage, the encoder makes {shards.dimension}",
            where=old,
            fix="add with the encoder it was built with, or build it again with this one",
        )
    with whole_file(new) as beside:
        if isinstance(index, faiss.IndexFlat):
            flat.extend(old, index.ntotal, beside, shards)
        else:
            _fill(faiss.read_index(str(old)), shards, beside)


class DenseIndex:
    """An opened index, mapped from disk. FAISS searches without changing anything, so threads share it.

    Rows are positions in order of addition; those in `gone` (sorted) are never found.
    """

    def __init__(
        self,
        path: Path,
        encoder: Encoder | Embeddings,
        settings: Flat | Hnsw | Ivf | IvfPq,
        *,
        dimension: int,
        gone: NDArray[np.int64] | None = None,
    ) -> None:
        self._encoder = encoder_from(encoder)
        self._settings = settings
        self._vectors = _read(path)
        self._gone = gone if gone is not None and len(gone) else None
        if self._vectors.d != dimension:
            raise IndexFault(
                f"the manifest says {dimension} numbers a passage, the vectors have {self._vectors.d}",
                where=path,
                fix=REBUILD,
            )
        self.rows: int = int(self._vectors.ntotal)
        if isinstance(settings, Flat):
            # The first search would read the whole mapped file page by page: 1.3 s for 150 MB, 0.15 s with this beside it.
            threading.Thread(target=_read_through, args=(path,), daemon=True).start()

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Scored]]:
        """For each query, live rows with their cosines, best first: the k best and all that tie with the k-th.

        IVF-PQ's cosines are approximate. The encoder is called once, and FAISS once unless ties or deleted rows fill a list.

        Raises:
            IndexFault: the encoder makes vectors of another dimension.
        """
        if not queries:
            return []
        with stage("encode"):
            vectors = self._checked(self._encoder.queries(queries))
        with stage("dense"):
            return self.nearest(vectors, k)

    def nearest(self, vectors: NDArray[np.float32], k: int) -> list[list[Scored]]:
        """The same for unit vectors, (queries, dimension); a zero vector finds nothing."""
        answers: list[list[Scored]] = [[] for _ in vectors]
        k = min(k, self.rows - (0 if self._gone is None else len(self._gone)))
        unsettled = [at for at, vector in enumerate(vectors) if k > 0 and vector.any()]
        wanted, (probes, lists) = min(k + SPARE, self.rows), self._reach()
        while unsettled:
            asked = vectors if len(unsettled) == len(vectors) else vectors[unsettled]
            with team(len(asked)):
                scores, rows = self._vectors.search(asked, wanted, params=self._parameters(wanted, probes))
            is_short = rows[:, -1] < 0
            # A full list of every row has all there is, in whichever clusters they lie.
            is_all = (is_short & (probes >= lists)) | (~is_short & (wanted >= self.rows))
            left = []
            for at, its_scores, its_rows, ends in zip(unsettled, scores, rows, is_all, strict=True):
                answer = self._settled(vectors[at], its_scores, its_rows, ends, k)
                if answer is None:
                    left.append(at)
                else:
                    answers[at] = answer
            unsettled = left
            # A list that is not full has no more in the clusters that were looked into.
            if is_short.any() and probes < lists:
                probes = min(2 * probes, lists)
            else:
                wanted = min(2 * wanted, self.rows)
        return answers

    def agreement(self, rows: Sequence[int], passages: Sequence[Passage]) -> float:
        """The least cosine between what is stored in these rows and what the encoder makes of these passages now."""
        import numpy as np

        fresh = self._checked(self._encoder.passages([shown(passage) for passage in passages]))
        if isinstance(self._settings, Ivf | IvfPq):
            stored = self._stored_near(fresh, rows)
        else:
            stored = np.stack([self._vectors.reconstruct(int(row)) for row in rows])
        if isinstance(self._settings, IvfPq):
            fresh = self._vectors.sa_decode(self._vectors.sa_encode(fresh))
        lengths = np.linalg.norm(fresh, axis=1) * np.linalg.norm(stored, axis=1)
        cosines = (fresh * stored).sum(axis=1) / np.maximum(lengths, 1e-9)
        return float(np.nan_to_num(cosines, nan=-1.0).min())

    def _stored_near(self, fresh: NDArray[np.float32], rows: Sequence[int]) -> NDArray[np.float32]:
        """What is stored in these rows, looked for near these vectors: clusters keep no list of where a row lies.

        Where the row is not near, the last neighbour's: another vector, or a twin if the passage has many.
        """
        import numpy as np

        wanted = min(TWINS, self.rows)
        with team(len(fresh)):
            asked = self._parameters(wanted, self._reach()[0])
            _, found, vectors = self._vectors.search_and_reconstruct(fresh, wanted, params=asked)
        places = [[*its, row].index(row) for its, row in zip(found.tolist(), rows, strict=True)]
        return np.asarray(vectors[np.arange(len(rows)), np.minimum(places, wanted - 1)])

    def _settled(
        self, vector: NDArray[np.float32], scores: NDArray[np.float32], rows: NDArray[np.int64], is_all: bool, k: int
    ) -> list[Scored] | None:
        """The answer, if these rows are sure to hold it."""
        import numpy as np

        kept = rows >= 0
        if self._gone is not None:
            at = self._gone.searchsorted(rows).clip(max=len(self._gone) - 1)
            kept &= self._gone[at] != rows
        if not kept.all():
            scores, rows = scores[kept], rows[kept]
        if not is_all and (len(rows) <= k or scores[k - 1] - scores[-1] <= SLACK):
            return None
        if not len(rows):
            return []
        near = scores >= scores[min(k, len(rows)) - 1] - SLACK
        scores, rows = scores[near], rows[near]
        if isinstance(self._settings, Flat | Hnsw):
            # One by one, so that a batch scores as its queries alone do, and twins exactly alike. Those by their rows: FAISS has
            # them in the order of its own rounding, which is another one on another processor.
            scores = (self._vectors.reconstruct_batch(rows) * vector).sum(axis=1)
            order = np.lexsort((rows, -scores))
            scores, rows = scores[order], rows[order]
        count = int((scores >= scores[min(k, len(rows)) - 1]).sum())
        return list(zip(rows[:count].tolist(), scores[:count].tolist(), strict=True))

    def _parameters(self, wanted: int, probes: int) -> Any:
        faiss = load_faiss()
        match self._settings:
            case Flat():
                return None
            case Hnsw(ef_search=ef):
                return faiss.SearchParametersHNSW(efSearch=max(ef, wanted))
            case IvfPq():
                return faiss.IVFPQSearchParameters(nprobe=probes)
            case Ivf():
                return faiss.SearchParametersIVF(nprobe=probes)

    def _reach(self) -> tuple[int, int]:
        """Clusters looked into, and clusters there are."""
        if isinstance(self._settings, Ivf | IvfPq):
            return self._settings.probes, self._settings.lists
        return 0, 0

    def _checked(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if vectors.shape[1] != self._vectors.d:
            raise IndexFault(
                f"the index holds {self._vectors.d} numbers a passage, the encoder makes {vectors.shape[1]}",
                where=self._encoder.spec,
                fix="open it with the encoder it was built with, or build it again with this one",
            )
        return vectors


def _read(file: Path) -> Any:
    faiss = load_faiss()
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as bad:
        raise IndexFault("the vectors cannot be read", where=file, fix=REBUILD) from bad


def _read_through(file: Path) -> None:
    """Bring a file to the system's cache."""
    with suppress(OSError), file.open("rb", buffering=0) as through:
        while through.read(1 << 20):
            pass


def _trained(shards: Shards, settings: Hnsw | Ivf | IvfPq) -> Any:
    """An empty index of that kind; its clusters are found on a sample, the same one every time."""
    faiss = load_faiss()
    width, product = shards.dimension, faiss.METRIC_INNER_PRODUCT
    if isinstance(settings, Hnsw):
        index = faiss.IndexHNSWFlat(width, settings.m, product)
        index.hnsw.efConstruction = settings.ef_construction
        return index
    least = settings.lists if isinstance(settings, Ivf) else max(settings.lists, PQ_CODES)
    if shards.rows < least:
        raise ConfigError(
            f"{settings.kind} wants at least {least} passages, there are {shards.rows}",
            where="dense",
            fix="choose flat",
        )
    if isinstance(settings, Ivf):
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, settings.lists, product)
    elif width % settings.pq_bytes:
        raise ConfigError(
            f"{settings.pq_bytes} bytes do not divide {width} numbers", where="pq_bytes", fix="choose a divisor"
        )
    else:
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(width), width, settings.lists, settings.pq_bytes, 8, product)
        index.pq.cp.min_points_per_centroid = 1
    # FAISS warns on its own stream of few vectors a cluster, which small indexes have by design.
    index.cp.min_points_per_centroid = 1
    index.train(shards.sample(sampled(shards.rows, settings.lists)))
    return index


def _fill(index: Any, shards: Shards, file: Path) -> None:
    import numpy as np

    for block in shards.blocks():
        index.add(np.ascontiguousarray(block))
    load_faiss().write_index(index, str(file))
