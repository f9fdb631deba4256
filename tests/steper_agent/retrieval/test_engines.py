"""Passages go into any vector store and come out as they were, with their scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.vectorstores import InMemoryVectorStore

from steper_agent.records import Passage
from steper_agent.retrieval.engines import StoreRetriever, fill, read, stored
from steper_agent.retrieval.foreign import hits_from, search
from tests.steper_agent.retrieval.shelves import PASSAGES, HashEncoder

BOOKS = [Passage(**passage) for passage in PASSAGES]


@pytest.fixture
def store() -> InMemoryVectorStore:
    return InMemoryVectorStore(HashEncoder())


@given(st.text(max_size=9), st.text(alphabet="ab \n", max_size=9), st.text(alphabet="ab \n", max_size=9))
def test_what_is_stored_is_read(id: str, title: str, text: str) -> None:
    passage = Passage(id=id, title=title, text=text)
    assert read(stored(passage)) == passage


@pytest.mark.parametrize("batch", [1, 3, 500])
def test_passages_are_taken_as_they_come_and_no_more_than_a_batch_is_held(
    store: InMemoryVectorStore, batch: int
) -> None:
    given_out, told = 0, list[int]()

    def streamed() -> Iterator[Passage]:
        nonlocal given_out
        for book in BOOKS:
            given_out += 1
            assert given_out - len(store.store) <= batch
            yield book

    assert fill(store, streamed(), batch=batch, progress=told.append) == 4
    assert told == [*range(batch, 4, batch), 4]
    assert fill(store, BOOKS) == 4
    assert len(store.store) == 4


@pytest.mark.parametrize("name", [str, lambda id: f"engine-{id}"])
def test_hits_are_the_passages_with_the_stores_scores_whatever_the_engine_calls_them(
    store: InMemoryVectorStore, name: Any
) -> None:
    fill(store, BOOKS, name=name)
    hits = hits_from(StoreRetriever(store=store, k=3).invoke("Ada Lovelace wrote"), 3)
    assert hits[0].passage == BOOKS[0]
    assert [hit.score for hit in hits] == [
        score for _, score in store.similarity_search_with_score("Ada Lovelace wrote", k=3)
    ]


def test_distances_are_turned_around(store: InMemoryVectorStore) -> None:
    fill(store, BOOKS)
    near = StoreRetriever(store=store).invoke("London")
    far = StoreRetriever(store=store, is_distance=True).invoke("London")
    assert [document.metadata["score"] for document in far] == [-document.metadata["score"] for document in near]


async def test_options_follow_the_query_and_a_blank_one_is_not_asked(store: InMemoryVectorStore) -> None:
    fill(store, BOOKS)
    asked = list[str]()

    def options(query: str) -> dict[str, Any]:
        asked.append(query)
        return {"filter": lambda document: document.metadata["title"] == query}

    retriever = StoreRetriever(store=store, options=options)
    assert [document.id for document in retriever.invoke("London")] == ["c"]
    assert [document.id for document in await retriever.ainvoke("Málaga", k=1)] == ["d"]
    assert retriever.invoke(" ") == await retriever.ainvoke("") == []
    assert asked == ["London", "Málaga"]


async def test_a_step_gets_as_many_passages_as_it_asks_for_whatever_the_retrievers_own_number(store: InMemoryVectorStore) -> None:
    fill(store, BOOKS)
    retriever = StoreRetriever(store=store, k=2)
    assert [len(await search(retriever, "London", k)) for k in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert await search(retriever, "London", 3) == retriever.search("London", 3) == hits_from(retriever.invoke("London", k=3), 3)
