"""A second look at the first hits, by laws and with a tiny cross-encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import ConfigError, DependencyError, ModelError
from steper_agent.records import Hit, Passage
from steper_agent.retrieval.rerank import CrossEncoderReranker, rerank_many, reranker_from


def hits_of(*texts: str) -> list[Hit]:
    return [Hit(passage=Passage(id=f"p{at}", title="", text=text), score=float(-at)) for at, text in enumerate(texts)]


class Shared:
    """Words that query and text share."""

    def score(self, query: str, texts: list[str]) -> list[float]:
        return [float(len(set(query.split()) & set(text.split()))) for text in texts]


class SharedPairs:
    def __init__(self) -> None:
        self.calls = 0

    def score_pairs(self, pairs: list[tuple[str, str]]) -> list[float]:
        self.calls += 1
        return [Shared().score(query, [text])[0] for query, text in pairs]


texts = st.lists(st.text("abc ", max_size=6), max_size=8)


@given(st.lists(st.tuples(st.text("abc ", max_size=5), texts), max_size=4), st.integers(min_value=0, max_value=9))
def test_queries_together_are_reranked_as_each_alone_and_in_one_call(asked: list[Any], k: int) -> None:
    queries, found = [query for query, _ in asked], [hits_of(*its) for _, its in asked]
    pairs = SharedPairs()
    together = rerank_many(pairs, queries, found, k)
    assert together == [rerank_many(Shared(), [q], [hits], k)[0] for q, hits in zip(queries, found, strict=True)]
    assert pairs.calls == 1


@given(texts, st.randoms())
def test_the_order_of_what_was_found_does_not_matter(its: list[str], random: Any) -> None:
    hits = hits_of(*its)
    shuffled = list(hits)
    random.shuffle(shuffled)
    assert rerank_many(Shared(), ["a b"], [shuffled], 5) == rerank_many(Shared(), ["a b"], [hits], 5)


@given(texts)
def test_reranking_twice_is_reranking_once(its: list[str]) -> None:
    once = rerank_many(Shared(), ["a b"], [hits_of(*its)], 9)
    assert rerank_many(Shared(), ["a b"], once, 9) == once


def test_the_best_come_first_with_the_rerankers_scores_and_ties_by_passage_id() -> None:
    (found,) = rerank_many(Shared(), ["a b"], [hits_of("c", "a", "b a", "b")], 3)
    assert [(hit.passage.id, hit.score) for hit in found] == [("p2", 2.0), ("p1", 1.0), ("p3", 1.0)]


def test_noise_of_the_batch_does_not_reorder() -> None:
    class Noisy:
        def score(self, _query: str, texts: list[str]) -> list[float]:
            return [0.5 + 1e-8 * at for at in range(len(texts))]

    (found,) = rerank_many(Noisy(), ["a"], [hits_of("x", "y", "z")], 3)
    assert [hit.passage.id for hit in found] == ["p0", "p1", "p2"]


@pytest.mark.parametrize("scores", [[1.0], [1.0, float("nan")], [1.0, 2.0, 3.0]], ids=["few", "nan", "many"])
def test_a_reranker_that_gives_no_number_a_passage_is_named(scores: list[float]) -> None:
    class Broken:
        spec = "cross-encoder:broken"

        def score(self, _query: str, _texts: list[str]) -> list[float]:
            return scores

    with pytest.raises(ModelError, match="cross-encoder:broken"):
        rerank_many(Broken(), ["a"], [hits_of("x", "y")], 2)


@pytest.mark.parametrize("spec", ["", "cross-encoder:", "minilm", "sentence-transformers:x"])
def test_an_unknown_reranker_is_an_error_with_its_cure(spec: str) -> None:
    with pytest.raises(ConfigError, match="cross-encoder:NAME"):
        reranker_from(spec)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(DependencyError, match=r"steper-agent\[encoders\]"):
        reranker_from("cross-encoder:x")


def test_a_folder_that_holds_no_model_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="cannot be loaded"):
        CrossEncoderReranker(str(tmp_path))


def test_a_cross_encoder_scores_a_batch_as_its_pairs_alone_and_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from tests.steper_agent.retrieval.tiny_encoders import tiny_cross_encoder

    reranker = reranker_from(f"cross-encoder:{tiny_cross_encoder(tmp_path)}")
    queries, found = ["a b", "c"], [hits_of("a", "b c d e f", "a b"), hits_of("c", "x y", "c")]
    together = rerank_many(reranker, queries, found, 3)
    assert together == rerank_many(reranker, queries, found, 3)
    alone = [rerank_many(reranker, [query], [hits], 3)[0] for query, hits in zip(queries, found, strict=True)]
    assert [[hit.passage.id for hit in hits] for hits in together] == [[hit.passage.id for hit in its] for its in alone]
    assert len({hit.score for hits in together for hit in hits}) == 5


def test_a_cross_encoder_of_several_numbers_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from tests.steper_agent.retrieval.tiny_encoders import tiny_cross_encoder

    reranker = CrossEncoderReranker(str(tiny_cross_encoder(tmp_path, labels=3)))
    with pytest.raises(ModelError, match="3 numbers a passage"):
        reranker.score("a", ["b"])
