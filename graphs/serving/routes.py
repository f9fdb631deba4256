"""The paths of the door, and what each does. Bodies are read here, by hand, so that a large one is never held."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from graphs.serving.answering import Answering
from graphs.serving.door import Door
from graphs.serving.entrance import refused
from graphs.serving.metrics import CONTENT_TYPE_LATEST
from graphs.serving.refusal import Refusal
from graphs.serving.reply import to_json
from graphs.serving.wire import read_request

MOST_BYTES = 1 << 20
DRAINED_BYTES = 16 << 20
"""A client must be done sending before it reads why it was refused; beyond this it is cut off."""


def add_routes(app: FastAPI, door: Door) -> None:
    async def complete(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # A browser lets any page post plain text anywhere; for JSON it asks first, and no other origin gets a yes.
            raise Refusal(415, "send JSON, with `Content-Type: application/json`", code="unsupported_media_type")
        asked = read_request(await body_of(request))
        door.check_name(asked.model)
        return Answering(door, asked)

    async def models(_: Request) -> Response:
        return as_json({"object": "list", "data": [_model(door)]})

    async def model(request: Request) -> Response:
        door.check_name(request.path_params["name"])
        return as_json(_model(door))

    async def health(_: Request) -> Response:
        is_closing = door.gate.is_closing
        told = {"status": "closing" if is_closing else "ready", "inflight": door.gate.inflight, "model": door.version}
        return as_json(told, status=503 if is_closing else 200)

    async def metrics(_: Request) -> Response:
        return Response(door.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.add_route("/v1/chat/completions", complete, methods=["POST"])
    app.add_route("/v1/models", models)
    app.add_route("/v1/models/{name:path}", model)
    app.add_route("/healthz", health)
    app.add_route("/metrics", metrics)
    app.add_exception_handler(Refusal, _told)
    app.add_exception_handler(HTTPException, _told)


async def body_of(request: Request) -> bytes:
    """The request's body.

    Raises:
        Refusal: it is larger than a megabyte, or never ends.
    """
    body, size = bytearray(), 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size <= MOST_BYTES:
                body += piece
            elif size > DRAINED_BYTES:
                break
    except ClientDisconnect as left:
        raise Refusal(400, "the client left", code="client_left") from left
    if size > MOST_BYTES:
        raise Refusal(413, f"at most {MOST_BYTES} bytes can be asked at once", code="too_large", headers={"Connection": "close"})
    return bytes(body)


def as_json(value: Any, status: int = 200) -> Response:
    return Response(to_json(value), status_code=status, media_type="application/json")


def _model(door: Door) -> dict[str, Any]:
    served = {"version": door.version, "strategy": door.context.strategy, "k": door.context.k, "steps": door.context.steps}
    return {"id": door.name, "object": "model", "created": door.created, "owned_by": "steper", "steper": served}


async def _told(_: Request, error: Exception) -> Response:
    """Ours, and those of the router: no such path, no such method."""
    if isinstance(error, HTTPException):
        codes = {404: "not_found", 405: "method_not_allowed"}
        error = Refusal(error.status_code, error.detail, code=codes.get(error.status_code, "invalid_request"),
                        headers=dict(error.headers or {}))  # fmt: skip
    assert isinstance(error, Refusal)
    return refused(error)
