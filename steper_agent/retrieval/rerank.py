"""A second look at the first hits: a cross-encoder reads query and passage together and re-orders them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from math import isfinite
from typing import Any, Protocol, runtime_checkable

from steper_agent.errors import ConfigError, ModelError
from steper_agent.records import Hit
from steper_agent.retrieval.encoders import sentence_model, shown

PREFIX = "cross-encoder:"
FIRST = 32
"""Hits that are looked at again, unless more are asked for."""
BATCH = 32
DIGITS = 6
"""A score moves in the seventh digit with the batch it is made in; an order must not."""


class Reranker(Protocol):
    """Whatever can say how well texts answer a query."""

    def score(self, query: str, texts: list[str], /) -> list[float]:
        """One number a text; higher is better."""
        ...


@runtime_checkable
class PairReranker(Protocol):
    """A reranker that takes the texts of several queries at once."""

    def score_pairs(self, pairs: list[tuple[str, str]], /) -> list[float]:
        """One number a pair of query and text; higher is better."""
        ...


class CrossEncoderReranker:
    """A sentence-transformers CrossEncoder: weights from safetensors only, no code from its folder."""

    def __init__(self, name: str) -> None:
        self.spec = PREFIX + name
        self._model = sentence_model("CrossEncoder", name, self.spec)
        # Its tokenizer changes its own settings in every call.
        self._lock = threading.Lock()

    def score(self, query: str, texts: list[str]) -> list[float]:
        return self.score_pairs([(query, text) for text in texts])

    def score_pairs(self, pairs: list[tuple[str, str]]) -> list[float]:
        with self._lock:
            scores = self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False)
        if scores.ndim != 1:
            raise ModelError(
                f"the model gives {scores.shape[1]} numbers a passage, not one",
                where=self.spec,
                fix="give a cross-encoder trained to rank",
            )
        return [float(score) for score in scores]


def reranker_from(spec: str) -> CrossEncoderReranker:
    """The reranker that a spec names: `cross-encoder:NAME_OR_PATH`.

    Raises:
        ConfigError: the spec is not of this form.
        DependencyError: sentence-transformers is missing.
        ModelError: the model cannot be loaded.
    """
    name = spec.removeprefix(PREFIX)
    if name == spec or not name:
        raise ConfigError(
            f"unknown reranker {spec!r}",
            where="rerank",
            fix=f"write {PREFIX}NAME, or pass an object with score(query, texts) from Python",
        )
    return CrossEncoderReranker(name)


def rerank_many(
    reranker: Reranker | PairReranker, queries: Sequence[str], found: Sequence[Sequence[Hit]], k: int
) -> list[tuple[Hit, ...]]:
    """The k best of the hits of each query by the reranker's scores, ties by passage id; every hit given is scored.

    Raises:
        ModelError: the reranker does not give one finite number a text.
    """
    scores = iter(_scores(reranker, queries, found))
    answers = []
    for hits in found:
        judged = [Hit(passage=hit.passage, score=next(scores)) for hit in hits]
        answers.append(tuple(sorted(judged, key=lambda hit: (-hit.score, hit.passage.id))[: max(k, 0)]))
    return answers


def _scores(reranker: Any, queries: Sequence[str], found: Sequence[Sequence[Hit]]) -> list[float]:
    asked = [(query, [shown(hit.passage) for hit in hits]) for query, hits in zip(queries, found, strict=True) if hits]
    if isinstance(reranker, PairReranker):
        scores = reranker.score_pairs([(query, text) for query, texts in asked for text in texts])
    else:
        scores = [score for query, texts in asked for score in reranker.score(query, texts)]
    if len(scores) != sum(len(texts) for _, texts in asked) or not all(map(isfinite, scores)):
        raise ModelError(
            "the reranker did not give one finite number a passage",
            where=getattr(reranker, "spec", type(reranker).__qualname__),
            fix="check the reranker",
        )
    return [round(float(score), DIGITS) for score in scores]
