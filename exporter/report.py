"""The ``report`` command: what was used and spent, by whom, and what has changed."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TextIO

from exporter import terminal
from exporter.api.admin import AdminApi
from exporter.api.client import Timing, Transport
from exporter.dates import day_of
from exporter.errors import StartError
from exporter.history.output import standard_output
from exporter.history.report.document import document
from exporter.history.report.summary import About, Summary
from exporter.history.report.summing import Records, summarize
from exporter.history.report.tables import Table, filters, headline, tables
from exporter.model import CONSOLE, DAY, DEFAULT_WORKSPACE, NOT_APPLICABLE, Bucket, Window
from exporter.money.bill import first_day_needed
from exporter.money.money import Money
from exporter.parts import new_credentials, new_money
from exporter.polling.windows import floor, split
from exporter.reader import Reader, Say
from exporter.settings import Settings
from exporter.settings.commands import Days, days
from exporter.settings.options import Given

LEARNING = 30 * DAY
"""Seconds before today whose usage tells prices: with today a page, which holds the whole month so far."""

WORDS = {DEFAULT_WORKSPACE: "Default", CONSOLE: "Console", NOT_APPLICABLE: "no model (tools)"}
"""What ids that are words are called, as long as the API has no name for them."""

Advance = Callable[[int], None]


def report(
    settings: Settings,
    given: Given,
    *,
    timing: Timing | None = None,
    transport: Transport | None = None,
    stream: TextIO | None = None,
) -> int:
    """Print a report to ``stream``, or standard output; return the exit status.

    ``report.document`` tells the shape of ``--json``. What the key may not read, but for usage, is left out, and it is
    said on standard error. Raise StartError if there is no usage, or if it cannot be read.
    """
    timing = timing or Timing()
    now = int(timing.clock())
    asked = days(given, day_of(now))
    money = new_money(settings)
    reader = Reader(settings, new_credentials(settings), say=terminal.say, timing=timing, transport=transport)
    reading = _Reading(settings, reader, terminal.say, asked, now)
    summary = summarize(reading.records(money), money)
    about = reading.about()
    if summary.is_empty or (about.filters and not summary.total.tokens):
        raise StartError(f"no usage in {asked}{_only(about) or ';'} try a wider range")
    with standard_output() if stream is None else nullcontext(stream) as out:
        if "--json" in given:
            json.dump(document(about, summary), out, indent=2)
            out.write("\n")
        else:
            _print(about, summary, out)
    return 0


def _only(about: About) -> str:
    filters = " and ".join(f"{name} {' or '.join(values)}" for name, values in about.filters.items())
    return f" with {filters}; correct these, or" if filters else ""


class _Reading:
    """Reads an organisation for a report, page by page; what the key may not read is said, and left out."""

    def __init__(self, settings: Settings, reader: Reader, say: Say, asked: Days, now: int) -> None:
        self._settings = settings
        self._reader = reader
        self._api = reader.api
        self._say = say
        self._asked = asked
        self._now = now
        self._today = floor(now, DAY)
        self._missing: dict[str, str] = {}

    def about(self) -> About:
        """Read names; return what the report is about."""
        api, asked = self._api, self._asked
        found = self._reader.names()
        names = {one.id: one.name for one in found.workspaces} | {key.id: key.name for key in found.api_keys}
        filters = {name.removesuffix("[]"): values for name, values in api.filters.items()}
        return About(
            asked.start,
            asked.end,
            self._now,
            found.organization,
            WORDS | names,
            {name: values for name, values in filters.items() if values},
            self._missing,
            self._settings.budget.monthly_usd,
        )

    def records(self, money: Money) -> Records:
        """Read usage and cost; ``money`` takes in what prices and the bill come from."""
        api, asked, today = self._api, self._asked, self._today
        both = Window(DAY, 2 * asked.start - asked.end, asked.end)
        days = _joined(both, Window(DAY, today - LEARNING, today + DAY))
        bills = _joined(
            Window(DAY, both.start, min(asked.end, today)), Window(DAY, first_day_needed(self._now, 0), today)
        )
        is_filtered, by_key = any(api.filters.values()), self._settings.usage.by_api_key
        steps = _steps(days) + _steps([both]) * (is_filtered + by_key) + len(bills)
        with terminal.progress("reading", steps, "parts") as advance:
            everything = self._usage(replace(api, filters={}), days, advance)
            usage = self._usage(api, [both], advance) if is_filtered else everything
            keys = self._api_key_usage(both, advance) if by_key else None
            bill = self._bill(bills, advance)
        if not by_key:
            self._missing["api_keys"] = "not read: usage.by_api_key is false"
        for window in days:
            money.take_usage(window, window.every(everything), self._now)
        money.complete()
        if bill is not None:
            money.take_bill(bill)
        return Records(asked.start, asked.end, self._now, usage, everything, keys)

    def _usage(self, api: AdminApi, windows: Iterable[Window], advance: Advance) -> list[Bucket[int]]:
        found = []
        for window in windows:
            for _, buckets in self._reader.buckets(api.usage, window):
                found += buckets
                advance(1)
        return found

    def _api_key_usage(self, window: Window, advance: Advance) -> list[Bucket[int]] | None:
        found: list[Bucket[int]] = []
        for part in split(DAY, window.start, window.end):
            buckets = self._reader.readable("usage by API key", partial(self._api.api_key_usage, part))
            if buckets is None:
                self._missing["api_keys"] = "not readable: the key lacks the right to read usage by API key"
                return None
            found += buckets
            advance(1)
        return found

    def _bill(self, windows: Iterable[Window], advance: Advance) -> list[Bucket[Decimal]] | None:
        found: list[Bucket[Decimal]] = []
        for window in windows:
            # In one go: of its last part alone no day may be finished by the API's clock.
            days = self._reader.readable("cost", partial(self._api.cost, window))
            if days is None:
                self._missing["cost"] = "not readable: the key lacks the right to read cost"
                self._say("what usage costs is estimated by list prices")
                return None
            found += days
            advance(1)
        return found


def _joined(*windows: Window) -> Sequence[Window]:
    """Return two windows as one if there is nothing between them."""
    first, second = sorted(windows, key=lambda window: window.start)
    if second.start > first.end:
        return [first, second]
    return [Window(DAY, first.start, max(first.end, second.end))]


def _steps(windows: Iterable[Window]) -> int:
    return sum(len(split(DAY, window.start, window.end)) for window in windows)


def _print(about: About, summary: Summary, stream: TextIO) -> None:
    terminal.line(headline(about), stream, style="bold")
    if narrowed := filters(about):
        terminal.line(narrowed, stream)
    for table in tables(about, summary):
        terminal.line("", stream)
        _show(table, stream)


def _show(table: Table, stream: TextIO) -> None:
    title, columns, rows, total, signed, note = table
    if not rows:
        terminal.line(f"{title}: {note}", stream)
        return
    terminal.table(title, columns, rows, stream, total=total, signed=signed)
    if note:
        terminal.line(note, stream, style="dim")
