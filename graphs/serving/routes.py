"""The paths of the door, and what each does."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from graphs.serving.answering import Answering
from graphs.serving.door import Door
from graphs.serving.metrics import CONTENT_TYPE_LATEST
from graphs.serving.refusal import refused
from graphs.serving.reply import to_json
from graphs.serving.wire import read_request
from steper_agent.web.bodies import json_of
from steper_agent.web.refusal import Refusal


def add_routes(app: FastAPI, door: Door) -> None:
    async def complete(request: Request) -> Response:
        asked = read_request(await json_of(request))
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
