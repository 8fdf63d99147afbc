"""The ``backfill`` command: the days that the exporter did not see, for the store that has its series."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter import seam, terminal
from exporter.api.client import Timing, Transport
from exporter.counters import settle
from exporter.dates import day_of, midnight, moment
from exporter.errors import SettingsError
from exporter.families import TOKENS
from exporter.history.backfill.destinations import Destination
from exporter.history.backfill.files import Timed
from exporter.history.backfill.openmetrics import series
from exporter.history.backfill.past import Span
from exporter.history.backfill.prometheus import DataFolder, OpenMetricsFile
from exporter.history.backfill.victoria_metrics import VictoriaMetrics
from exporter.metrics.catalog import CATALOG
from exporter.model import DAY, HOUR
from exporter.money.money import Money
from exporter.parts import new_credentials, new_money
from exporter.past import new_past, sheets
from exporter.reader import Reader, Say
from exporter.seam import Seam
from exporter.settings import Settings
from exporter.settings.commands import check_first, day, one, pairs
from exporter.settings.options import Given

FRESHEST = 90
"""Seconds from use to the last sample that is written: the live counters never begin with fresher usage than that."""

USAGE_HELD_BACK = HOUR
BILLS_HELD_BACK = 2 * DAY
"""What is left to counters that reach back: they may have begun without it, and must never be below what is written."""

RECENT = 3 * DAY
"""Seconds within which a day may still be without its bill."""

NEEDED_LABELS = ("job", "instance")


def backfill(
    settings: Settings,
    given: Given,
    *,
    say: Say = terminal.say,
    timing: Timing | None = None,
    transport: Transport | None = None,
) -> int:
    """Write the past from ``--from`` up to where the live counters begin; return the exit status.

    Raises SettingsError for what is asked for wrongly, StartError and OtherOrganizationError for what would go wrong.
    """
    timing = timing or Timing()
    labels, destination = _labels(given), _destination(given, Path(settings.state.path).parent)
    where = seam.find(settings)
    first, now = day(given, "--from"), timing.clock()
    check_first(first, day_of(now))
    span = _span(settings, where, midnight(first))
    end = where.anchor + min(span.settle, FRESHEST)
    destination.check(span.start, end, now, series(TOKENS, labels))
    reader = Reader(settings, new_credentials(settings), say=say, timing=timing, transport=transport)
    money = new_money(settings)
    money.restore({"models": where.models})
    past = new_past(settings, reader, money, span, end=where.anchor, now=int(now))
    where.check(past.organization)
    with terminal.progress("backfill", (end - span.start) // DAY + 1, "days") as advance:
        done = destination.write(_told(past.snapshots(end, fine=DAY), span.start, advance), sheets(labels))
    say(f"{done}\nusage from {first} to {moment(where.anchor)}, where the live counters begin")
    if where.since is None:
        _warn_of_bill(money, where.anchor, now, say)
    return 0


def _labels(given: Given) -> dict[str, str]:
    found = pairs(given, "--label")
    labels = dict(found)
    if len(labels) < len(found):
        raise SettingsError("--label: one name is given twice; give it once")
    missing = [name for name in NEEDED_LABELS if name not in labels]
    if missing:
        raise SettingsError(f"--label {missing[0]}=... is missing; give the labels that the live series have")
    taken = {"le", "quantile", *(label for metric in CATALOG for label in metric.labels)}
    for name in labels:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or name.startswith("__") or name in taken:
            raise SettingsError(f"--label {name}: that cannot be the name of a target's label; correct it")
    return labels


def _destination(given: Given, scratch: Path) -> Destination:
    chosen = [flag for flag in ("--output", "--into", "--url") if flag in given]
    if len(chosen) > 1:
        raise SettingsError(f"{' and '.join(chosen)} are different places; give one")
    if "--into" in given:
        return DataFolder(Path(one(given, "--into")))
    if "--url" in given:
        return VictoriaMetrics(one(given, "--url"), scratch)
    return OpenMetricsFile(Path(one(given, "--output", "anthropic-history.om")))


def _span(settings: Settings, where: Seam, first: int) -> Span:
    settled = int(settle(settings, settings.usage.poll_interval))
    where.check_first(first, settled)
    start = first + settled
    today = where.anchor - where.anchor % DAY
    if where.since is None:
        return Span(start, settled, where.anchor, billed_until=today)
    # Usage by key settles more slowly where it is polled more slowly.
    slowest = int(settle(settings, settings.usage.api_key_poll_interval))
    held_back = where.anchor - USAGE_HELD_BACK - slowest, today - BILLS_HELD_BACK
    return Span(start, settled, where.anchor, where.since, *held_back)


def _told(snapshots: Iterator[Timed], start: int, advance: Callable[[int], None]) -> Iterator[Timed]:
    """Pass snapshots on, and tell of each day that is begun."""
    through = start
    for time_, snapshot in snapshots:
        if time_ >= through:
            advance(1)
            through += DAY
        yield time_, snapshot


def _warn_of_bill(money: Money, anchor: int, now: float, say: Say) -> None:
    """Tell if the last days before the live counters have no bill yet: then neither side has it."""
    today = anchor - anchor % DAY
    recent = range(today - DAY, today - RECENT, -DAY)
    missing = [day for day in recent if day not in money.bill.days and money.table.day(day)]
    if missing and now - today < RECENT:
        say(f"{day_of(missing[-1])} is not billed yet, and live counters leave it out: no billed counter has it")
