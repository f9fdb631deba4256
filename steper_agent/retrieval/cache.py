"""Hits that were found before, bounded by number and by memory. The key holds all that decides an answer: the index,
the query and k."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from steper_agent.errors import ConfigError
from steper_agent.records import Hit

ENTRIES = 100_000
BYTES = 64 << 20
HIT_BYTES = 1200
"""What a hit and its passage take beside the characters: two records with their dictionaries, a tuple's place, a float."""
ENTRY_BYTES = 400


class Key(NamedTuple):
    """Two searches with equal keys have equal hits."""

    digest: str
    """Of the index, which has all that moves hits in it: another generation, or another reranker, is another index."""
    query: str
    k: int


class Counts(NamedTuple):
    hits: int
    misses: int
    entries: int
    bytes: int
    """What they are taken to need."""


class SearchCache:
    """The entries used last; any number of threads may share one.

    Raises:
        ConfigError: a bound is negative. 0 keeps nothing.
    """

    def __init__(self, entries: int = ENTRIES, bytes: int = BYTES) -> None:
        if entries < 0 or bytes < 0:
            raise ConfigError(
                "a cache cannot hold less than nothing", where="entries, bytes", fix="give 0 to keep nothing"
            )
        self._most_entries = entries
        self._most_bytes = bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[tuple[Hit, ...], int]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    def get(self, key: Key) -> tuple[Hit, ...] | None:
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self._misses += 1
                return None
            self._hits += 1
            self._kept.move_to_end(key)
            return found[0]

    def put(self, key: Key, hits: tuple[Hit, ...]) -> None:
        """Keep the hits, at the cost of those not used for longest; what is larger than the cache is not kept."""
        size = size_of(key, hits)
        with self._lock:
            if (before := self._kept.pop(key, None)) is not None:
                self._bytes -= before[1]
            if size > self._most_bytes or self._most_entries == 0:
                return
            self._kept[key] = (hits, size)
            self._bytes += size
            while self._bytes > self._most_bytes or len(self._kept) > self._most_entries:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed

    def clear(self) -> None:
        """Forget what is kept, not how often it was asked for."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    @property
    def counts(self) -> Counts:
        with self._lock:
            return Counts(self._hits, self._misses, len(self._kept), self._bytes)


def size_of(key: Key, hits: tuple[Hit, ...]) -> int:
    """Bytes an entry is taken to need; never less than it does, where passages are shared with other entries."""
    texts = [text for hit in hits for text in (hit.passage.id, hit.passage.title, hit.passage.text)]
    return ENTRY_BYTES + len(hits) * HIT_BYTES + sum(map(_bytes, (key.digest, key.query, *texts)))


def _bytes(text: str) -> int:
    """A string takes as many bytes a character as its widest character does."""
    return (
        len(text)
        if text.isascii()
        else len(text) * (1 if (widest := max(text)) < "\u0100" else 2 if widest < "\U00010000" else 4)
    )
