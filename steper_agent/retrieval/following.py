"""An index that is always its newest generation: the next one is opened beside the one that answers, then takes its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from steper_agent.plain import plain
from steper_agent.records import Hit, Passage
from steper_agent.retrieval.batching import Batcher

LOG = logging.getLogger(__name__)
EVERY = 1.0
"""Seconds between two looks at the manifest; a look costs a few microseconds."""


class Searchable(Protocol):
    """What a service asks of an index; `IndexRetriever` is one."""

    @property
    def digest(self) -> str: ...

    @property
    def manifest(self) -> Any:
        """Its `mode` and `passages` are read."""

    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]: ...

    def find(self, passage_id: str) -> Passage | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A generation that answers. Whoever searches holds on to it, so it outlives its successor's coming."""

    index: Searchable
    batcher: Batcher
    digest: str
    """The index's own; it takes longer to compute than a search."""


def opened(index: Searchable, *, timeout: float | None = None) -> Opened:
    """Words alone are searched faster side by side than together: there is no model to ask but once."""
    calls_none = index.manifest.mode == "bm25" and getattr(index, "reranker", None) is None
    batcher = Batcher(index.search_many, timeout=timeout, split=calls_none)
    return Opened(index, batcher, index.digest)


class Following:
    """A context manager: while it lasts, a thread looks whether the file changed.

    `manifest`: the file whose replacement is the switch. `open`: opens what it names now.
    """

    def __init__(self, manifest: Path, open: Callable[[], Opened], *, every: float = EVERY) -> None:
        self._manifest = manifest
        self._open = open
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="steper-following", daemon=True)
        # Before the opening: what is switched meanwhile is seen at the first look.
        self._seen = self._stamp()
        self._told: object = None
        self._current = open()
        self.switches = 0

    @property
    def current(self) -> Opened:
        return self._current

    def __enter__(self) -> Following:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> bool:
        """Whether another generation took over now. One that cannot be opened is told once in the log, and tried again
        at the next look: it may be on its way."""
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        try:
            newer = self._open()
        except Exception as bad:
            # An encoder's client may raise anything, and left alone it would end the watching.
            if stamp != self._told:
                said = "the index changed and cannot be opened; the one before goes on answering: %s: %s"
                LOG.warning(said, type(bad).__name__, plain(str(bad)))
                self._told = stamp
            return False
        self._seen, self._current = stamp, newer
        self.switches += 1
        LOG.info("the index changed: now %s, %d passages", newer.digest[:12], newer.index.manifest.passages)
        return True

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self.look()

    def _stamp(self) -> object:
        """None while there is no such file."""
        try:
            found = self._manifest.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
