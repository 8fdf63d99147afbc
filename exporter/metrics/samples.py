"""The organisation's samples: one immutable snapshot, read at one instant."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

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
    Snapshot,
    Workspace,
)
from exporter.money.bill import month_to_date, previous_month_sums, unbilled

Value = int | float | Decimal
Sample = tuple[Labels, Value]
Samples = Iterable[Sample]
Rows = Sequence[tuple[Labels, Sequence[Value]]]
"""The values of a family: one for each of its lanes, or just one, and the labels that they share."""

_PLACES = {
    family: [(name, odometer.labels.index(name)) for name in ("workspace_id", "api_key_id") if name in odometer.labels]
    for family, odometer in ODOMETERS.items()
}
"""Where the series of a family carry an id."""


def rows(snapshot: Snapshot, now: float) -> dict[str, Rows]:
    """Return what a snapshot shows as of ``now`` (Unix seconds) by family, but for what ``names`` and the histogram."""
    counters: dict[str, Rows] = {}
    for name, reading in snapshot.counters.items():
        counters |= _counters(reading, now, FAMILIES[name])
    if BILLED in counters:
        counters[BILLED] = _rows(_renamed(((labels, usd) for labels, (usd,) in counters[BILLED]), snapshot.models))
    shown = _states(snapshot, now)
    if snapshot.bill:
        shown |= {name: _renamed(found, snapshot.models) for name, found in _bill(snapshot.bill, now).items()}
        shown["anthropic_cost_last_day_start_timestamp_seconds"] = [((), snapshot.bill.last_day)]
    if snapshot.money:
        shown |= _money(snapshot.money, now)
    if snapshot.limits:
        shown |= _limits(snapshot.limits)
    shown |= _budget(snapshot.budget)
    shown[catalog.SERIES.name] = [((name,), _size(name, found)) for name, found in counters.items()]
    return counters | {name: _rows(found) for name, found in shown.items()}


def names(snapshot: Snapshot) -> dict[str, Rows]:
    """Return what the ids of a snapshot are called, by family: the same at any time."""
    return {name: _rows(found) for name, found in _names(snapshot.names, _ids(snapshot)).items()}


def samples(snapshot: Snapshot, now: float) -> dict[str, Samples]:
    """Return every sample of a snapshot as of ``now`` (Unix seconds) by family, but for the arrival histogram."""
    return {name: _samples(name, found) for name, found in (rows(snapshot, now) | names(snapshot)).items()}


def _samples(family: str, rows: Rows) -> list[Sample]:
    lanes = ODOMETERS[family].lanes if family in ODOMETERS else ()
    if not lanes:
        return [(labels, value) for labels, (value,) in rows]
    return [((*labels, lane), value) for labels, values in rows for lane, value in zip(lanes, values, strict=True)]


def _rows(samples: Samples) -> Rows:
    return [(labels, (value,)) for labels, value in samples]


def _size(family: str, rows: Rows) -> int:
    """Return the number of a counter family's series."""
    return len(rows) * ODOMETERS[family].samples


def _counters(reading: Reading[Any], now: float, families: Iterable[str]) -> dict[str, Rows]:
    found: dict[str, list[tuple[Labels, Sequence[Value]]]] = {name: [] for name in families}
    shown = reading.at(now)
    for (family, labels), line in reading.lines.items():
        found[family].append((labels, shown(line)))
    if UNPRICED in found:
        found[UNPRICED] = [(labels, (int(tokens),)) for labels, (tokens,) in found[UNPRICED]]
    return dict(found)


def _renamed(samples: Samples, models: Mapping[str, str]) -> Samples:
    """Return samples by cost labels under the usage report's names of models."""
    sums: dict[Labels, Value] = {}
    for (model, *others), value in samples:
        labels = (models.get(model, model), *others)
        sums[labels] = sums.get(labels, 0) + value  # type: ignore[operator]
    return sums.items()


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
