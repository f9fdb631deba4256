"""One coroutine a node, two ways to call it. LangGraph wants a sync form for `invoke`; instead of twin code, sync calls
run on one long-lived background loop (clients cached per event loop stay valid between calls)."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import Runtime, get_runtime

from graphs.state import Context, QAState

T = TypeVar("T")
AsyncNode = Callable[[QAState, Runtime[Context], RunnableConfig], Coroutine[Any, Any, dict[str, Any]]]


class Both(Runnable[QAState, dict[str, Any]]):
    """A node that serves `invoke` and `ainvoke` alike."""

    def __init__(self, node: AsyncNode) -> None:
        self.node = node
        self.name = node.__name__

    def invoke(self, input: QAState, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        del kwargs
        return run_blocking(self.node(input, get_runtime(Context), config or {}))

    async def ainvoke(self, input: QAState, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        del kwargs
        return await self.node(input, get_runtime(Context), config or {})


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, with the caller's context variables, and wait for it."""
    loop, carried = _loop(), contextvars.copy_context()

    async def carry() -> T:
        return await loop.create_task(work, context=carried)

    return asyncio.run_coroutine_threadsafe(carry(), loop).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="steper-sync-calls", daemon=True).start()
    return loop
