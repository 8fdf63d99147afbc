"""The days that the exporter did not see, for the store that has its series: the ``backfill`` command, and demos."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import takewhile
from pathlib import Path

from exporter import seam, terminal
from exporter.api.client import Timing, Transport
from exporter.api.credentials import Credentials
from exporter.counters import settle
from exporter.errors import SettingsError, StartError
from exporter.history.backfill import files
from exporter.history.backfill.destinations import Destination, moment
from exporter.history.backfill.files import NewSheet, Timed
from exporter.history.backfill.openmetrics import Family, Samples, Sheet
from exporter.history.backfill.past import Past, Present, Span
from exporter.history.backfill.prometheus import DataFolder, OpenMetricsFile
from exporter.history.backfill.reading import Archive
from exporter.history.backfill.victoria_metrics import VictoriaMetrics
from exporter.metrics.catalog import CATALOG
from exporter.metrics.samples import samples
from exporter.model import DAY, HOUR, Budget, Names, Snapshot
from exporter.money.money import Money
from exporter.parts import new_credentials, new_money
from exporter.reader import Reader, Say
from exporter.seam import Seam
from exporter.settings import Settings
from exporter.settings.commands import day, midnight, one, pairs
from exporter.settings.options import Given

logger = logging.getLogger(__name__)

FRESHEST = 90
"""Seconds from use to the last sample that is written: the live counters never begin with fresher usage than that."""

USAGE_HELD_BACK = HOUR
BILLS_HELD_BACK = 2 * DAY
"""What is left to counters that reach back: they may have begun without it, and must never be below what is written."""

RECENT = 3 * DAY
"""Seconds within which a day may still be without its bill."""

DEMO_DAYS = 36
"""A month and what is usual before it."""

DONE = "done"
"""The file that says that all the others are there, or were."""

NEEDED_LABELS = ("job", "instance")
FAMILIES = {metric.name: Family(metric.type, metric.help, metric.labels) for metric in CATALOG} | {
    "up": Family("gauge", "The exporter was there.", ())
}


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
    new_sheet, destination = sheets(_labels(given)), _destination(given)
    where = seam.find(settings)
    span = _span(settings, where, midnight(day(given, "--from")))
    end, now = where.anchor + min(span.settle, FRESHEST), timing.clock()
    destination.check(span.start, end, now)
    reader = Reader(settings, new_credentials(settings), say=say, timing=timing, transport=transport)
    present = _present(reader, settings)
    where.check(present.names.organization)
    money = new_money(settings)
    money.restore({"models": where.models})
    archive = Archive(
        reader.api,
        money,
        span,
        end=where.anchor,
        now=int(now),
        get=reader.get,
        by_api_key=settings.usage.by_api_key,
    )
    past = Past(archive, money, span, present)
    with terminal.progress("backfill", (end - span.start) // DAY + 1, "days") as advance:
        done = destination.write(_told(past.snapshots(end, fine=DAY), span.start, advance), new_sheet)
    say(f"{done}\n{moment(span.start)} to {moment(end)}: there the live counters begin")
    if where.since is None:
        _warn_of_bill(money, where.anchor, now, say)
    return 0


def backfill_demo(
    settings: Settings,
    credentials: Credentials,
    directory: Path,
    *,
    anchor: int,
    labels: Mapping[str, str],
    stopped: Callable[[], bool],
) -> None:
    """Write five weeks up to ``anchor``, the usage time at which live counters begin, unless that was done before.

    Every series gets ``labels``, those of the job that scrapes it. Raises StartError.
    """
    try:
        if (directory / DONE).exists():
            return
        _clear(directory)
        begun = time.monotonic()
        snapshots = takewhile(lambda _: not stopped(), demo_past(settings, credentials, anchor))
        for _ in files.blocks(directory, snapshots, sheets(labels)):
            pass
        if stopped():
            return
        (directory / DONE).touch()
    except OSError as error:
        raise StartError(f"{str(directory)!r}: {error.strerror}; give a folder that can be written to") from None
    seconds = round(time.monotonic() - begun)
    fields: dict[str, object] = {"directory": str(directory), "days": DEMO_DAYS, "seconds": seconds}
    logger.info("history written", extra={"fields": fields})


def demo_past(settings: Settings, credentials: Credentials, anchor: int) -> Iterator[Timed]:
    """Return the snapshots of the five weeks up to ``anchor``."""
    lag = int(settings.usage.settle)
    end = anchor + lag
    span = Span(end - DEMO_DAYS * DAY, lag, billed_until=anchor - anchor % DAY)
    reader, money = Reader(settings, credentials, say=logger.info), new_money(settings)
    archive = Archive(reader.api, money, span, end=anchor, now=int(time.time()), get=reader.get)
    return Past(archive, money, span, _present(reader, settings)).snapshots(end, fine=DAY)


def sheets(labels: Mapping[str, str], shown: Samples = samples) -> NewSheet:
    """Return what makes sheets whose series have ``labels``, too."""

    def with_up(snapshot: Snapshot, now: float) -> Mapping[str, Iterable[tuple[tuple[str, ...], float]]]:
        return {**shown(snapshot, now), "up": [((), 1)]}  # type: ignore[dict-item]

    return partial(Sheet, with_up, FAMILIES, labels)


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


def _destination(given: Given) -> Destination:
    chosen = [flag for flag in ("--output", "--into", "--url") if flag in given]
    if len(chosen) > 1:
        raise SettingsError(f"{' and '.join(chosen)} are two places; give one")
    if "--into" in given:
        return DataFolder(Path(one(given, "--into")))
    if "--url" in given:
        return VictoriaMetrics(one(given, "--url"))
    return OpenMetricsFile(Path(one(given, "--output", "anthropic-history.om")))


def _span(settings: Settings, where: Seam, first: int) -> Span:
    settled = int(settle(settings, settings.usage.poll_interval))
    start = seam.begin(where, first, settled) + settled
    today = where.anchor - where.anchor % DAY
    if where.since is None:
        return Span(start, settled, where.anchor, billed_until=today)
    held_back = where.anchor - USAGE_HELD_BACK, today - BILLS_HELD_BACK
    return Span(start, settled, where.anchor, where.since, *held_back)


def _present(reader: Reader, settings: Settings) -> Present:
    api = reader.api
    organization = reader.readable("the organisation's name", api.organization)
    workspaces, default_id = reader.readable("workspaces", api.workspaces) or ((), None)
    api_keys = reader.readable("api_keys", lambda: api.api_keys(workspaces, default_id)) or ()
    limits = reader.readable("rate_limits", api.rate_limits)
    budget = Budget(settings.budget.monthly_usd, settings.budget.workspaces)
    return Present(not any(api.filters.values()), Names(organization, workspaces, api_keys), limits, budget)


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
        say(
            f"{moment(missing[-1])[:10]} is not billed yet, and live counters leave it out, too: write this again later"
        )


def _clear(directory: Path) -> None:
    """Make the folder, or remove what an attempt that did not end has left there."""
    if not directory.exists():
        directory.mkdir(parents=True)
        # Who makes blocks of the files removes them, under the same group.
        directory.chmod(0o770)
    for file in files.written(directory):
        file.unlink()
