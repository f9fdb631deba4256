"""One coroutine a node, two ways to call it. LangGraph wants a sync form for `invoke`; instead of twin code, sync calls
run on one long-lived background loop, and there call models by their own sync form."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime, get_runtime

from graphs.state import Context, QAState
from steper_agent.errors import ConfigError

T = TypeVar("T")
GRACE = 10.0
"""Seconds that work which is told to end may take."""
_SYNC = contextvars.ContextVar("steper_sync", default=False)
AsyncNode = Callable[[QAState, Runtime[Context], RunnableConfig], Coroutine[Any, Any, dict[str, Any]]]


class Both(Runnable[QAState, dict[str, Any]]):
    """A node that serves `invoke` and `ainvoke` alike, with the context of the call or else the one bound to the graph."""

    def __init__(self, node: AsyncNode, bound: Context | None = None) -> None:
        self.node = node
        self.name = node.__name__
        self.bound = bound

    def invoke(self, input: QAState, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        del kwargs
        token = _SYNC.set(True)
        try:
            return run_blocking(self._work(input, runtime_with(self.bound), config or {}))
        finally:
            _SYNC.reset(token)

    async def ainvoke(self, input: QAState, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        del kwargs
        return await self._work(input, runtime_with(self.bound), config or {})

    async def _work(self, state: QAState, runtime: Runtime[Context], config: RunnableConfig) -> dict[str, Any]:
        with given_back(runtime.context, state.get("run", "")):
            return await self.node(state, runtime, config)


class Route(Runnable[QAState, str]):
    """A choice of the next node. LangGraph hands a plain function to a thread, which costs as much as a whole node."""

    def __init__(self, choose: Callable[[QAState, Context], str], bound: Context | None = None) -> None:
        self.choose = choose
        self.name = choose.__name__
        self.bound = bound

    def invoke(self, input: QAState, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        del kwargs
        with set_config_context(config or {}) as here:
            return here.run(lambda: self.choose(input, runtime_with(self.bound).context))

    async def ainvoke(self, input: QAState, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return self.invoke(input, config, **kwargs)


@contextmanager
def given_back(context: Context, run: str) -> Iterator[None]:
    """The run's model is given back if what is done in here fails or is cancelled."""
    try:
        yield
    except GraphBubbleUp:
        raise  # A person is asked: the run rests, and has not failed.
    except BaseException:
        context.release(run)
        raise


def runtime_with(bound: Context | None) -> Runtime[Context]:
    """The call's runtime. Inside another graph its context may be that graph's own, which is nothing to us.

    Raises:
        ConfigError: there is no context, neither bound nor given.
    """
    runtime = get_runtime(Context)
    if isinstance(runtime.context, Context):
        return runtime
    if bound is None:
        raise ConfigError("the graph has no context: no model and no retriever", where="build_graph",
                          fix="build_graph(Context(model, retriever)), or invoke(…, context=Context(model, retriever))")
    return runtime.override(context=bound)


async def called(work: Runnable[Any, T], given: Any, config: RunnableConfig | None = None, **kwargs: Any) -> T:
    """What a model makes of its input. Under `invoke` by its own sync form, in a thread: a provider's async client stays
    with the event loop that used it first, and that one is the caller's to choose."""
    if not _SYNC.get():
        return await work.ainvoke(given, config, **kwargs)
    loop, here = asyncio.get_running_loop(), contextvars.copy_context()
    made: asyncio.Future[T] = loop.create_future()

    def call() -> None:
        try:
            result = here.run(work.invoke, given, config, **kwargs)
        except BaseException as bad:  # Whatever it is belongs to whoever waits.
            loop.call_soon_threadsafe(_settle, made.set_exception, bad, made)
        else:
            loop.call_soon_threadsafe(_settle, made.set_result, result, made)

    # Not the loop's pool: its threads are few, and one whose call hangs would keep the process from ending.
    threading.Thread(target=call, name="steper-sync-call", daemon=True).start()
    return await made


def _settle(settle: Callable[[Any], None], value: Any, made: asyncio.Future[Any]) -> None:
    if not made.done():
        settle(value)


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the background loop, with the caller's context variables, and wait for it. Ctrl-C ends the work, and not
    the waiting alone."""
    loop, carried, is_over = _loop(), contextvars.copy_context(), threading.Event()

    async def carry() -> T:
        try:
            return await loop.create_task(work, context=carried)
        finally:
            is_over.set()

    future = asyncio.run_coroutine_threadsafe(carry(), loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        # What it writes to is the caller's, who may close it now.
        is_over.wait(GRACE)
        raise


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="steper-sync-calls", daemon=True).start()
    return loop
