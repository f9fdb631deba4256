"""What crosses the wire between a search service and its clients; both sides read it from here."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import Field

from steper_agent.records import Hit, Record

K = 4
"""Passages of a search that names no number; the paper's."""


class Limits(NamedTuple):
    """The most that one client may ask for."""

    k: int = 100
    queries: int = 256
    """In one request."""
    inflight: int = 256
    """Requests answered at once; one more is told to come back."""


class AskedOne(Record):
    """`POST /search` with one query."""

    query: str
    k: int = Field(default=K, ge=1, strict=True)


class AskedMany(Record):
    """`POST /search` with several, searched together."""

    queries: tuple[str, ...]
    k: int = Field(default=K, ge=1, strict=True)


class FoundOne(Record):
    digest: str
    """Of the index that answered: equal for indexes that answer alike."""
    hits: tuple[Hit, ...]
    """Best first."""


class FoundMany(Record):
    digest: str
    results: tuple[tuple[Hit, ...], ...]
    """As many as there were queries, in their order."""


class Served(Record):
    """`GET /manifest`: what is searched at the moment."""

    digest: str
    mode: str
    """bm25, dense or hybrid."""
    passages: int


class Trouble(Record):
    """The body of every answer that is none."""

    what: str
    where: str
    """The field of the request that is to blame, or the path."""
    fix: str
