"""Reads what the API tells of the past, chunk by chunk."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Protocol, TypeVar

from exporter.api.admin import AdminApi
from exporter.history.backfill.past import Chunk, Span
from exporter.model import DAY, HOUR, MINUTE, Bucket, Window
from exporter.money.bill import first_day_needed
from exporter.money.money import Money

WEEK = 7 * DAY
"""The longest chunk of hours: a page of them."""
MONTH = 31 * DAY
"""The longest chunk of days, and how far back prices are learned from: a page of them."""
QUARTER = 6 * HOUR
"""The longest chunk of minutes: more of them would take much memory where many label sets are used."""
CONFIRMING = 2 * DAY
"""Seconds after a chunk whose bills are read with it: they confirm a price that has changed in it."""
EARLIER = 2 * DAY
"""Seconds before the first snapshot from which on hours are read: the days before may be without a bill."""

T = TypeVar("T")


class Get(Protocol):
    """Calls a read, and again if need be."""

    def __call__(self, read: Callable[[], T], /) -> T:
        """Return what it brings."""
        ...


class Archive:
    """The chunks of a span of the past, up to the usage time ``end`` (Unix seconds, a full minute), as of ``now``.

    ``money`` is new; it takes in what a chunk tells before that is given away. Usage is read in hours, that of the last
    day in minutes, and what only counts towards a first value in days. Iterating raises what ``get`` raises.
    """

    def __init__(
        self, api: AdminApi, money: Money, span: Span, *, end: int, now: int, get: Get, by_api_key: bool = True
    ) -> None:
        self._api = api
        self._whole = replace(api, filters={})
        self._money = money
        self._span = span
        self._end = end
        self._now = now
        self._get = get
        self._by_api_key = by_api_key
        self._first = span.begin - span.begin % DAY - EARLIER
        self._billed = min(first_day_needed(span.start, 0), self._anchor_day)
        self._tabled = self._first - MONTH

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks, the oldest first."""
        for window in self.windows():
            bills = self._learn(window)
            usage, api_key_usage = self._read(self._api.usage, window), self._by_key(window)
            yield Chunk(usage, api_key_usage, window.end, bills)

    def windows(self) -> list[Window]:
        """Return what is read, window by window, the oldest first."""
        first, end = self._first, self._end
        minutes = max(first, end - DAY - (end - DAY) % HOUR)
        return [
            *_cut(DAY, self._anchor_day, first, MONTH),
            *_cut(HOUR, first, minutes, WEEK),
            *_cut(MINUTE, minutes, end, QUARTER),
        ]

    @property
    def _anchor_day(self) -> int:
        return self._span.anchor - self._span.anchor % DAY

    def _by_key(self, window: Window) -> list[Bucket[int]] | None:
        return self._read(self._api.api_key_usage, window) if self._by_api_key else None

    def _read(self, report: Callable[[Window], list[Bucket[int]]], window: Window) -> list[Bucket[int]]:
        return window.every(self._get(partial(report, window)))

    def _learn(self, window: Window) -> list[Bucket[Decimal]]:
        """Let money know what was used and billed up to a window's end, and a bit more; return the new bills."""
        today, money = self._now - self._now % DAY, self._money
        until = min(-(-window.end // DAY) * DAY + CONFIRMING, today)
        bills: list[Bucket[Decimal]] = []
        billed, days = Window(DAY, self._billed, until), Window(DAY, self._tabled, until)
        if days.buckets > 0:
            money.take_usage(days, self._read(self._whole.usage, days), self._now)
            self._tabled = until
        if window.end > today:
            hours = Window(HOUR, max(today, window.start - window.start % HOUR), -(-window.end // HOUR) * HOUR)
            money.take_usage(hours, self._read(self._whole.usage, hours), self._now)
        money.complete()
        if billed.buckets > 0:
            bills = self._get(partial(self._api.cost, billed))
            money.take_bill(bills)
            money.forget(window.start)
            self._billed = until
        return bills


def _cut(width: int, start: int, end: int, most: int) -> list[Window]:
    """Cut a range into windows of ``most`` seconds at most; it may be empty."""
    return [Window(width, begin, min(begin + most, end)) for begin in range(start, end, most)]
