"""Hits in LangChain's words: a document for each, and the retriever that gives them; `foreign.hits_from` reads them back."""

from __future__ import annotations

from abc import abstractmethod

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from steper_agent.records import Hit
from steper_agent.retrieval.wire import K


def document_of(hit: Hit) -> Document:
    passage = hit.passage
    return Document(id=passage.id, page_content=passage.text, metadata={"title": passage.title, "score": hit.score})


class HitRetriever(BaseRetriever):
    """A LangChain retriever of something that is searched for hits. `k` may be given for a call alone: `invoke(query, k=2)`."""

    k: int = Field(default=K, ge=1)
    """Documents that `invoke` returns; by default the paper's number of passages a step."""

    @abstractmethod
    def search(self, query: str, k: int) -> tuple[Hit, ...]:
        """The k best passages, best first; none for a blank query."""

    @abstractmethod
    async def asearch(self, query: str, k: int) -> tuple[Hit, ...]:
        """The same from an event loop."""

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - the base class's signature
        k: int | None = None,
    ) -> list[Document]:
        return [document_of(hit) for hit in self.search(query, self.k if k is None else k)]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - the base class's signature
        k: int | None = None,
    ) -> list[Document]:
        return [document_of(hit) for hit in await self.asearch(query, self.k if k is None else k)]
