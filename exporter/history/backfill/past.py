"""The past as the exporter would have shown it: snapshots of hours of usage and of finished bills."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from math import inf
from operator import add
from typing import NamedTuple

from exporter.families import ESTIMATED
from exporter.history.backfill.sums import RunningSums, Sums, difference, minus
from exporter.model import (
    DAY,
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
    Organization,
    RateLimits,
    Reading,
    Series,
    Snapshot,
    Watermark,
)
from exporter.money.bill import Bill, month_of, month_start
from exporter.money.estimates import Costs
from exporter.money.money import Money

STEP = 5 * MINUTE
"""Seconds between two snapshots: what Prometheus looks back for by default."""
BILLED_AFTER = 6 * HOUR
"""Seconds after a day's end at which its bill is shown: about when the API has it."""
REMEMBERED = 40
"""Midnights at which the estimate is remembered: more than a month of days without a bill."""
NOTHING_ARRIVED = Histogram((), 0)


class Chunk(NamedTuple):
    """What the API tells of a stretch of the past; all times are Unix seconds.

    Buckets of usage follow each other without a gap and, the last one up to ``until``, those of the chunk before. There
    is no usage by API key, in any chunk, where it is not counted.
    """

    usage: Sequence[Bucket[int]]
    api_key_usage: Sequence[Bucket[int]] | None
    until: int
    bills: Sequence[Bucket[Decimal]]


@dataclass(frozen=True, slots=True)
class Present:
    """What is shown as it is now, since nobody knows how it was.

    Unless usage is that of the whole organisation, what is not billed yet is not known.
    """

    is_whole: bool = True
    names: Names = field(default_factory=Names)
    limits: RateLimits | None = None
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Span:
    """From where to where counters count; all times are Unix seconds.

    The first snapshot is at ``start``. Usage counts ``settle`` seconds after it was made; in the last snapshot it does
    up to ``last``. Usage counters are 0 at the usage time ``since``, by default that of the first snapshot, and stand
    still from ``until`` on. Days before ``billed_until`` are billed by the last snapshot, and no others; by default
    those whose bill was out.
    """

    start: int
    settle: int = 5 * MINUTE
    last: int | None = None
    since: int | None = None
    until: float = inf
    billed_until: int | None = None

    @property
    def begin(self) -> int:
        """The usage time of the first snapshot."""
        return self.start - self.settle

    @property
    def anchor(self) -> int:
        """The usage time at which usage counters are 0."""
        return self.begin if self.since is None else self.since


class Past:
    """Tells what there was to see, once, as its chunks come; the first must begin some days before the first snapshot.

    ``money`` has taken in what the chunks that came so far tell, and knows the prices. Counters grow in a straight line
    within each bucket.
    """

    def __init__(self, chunks: Iterable[Chunk], money: Money, span: Span, present: Present) -> None:
        self._chunks = iter(chunks)
        self._money = money
        self._span = span
        self._present = present
        self._known: float = -inf
        self._midnight: int | None = None
        self._midnights: dict[int, Sums[Decimal]] = {}
        self._tokens: dict[str, RunningSums[int]] = {"usage": RunningSums()}
        self._dollars: dict[str, RunningSums[Decimal]] = {"estimate": RunningSums()}
        self._bill, self._billed = Bill(), _Billed(span)
        self._pending: list[Bucket[Decimal]] = []

    @property
    def organization(self) -> Organization | None:
        """Whose past it is, if that is known."""
        return self._present.names.organization

    def snapshots(self, end: int, fine: int = 0) -> Iterator[tuple[int, Snapshot]]:
        """Yield, with its time, what there was to see every five minutes from the start up to ``end``, once.

        In the last ``fine`` seconds it is every minute. Where ``last`` is given, counters that do not reach back are 0
        in one more, a second later.
        """
        self._begin()
        start = self._span.start
        seam = start + max(0, end - fine - start) // STEP * STEP
        still, money, seen = Snapshot(), self._money.reading(start, None), (-1, self._known)
        for time in chain(range(start, seam, STEP), range(seam, end, MINUTE), (end,)):
            used = self._used(time, end)
            self._go(used)
            out = self._out(time, is_last=time == end)
            if out or seen != (time // DAY, self._known):
                seen = time // DAY, self._known
                money, still = self._money.reading(time, None), self._still(out, used, time)
            shown = self._moved(still, money, used, time)
            yield time, shown
        if self._span.last is not None and self._span.since is None:
            # Live counters begin at 0: a store that has not seen that must not take them for going on from here.
            yield end + 1, _at_zero(shown)

    def _used(self, time: int, end: int) -> int:
        """Return the usage time of a snapshot: it makes up for what the last one is ahead in the hour before that."""
        settled = time - self._span.settle
        if self._span.last is None:
            return settled
        ahead, begin = self._span.last - (end - self._span.settle), max(self._span.start, end - HOUR)
        return settled + ahead * max(0, time - begin) // max(1, end - begin)

    def _begin(self) -> None:
        """Go to the first snapshot, and let there be 0 what counts from there on."""
        span = self._span
        self._load(span.anchor)
        for tokens in self._tokens.values():
            tokens.zero(span.anchor)
        self._go(span.begin)
        before = self._dollars["estimate"].at(span.begin)
        self._midnights = {time: difference(sums, before) for time, sums in self._midnights.items()}
        for dollars in self._dollars.values():
            dollars.zero(span.begin)

    def _go(self, used: int) -> None:
        """Go on to a usage time, and remember the estimate at each midnight on the way."""
        self._load(used)
        if self._midnight is not None and used >= self._midnight:
            for midnight in range(self._midnight, used + 1, DAY):
                self._midnights[midnight] = self._dollars["estimate"].at(midnight)
            self._midnight = max(self._midnights) + DAY
            self._midnights = dict(list(self._midnights.items())[-REMEMBERED:])

    def _load(self, used: int) -> None:
        """Take in what is needed for a usage time, and for a step more: a new series is to be seen at 0 first."""
        while self._known <= used + STEP and (chunk := next(self._chunks, None)):
            if self._midnight is None:
                self._midnight = -(-chunk.usage[0].start // DAY) * DAY
            money, by_key = self._money, chunk.api_key_usage
            self._tokens["usage"].extend(chunk.usage, chunk.until)
            priced = [_dollars(bucket.start, money.best_cost(bucket.counts, bucket.start)) for bucket in chunk.usage]
            self._dollars["estimate"].extend(priced, chunk.until)
            if by_key is not None:
                self._tokens.setdefault("api_key_usage", RunningSums()).extend(by_key, chunk.until)
                dollars = [money.cost_by_api_key(bucket, MINUTE) for bucket in by_key]
                self._dollars.setdefault("api_key_estimate", RunningSums()).extend(dollars, chunk.until)
            self._billed.expect(chunk.bills)
            self._pending += chunk.bills
            self._known = chunk.until

    def _out(self, time: int, *, is_last: bool) -> list[Bucket[Decimal]]:
        """Return the bills that are out by now; in the end, those of all days that are to be billed."""
        until = self._span.billed_until
        out: list[Bucket[Decimal]] = []
        pending: list[Bucket[Decimal]] = []
        for bill in self._pending:
            is_due = bill.start + DAY + BILLED_AFTER <= time or (is_last and until is not None and bill.start < until)
            (out if is_due else pending).append(bill)
        self._pending = pending
        return out

    def _still(self, bills: Sequence[Bucket[Decimal]], used: int, time: int) -> Snapshot:
        """Return what does not change until the next bill is out, or the day is over."""
        self._bill.observe(bills)
        reading = self._bill.reading(time)
        present = self._present
        billed = {"cost": self._reading(self._billed.take(bills), Decimal(0), used, time)}
        return Snapshot(billed, reading, None, present.limits, present.budget, present.names, dict(self._money.models))

    def _moved(self, still: Snapshot, money: MoneyReading, used: int, time: int) -> Snapshot:
        shown = int(min(used, self._span.until))
        tokens = {name: self._reading(one.at(shown), 0, shown, time) for name, one in self._tokens.items()}
        usd = {name: one.at(used) for name, one in self._dollars.items()}
        dollars = {name: self._reading(sums, Decimal(0), used, time) for name, sums in usd.items()}
        unbilled = self._unbilled(usd["estimate"], used, time) if self._present.is_whole else None
        return replace(
            still,
            counters={**tokens, **dollars, **still.counters},
            money=replace(money, month=month_of(time), unbilled=unbilled),
        )

    def _reading(self, counts: Mapping[Series, Counts[Number]], none: Number, shown: int, time: int) -> Reading[Number]:
        lines = {series: (figures,) for series, figures in counts.items()}
        return Reading(shown, Watermark(time, 0.0, time - shown, shown), lines, none, none, NOTHING_ARRIVED)

    def _unbilled(self, now: Sums[Decimal], used: int, time: int) -> Amounts:
        """Return the estimate for the days of the month after the last one that has a bill; ``now`` has the sums."""
        begin = max([month_start(month_of(time)), *(day + DAY for day in self._bill.days)])
        # Without a bill for longer than usage is remembered it is what is remembered.
        oldest: Sums[Decimal] = next(iter(self._midnights.values()), {})
        before = now if begin > used else self._midnights.get(begin, oldest)
        return {
            series.labels: usd - (before[series][0] if series in before else 0)
            for series, (usd,) in now.items()
            if series.family == ESTIMATED
        }


class _Billed:
    """The sums of the bills' days, from that of the anchor on."""

    def __init__(self, span: Span) -> None:
        self._since = span.anchor - span.anchor % DAY
        self._until = inf if span.billed_until is None else span.billed_until
        self._sums: dict[Series, Counts[Decimal]] = {}

    def expect(self, bills: Iterable[Bucket[Decimal]]) -> None:
        """Let there be 0 what these bills are going to have."""
        self._sums = {series: (Decimal(0),) for bill in self._counted(bills) for series in bill.counts} | self._sums

    def take(self, bills: Iterable[Bucket[Decimal]]) -> Mapping[Series, Counts[Decimal]]:
        """Return the sums with these bills."""
        for bill in self._counted(bills):
            self._sums |= {series: tuple(map(add, self._sums[series], usd)) for series, usd in bill.counts.items()}
        return dict(self._sums)

    def _counted(self, bills: Iterable[Bucket[Decimal]]) -> Iterator[Bucket[Decimal]]:
        return (bill for bill in bills if self._since <= bill.start < self._until)


def _at_zero(snapshot: Snapshot) -> Snapshot:
    counters = {
        name: replace(reading, lines={series: (minus(line[0], line[0]),) for series, line in reading.lines.items()})
        for name, reading in snapshot.counters.items()
    }
    return replace(snapshot, counters=counters)


def _dollars(start: int, costs: Costs) -> Bucket[Decimal]:
    return Bucket(start, {series: (usd,) for series, usd in costs.items()})
