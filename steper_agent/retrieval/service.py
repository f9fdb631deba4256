"""An index behind HTTP, so that many programs share one: an application to mount in one's own, or to serve.

Light to import: what the extra `serve` brings is loaded when an application is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from steper_agent.errors import ConfigError
from steper_agent.retrieval.cache import SearchCache
from steper_agent.retrieval.following import Opened
from steper_agent.retrieval.wire import Limits
from steper_agent.web.serving import extra_installed

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_search_app(
    current: Callable[[], Opened],
    *,
    token: str | None = None,
    hosts: Collection[str] = (),
    limits: Limits = Limits(),  # noqa: B008 - a tuple of numbers cannot change
    cache: SearchCache | None = None,
) -> FastAPI:
    """An application that answers from the index that `current` names at the moment.

    `token`: asked for everywhere but at /healthz. `hosts`: names a request may address it by; empty takes any.
    `app.state.gate.close()` lets no more requests in.

    Raises:
        DependencyError: the extra `serve` is not installed.
        ConfigError: the token is blank, or a limit is below one.
    """
    if token is not None and not token.strip():
        raise ConfigError("the token is blank", where="create_search_app", fix="give one, or None to ask for none")
    if min(limits) < 1:
        raise ConfigError(f"nothing can be asked within {limits}", where="limits", fix="give at least 1 of each")
    with extra_installed():
        from fastapi import FastAPI

        from steper_agent.retrieval.routes import Desk, add_routes, refused
        from steper_agent.retrieval.watched import Metrics
        from steper_agent.web.entrance import Entrance
        from steper_agent.web.gate import Gate
    kept, gate = SearchCache() if cache is None else cache, Gate(limits.inflight)
    metrics = Metrics(lambda: gate.inflight, current, kept)
    app = FastAPI(title="StepER Agent search", openapi_url=None)
    app.state.gate = gate
    add_routes(app, Desk(current, limits, kept, gate, metrics))
    app.add_middleware(Entrance, token=token, hosts=hosts, refused=refused, count=metrics.requested)
    return app
