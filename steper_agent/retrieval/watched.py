"""What operators watch of a search service, for Prometheus: requests, queries, seconds by stage, the cache, the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from steper_agent.retrieval import timings
from steper_agent.retrieval.cache import SearchCache
from steper_agent.retrieval.following import Opened

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROUTES = frozenset({"/search", "/manifest", "/healthz", "/metrics"})
PASSAGES = "/passages/"


class Metrics:
    """In a registry of its own, so that an application may mount the service twice."""

    def __init__(self, inflight: Callable[[], int], current: Callable[[], Opened], cache: SearchCache) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("steper_search_requests", "HTTP requests", ["route", "code"], registry=registry)
        self._queries = Counter("steper_search_queries", "Queries in them", registry=registry)
        self._seconds = Histogram(
            "steper_search_seconds", "Wall clock of a request", buckets=SECONDS, registry=registry
        )
        Gauge("steper_search_inflight", "Requests being answered", registry=registry).set_function(inflight)
        registry.register(_Counted(current, cache))

    def requested(self, path: str, code: int) -> None:
        """Strangers' paths are one, so that they cannot fill the metrics."""
        route = path if path in ROUTES else PASSAGES if path.startswith(PASSAGES) else "other"
        self._requests.labels(route, str(code)).inc()

    def searched(self, queries: int, seconds: float) -> None:
        self._queries.inc(queries)
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Counted(Collector):
    """What is counted elsewhere, read when it is asked for."""

    def __init__(self, current: Callable[[], Opened], cache: SearchCache) -> None:
        self._current = current
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        counts = self._cache.counts
        yield CounterMetricFamily("steper_search_cache_hits", "Queries whose hits were kept", counts.hits)
        yield CounterMetricFamily("steper_search_cache_misses", "Queries that were searched", counts.misses)
        yield GaugeMetricFamily("steper_search_cache_entries", "Queries whose hits are kept", counts.entries)
        yield GaugeMetricFamily("steper_search_cache_bytes", "What they are taken to need", counts.bytes)
        opened = self._current()
        held = GaugeMetricFamily("steper_index_passages", "Passages of the index", labels=["digest", "mode"])
        held.add_metric([opened.digest[:12], opened.index.manifest.mode], opened.index.manifest.passages)
        yield held
        yield _stages()


def _stages() -> Metric:
    family = HistogramMetricFamily("steper_search_stage_seconds", "Seconds of a stage", labels=["stage"])
    bounds = [*(repr(bound) for bound in timings.BOUNDS), "+Inf"]
    for name, stage in timings.snapshot().items():
        reached = [sum(stage.buckets[: place + 1]) for place in range(len(stage.buckets))]
        family.add_metric([name], list(zip(bounds, reached, strict=True)), stage.total)
    return family
