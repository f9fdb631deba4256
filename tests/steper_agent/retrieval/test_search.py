"""Searching an opened index: batches, threads and ties, in every mode."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from steper_agent.retrieval import IndexRetriever, build_index, open_index
from tests.steper_agent.retrieval.shelves import HashEncoder, write_lines

WORDS = ["engine", "london", "ada", "designs", "sea", "novel", "red"]
TWINS = [
    {"id": f"p{97 * n % 101:03}", "title": "", "text": f"{WORDS[n % 7]} of {WORDS[n % 3]} {WORDS[n % 5]}"}
    for n in range(100)
]
QUERIES = ["engine", "red sea", "london ada novel", "", "the", "nothing known", "designs designs sea"]


@pytest.fixture(
    scope="module", params=[("bm25", None), ("dense", HashEncoder()), ("hybrid", HashEncoder())], ids=lambda one: one[0]
)
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> IndexRetriever:
    mode, encoder = request.param
    folder = tmp_path_factory.mktemp(mode)
    build_index([write_lines(folder / "corpus.jsonl", TWINS)], folder / "index", mode=mode, encoder=encoder)
    return open_index(folder / "index", encoder)


def test_a_batch_is_answered_as_its_queries_alone_are(index: IndexRetriever) -> None:
    for k in (1, 7, 100):
        assert index.search_many(QUERIES, k) == [index.search(query, k) for query in QUERIES]
    assert index.search_many([], 3) == []
    assert index.search_many(QUERIES, 0) == [()] * 7


def test_fewer_hits_are_the_beginning_of_more(index: IndexRetriever) -> None:
    for query in QUERIES:
        whole = index.search(query, 60)
        assert all(index.search(query, k) == whole[:k] for k in (1, 2, 10, 33))


def test_passages_that_score_alike_come_in_the_order_of_their_ids(index: IndexRetriever) -> None:
    hits = index.search("red sea", 100)
    if index.manifest.mode != "hybrid":  # Places differ even where scores do not.
        assert len({hit.score for hit in hits}) < len(hits)
    assert [hit.passage.id for hit in hits] == [
        hit.passage.id for hit in sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))
    ]


def test_threads_get_what_one_gets(index: IndexRetriever) -> None:
    alone = [index.search(query, 9) for query in QUERIES]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda query: index.search(query, 9), QUERIES * 20)) == alone * 20


def test_the_order_of_the_passages_changes_no_answer(index: IndexRetriever, tmp_path: Path) -> None:
    encoder: Any = HashEncoder() if index.manifest.encoder else None
    build_index(
        [write_lines(tmp_path / "c.jsonl", TWINS[::-1])], tmp_path / "i", mode=index.manifest.mode, encoder=encoder
    )
    assert open_index(tmp_path / "i", encoder).search_many(QUERIES, 20) == index.search_many(QUERIES, 20)
