"""Around every request: it is counted, and let in only with the right token and under a name that is ours."""

from __future__ import annotations

from collections.abc import Callable, Collection
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steper_agent.web.refusal import Refusal

OPEN = "/healthz"
LEFT = 499
"""nginx's code for a client that left before it was answered."""


class Entrance:
    """ASGI middleware. `hosts`: the names a request may address us by, where no token is asked for; empty takes any. A
    page in a browser can reach a loopback port under a name of its own, but cannot choose to send ours.

    `refused` makes a refusal what the server's clients read; `count` hears of every request's path and status."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Collection[str],
        refused: Callable[[Refusal], Response],
        count: Callable[[str, int], None],
    ) -> None:
        self._app = app
        self._token = token.encode() if token is not None else None
        self._hosts = hosts
        self._refused = refused
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A mounted application's path is seen with its mount point before it.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        code = 500

        async def counted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            refusal = self._refusal(path, Headers(scope=scope))
            code = LEFT if refusal is None else code
            await (self._app if refusal is None else self._refused(refusal))(scope, receive, counted)
        except BaseException:
            code = 500
            raise
        finally:
            self._count(path, code)

    def _refusal(self, path: str, headers: Headers) -> Refusal | None:
        if self._hosts and host_in(headers.get("host", "")) not in self._hosts:
            return Refusal(421, "this server does not go by that name", code="unknown_host")
        if self._token is None or path == OPEN:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and compare_digest(given.strip().encode(), self._token):
            return None
        challenge = {"WWW-Authenticate": "Bearer"}
        return Refusal(401, "the bearer token is missing or wrong", code="invalid_api_key", headers=challenge)


def host_in(header: str) -> str:
    """A Host header's name, without its port; an IPv6 address keeps its brackets."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() and not port.endswith("]") else header).lower()
