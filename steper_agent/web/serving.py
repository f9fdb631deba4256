"""An application served on a bound socket until it is told to stop. Light to import: what the extra `serve` brings is
loaded when it is needed."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from steper_agent.errors import DependencyError

if TYPE_CHECKING:
    from fastapi import FastAPI

EXTRA = frozenset({"fastapi", "starlette", "uvicorn", "prometheus_client"})


def serve_app(
    app: FastAPI, sock: socket.socket, *, grace: float, access_log: bool, on_ready: Callable[[], None]
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT, and for up to `grace` seconds what was asked before. The
    application's gate is `app.state.gate`.

    Raises:
        DependencyError: the extra `serve` is not installed.
    """
    with extra_installed():
        from steper_agent.web.server import Server, settings
    Server(settings(app, access_log=access_log), app.state.gate, grace=grace, on_ready=on_ready).run(sockets=[sock])


@contextmanager
def extra_installed() -> Iterator[None]:
    """What is imported in the block needs the extra `serve`, and says so where it is missing."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        raise DependencyError(
            f"{missing.name} is not installed", where="the HTTP door", fix="pip install 'steper-agent[serve]'"
        ) from missing
