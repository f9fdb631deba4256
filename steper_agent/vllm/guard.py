"""Between the network and vLLM: who may ask it what. vLLM loads this file as its middleware, in its own process and perhaps its
own environment, so it imports nothing but the standard library.

vLLM's `--api-key` guards `/v1` alone: `/invocations` answers and `/adapters` loads any folder of the machine without a key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from hmac import compare_digest
from pathlib import Path
from typing import Any

TOKEN, ADMIN_TOKEN, STUDENTS = "STEPER_VLLM_TOKEN", "STEPER_VLLM_ADMIN_TOKEN", "STEPER_VLLM_STUDENTS"
"""Environment of the server's process: the token of those who ask it, of those who change it, and the folders (divided by
`os.pathsep`) that adapters may be loaded from."""

OPEN = frozenset({"/health"})
ASKING = frozenset({
    "/v1/models", "/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/metrics", "/version", "/load",
    "/ping", "/openapi.json",
})  # fmt: skip
"""What the asking token opens. The admin's opens all but `CLOSED`."""
LOADING = "/v1/load_lora_adapter"
CLOSED = frozenset({"/adapters"})
"""Another door to loading, which names the folder otherwise: shut, so that one door need be watched."""
MOST_BODY = 65_536
"""Bytes of a request to load an adapter."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware. A server started without tokens in its environment does not start."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._asking, self._admin = (os.environ.get(name, "").encode() for name in (TOKEN, ADMIN_TOKEN))
        if not (self._asking and self._admin):
            raise RuntimeError(f"set {TOKEN} and {ADMIN_TOKEN}: with an empty one, who gives none would be let in")
        self._students = [Path(folder).resolve() for folder in os.environ.get(STUDENTS, "").split(os.pathsep) if folder]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN):
            await self._app(scope, receive, send)
            return
        code, why = self._refusal(scope)
        if not code and scope["path"] == LOADING:
            body = await _body_of(receive)
            code, why = self._misplaced(body)
            receive = _again(body, receive)
        if code:
            await _refuse(scope, send, code, why)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str]:
        """Status and reason; 0 lets the request in."""
        path, given = scope["path"], _bearer(scope)
        if compare_digest(given, self._admin):
            return (403, "this route is shut") if path.startswith(tuple(CLOSED)) else (0, "")
        if not compare_digest(given, self._asking):
            return 401, "a bearer token is asked for"
        return (0, "") if path in ASKING else (403, "this route is the administrator's")

    def _misplaced(self, body: bytes) -> tuple[int, str]:
        """An adapter comes from the students' folders, by its real path: no `..`, no links, no hub."""
        try:
            asked = json.loads(body)
            path = Path(asked["lora_path"])
        except (ValueError, TypeError, KeyError):
            return 400, "a JSON object with lora_name and lora_path is asked for"
        if asked.get("load_inplace"):
            return 403, "new weights under an old name would be mixed with the old ones' cache: give a new name"
        inside = path.is_absolute() and path.resolve() == path and path.is_dir()
        if inside and any(path.is_relative_to(folder) for folder in self._students):
            return 0, ""
        return 403, "adapters are loaded from the students' folders only"


def _bearer(scope: MutableMapping[str, Any]) -> bytes:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return bytes(value[7:].strip())
    return b""


async def _body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more and len(body) <= MOST_BODY:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body if len(body) <= MOST_BODY else b""


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read already, for the application to read."""
    told = [{"type": "http.request", "body": body, "more_body": False}]

    async def first_told() -> Message:
        return told.pop() if told else await receive()

    return first_told


async def _refuse(scope: MutableMapping[str, Any], send: Send, code: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = json.dumps({"error": {"message": why, "type": "permission_error", "code": code}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
