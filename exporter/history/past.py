"""The past as the exporter would have shown it: snapshots of hours of usage and of finished bills."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from itertools import chain
from operator import add
from typing import Generic

from exporter.families import ESTIMATED
from exporter.model import (
    DAY,
    FINEST,
    HOUR,
    MINUTE,
    Amounts,
    Bucket,
    Budget,
    Counts,
    Histogram,
    MoneyReading,
    Names,
    Number,
    PriceKey,
    RateLimits,
    Reading,
    Series,
    Snapshot,
    Watermark,
)
from exporter.money.bill import Bill, month_of, month_start
from exporter.money.estimates import Costs, by_api_key, by_workspace
from exporter.money.money import Money
from exporter.money.prices import Prices

NOTHING_ARRIVED = Histogram((), 0)


@dataclass(frozen=True, slots=True)
class Records:
    """What the API tells of the past; all times are Unix seconds.

    Usage comes in buckets of an hour, in order and without a gap, from before the first day that had no bill at the
    first snapshot on; the last bucket holds what was used up to ``until`` only. The bills' days begin with the month
    before that of the first snapshot.
    """

    usage: Sequence[Bucket[int]]
    api_key_usage: Sequence[Bucket[int]]
    until: int
    bills: Sequence[Bucket[Decimal]]
    names: Names = field(default_factory=Names)
    limits: RateLimits | None = None
    budget: Budget = field(default_factory=Budget)


class Past:
    """Tells what there was to see from ``start`` on, when all counters were 0.

    ``money`` has taken in the same usage and bills, and knows the prices. Usage counts ``settle`` seconds after it was
    made, and a day's bill is out ``bill_delay`` seconds after the day's end. As only hours are known, counters grow in
    a straight line within each.
    """

    def __init__(
        self, records: Records, money: Money, start: int, *, settle: int = 5 * MINUTE, bill_delay: int = 6 * HOUR
    ) -> None:
        self._records = records
        self._money = money
        self._start = start
        self._settle = settle
        self._bill_delay = bill_delay
        views = {"usage": records.usage, "api_key_usage": records.api_key_usage}
        dollars = {
            "estimate": _priced(records.usage, money.prices),
            "api_key_estimate": _priced_by_api_key(records.api_key_usage, money.prices),
        }
        anchor, until = start - settle, records.until
        self._tokens = {name: _Odometer(buckets, anchor, until) for name, buckets in views.items()}
        self._dollars = {name: _Odometer(buckets, anchor, until) for name, buckets in dollars.items()}
        self._bill, self._billed = Bill(), _Billed(records.bills, start - start % DAY)

    def snapshots(self, end: int, fine: int = 0) -> Iterator[tuple[int, Snapshot]]:
        """Yield, with its time, what there was to see every five minutes from the start up to ``end``, once.

        In the last ``fine`` seconds it is every minute.
        """
        pending = sorted(self._records.bills, key=lambda bucket: bucket.start, reverse=True)
        still, money = Snapshot(), self._money.reading(self._start, None)
        day = self._start // DAY
        for time in chain(range(self._start, end - fine, 5 * MINUTE), range(end - fine, end + 1, MINUTE)):
            out = []
            while pending and pending[-1].start + DAY + self._bill_delay <= time:
                out.append(pending.pop())
            if out or time == self._start or month_of(time) != money.month:
                still = self._still(out, time)
            if time // DAY != day:
                day, money = time // DAY, self._money.reading(time, None)
            yield time, self._moved(still, money, time)

    def _still(self, bills: Iterable[Bucket[Decimal]], time: int) -> Snapshot:
        """Return what does not change until the next bill is out, or the month is over."""
        self._bill.observe(bills)
        reading = self._bill.reading(time)
        billed = self._reading(self._billed.take(bills), Decimal(0), time)
        records = self._records
        return Snapshot(
            {"cost": billed}, reading, None, records.limits, records.budget, records.names, dict(self._money.models)
        )

    def _moved(self, still: Snapshot, money: MoneyReading, time: int) -> Snapshot:
        used = time - self._settle
        tokens = {name: self._reading(one.at(used), 0, time) for name, one in self._tokens.items()}
        dollars = {name: self._reading(one.at(used), Decimal(0), time) for name, one in self._dollars.items()}
        return replace(
            still,
            counters={**tokens, **dollars, **still.counters},
            money=replace(money, month=month_of(time), unbilled=self._unbilled(time)),
        )

    def _reading(self, counts: Mapping[Series, Counts[Number]], none: Number, time: int) -> Reading[Number]:
        lines = {series: (figures,) for series, figures in counts.items()}
        used = time - self._settle
        return Reading(used, Watermark(time, 0.0, self._settle, used), lines, none, none, NOTHING_ARRIVED)

    def _unbilled(self, time: int) -> Amounts:
        """Return the estimate for the days of the month that have no bill, up to the watermark."""
        used, estimate = time - self._settle, self._dollars["estimate"]
        begin = max(month_start(month_of(time)), *(day + DAY for day in self._bill.days), self._records.usage[0].start)
        before, now = estimate.at(min(begin, used)), estimate.at(used)
        return {series.labels: now[series][0] - before[series][0] for series in now if series.family == ESTIMATED}


class _Odometer(Generic[Number]):
    """The sums of a view's buckets since ``anchor``, in a straight line within each; every series is there always."""

    def __init__(self, buckets: Sequence[Bucket[Number]], anchor: int, until: int) -> None:
        self._buckets: Sequence[Bucket[Number]] = buckets
        self._times = [*(bucket.start for bucket in buckets), until]
        zero = {series: tuple(n - n for n in counts) for bucket in buckets for series, counts in bucket.counts.items()}
        self._sums: list[dict[Series, Counts[Number]]] = [zero]
        for bucket in buckets:
            sums = self._sums[-1]
            self._sums.append(sums | {series: _plus(sums[series], grown) for series, grown in bucket.counts.items()})
        before = {series: tuple(-n for n in counts) for series, counts in self.at(anchor).items()}
        self._sums = [{series: _plus(sums[series], before[series]) for series in sums} for sums in self._sums]

    def at(self, time: int) -> dict[Series, Counts[Number]]:
        """Return the sums up to a usage time."""
        index = bisect_right(self._times, time) - 1
        if not 0 <= index < len(self._buckets):
            return self._sums[max(0, min(index, len(self._buckets)))]
        sums, begin = self._sums[index], self._times[index]
        part, whole = time - begin, self._times[index + 1] - begin
        return sums | {
            series: tuple(now + _share(n, part, whole) for now, n in zip(sums[series], grown, strict=True))
            for series, grown in self._buckets[index].counts.items()
        }


class _Billed:
    """The sums of the bills' days since ``anchor``."""

    def __init__(self, bills: Iterable[Bucket[Decimal]], anchor: int) -> None:
        self._anchor = anchor
        counted = [bucket.counts for bucket in bills if bucket.start >= anchor]
        self._sums: dict[Series, Counts[Decimal]] = {series: (Decimal(0),) for counts in counted for series in counts}

    def take(self, bills: Iterable[Bucket[Decimal]]) -> Mapping[Series, Counts[Decimal]]:
        """Return the sums with these bills."""
        for bucket in bills:
            if bucket.start >= self._anchor:
                self._sums |= {series: _plus(self._sums[series], usd) for series, usd in bucket.counts.items()}
        return dict(self._sums)


def _plus(counts: Counts[Number], more: Counts[Number]) -> Counts[Number]:
    return tuple(map(add, counts, more))


def _share(grown: Number, part: int, whole: int) -> Number:
    """Return the part of a growth that is over, rounded down as counters are between two boundaries."""
    if isinstance(grown, int):
        return grown * part // whole
    return (grown * part / whole).quantize(FINEST, ROUND_FLOOR)


def _priced(buckets: Iterable[Bucket[int]], prices: Prices) -> list[Bucket[Decimal]]:
    def usd(day: int, what: PriceKey | str) -> Decimal | None:
        price = prices.best(what, day)
        return price.usd if price else None

    return [
        _dollars(bucket.start, by_workspace(bucket.counts, partial(usd, bucket.start), partial(usd, bucket.start)))
        for bucket in buckets
    ]


def _priced_by_api_key(buckets: Iterable[Bucket[int]], prices: Prices) -> list[Bucket[Decimal]]:
    def usd(bucket: Bucket[int]) -> Costs:
        token = partial(prices.effective, start=bucket.start, width=HOUR)
        request = partial(prices.request, start=bucket.start, width=HOUR)
        return by_api_key(bucket.counts, token, request)

    return [_dollars(bucket.start, usd(bucket)) for bucket in buckets]


def _dollars(start: int, costs: Costs) -> Bucket[Decimal]:
    return Bucket(start, {series: (usd,) for series, usd in costs.items()})
