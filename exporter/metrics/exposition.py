"""The organisation's series: one immutable snapshot, read at one instant."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from exporter.families import BILLED, COST_LABELS, ESTIMATE_LABELS, FAMILIES, ODOMETERS, UNPRICED
from exporter.metrics import catalog
from exporter.model import (
    CONSOLE,
    DEFAULT_WORKSPACE,
    NOT_APPLICABLE,
    ApiKey,
    BillReading,
    Budget,
    Labels,
    MoneyReading,
    Names,
    RateLimits,
    Reading,
    Series,
    Snapshot,
    Workspace,
)
from exporter.money.bill import month_to_date, previous_month_sums, unbilled

Value = int | float | Decimal
Sample = tuple[Labels, Value]
Samples = Iterable[Sample]

_PLACES = {
    family: [(name, odometer.labels.index(name)) for name in ("workspace_id", "api_key_id") if name in odometer.labels]
    for family, odometer in ODOMETERS.items()
}
"""Where the series of a family carry an id."""


class SnapshotCollector(Collector):
    """Shows a snapshot as of a moment (Unix seconds); cannot fail, because all that can fail has failed before."""

    def __init__(self, shown: Callable[[], tuple[Snapshot, float]]) -> None:
        self._shown = shown

    def describe(self) -> Iterator[Metric]:
        """Yield the families without samples, so that ``name[]`` filters and duplicate checks work."""
        return (_family(metric, ()) for metric in catalog.SNAPSHOT)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that the snapshot has something for."""
        snapshot, now = self._shown()
        for name, found in samples(snapshot, now).items():
            if listed := list(found):
                yield _family(catalog.BY_NAME[name], listed)
        if "usage" in snapshot.counters:
            yield _arrival(snapshot.counters["usage"])


def wsgi_app(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application that negotiates format and compression and serves ``registry``; HEAD is as GET."""
    render: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
        as_get = {"REQUEST_METHOD": "GET"} if environ["REQUEST_METHOD"] == "HEAD" else {}
        return render(environ | as_get, start_response)

    return app


def samples(snapshot: Snapshot, now: float) -> dict[str, Samples]:
    """Return the samples of a snapshot as of ``now`` (Unix seconds) by family, but for the arrival histogram."""
    counters: dict[str, list[Sample]] = {}
    for name, reading in snapshot.counters.items():
        counters |= _counters(reading, now, FAMILIES[name])
    if BILLED in counters:
        counters[BILLED] = _renamed(counters[BILLED], snapshot.models)
    shown = counters | _states(snapshot, now)
    if snapshot.bill:
        shown |= {name: _renamed(found, snapshot.models) for name, found in _bill(snapshot.bill, now).items()}
        shown["anthropic_cost_last_day_start_timestamp_seconds"] = [((), snapshot.bill.last_day)]
    if snapshot.money:
        shown |= _money(snapshot.money, now)
    if snapshot.limits:
        shown |= _limits(snapshot.limits)
    shown |= _budget(snapshot.budget) | _names(snapshot.names, _ids(snapshot))
    shown[catalog.SERIES.name] = [((name,), len(found)) for name, found in counters.items()]
    return shown


def _counters(reading: Reading[Any], now: float, families: Iterable[str]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {name: [] for name in families}
    for series, line in reading.lines.items():
        found[series.family].extend(zip(_lanes(series), reading.counts(line, now), strict=True))
    if UNPRICED in found:
        found[UNPRICED] = [(labels, int(tokens)) for labels, tokens in found[UNPRICED]]
    return found


def _lanes(series: Series) -> list[Labels]:
    """Return the label values of each of a series' counts."""
    lanes = ODOMETERS[series.family].lanes
    return [(*series.labels, lane) for lane in lanes] if lanes else [series.labels]


def _renamed(samples: Samples, models: Mapping[str, str]) -> list[Sample]:
    """Return samples by cost labels under the usage report's names of models."""
    sums: dict[Labels, Value] = {}
    for (model, *others), value in samples:
        labels = (models.get(model, model), *others)
        sums[labels] = sums.get(labels, 0) + value  # type: ignore[operator]
    return list(sums.items())


def _states(snapshot: Snapshot, now: float) -> dict[str, Samples]:
    usage = {name: snapshot.counters[name] for name in ("usage", "api_key_usage") if name in snapshot.counters}
    billed = [snapshot.counters["cost"]] if "cost" in snapshot.counters else []
    return {
        "anthropic_usage_watermark_timestamp_seconds": [
            ((name,), one.watermark.at(now)) for name, one in usage.items()
        ],
        "anthropic_usage_late_tokens_total": [((name,), one.late) for name, one in usage.items()],
        "anthropic_usage_overcounted_tokens": [((name,), one.overcounted) for name, one in usage.items()],
        "anthropic_cost_overcounted_usd": [((), one.overcounted) for one in billed],
    }


def _bill(bill: BillReading, now: float) -> dict[str, Samples]:
    return {
        "anthropic_cost_last_day_usd": bill.last_day_amounts.items(),
        "anthropic_cost_month_to_date_usd": month_to_date(bill, now).items(),
        "anthropic_cost_previous_month_usd": previous_month_sums(bill, now).items(),
    }


def _money(money: MoneyReading, now: float) -> dict[str, Samples]:
    return {
        "anthropic_price_usd_per_token": [((*key, price.basis), price.usd) for key, price in money.prices.items()],
        "anthropic_price_usd_per_request": [
            ((tool, price.basis), price.usd) for tool, price in money.request_prices.items()
        ],
        "anthropic_cost_unbilled_estimate_usd": unbilled(money, now).items(),
        "anthropic_estimate_to_bill_ratio": [] if money.ratio is None else [((), money.ratio)],
    }


def _limits(limits: RateLimits) -> dict[str, Samples]:
    return {
        "anthropic_rate_limit": limits.values.items(),
        "anthropic_model_group_info": [(pair, 1) for pair in dict.fromkeys(limits.models)],
    }


def _budget(budget: Budget) -> dict[str, Samples]:
    return {
        "anthropic_budget_usd": [] if budget.monthly is None else [((), budget.monthly)],
        "anthropic_workspace_budget_usd": [((name,), usd) for name, usd in budget.workspaces.items()],
    }


def _names(names: Names, ids: Mapping[str, set[str]]) -> dict[str, Samples]:
    nameless = ids["workspace_id"] - {workspace.id for workspace in names.workspaces}
    workspaces = [*names.workspaces, *map(_nameless_workspace, sorted(nameless))]
    nameless = ids["api_key_id"] - {key.id for key in names.api_keys}
    keys = [*names.api_keys, *map(_nameless_key, sorted(nameless))]
    organizations = [names.organization] if names.organization else []
    return {
        "anthropic_organization_info": [((item.id, item.name), 1) for item in organizations],
        "anthropic_workspace_info": [((item.id, item.name, item.state), 1) for item in workspaces],
        "anthropic_api_key_info": [((key.id, key.name, key.workspace_id, key.status), 1) for key in keys],
        "anthropic_api_key_expires_timestamp_seconds": [
            ((key.id,), key.expires) for key in keys if key.expires is not None
        ],
    }


def _nameless_workspace(workspace_id: str) -> Workspace:
    """Return what stands in for a workspace that no list names."""
    if workspace_id == DEFAULT_WORKSPACE:
        return Workspace(workspace_id, "Default", "active")
    return Workspace(workspace_id, workspace_id, "unknown")


def _nameless_key(api_key_id: str) -> ApiKey:
    """Return what stands in for an API key that no list names: a deleted one, or the Console, which has none."""
    if api_key_id == CONSOLE:
        return ApiKey(api_key_id, "Console", NOT_APPLICABLE, "active", None)
    return ApiKey(api_key_id, api_key_id, NOT_APPLICABLE, "unknown", None)


def _ids(snapshot: Snapshot) -> dict[str, set[str]]:
    """Return every workspace id and every key id that a value series carries."""
    ids: dict[str, set[str]] = {"workspace_id": set(snapshot.budget.workspaces), "api_key_id": set()}
    for reading in snapshot.counters.values():
        for family, labels in reading.lines:
            for name, place in _PLACES[family]:
                ids[name].add(labels[place])
    if snapshot.bill:
        place = COST_LABELS.index("workspace_id")
        ids["workspace_id"] |= {labels[place] for amounts in snapshot.bill.months.values() for labels in amounts}
    if snapshot.money and snapshot.money.unbilled:
        ids["workspace_id"] |= {labels[ESTIMATE_LABELS.index("workspace_id")] for labels in snapshot.money.unbilled}
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
