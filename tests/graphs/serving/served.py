"""A real server on a free port for a test, and models that can be watched while they answer."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from graphs.run import Context
from graphs.serving.app import create_app
from steper_agent.web.access import bind, url_of
from steper_agent.web.server import Server, settings
from tests.fakes import shelf

QUESTION = "When was the author of Emma born?"
LINES = ("Jane Austen wrote Emma.", "Jane Austen was born in 1775. So the answer is: 1775.")
SHELF = shelf("Emma", "Jane Austen", "Unrelated")


class Teller(BaseChatModel):
    """Says its lines round and round, word by word, and tells its usage: three tokens in, one out a word."""

    lines: tuple[str, ...] = LINES
    version: str = "teller"
    _said: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "teller"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        del messages, stop, run_manager, kwargs
        line = self.lines[self._said % len(self.lines)]
        self._said += 1
        words = line.split(" ")
        for place, word in enumerate(words):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f" {word}" if place else word))
        usage = {"input_tokens": 3, "output_tokens": len(words), "total_tokens": 3 + len(words)}
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=usage, chunk_position="last"))


class Waiting(BaseChatModel):
    """Concludes once it may, and can be seen to start and to be cancelled."""

    version: str = "waiting"
    _started: threading.Semaphore = PrivateAttr(default_factory=lambda: threading.Semaphore(0))
    _may_go: threading.Event = PrivateAttr(default_factory=threading.Event)
    _cancelled: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def _llm_type(self) -> str:
        return "waiting"

    def wait_started(self) -> None:
        assert self._started.acquire(timeout=60)

    def wait_cancelled(self) -> None:
        assert self._cancelled.wait(5)

    def go(self) -> None:
        self._may_go.set()

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del messages, stop, run_manager, kwargs
        self._started.release()
        try:
            while not self._may_go.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self._cancelled.set()
            raise
        return ChatResult(generations=[ChatGeneration(message=AIMessage("So the answer is: 1775."))])


def app_of(model: Any, **settings: Any) -> FastAPI:
    return create_app(Context(model, SHELF), name="steper", **settings)


@contextmanager
def served(app: FastAPI, *, grace: float = 5.0) -> Iterator[httpx.Client]:
    """The application behind a real port for as long as the block lasts, and a client that knows where."""
    with running(app, grace=grace) as (client, _):
        yield client


@contextmanager
def running(app: FastAPI, *, grace: float = 5.0) -> Iterator[tuple[httpx.Client, Callable[[], None]]]:
    """The same with what a SIGTERM does."""
    ready = threading.Event()
    with bind("127.0.0.1", 0, has_token=False) as sock:
        server = Server(settings(app, access_log=False), app.state.gate, grace=grace, on_ready=ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        url = url_of(sock)
        thread.start()
        try:
            assert ready.wait(10)
            # Certificates take a client longer to load than most of these tests take.
            with httpx.Client(base_url=url, verify=False) as client:
                yield client, lambda: server.handle_exit(signal.SIGTERM, None)
        finally:
            server.handle_exit(signal.SIGTERM, None)
            server.handle_exit(signal.SIGTERM, None)
            thread.join(20)
    assert not thread.is_alive()


def body(**more: Any) -> dict[str, Any]:
    """A request that can be answered."""
    return {"model": "steper", "messages": [{"role": "user", "content": QUESTION}], **more}


def metric(door: httpx.Client, line: str) -> float:
    """One sample of /metrics; 0 where it was never counted."""
    text = door.get("/metrics").text
    return next((float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(f"{line} ")), 0.0)
