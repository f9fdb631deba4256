"""What operators watch, for Prometheus. In a registry of its own, so that an application that mounts the door keeps its
own metrics apart and may mount it twice."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from graphs.serving.events import Computed, Ended, Event, Happened

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
STEPS = tuple(range(11))
ROUTES = frozenset({"/healthz", "/metrics", "/v1/models", "/v1/chat/completions"})
"""Told apart; all else is `other`, so that strangers cannot fill the metrics."""


class Metrics:
    def __init__(self, inflight: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("steper_requests", "HTTP requests", ["route", "code"], registry=registry)
        self._runs = Counter("steper_runs", "Runs by their end: answered, budget, error, cancelled", ["stop"], registry=registry)
        self._seconds = Histogram("steper_run_seconds", "Wall clock of a run", buckets=SECONDS, registry=registry)
        self._steps = Histogram("steper_run_steps", "Steps an answer took", buckets=STEPS, registry=registry)
        self._unread = Counter("steper_parse_errors", "Turns of the model that could not be read", registry=registry)
        self._prompt = Counter("steper_prompt_tokens", "Prompt tokens of model calls", ["node", "step"], registry=registry)
        self._cached = Counter("steper_cached_prompt_tokens", "Those the engine had computed before, where it says so",
                               ["node", "step"], registry=registry)
        Gauge("steper_inflight", "Runs going on", registry=registry).set_function(inflight)

    def requested(self, path: str, code: int) -> None:
        self._requests.labels(path if path in ROUTES else "other", str(code)).inc()

    def saw(self, event: Event) -> None:
        if isinstance(event, Happened) and event.event.get("outcome") == "parse_error":
            self._unread.inc()
        if isinstance(event, Computed):
            # Steps beyond the last bucket are one: a client's step budget shall not make labels without end.
            where = (event.node, str(min(event.step, STEPS[-1])))
            self._prompt.labels(*where).inc(event.prompt_tokens)
            self._cached.labels(*where).inc(event.cached_tokens or 0)

    def answered(self, ended: Ended, seconds: float) -> None:
        self._steps.observe(len(ended.account.steps))
        self.stopped(ended.account.stop, seconds)

    def stopped(self, stop: str, seconds: float) -> None:
        self._runs.labels(stop).inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)
