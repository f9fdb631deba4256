"""BM25 over stemmed words, through bm25s: scores are computed once, when the index is built, and read from disk."""

from __future__ import annotations

import re
import unicodedata
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steper_agent.errors import DataError
from steper_agent.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")

STOP_WORDS = (
    *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not"),
    *("of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was"),
    *("will", "with"),
)
"""Lucene's English list."""


class LexicalSettings(Record):
    """Everything that decides how text becomes terms and terms become scores; kept with the index."""

    stemmer: str = "english"
    """A Snowball stemmer's name."""
    stop_words: tuple[str, ...] = STOP_WORDS
    fold_accents: bool = True
    """`Alû` is found by `alu`."""
    k1: float = 1.5
    b: float = 0.75


class Terms:
    """Text to terms: lower case, no accents, no stop words, stemmed."""

    def __init__(self, settings: LexicalSettings) -> None:
        self._settings = settings
        self._stop = frozenset(settings.stop_words)

    def __call__(self, text: str) -> list[str]:
        import Stemmer

        text = text.lower()
        if self._settings.fold_accents and not text.isascii():
            text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
        words = [word for word in _WORD.findall(text) if word not in self._stop]
        # A stemmer of its own for each call: PyStemmer's are not safe to share between threads, and cost microseconds.
        return list(Stemmer.Stemmer(self._settings.stemmer, 0).stemWords(words))


class LexicalBuilder:
    """Collects the terms of passages, four bytes each, and writes the index."""

    def __init__(self, settings: LexicalSettings) -> None:
        self._settings = settings
        self._terms = Terms(settings)
        self._vocabulary: dict[str, int] = {}
        self._rows: list[array[int]] = []

    def add(self, title: str, text: str) -> None:
        vocabulary = self._vocabulary
        terms = self._terms(f"{title}\n{text}")
        self._rows.append(array("i", [vocabulary.setdefault(term, len(vocabulary)) for term in terms]))

    def save(self, folder: Path) -> None:
        import bm25s

        if not self._vocabulary:
            raise DataError("no passage holds a searchable word", where=folder, fix="give passages with words in them")
        model = bm25s.BM25(k1=self._settings.k1, b=self._settings.b)
        model.index((self._rows, self._vocabulary), create_empty_token=False, show_progress=False)
        model.save(folder, allow_pickle=False, show_progress=False)


class LexicalIndex:
    """An opened BM25 index; arrays are mapped from disk and only read, so threads share it."""

    def __init__(self, folder: Path, settings: LexicalSettings, order: NDArray[np.int32]) -> None:
        import bm25s

        self._terms = Terms(settings)
        self._order = order
        self._model: Any = bm25s.BM25.load(folder, mmap=True, allow_pickle=False, load_corpus=False)
        self.rows: int = int(self._model.scores["num_docs"])

    def search(self, query: str, k: int) -> list[tuple[int, float]]:
        """Rows with their scores, best first, ties by passage id; only rows that share a term with the query."""
        vocabulary = self._model.vocab_dict
        terms = [vocabulary[term] for term in self._terms(query) if term in vocabulary]
        if not terms:
            return []
        return top(self._model.get_scores_from_ids(terms), self._order, k)


def top(scores: NDArray[np.float32], order: NDArray[np.int32], k: int) -> list[tuple[int, float]]:
    """The k best rows with a score above zero, ties by `order`, which ranks rows by passage id."""
    import numpy as np

    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:
        # Every row that ties with the k-th stays a candidate, so that the ids decide and not the partition.
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    best = rows[np.lexsort((order[rows], -scores[rows]))][:k]
    return [(int(row), float(scores[row])) for row in best]
