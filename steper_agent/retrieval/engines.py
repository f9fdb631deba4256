"""Engines that grow beyond one machine (PostgreSQL, OpenSearch, Qdrant, …), through LangChain's vector stores: passages go
in as they are read from their sources, and come back out as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from pydantic import Field

from steper_agent.records import Hit, Passage
from steper_agent.retrieval.documents import HitRetriever

BATCH = 500


def fill(
    store: VectorStore,
    passages: Iterable[Passage],
    *,
    batch: int = BATCH,
    name: Callable[[str], str] = str,
    progress: Callable[[int], None] = lambda _done: None,
) -> int:
    """Add the passages to a store, `batch` at a time, and count them; no more than a batch is held in memory.

    `name` makes an engine's own id of a passage's, where it takes not every text for one. An engine replaces what has the
    same id, so a loading that broke off is simply begun again.
    """
    done = 0
    for block in _blocks(iter(passages), batch):
        store.add_documents([stored(passage) for passage in block], ids=[name(passage.id) for passage in block])
        done += len(block)
        progress(done)
    return done


class StoreRetriever(HitRetriever):
    """A filled store as a retriever. Unlike a store's own `as_retriever`, it passes scores on, and options that depend on
    the query."""

    store: Any = Field(exclude=True, repr=False)
    """A LangChain vector store."""
    options: Callable[[str], dict[str, Any]] = Field(default=lambda _query: {}, exclude=True, repr=False)
    """What the store's search takes besides, for a query."""
    is_distance: bool = False
    """The store's scores are lower for what is better; they are turned around."""

    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        if not query.strip() or k < 1:
            return ()
        return self._read(self.store.similarity_search_with_score(query, k=k, **self.options(query)))

    async def asearch(self, query: str, k: int) -> tuple[Hit, ...]:
        if not query.strip() or k < 1:
            return ()
        return self._read(await self.store.asimilarity_search_with_score(query, k=k, **self.options(query)))

    def _read(self, found: Iterable[tuple[Document, float]]) -> tuple[Hit, ...]:
        sign = -1.0 if self.is_distance else 1.0
        hits: dict[str, Hit] = {}
        for document, score in found:
            passage = read(document)
            # An engine that was filled twice may hold a passage twice.
            hits.setdefault(passage.id, Hit(passage=passage, score=sign * float(score)))
        return tuple(hits.values())


def stored(passage: Passage) -> Document:
    """What an engine keeps. The title stands in the text, so that an encoder and a word index read it, too."""
    content = f"{passage.title}\n{passage.text}" if passage.title else passage.text
    return Document(page_content=content, metadata={"id": passage.id, "title": passage.title})


def read(document: Document) -> Passage:
    """The inverse of `stored`."""
    title = str(document.metadata["title"])
    text = document.page_content.removeprefix(f"{title}\n") if title else document.page_content
    return Passage(id=str(document.metadata["id"]), title=title, text=text)


def _blocks(passages: Iterator[Passage], size: int) -> Iterator[list[Passage]]:
    while block := list(islice(passages, size)):
        yield block
