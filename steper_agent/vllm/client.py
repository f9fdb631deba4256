"""vLLM's HTTP interface, as far as we use it: tokens out of tokens, adapters in and out, its metrics.

A connection a request: an async client kept over several event loops fails in the second, and beside a model's work a
new connection on one machine costs nothing.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from steper_agent.errors import AdapterError, ModelError
from steper_agent.web.retry_after import seconds_in

CONNECT, ADMIN = 5.0, 120.0
"""Seconds to wait for a connection, and for a load or unload."""
IN_ONE_PIECE = 5
"""So many times as long as for a token is waited for a reply that is not streamed."""
BUSY = frozenset({429, 500, 502, 503, 504})
"""Statuses that another try may mend; an engine that has just died answers 500."""
END = "[DONE]"


class Busy(Exception):
    """The server cannot answer now. `after`: seconds it asks to be left alone."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Missing(ModelError):
    """The server has nothing of this name: another one may."""


class Away(ModelError):
    """The server cannot be reached, or cannot answer now: it may be back later."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens and what it asks for."""

    url: str
    socket: Path | None = None
    """Unix socket; the host in the URL is then but a name."""
    token: str = field(default="", repr=False)
    admin_token: str = field(default="", repr=False)
    silence: float = 120.0
    """Seconds without a token after which a request is given up."""


class Client:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    @contextmanager
    def completion(self, body: Mapping[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
        """The chunks of a completion; one, where the body does not ask for a stream.

        Raises:
            Busy: try again.
            Missing: it does not serve that model.
            ModelError: it refuses this request.
            httpx.TransportError: the server cannot be reached, or broke off.
        """
        with self._http() as http, http.stream("POST", "/v1/completions", json=dict(body), timeout=self._timeout(body)) as response:
            if response.status_code != 200:
                response.read()
                raise self._refused(response)
            yield _chunks(response, bool(body.get("stream")))

    @asynccontextmanager
    async def acompletion(self, body: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """As `completion`, without blocking the event loop."""
        options = self._options()
        transport = httpx.AsyncHTTPTransport(**self._transport())
        async with (
            httpx.AsyncClient(transport=transport, **options) as http,
            http.stream("POST", "/v1/completions", json=dict(body), timeout=self._timeout(body)) as response,
        ):
            if response.status_code != 200:
                await response.aread()
                raise self._refused(response)
            yield _achunks(response, bool(body.get("stream")))

    def is_healthy(self, timeout: float = CONNECT) -> bool:
        """Whether it answers, and its engine lives."""
        try:
            with self._http() as http:
                return http.get("/health", timeout=timeout).status_code == 200
        except httpx.TransportError:
            return False

    def models(self) -> dict[str, str | None]:
        """Names it serves; for an adapter the name of its base, else None.

        Raises:
            Away: it cannot be reached.
            ModelError: it does not let us in.
        """
        listed = self._asked("GET", "/v1/models").json()["data"]
        return {model["id"]: model.get("parent") for model in listed}

    def load(self, name: str, folder: Path) -> None:
        """Load an adapter under a name it has never had.

        Raises:
            AdapterError: the server refuses it, and says why.
        """
        body = {"lora_name": name, "lora_path": str(folder)}
        response = self._admin("/v1/load_lora_adapter", body)
        if response.status_code != 200:
            raise AdapterError(f"the server refuses {name}: {_message(response)}", where=folder,
                               fix="check that the server was started for this base, with room for this adapter")

    def unload(self, name: str) -> None:
        """Drop an adapter; one that is not there is gone already.

        Raises:
            AdapterError: the server refuses.
        """
        response = self._admin("/v1/unload_lora_adapter", {"lora_name": name})
        if response.status_code not in (200, 404):
            raise AdapterError(f"the server keeps {name}: {_message(response)}", where=self.endpoint.url, fix="try again")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._asked("GET", "/metrics").text

    def _admin(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        try:
            with self._http(self.endpoint.admin_token) as http:
                return http.post(path, json=dict(body), timeout=ADMIN)
        except httpx.TransportError as broken:
            raise self._unreachable(broken) from broken

    def _asked(self, method: str, path: str) -> httpx.Response:
        try:
            with self._http() as http:
                response = http.request(method, path)
        except httpx.TransportError as broken:
            raise self._unreachable(broken) from broken
        if response.status_code != 200:
            try:
                raise self._refused(response)
            except Busy as busy:
                raise Away(str(busy), where=self.endpoint.url, fix="look into the server's log") from busy
        return response

    def _http(self, token: str | None = None) -> httpx.Client:
        if self.endpoint.socket:
            _knock(self.endpoint.socket)
        return httpx.Client(transport=httpx.HTTPTransport(**self._transport()), **self._options(token))

    def _transport(self) -> dict[str, Any]:
        if self.endpoint.socket:
            return {"uds": str(self.endpoint.socket), "verify": False}
        # Making a TLS context takes longer than all the rest, so only an address that needs one gets it.
        return {"verify": _tls() if self.endpoint.url.startswith("https:") else False}

    def _timeout(self, body: Mapping[str, Any]) -> httpx.Timeout:
        silence = self.endpoint.silence
        return httpx.Timeout(silence if body.get("stream") else IN_ONE_PIECE * silence, connect=CONNECT)

    def _options(self, token: str | None = None) -> dict[str, Any]:
        key = self.endpoint.token if token is None else token
        return {
            "base_url": self.endpoint.url, "timeout": httpx.Timeout(self.endpoint.silence, connect=CONNECT),
            "headers": {"authorization": f"Bearer {key}"} if key else {},
        }  # fmt: skip

    def _refused(self, response: httpx.Response) -> Exception:
        why = f"{response.status_code}: {_message(response)}"
        if response.status_code in BUSY:
            return Busy(why, seconds_in(response.headers) or 0.0)
        fix = {401: f"set STEPER_VLLM_TOKEN to the token of {self.endpoint.url}", 404: "load the student first"}
        kind = Missing if response.status_code == 404 else ModelError
        return kind(f"the server refuses: {why}", where=self.endpoint.url, fix=fix.get(response.status_code, "change the request"))

    def _unreachable(self, broken: httpx.TransportError) -> Away:
        return Away(f"no answer: {broken or type(broken).__name__}", where=self.endpoint.url,
                    fix="start the server, or check its address and its log")


def _chunks(response: httpx.Response, streamed: bool) -> Iterator[dict[str, Any]]:
    if not streamed:
        yield json.loads(response.read())
        return
    for line in response.iter_lines():
        if (chunk := chunk_in(line)) is not None:
            yield chunk


async def _achunks(response: httpx.Response, streamed: bool) -> AsyncIterator[dict[str, Any]]:
    if not streamed:
        yield json.loads(await response.aread())
        return
    async for line in response.aiter_lines():
        if (chunk := chunk_in(line)) is not None:
            yield chunk


def chunk_in(line: str) -> dict[str, Any] | None:
    """What a line of the event stream carries, if anything.

    Raises:
        Busy: the server reports that the request failed on its side.
        ModelError: it reports anything else.
    """
    kind, _, data = line.partition(":")
    if kind != "data" or data.strip() == END:
        return None
    chunk: dict[str, Any] = json.loads(data)
    if error := chunk.get("error"):
        why = error.get("message", str(error)) if isinstance(error, dict) else str(error)
        if not isinstance(error, dict) or error.get("code", 500) in BUSY:
            raise Busy(why)
        raise ModelError(f"the server refuses: {why}", where="vLLM", fix="change the request")
    return chunk


def _knock(path: Path) -> None:
    """httpcore leaves the socket of a connection that was refused to the garbage collector, so we are refused first."""
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(str(path))
        except OSError as refused:
            raise httpx.ConnectError(f"{path}: {refused.strerror}") from refused


def _message(response: httpx.Response) -> str:
    try:
        error = response.json().get("error") or response.json()
        return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
    except (ValueError, AttributeError):
        return response.text[:500] or response.reason_phrase


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()
