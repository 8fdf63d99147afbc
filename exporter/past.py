"""The past as the settings describe it: for the ``backfill`` command, and for demos."""

from collections.abc import Iterable, Mapping
from functools import partial

from exporter.history.backfill.files import NewSheet
from exporter.history.backfill.openmetrics import Family, Sheet
from exporter.history.backfill.past import Past, Present, Span
from exporter.history.backfill.reading import Archive
from exporter.metrics.catalog import CATALOG
from exporter.metrics.samples import samples
from exporter.model import Budget, Labels, Snapshot
from exporter.money.money import Money
from exporter.reader import Reader
from exporter.settings import Settings

FAMILIES = {metric.name: Family(metric.type, metric.help, metric.labels) for metric in CATALOG} | {
    "up": Family("gauge", "The exporter was there.", ())
}


def new_past(settings: Settings, reader: Reader, money: Money, span: Span, *, end: int, now: int) -> Past:
    """Return the past up to the usage time ``end``, as it is known ``now`` (both in Unix seconds); ``money`` is new."""
    by_api_key = settings.usage.by_api_key
    archive = Archive(reader.api, money, span, end=end, now=now, get=reader.get, by_api_key=by_api_key)
    names = reader.names()
    limits = reader.readable("rate limits", reader.api.rate_limits)
    budget = Budget(settings.budget.monthly_usd, settings.budget.workspaces)
    present = Present(not any(reader.api.filters.values()), names, limits, budget)
    return Past(archive, money, span, present)


def sheets(labels: Mapping[str, str]) -> NewSheet:
    """Return what makes sheets whose series have ``labels``, too."""
    return partial(Sheet, _samples, FAMILIES, labels)


def _samples(snapshot: Snapshot, now: float) -> Mapping[str, Iterable[tuple[Labels, float]]]:
    return {**samples(snapshot, now), "up": [((), 1)]}  # type: ignore[dict-item]
