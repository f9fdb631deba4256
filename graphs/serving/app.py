"""The graph as an OpenAI-compatible API: an application to mount in one's own, or to serve. Light to import: what the extra
`serve` brings is loaded when an application is made."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from steper_agent.errors import ConfigError
from steper_agent.web.serving import extra_installed

if TYPE_CHECKING:
    from fastapi import FastAPI

    from graphs.state import Context


def create_app(
    context: Context, *, name: str, token: str | None = None, max_inflight: int = 64, max_k: int = 20,
    hosts: Collection[str] = (),
) -> FastAPI:  # fmt: skip
    """An application that answers with this context's model, retriever and limits.

    `name`: what clients call the model. `token`: asked for everywhere but at /healthz. `max_k`: the most passages a search
    that a request may ask for. `hosts`: names a request may address it by; empty takes any. `app.state.gate.close()` lets
    no more requests in.

    Raises:
        DependencyError: the extra `serve` is not installed.
        ConfigError: the token is blank, the strategy unknown, or the context waits for approval.
    """
    from graphs.strategies import strategy_named

    strategy_named(context.strategy)
    if token is not None and not token.strip():
        raise ConfigError("the token is blank", where="create_app", fix="give one, or None to ask for none")
    if context.approve:
        raise ConfigError("nobody can approve a search over HTTP", where="create_app", fix="make the context with approve=False")
    with extra_installed():
        from fastapi import FastAPI

        from graphs.serving.door import Door
        from graphs.serving.metrics import Metrics
        from graphs.serving.refusal import refused
        from graphs.serving.routes import add_routes
        from graphs.stepwise import build_graph
        from steper_agent.web.entrance import Entrance
        from steper_agent.web.gate import Gate
    gate = Gate(max_inflight)
    door = Door(name, build_graph(), context, max(max_k, context.k), gate, Metrics(lambda: gate.inflight), int(time.time()))
    app = FastAPI(title="StepER Agent", openapi_url=None)
    app.state.gate = gate
    add_routes(app, door)
    app.add_middleware(Entrance, token=token, hosts=hosts, refused=refused, count=door.metrics.requested)
    return app
