"""Passages with the statistics of natural text, and questions about them, for the benchmark of retrieval.

Words follow Zipf's law (the first are English function words, frequent ones are short), each passage tells 60 to 110 of them, is named
after somebody, names others, and comes back to words it has used, as texts do. Of HotpotQA's passages of this length it has two more
properties: 0.70 searched words a word, 0.76 of them distinct. Equal seeds make equal text on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

STOP_WORDS = [
    "the", "of", "and", "in", "a", "to", "is", "was", "for", "as", "on", "with", "by", "he", "at", "from", "that",
    "his", "it", "an", "were", "are", "which", "this", "also", "be", "has", "or", "had", "first", "one", "their",
    "its", "after", "new", "who", "they", "but", "not", "have", "her", "she", "two", "been", "other", "when",
    "there", "all", "during", "into", "time", "school", "may", "years", "more", "most", "only", "over", "city",
    "some", "world", "would", "where", "later", "up", "such", "used", "many", "can", "state", "about", "national",
    "out", "known", "university", "united", "then", "made",
]
ONSETS = [
    "b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "cr", "dr", "fl",
    "gr", "pl", "pr", "sh", "st", "th", "tr",
]
NUCLEI = ["a", "e", "i", "o", "u", "ai", "ea", "ou"]
CODAS = ["", "n", "r", "l", "s", "t", "m", "nd", "ck"]
VOCABULARY, NAMES, BLOCK = 400_000, 60_000, 20_000
FUNCTION_WORDS = 1.45
"""How much likelier than Zipf's law the first words are."""
AGAIN = 0.2
"""Share of words that the passage has used before (burstiness)."""


class Passage(NamedTuple):
    id: str
    title: str
    text: str


class Language:
    """A vocabulary and its frequencies."""

    def __init__(self, seed: int = 0) -> None:
        rng, seen = np.random.default_rng(seed), set(STOP_WORDS)
        self.words = [*STOP_WORDS, *sorted(_new_words(VOCABULARY, rng, seen), key=len)]
        self.names = [word.capitalize() for word in _new_words(NAMES, rng, seen)]
        frequencies = 1 / (np.arange(1, len(self.words) + 1) + 2.7) ** 1.07
        frequencies[: len(STOP_WORDS)] *= FUNCTION_WORDS
        self._words = _cumulated(frequencies)
        self._names = _cumulated(1 / (np.arange(1, NAMES + 1) + 20) ** 0.8)

    def passages(self, count: int, seed: int = 7) -> Iterator[Passage]:
        for start in range(0, count, BLOCK):
            yield from self._block(start, min(BLOCK, count - start), seed)

    def questions(self, passages: list[Passage], count: int, seed: int = 1) -> list[str]:
        """About a passage's name and five of its content words, with another name as a question of several hops has."""
        rng, stop = np.random.default_rng(seed), set(STOP_WORDS)
        made = []
        for at in rng.integers(0, len(passages), count):
            content = [word for word in passages[at].text.replace(".", "").split()[2:] if word not in stop]
            a, b, c, d, e = rng.choice(content, 5, replace=False)
            made.append(f"Who was the {a} of {passages[at].title} that {b} the {c} in {self.name(rng)} and was {d} by the {e}?")
        return made

    def name(self, rng: np.random.Generator) -> str:
        return self.names[int(np.searchsorted(self._names, rng.random()))]

    def _block(self, start: int, count: int, seed: int) -> Iterator[Passage]:
        rng = np.random.default_rng((seed, start))
        lengths = rng.integers(57, 108, count)  # A passage's three full names stand for one word each here.
        words = np.searchsorted(self._words, rng.random(int(lengths.sum())))
        names = np.searchsorted(self._names, rng.random((count, 7)))
        places = rng.integers(2, 55, (count, 3))
        again, back = rng.random(len(words)) < AGAIN, rng.random(len(words))
        ends = np.cumsum(lengths)
        for row in range(count):
            text = [self.words[word] for word in words[ends[row] - lengths[row] : ends[row]]]
            one = [self.names[name] for name in names[row]]
            title = f"{one[0]} {one[1]}"
            text[0] = title
            for place, named in zip(places[row], (f"{one[2]} {one[3]}", f"{one[4]} {one[5]}", one[6]), strict=True):
                text[place] = named
            start_at = ends[row] - lengths[row]
            for at in np.flatnonzero(again[start_at : ends[row]])[1:].tolist():
                text[at] = text[int(back[start_at + at] * at)]
            for end in range(14, len(text), 15):
                text[end] += "."
            yield Passage(f"p{start + row}", title, " ".join(text) + ".")


def write(path: Path, language: Language, count: int) -> list[Passage]:
    """JSON lines of `count` passages; the first thousands, to ask about."""
    kept = []
    with path.open("w", encoding="utf-8") as file:
        for passage in language.passages(count):
            file.write(json.dumps(passage._asdict()) + "\n")
            if len(kept) < 5000:
                kept.append(passage)
    return kept


def _new_words(count: int, rng: np.random.Generator, seen: set[str]) -> list[str]:
    made: list[str] = []
    while len(made) < count:
        for size in rng.integers(2, 5, count - len(made)):
            onsets, nuclei = rng.integers(0, len(ONSETS), size), rng.integers(0, len(NUCLEI), size)
            word = "".join(ONSETS[a] + NUCLEI[b] for a, b in zip(onsets, nuclei, strict=True)) + CODAS[rng.integers(len(CODAS))]
            if word not in seen:
                seen.add(word)
                made.append(word)
    return made


def _cumulated(weights: np.ndarray) -> np.ndarray:
    return np.cumsum(weights / weights.sum())
