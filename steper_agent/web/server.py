"""uvicorn, but it closes in two moves: first nobody new is let in and /healthz says so, while runs finish; then it stops
listening. A port that goes dead at once tells a load balancer nothing, and cuts off what it sends in that moment."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from steper_agent.web.gate import Gate

CUT_SECONDS = 2.0
"""For runs that were cut to tell their clients."""
LAST_BYTES_SECONDS = 5
"""For slow clients to fetch answers that are ready."""


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, gate: Gate, *, grace: float, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._gate = gate
        self._grace = grace
        self._on_ready = on_ready
        self._deadline = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal closes the gate, a second one cuts runs short. Not uvicorn's own way, which ends the process by
        the signal once all is done: a server that closed as it was told has exit code 0."""
        del sig, frame
        grace = 0.0 if self._gate.is_closing else self._grace
        self._gate.close()
        self._deadline = min(self._deadline, time.monotonic() + grace)

    async def on_tick(self, counter: int) -> bool:
        over = await super().on_tick(counter)
        if over or not self._gate.is_closing:
            return over
        late = time.monotonic() - self._deadline
        if late > 0:
            self._gate.cut()
        return self._gate.inflight == 0 or late > CUT_SECONDS


def settings(app: ASGIApp, *, access_log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        access_log=access_log,
        log_config=None,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=LAST_BYTES_SECONDS,
    )
