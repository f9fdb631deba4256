"""Small corpora and an encoder without a model, for the tests of this room."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

PASSAGES = [
    {"id": "a", "title": "Ada Lovelace", "text": "Ada Lovelace wrote the first program for the Analytical Engine."},
    {"id": "b", "title": "Charles Babbage", "text": "Charles Babbage designed the Analytical Engine in London."},
    {"id": "c", "title": "London", "text": "London is the capital of England. The engines of its trains are loud."},
    {"id": "d", "title": "Málaga", "text": "Málaga is a city in Spain where Picasso was born."},
]

HOTPOT: dict[str, Any] = {
    "_id": "h1",
    "question": "Where did the designer of the engine live?",
    "answer": "London",
    "type": "bridge",
    "context": [
        ["Charles Babbage", ["Charles Babbage designed the engine.", " He lived in London."]],
        ["London", ["London is a city."]],
        ["London", ["London is also a town in Ohio.", "It is small.", "It has a fair."]],
    ],
    "supporting_facts": [["Charles Babbage", 0], ["Charles Babbage", 1], ["London", 2]],
}

MUSIQUE: dict[str, Any] = {
    "id": "2hop__1_2",
    "question": "Who married the author?",
    "answer": "Bob",
    "answer_aliases": ["Robert", "Bob"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Ann", "paragraph_text": "Ann wrote it.", "is_supporting": True},
        {"idx": 1, "title": "Ann", "paragraph_text": "Ann is a town.", "is_supporting": False},
    ],
}


class HashEncoder(Embeddings):
    """The sum of a fixed random vector for each word: equal on every machine, similar for similar texts."""

    def __init__(self, dimension: int = 16, salt: str = "") -> None:
        self._dimension = dimension
        self._salt = salt

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return list(sum((self._word(word) for word in text.lower().split()), np.zeros(self._dimension)))

    def _word(self, word: str) -> Any:
        seed = int.from_bytes(hashlib.sha256((self._salt + word).encode()).digest()[:8])
        return np.random.default_rng(seed).standard_normal(self._dimension)


def write_lines(path: Path, values: Iterable[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(value, ensure_ascii=False)}\n" for value in values), encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return path
