"""An opened index as a LangChain retriever: any LangChain program can use it, our graph gets hits with scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from steper_agent.durable import digest
from steper_agent.records import Hit, Passage
from steper_agent.retrieval.batching import Batcher
from steper_agent.retrieval.documents import HitRetriever
from steper_agent.retrieval.fusion import DENSE_WEIGHT, DEPTH, K0, fuse
from steper_agent.retrieval.manifest import Manifest
from steper_agent.retrieval.ranking import Scored, cut
from steper_agent.retrieval.rerank import FIRST, rerank_many
from steper_agent.retrieval.shelf import Shelf
from steper_agent.retrieval.timings import stage

if TYPE_CHECKING:
    from steper_agent.retrieval.dense import DenseIndex
    from steper_agent.retrieval.lexical import LexicalIndex

SIDES = ("lexical", "dense")
QUICK = 100_000
"""Passages up to which a search by words takes about a millisecond, and handing it to a thread a quarter more."""


class IndexRetriever(HitRetriever):
    """Made by `open_index`. Nothing in it changes after opening, so any number of threads may search."""

    folder: Path = Field(exclude=True, repr=False)
    manifest: Manifest
    shelf: Any = Field(exclude=True, repr=False)
    lexical: Any = Field(default=None, exclude=True, repr=False)
    dense: Any = Field(default=None, exclude=True, repr=False)
    reranker: Any = Field(default=None, exclude=True, repr=False)
    """A `rerank.Reranker` that reads the first hits again and gives them its own scores."""
    _batcher: Batcher = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        # Words alone are searched faster side by side than together: there is no model to ask but once.
        self._batcher = Batcher(self.search_many, split=not self._calls_a_model)

    @property
    def digest(self) -> str:
        """Equal for indexes that answer alike."""
        sides = [name for name in SIDES if getattr(self, name) is not None]
        if len(sides) == 1 and self.manifest.mode != "hybrid" and self.reranker is None:
            return self.manifest.identity
        read_again = getattr(self.reranker, "spec", type(self.reranker).__qualname__) if self.reranker else None
        return digest([self.manifest.identity, sides, DEPTH, K0, DENSE_WEIGHT, read_again])

    def only(self, side: Literal["lexical", "dense"]) -> IndexRetriever:
        """Of an index that searches in both ways, the one way alone."""
        kept = {name: getattr(self, name) if name == side else None for name in SIDES}
        return IndexRetriever(k=self.k, folder=self.folder, manifest=self.manifest, shelf=self.shelf, **kept)

    @property
    def _calls_a_model(self) -> bool:
        return self.dense is not None or self.reranker is not None

    def __len__(self) -> int:
        return self.manifest.passages

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """The k best passages, best first, ties by passage id; none for a blank query."""
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """For each query what `search` gives; the encoder is called once for all."""
        asked = [query for query in queries if query.strip()] if k >= 1 else []
        found = iter(self._found(asked, k))
        return [next(found) if k >= 1 and query.strip() else () for query in queries]

    async def asearch(self, query: str, k: int) -> tuple[Hit, ...]:
        """The same from an event loop: searches that come at once go together, in threads."""
        if not self._calls_a_model and len(self) <= QUICK:
            return self.search(query, k)
        return await self._batcher.search(query, k)

    def find(self, passage_id: str) -> Passage | None:
        """The passage of that id, if the index holds it."""
        shelf: Shelf = self.shelf
        row = shelf.find(passage_id)
        return None if row is None else shelf[row]

    def _found(self, asked: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        reader = _Reader(self.shelf)
        if self.reranker is None:
            return reader.hits(self._sides(), asked, k)
        first = reader.hits(self._sides(), asked, max(k, FIRST))
        with stage("rerank"):
            return rerank_many(self.reranker, asked, first, k)

    def _sides(self) -> list[LexicalIndex | DenseIndex]:
        return [side for side in (self.lexical, self.dense) if side is not None]


class _Reader:
    """The passages that one call reads, each once: ties are broken by ids, and hits hold the same passages."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._read: dict[int, Passage] = {}

    def hits(self, sides: Sequence[LexicalIndex | DenseIndex], queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        depth = k if len(sides) == 1 else max(k, DEPTH)
        answers = [side.search_many(queries, depth) for side in sides]
        with stage("read"):
            ranked = [[cut(scored, depth, self._id) for scored in one] for one in answers]
            best = ranked[0] if len(sides) == 1 else [self._fused(one, k) for one in zip(*ranked, strict=True)]
            return [tuple(Hit(passage=self._passage(row), score=score) for row, score in one) for one in best]

    def _fused(self, rankings: Sequence[Sequence[Scored]], k: int) -> list[Scored]:
        return cut(
            fuse([[row for row, _ in ranking] for ranking in rankings], weights=(1.0, DENSE_WEIGHT)), k, self._id
        )

    def _id(self, row: int) -> str:
        return self._passage(row).id

    def _passage(self, row: int) -> Passage:
        if row not in self._read:
            self._read[row] = self._shelf[row]
        return self._read[row]
