"""An index without files, whose searches can be watched, slowed and made to fail; and its service on a real port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI

from steper_agent.records import Hit, Passage
from steper_agent.web.access import bind, url_of
from steper_agent.web.server import Server, settings


class Stack:
    """Finds, for every query, passages that say which index, query and k they were found for."""

    def __init__(self, digest: str = "one", *, mode: str = "hybrid", seconds: float = 0.0, passages: int = 5) -> None:
        self.digest = digest
        self.manifest: Any = SimpleNamespace(mode=mode, passages=passages)
        self.seconds = seconds
        """Of a call, whatever it is asked."""
        self.calls: list[tuple[tuple[str, ...], int]] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        self.calls.append((tuple(queries), k))
        assert self.may_go.wait(60)
        time.sleep(self.seconds)
        if any(query.startswith("bad") for query in queries):
            raise LookupError(f"{len(queries)} with a bad one")
        return [hits_of(self.digest, query, k) for query in queries]

    def find(self, passage_id: str) -> Passage | None:
        return None if passage_id == "nobody" else Passage(id=passage_id, title="T", text=f"found in {self.digest}")


def hits_of(digest: str, query: str, k: int) -> tuple[Hit, ...]:
    """What a stack finds."""
    return tuple(
        Hit(passage=Passage(id=f"{query}-{place}", title=query, text=f"{digest} {k}"), score=1 / place)
        for place in range(1, k + 1)
    )


@contextmanager
def serving(app: FastAPI, *, port: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """The application on a real port for as long as the block lasts: its URL, and what a SIGTERM does."""
    ready = threading.Event()
    with bind("127.0.0.1", port, has_token=False) as sock:
        server = Server(settings(app, access_log=False), app.state.gate, grace=5.0, on_ready=ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            assert ready.wait(10)
            yield url_of(sock), lambda: server.handle_exit(15, None)
        finally:
            for _ in range(2):
                server.handle_exit(15, None)
            thread.join(20)
    assert not thread.is_alive()
