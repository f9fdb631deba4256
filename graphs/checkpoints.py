"""Checkpoints on disk under LangGraph's strict serializer: a thread remembers its conversation, and a run that was killed
between two nodes goes on with the next one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from steper_agent.errors import DependencyError

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver


def strict_serializer() -> JsonPlusSerializer:
    """Reads plain data only. LangGraph's default imports and calls whatever a checkpoint names, and our state needs none
    of it."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=None)


@contextmanager
def sqlite_checkpoints(path: str | Path) -> Iterator[SqliteSaver]:
    """For `invoke` and `stream`: `with sqlite_checkpoints(FILE) as saver: build_graph(context, checkpointer=saver)`."""
    try:
        from langgraph.checkpoint.sqlite import SqliteSaver
    except ImportError as missing:
        raise _missing(path) from missing
    with closing(sqlite3.connect(path, check_same_thread=False)) as connection:
        yield SqliteSaver(connection, serde=strict_serializer())


@asynccontextmanager
async def async_sqlite_checkpoints(path: str | Path) -> AsyncIterator[AsyncSqliteSaver]:
    """For `ainvoke` and `astream`."""
    try:
        import aiosqlite
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as missing:
        raise _missing(path) from missing
    async with aiosqlite.connect(path) as connection:
        yield AsyncSqliteSaver(connection, serde=strict_serializer())


def _missing(path: str | Path) -> DependencyError:
    return DependencyError("checkpoints on disk need a package", where=path, fix="pip install 'steper-agent[checkpoints]'")
