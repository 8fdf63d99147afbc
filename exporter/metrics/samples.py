"""The organisation's samples: one immutable snapshot, read at one instant."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

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
Values = Sequence[Value]
Sample = tuple[Labels, Value]
Samples = Iterable[Sample]


class Table(NamedTuple):
    """The samples of a family: labels, and what ``values`` makes into one value for each of its lanes, or just one."""

    rows: Sequence[tuple[Labels, Any]]
    values: Callable[[Any], Values]


_PLACES = {
    family: [(name, odometer.labels.index(name)) for name in ("workspace_id", "api_key_id") if name in odometer.labels]
    for family, odometer in ODOMETERS.items()
}
"""Where the series of a family carry an id."""


class Look:
    """What a snapshot shows at any time; what is the same at all times is made once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._names = {name: _table(found) for name, found in _names(snapshot.names, _ids(snapshot)).items()}
        self._lines = {name: _split(reading, FAMILIES[name]) for name, reading in snapshot.counters.items()}

    def at(self, now: float) -> dict[str, Table]:
        """Return the samples as of ``now`` (Unix seconds) by family, but for the arrival histogram."""
        snapshot = self._snapshot
        counters = dict(self._counters(now))
        shown = _states(snapshot, now)
        if snapshot.bill:
            shown |= {name: _renamed(found, snapshot.models) for name, found in _bill(snapshot.bill, now).items()}
            shown["anthropic_cost_last_day_start_timestamp_seconds"] = [((), snapshot.bill.last_day)]
        if snapshot.money:
            shown |= _money(snapshot.money, now)
        if snapshot.limits:
            shown |= _limits(snapshot.limits)
        shown |= _budget(snapshot.budget)
        shown[catalog.SERIES.name] = [
            ((name,), len(table.rows) * ODOMETERS[name].samples) for name, table in counters.items()
        ]
        return counters | {name: _table(found) for name, found in shown.items()} | self._names

    def _counters(self, now: float) -> Iterator[tuple[str, Table]]:
        for name, reading in self._snapshot.counters.items():
            shown = reading.at(now)
            for family, lines in self._lines[name].items():
                table = Table(lines, shown)
                if family == BILLED:
                    table = _table(_renamed(_samples(family, table), self._snapshot.models))
                if family == UNPRICED:
                    table = _table([(labels, int(tokens)) for labels, tokens in _samples(family, table)])
                yield family, table


def samples(snapshot: Snapshot, now: float) -> dict[str, Samples]:
    """Return every sample of a snapshot as of ``now`` (Unix seconds) by family, but for the arrival histogram."""
    return {name: _samples(name, table) for name, table in Look(snapshot).at(now).items()}


def _samples(family: str, table: Table) -> list[Sample]:
    lanes = ODOMETERS[family].lanes if family in ODOMETERS else ()
    found = [(labels, table.values(row)) for labels, row in table.rows]
    if not lanes:
        return [(labels, value) for labels, (value,) in found]
    return [((*labels, lane), value) for labels, values in found for lane, value in zip(lanes, values, strict=True)]


def _table(samples: Samples) -> Table:
    return Table([(labels, (value,)) for labels, value in samples], tuple)


def _split(reading: Reading[Any], families: Iterable[str]) -> dict[str, list[tuple[Labels, Any]]]:
    """Return the lines of each family with their labels."""
    found: dict[str, list[tuple[Labels, Any]]] = {name: [] for name in families}
    for (family, labels), line in reading.lines.items():
        found[family].append((labels, line))
    return found


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
