"""The three ways to search, each against a plain reference."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.records import Passage
from steper_agent.retrieval.dense import DenseIndex, build_vectors
from steper_agent.retrieval.fusion import fuse
from steper_agent.retrieval.lexical import LexicalBuilder, LexicalIndex, LexicalSettings, Terms, top
from steper_agent.retrieval.shelf import Shelf, ShelfWriter
from tests.steper_agent.retrieval.shelves import HashEncoder

WORDS = ["engine", "engines", "london", "the", "of", "Málaga", "ada", "designs", "designed", "7", "x"]


def corpus(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=int(rng.integers(0, 12)))) for _ in range(n)]


def brute_force_bm25(texts: list[str], query: str, settings: LexicalSettings) -> list[float]:
    terms = Terms(settings)
    bags = [Counter(terms(f"\n{text}")) for text in texts]
    lengths = [sum(bag.values()) for bag in bags]
    mean = sum(lengths) / len(lengths)
    scores = []
    for bag, length in zip(bags, lengths, strict=True):
        score = 0.0
        for term in terms(query):
            frequency = sum(term in other for other in bags)
            idf = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
            score += idf * bag[term] / (bag[term] + settings.k1 * (1 - settings.b + settings.b * length / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["engine", "the engine of London", "malaga designing", "ada ada x", "7 Engines"])
def test_bm25_agrees_with_the_formula(query: str, tmp_path: Path) -> None:
    texts, settings = corpus(60), LexicalSettings()
    builder = LexicalBuilder(settings)
    for text in texts:
        builder.add("", text)
    builder.save(tmp_path)
    found = LexicalIndex(tmp_path, settings, np.arange(60, dtype=np.int32)).search(query, 60)
    expected = brute_force_bm25(texts, query, settings)
    assert {row for row, _ in found} == {row for row, score in enumerate(expected) if score > 0}
    assert [score for _, score in found] == pytest.approx([expected[row] for row, _ in found], rel=1e-5)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


@settings(deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=3), min_size=1, max_size=30), st.integers(min_value=1, max_value=35))
def test_the_top_is_the_sorted_beginning_with_ties_by_passage_id(values: list[int], k: int) -> None:
    scores = np.asarray(values, dtype=np.float32)
    order = np.asarray(np.random.default_rng(len(values)).permutation(len(values)), dtype=np.int32)
    rows = sorted((row for row in range(len(values)) if values[row] > 0), key=lambda row: (-values[row], order[row]))
    assert [row for row, _ in top(scores, order, k)] == rows[:k]


@pytest.mark.parametrize("k", [1, 3, 50])
def test_dense_search_agrees_with_brute_force_and_breaks_ties_by_id(k: int, tmp_path: Path) -> None:
    texts = [*corpus(30, seed=1), *corpus(10, seed=1)]
    with ShelfWriter(tmp_path) as writer:
        for number, text in enumerate(texts):
            writer.add(Passage(id=f"p{97 * number % 101:03}", title="", text=text))
        writer.close()
    shelf, encoder = Shelf(tmp_path), HashEncoder()
    assert build_vectors(shelf, encoder, tmp_path, lambda _done: None) == 16
    index = DenseIndex(tmp_path, encoder, shelf.order, dimension=16)
    vectors = np.asarray(encoder.embed_documents(texts))
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    query = np.asarray(encoder.embed_query("engine london"))
    cosines = np.round(vectors @ (query / np.linalg.norm(query)), 5)
    expected = sorted(range(len(texts)), key=lambda row: (-cosines[row], shelf[row].id))[:k]
    found = index.search("engine london", k)
    assert [row for row, _ in found] == expected
    assert [score for _, score in found] == pytest.approx(cosines[expected], abs=1e-4)


rankings = st.lists(st.lists(st.integers(min_value=0, max_value=9), unique=True, max_size=8), max_size=4)


@settings(deadline=None)
@given(rankings, st.randoms())
def test_fusion_ignores_the_order_of_the_rankings(given_rankings: list[list[int]], random: object) -> None:
    shuffled = list(given_rankings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fuse(shuffled) == fuse(given_rankings)


@settings(deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=9), unique=True), st.integers(min_value=1, max_value=3))
def test_fusing_a_ranking_with_itself_changes_nothing(ranking: list[int], times: int) -> None:
    assert [item for item, _ in fuse([ranking] * times)] == ranking


def test_fusion_adds_reciprocal_places_and_breaks_ties_by_item() -> None:
    expected: list[tuple[int, Any]] = [
        (1, pytest.approx(1 / 61 + 1 / 62)),
        (2, pytest.approx(1 / 61 + 1 / 62)),
        (3, pytest.approx(1 / 61)),
    ]
    assert fuse([[2, 1], [1, 2], [3]]) == expected


def test_what_is_shelved_is_found_by_row_and_by_id(tmp_path: Path) -> None:
    passages = [Passage(id=f"{7 * n % 23}", title=f"ü{n}", text="x\n" * n) for n in range(23)]
    with ShelfWriter(tmp_path) as writer:
        for passage in passages:
            writer.add(passage)
        assert writer.close() == 23
    shelf = Shelf(tmp_path)
    assert list(shelf) == passages
    assert [shelf.find(passage.id) for passage in passages] == passages
    assert shelf.find("nobody") is None
    assert [shelf[int(row)].id for row in shelf.by_id] == sorted(passage.id for passage in passages)
