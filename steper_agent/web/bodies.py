"""A request's body, read by hand so that a large one is never held; only JSON that says it is JSON."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from steper_agent.web.refusal import Refusal

MOST_BYTES = 1 << 20
DRAINED_BYTES = 16 << 20
"""A client must be done sending before it reads why it was refused; beyond this it is cut off."""


async def json_of(request: Request) -> bytes:
    """The body of a request that brings JSON, not parsed.

    Raises:
        Refusal: it does not say so, is larger than a megabyte, or never ends.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A browser lets any page post plain text anywhere; for JSON it asks first, and no other origin gets a yes.
        raise Refusal(415, "send JSON, with `Content-Type: application/json`", code="unsupported_media_type")
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
        raise Refusal(
            413,
            f"at most {MOST_BYTES} bytes can be asked at once",
            code="too_large",
            headers={"Connection": "close"},
        )
    return bytes(body)
