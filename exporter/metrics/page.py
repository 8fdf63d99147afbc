"""One page of metrics: two lifetimes, our own counters and the organisation's snapshot, in one registry."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Protocol

from prometheus_client import CollectorRegistry

from exporter.metrics.exposition import SnapshotCollector, wsgi_app
from exporter.metrics.own import OwnMetrics
from exporter.model import Report, Snapshot

Shown = tuple[Snapshot, float]


class Source(Protocol):
    """What there is to show, and the Unix time as of which."""

    def look(self) -> Shown:
        """Return it."""
        ...

    def serve(self) -> Shown:
        """Return it, and note that it is served."""
        ...


class Page:
    """The WSGI application ``app`` that serves both, and ``own``, which hears what we do."""

    def __init__(self, source: Source, *, version: str, reports: Iterable[Report]) -> None:
        registry = CollectorRegistry()
        self.own = OwnMetrics(registry, version, reports)
        # One request is answered as of one moment, by one thread.
        shown: ContextVar[Shown] = ContextVar("shown")
        registry.register(SnapshotCollector(shown.get))
        render = wsgi_app(registry)

        def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
            shown.set(source.serve() if environ["REQUEST_METHOD"] == "GET" else source.look())
            return render(environ, start_response)

        self.app = app
