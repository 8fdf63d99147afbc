"""The organisation's series: one immutable snapshot, read at one instant."""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from math import inf

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from exporter.metrics import catalog
from exporter.model import (
    BILLED,
    DEFAULT_WORKSPACE,
    ODOMETERS,
    USAGE_DIMENSIONS,
    BillReading,
    Labels,
    Names,
    Number,
    Reading,
    Series,
    Snapshot,
    Workspace,
)
from exporter.money.bill import month_to_date, previous_month_sums

Value = int | float | Decimal
Sample = tuple[Labels, Value]
Samples = Iterable[Sample]


class SnapshotCollector(Collector):
    """Shows a snapshot as of a moment (Unix seconds); cannot fail, because all that can fail has failed before."""

    def __init__(self, shown: Callable[[], tuple[Snapshot, float]]) -> None:
        self._shown = shown

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that ``name[]`` filters and duplicate checks work."""
        described = (*catalog.USAGE, *catalog.USAGE_STATE, *catalog.COST, *catalog.NAMES, catalog.SERIES)
        return (_family(metric, ()) for metric in described)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that the snapshot has something for."""
        snapshot, now = self._shown()
        for name, samples in _samples(snapshot, now).items():
            if listed := list(samples):
                yield _family(catalog.BY_NAME[name], listed)
        if snapshot.usage:
            yield _arrival(snapshot.usage)


def wsgi_app(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application that negotiates format and compression and serves ``registry``; HEAD is as GET."""
    render: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
        as_get = {"REQUEST_METHOD": "GET"} if environ["REQUEST_METHOD"] == "HEAD" else {}
        return render(environ | as_get, start_response)

    return app


def _samples(snapshot: Snapshot, now: float) -> dict[str, Samples]:
    samples: dict[str, Samples] = {}
    if snapshot.usage:
        samples |= _counters(snapshot.usage, now, (metric.name for metric in catalog.USAGE))
        samples |= _usage_state(snapshot.usage, now)
    if snapshot.billed:
        samples |= _counters(snapshot.billed, now, (BILLED,))
        samples["anthropic_cost_overcounted_usd"] = [((), snapshot.billed.overcounted)]
    if snapshot.bill:
        samples |= _bill(snapshot.bill, now)
    samples |= _names(snapshot.names, _workspace_ids(snapshot))
    sizes = ((name, len(list(samples[name]))) for name in ODOMETERS if name in samples)
    samples[catalog.SERIES.name] = [((name,), size) for name, size in sizes]
    return samples


def _counters(reading: Reading[Number], now: float, families: Iterable[str]) -> dict[str, Samples]:
    found: dict[str, list[Sample]] = {name: [] for name in families}
    for series in reading.lines:
        counts = reading.counts(reading.lines[series], now)
        found[series.family].extend(zip(_lanes(series), counts, strict=True))
    return dict(found)


def _lanes(series: Series) -> list[Labels]:
    """Return the label values of each of a series' counts."""
    lanes = ODOMETERS[series.family].lanes
    return [(*series.labels, lane) for lane in lanes] if lanes else [series.labels]


def _usage_state(reading: Reading[int], now: float) -> dict[str, Samples]:
    return {
        "anthropic_usage_watermark_timestamp_seconds": [(("usage",), reading.watermark.at(now))],
        "anthropic_usage_late_tokens_total": [(("usage",), reading.late)],
        "anthropic_usage_overcounted_tokens": [(("usage",), reading.overcounted)],
    }


def _bill(bill: BillReading, now: float) -> dict[str, Samples]:
    return {
        "anthropic_cost_last_day_usd": bill.last_day_amounts.items(),
        "anthropic_cost_last_day_start_timestamp_seconds": [((), bill.last_day)],
        "anthropic_cost_month_to_date_usd": month_to_date(bill, now).items(),
        "anthropic_cost_previous_month_usd": previous_month_sums(bill, now).items(),
    }


def _names(names: Names, workspace_ids: set[str]) -> dict[str, Samples]:
    unknown = workspace_ids - {workspace.id for workspace in names.workspaces}
    workspaces = [*names.workspaces, *map(_unnamed, sorted(unknown))]
    organizations = [names.organization] if names.organization else []
    return {
        "anthropic_organization_info": [((item.id, item.name), 1) for item in organizations],
        "anthropic_workspace_info": [((item.id, item.name, item.state), 1) for item in workspaces],
        "anthropic_api_key_info": [((key.id, key.name, key.workspace_id, key.status), 1) for key in names.api_keys],
        "anthropic_api_key_expires_timestamp_seconds": [
            ((key.id,), key.expires) for key in names.api_keys if key.expires is not None
        ],
    }


def _unnamed(workspace_id: str) -> Workspace:
    """Return what stands in for a workspace that no list names."""
    if workspace_id == DEFAULT_WORKSPACE:
        return Workspace(workspace_id, "Default", "active")
    return Workspace(workspace_id, workspace_id, "unknown")


def _workspace_ids(snapshot: Snapshot) -> set[str]:
    """Return every workspace id that a value series carries."""
    place = USAGE_DIMENSIONS.index("workspace_id")
    ids = set()
    if snapshot.usage:
        ids |= {series.labels[place] for series in snapshot.usage.lines}
    if snapshot.billed:
        ids |= {series.labels[place] for series in snapshot.billed.lines}
    if snapshot.bill:
        for amounts in snapshot.bill.months.values():
            ids |= {labels[place] for labels in amounts}
    return ids


def _family(metric: catalog.Metric, samples: Iterable[Sample]) -> Metric:
    if metric.type == "histogram":
        return HistogramMetricFamily(metric.name, metric.help)
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _arrival(reading: Reading[int]) -> Metric:
    metric = catalog.BY_NAME["anthropic_usage_arrival_delay_seconds"]
    family = HistogramMetricFamily(metric.name, metric.help)
    buckets = [("+Inf" if bound == inf else f"{bound:.1f}", count) for bound, count in reading.arrival.buckets]
    family.add_metric((), buckets, reading.arrival.sum)
    return family
