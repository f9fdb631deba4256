"""The paths of the search service, and what each does. Every answer that is none says what, where and how to fix it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from steper_agent.errors import SearchError
from steper_agent.records import Hit, Record
from steper_agent.retrieval.cache import Key, SearchCache
from steper_agent.retrieval.following import Opened
from steper_agent.retrieval.watched import CONTENT_TYPE_LATEST, PASSAGES, Metrics
from steper_agent.retrieval.wire import AskedMany, AskedOne, FoundMany, FoundOne, Limits, Served, Trouble
from steper_agent.web.bodies import json_of
from steper_agent.web.entrance import LEFT
from steper_agent.web.gate import Gate
from steper_agent.web.refusal import Refusal, bad_request

LOG = logging.getLogger(__name__)
FIXES = {
    "invalid_api_key": "send `Authorization: Bearer TOKEN`",
    "unknown_host": "call it by the name it was started with",
    "too_many_requests": "try again after the seconds in Retry-After",
    "closing": "ask another server, or try again once it is back",
    "too_large": "send fewer or shorter queries",
    "unsupported_media_type": "set the header",
    "not_found": "see the list of paths and ids",
    "too_slow": "try again when less is asked at once",
    "failed": "the server's log says what to mend",
}
BODY = 'send {"query": …, "k": …} or {"queries": […], "k": …}'


@dataclass(frozen=True, slots=True)
class Desk:
    """What every request meets."""

    current: Callable[[], Opened]
    limits: Limits
    cache: SearchCache
    gate: Gate
    metrics: Metrics

    async def search(self, opened: Opened, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """The hits of every query.

        Raises:
            Refusal: 504 where they did not come in time, 500 where the search failed.
        """
        try:
            return await self._found(opened, queries, k)
        except SearchError as late:
            LOG.warning("a search was given up: %s", late)
            raise Refusal(504, "the search took too long", code="too_slow") from late
        except Exception as bad:
            # Whatever an encoder raises is one asker's failure; left alone it would cost others their connection.
            LOG.exception("a search failed")
            raise Refusal(500, "the search failed", code="failed") from bad

    async def _found(self, opened: Opened, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Those found before come from the cache, the others are searched together."""
        keys = [Key(opened.digest, query, k) for query in queries]
        found = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        missing = [key for key, hits in found.items() if hits is None]
        for key, hits in zip(missing, await opened.batcher.search_many([key.query for key in missing], k), strict=True):
            self.cache.put(key, hits)
            found[key] = hits
        return [found[key] or () for key in keys]


def add_routes(app: FastAPI, desk: Desk) -> None:
    async def search(request: Request) -> Response:
        asked = read_asked(await json_of(request), desk.limits)
        queries = (asked.query,) if isinstance(asked, AskedOne) else asked.queries
        opened, start = desk.current(), time.perf_counter()
        with desk.gate.entered():
            results = await desk.gate.listening(request.receive, desk.search(opened, queries, asked.k))
        if results is None:
            return Response(status_code=LEFT)
        desk.metrics.searched(len(queries), time.perf_counter() - start)
        if isinstance(asked, AskedOne):
            return as_json(FoundOne(digest=opened.digest, hits=results[0]))
        return as_json(FoundMany(digest=opened.digest, results=tuple(results)))

    async def passage(request: Request) -> Response:
        name = request.path_params["id"]
        found = await run_in_threadpool(desk.current().index.find, name)
        if found is None:
            raise Refusal(404, "the index holds no passage of that id", code="not_found", param="id")
        return as_json(found)

    async def manifest(_: Request) -> Response:
        opened = desk.current()
        held = opened.index.manifest
        return as_json(Served(digest=opened.digest, mode=held.mode, passages=held.passages))

    async def health(_: Request) -> Response:
        is_closing = desk.gate.is_closing
        told = {"status": "closing" if is_closing else "ready", "inflight": desk.gate.inflight}
        return Response(json.dumps(told), status_code=503 if is_closing else 200, media_type="application/json")

    async def metrics(_: Request) -> Response:
        return Response(desk.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.add_route("/search", search, methods=["POST"])
    app.add_route(PASSAGES + "{id:path}", passage)
    app.add_route("/manifest", manifest)
    app.add_route("/healthz", health)
    app.add_route("/metrics", metrics)
    for kind in (Refusal, HTTPException, Exception):
        app.add_exception_handler(kind, _told)


def read_asked(body: bytes, limits: Limits) -> AskedOne | AskedMany:
    """A request for hits, within the limits.

    Raises:
        Refusal: 400, and the field that is to blame.
    """
    try:
        # Which of the two it means is told by the field it names, so that a mistake is told of that one alone.
        value = json.loads(body)
        kind = AskedMany if isinstance(value, dict) and "queries" in value else AskedOne
        asked = kind.model_validate_json(body)
    except ValidationError as bad:
        first = bad.errors(include_url=False, include_context=False, include_input=False)[0]
        raise bad_request(first["msg"], param=".".join(map(str, first["loc"])) or None) from bad
    except (ValueError, RecursionError) as bad:
        raise bad_request("the body is no JSON") from bad
    if asked.k > limits.k:
        raise bad_request(f"at most {limits.k} hits can be asked for", param="k")
    if isinstance(asked, AskedMany) and len(asked.queries) > limits.queries:
        raise bad_request(f"at most {limits.queries} queries can be asked at once", param="queries")
    return asked


def as_json(record: Record, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(record.model_dump_json(), status_code=status, headers=headers, media_type="application/json")


def refused(refusal: Refusal) -> Response:
    trouble = Trouble(what=refusal.message, where=refusal.param or "request", fix=FIXES.get(refusal.code, BODY))
    return as_json(trouble, refusal.status, refusal.headers)


async def _told(_: Request, error: Exception) -> Response:
    """What went wrong inside is in the log: a client reads no path of this machine and no traceback."""
    return refused(_refusal_of(error))


def _refusal_of(error: Any) -> Refusal:
    match error:
        case Refusal():
            return error
        case HTTPException(status_code=status, detail=detail):
            code = "not_found" if status in (404, 405) else "failed"
            return Refusal(status, str(detail), code=code, param="path", headers=dict(error.headers or {}))
        case _:
            return Refusal(500, "the request failed", code="failed")
