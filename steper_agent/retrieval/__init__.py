"""From a corpus on disk to hits: readers, BM25, dense and hybrid search behind one LangChain retriever.

Names are looked up on first use, so that importing this package loads neither numpy nor langchain.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steper_agent.retrieval.corpus import read_corpus, read_passages, read_questions
    from steper_agent.retrieval.index import build_index, open_index
    from steper_agent.retrieval.retriever import IndexRetriever

__all__ = ["IndexRetriever", "build_index", "open_index", "read_corpus", "read_passages", "read_questions"]

_HOMES = {
    "read_corpus": "corpus",
    "read_passages": "corpus",
    "read_questions": "corpus",
    "build_index": "index",
    "open_index": "index",
    "IndexRetriever": "retriever",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
