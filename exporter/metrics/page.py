"""One page of metrics: two lifetimes, our own counters and the organisation's snapshot, in one registry."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry

from exporter.metrics.exposition import SnapshotCollector, wsgi_app
from exporter.metrics.own import OwnMetrics
from exporter.model import Report, Snapshot


class Page:
    """The WSGI application ``app`` that serves both, and ``own``, which hears what we do.

    ``served`` is told the Unix time at which a page is rendered.
    """

    def __init__(
        self,
        *,
        current: Callable[[], Snapshot],
        served: Callable[[float], None],
        clock: Callable[[], float],
        version: str,
        reports: Iterable[Report],
    ) -> None:
        registry = CollectorRegistry()
        self.own = OwnMetrics(registry, version, reports)
        registry.register(SnapshotCollector(current, clock))
        self.app = wsgi_app(registry, lambda: served(clock()))
