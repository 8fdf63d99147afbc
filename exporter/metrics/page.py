"""One page of metrics: two lifetimes, our own counters and the organisation's snapshot."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from exporter.metrics import catalog
from exporter.metrics.deflate import deflated
from exporter.metrics.exposition import Format, Writer, negotiated
from exporter.metrics.own import OwnMetrics
from exporter.metrics.samples import Look
from exporter.model import Histogram, Report, Snapshot

Shown = tuple[Snapshot, float]


class Source(Protocol):
    """What there is to show, and the Unix time as of which."""

    def serve(self) -> Shown:
        """Return it, and note that it is served."""
        ...


class Rendering(NamedTuple):
    """A page: one gzip member in chunks, and how many bytes it holds."""

    content_type: str
    gzip: list[bytes]
    size: int


class Page:
    """Renders both, and has ``own``, which hears what we do.

    Renderings are made one after the other in a thread of their own, those of parts in another one. Who asks for what
    is being rendered gets the same one, so that any number of clients at once costs one rendering.
    """

    def __init__(self, source: Source, *, version: str, reports: Iterable[Report]) -> None:
        self._source = source
        self._registry = CollectorRegistry()
        self._arrival = _Arrival()
        self._registry.register(self._arrival)
        self.own = OwnMetrics(self._registry, version, reports)
        self._writer = Writer(catalog.SNAPSHOT)
        self._look = Snapshot(), Look(Snapshot())
        # There are few formats, but any number of parts: they must not be in a scrape's way.
        self._whole, self._parts = ThreadPoolExecutor(1, "rendering"), ThreadPoolExecutor(1, "rendering-parts")
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, frozenset[str]], Future[Rendering]] = {}

    @staticmethod
    def content_type(accept: str) -> str:
        """Return the type of what ``scrape`` would answer."""
        return negotiated(accept).content_type

    def scrape(self, accept: str, only: frozenset[str] = frozenset()) -> Future[Rendering]:
        """Render the page in the format that an ``Accept`` header asks for: of all metrics, or ``only`` of these."""
        format = negotiated(accept)  # noqa: A001 - the field's word
        key = format.content_type, only
        with self._lock:
            if key not in self._under_way:
                renderer = self._parts if only else self._whole
                self._under_way[key] = renderer.submit(self._render, format, only)
            return self._under_way[key]

    def _render(self, format: Format, only: frozenset[str]) -> Rendering:  # noqa: A002
        try:
            chunks, size = deflated(self._texts(format, only))
            return Rendering(format.content_type, chunks, size)
        finally:
            with self._lock:
                del self._under_way[format.content_type, only]

    def _texts(self, format: Format, only: frozenset[str]) -> Iterator[bytes]:  # noqa: A002
        snapshot, now = self._source.serve()
        known, look = self._look
        if snapshot is not known:
            look = Look(snapshot)
            self._look = snapshot, look
        self._arrival.shown = snapshot.counters["usage"].arrival if "usage" in snapshot.counters else None
        yield format.text(self._registry.restricted_registry(only) if only else self._registry)
        for name, table in look.at(now).items():
            if not only or name in only:
                yield from self._writer.write(name, table, format)
        yield format.end


class _Arrival(Collector):
    """The arrival histogram, which prometheus-client writes as it does our own."""

    shown: Histogram | None = None

    def describe(self) -> Iterator[Metric]:
        """Yield the family without samples, so that ``name[]`` filters work."""
        metric = catalog.BY_NAME["anthropic_usage_arrival_delay_seconds"]
        yield HistogramMetricFamily(metric.name, metric.help)

    def collect(self) -> Iterator[Metric]:
        """Yield the family once there is something to show."""
        if self.shown:
            buckets = [("+Inf" if bound == inf else f"{bound:.1f}", count) for bound, count in self.shown.buckets]
            for family in self.describe():
                family.add_metric((), buckets, self.shown.sum)  # type: ignore[attr-defined]
                yield family
