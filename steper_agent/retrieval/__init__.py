"""From a corpus on disk to hits: readers, BM25, dense and hybrid search behind one LangChain retriever.

Names are looked up on first use, so that importing this package loads neither numpy nor langchain.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steper_agent.retrieval.building import IndexSettings, add_passages, build_index, delete_passages
    from steper_agent.retrieval.engines import StoreRetriever, fill
    from steper_agent.retrieval.index import open_index, open_retriever, verify_index
    from steper_agent.retrieval.remote import RemoteRetriever
    from steper_agent.retrieval.retriever import IndexRetriever
    from steper_agent.retrieval.sources.chunking import Chunking
    from steper_agent.retrieval.sources.corpus import read_corpus, read_passages
    from steper_agent.retrieval.sources.questions import read_questions
    from steper_agent.retrieval.sources.tally import Tally
    from steper_agent.retrieval.terms import LexicalSettings

__all__ = [
    "Chunking",
    "IndexRetriever",
    "IndexSettings",
    "LexicalSettings",
    "RemoteRetriever",
    "StoreRetriever",
    "Tally",
    "add_passages",
    "build_index",
    "delete_passages",
    "fill",
    "open_index",
    "open_retriever",
    "read_corpus",
    "read_passages",
    "read_questions",
    "verify_index",
]

_HOMES = {
    "Chunking": "sources.chunking",
    "IndexRetriever": "retriever",
    "IndexSettings": "building",
    "LexicalSettings": "terms",
    "RemoteRetriever": "remote",
    "StoreRetriever": "engines",
    "Tally": "sources.tally",
    "add_passages": "building",
    "build_index": "building",
    "delete_passages": "building",
    "fill": "engines",
    "open_index": "index",
    "open_retriever": "index",
    "read_corpus": "sources.corpus",
    "read_passages": "sources.corpus",
    "read_questions": "sources.questions",
    "verify_index": "index",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
