"""A refusal in OpenAI's error object, so that any client can read it."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from graphs.serving.reply import to_json
from steper_agent.web.refusal import Refusal


def error_object(refusal: Refusal) -> dict[str, Any]:
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}


def refused(refusal: Refusal) -> Response:
    body = to_json(error_object(refusal))
    return Response(body, status_code=refusal.status, headers=refusal.headers, media_type="application/json")
