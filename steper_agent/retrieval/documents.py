"""A hit in LangChain's words; `foreign.hits_from` reads it back."""

from __future__ import annotations

from langchain_core.documents import Document

from steper_agent.records import Hit


def document_of(hit: Hit) -> Document:
    passage = hit.passage
    return Document(id=passage.id, page_content=passage.text, metadata={"title": passage.title, "score": hit.score})
