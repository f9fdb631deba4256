"""One way to search any LangChain retriever: hits come back whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, SupportsFloat

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from steper_agent.records import Hit, Passage
from steper_agent.retrieval.documents import HitRetriever
from steper_agent.retrieval.sources.normal import clean, content_id


async def search(retriever: BaseRetriever, query: str, k: int) -> tuple[Hit, ...]:
    """The first k hits in the retriever's own order."""
    if isinstance(retriever, HitRetriever):
        return await retriever.asearch(query, k)
    return hits_from(await retriever.ainvoke(query), k)


def hits_from(documents: Sequence[Document], k: int) -> tuple[Hit, ...]:
    """Documents as hits, each passage once; a document without a score gets minus its place."""
    hits: dict[str, Hit] = {}
    for place, document in enumerate(documents, start=1):
        passage = _passage(document)
        hits.setdefault(passage.id, Hit(passage=passage, score=_score(document.metadata, place)))
    return tuple(hits.values())[: max(k, 0)]


def _passage(document: Document) -> Passage:
    title = str(document.metadata.get("title") or "")
    found = document.id or document.metadata.get("id")
    name = content_id(title, document.page_content) if found is None else str(found)
    return Passage(id=clean(name), title=clean(title), text=clean(document.page_content))


def _score(metadata: dict[str, Any], place: int) -> float:
    """The retriever's own score if it gives a number; whether higher is better is then the retriever's affair."""
    score = metadata.get("score", metadata.get("relevance_score"))
    # The protocol comes last: asking it costs more than the rest of a search in memory.
    if score is not None and isinstance(score, int | float | SupportsFloat) and isfinite(float(score)):
        return float(score)
    return -float(place)
