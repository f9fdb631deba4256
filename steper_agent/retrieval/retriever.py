"""An opened index as a LangChain retriever: any LangChain program can use it, our graph gets hits with scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from steper_agent.records import Hit, Passage
from steper_agent.retrieval.dense import DenseIndex
from steper_agent.retrieval.fusion import fuse
from steper_agent.retrieval.lexical import LexicalIndex
from steper_agent.retrieval.manifest import Manifest
from steper_agent.retrieval.shelf import Shelf

if TYPE_CHECKING:
    from steper_agent.retrieval.why import Why

DEPTH = 100
"""Hits each side brings to a fusion, unless more are asked for."""


class IndexRetriever(BaseRetriever):
    """Made by `open_index`. Nothing in it changes after opening, so any number of threads may search."""

    k: int = Field(default=4, ge=1)
    """Documents that `invoke` returns; the paper's number of passages a step."""
    folder: Path = Field(exclude=True, repr=False)
    manifest: Manifest
    shelf: Any = Field(exclude=True, repr=False)
    lexical: Any = Field(default=None, exclude=True, repr=False)
    dense: Any = Field(default=None, exclude=True, repr=False)

    @property
    def digest(self) -> str:
        """Equal for indexes that answer alike."""
        return self.manifest.identity

    @property
    def in_memory(self) -> bool:
        """A search takes about a millisecond and calls no encoder, so an event loop need not hand it to a thread."""
        return self.dense is None

    def __len__(self) -> int:
        return self.manifest.passages

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """The k best passages, best first, ties by passage id; none for a blank query."""
        if k < 1 or not query.strip():
            return ()
        return tuple(Hit(passage=self._shelf[row], score=score) for row, score in self._rows(query, k))

    def find(self, passage_id: str) -> Passage | None:
        """The passage of that id, if the index holds it."""
        return self._shelf.find(passage_id)

    def explain(self, query: str, passage_id: str) -> Why:
        """Why this index finds a passage for a query, and where the passage comes from.

        Raises:
            DataError: the index holds no such passage.
        """
        from steper_agent.retrieval.why import explain

        return explain(self, query, passage_id)

    @property
    def _shelf(self) -> Shelf:
        shelf: Shelf = self.shelf
        return shelf

    def _rows(self, query: str, k: int) -> list[tuple[int, float]]:
        sides: list[LexicalIndex | DenseIndex] = [side for side in (self.lexical, self.dense) if side is not None]
        if len(sides) == 1:
            return sides[0].search(query, k)
        order, by_id = self._shelf.order, self._shelf.by_id
        # Fusion breaks ties by item, so rows go in as their rank by passage id.
        rankings = [[int(order[row]) for row, _ in side.search(query, max(k, DEPTH))] for side in sides]
        return [(int(by_id[item]), score) for item, score in fuse(rankings)[:k]]

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - the base class's signature
        k: int | None = None,
    ) -> list[Document]:
        """`k` for this call alone: `invoke(query, k=2)`."""
        return [
            Document(
                id=hit.passage.id,
                page_content=hit.passage.text,
                metadata={"title": hit.passage.title, "score": hit.score},
            )
            for hit in self.search(query, self.k if k is None else k)
        ]
