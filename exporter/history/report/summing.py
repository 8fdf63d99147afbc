"""From buckets and a bill to the figures of a report; pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from exporter.families import API_KEY_ESTIMATED, COST_LABELS, ESTIMATED, ODOMETERS, TOKEN_TYPES, TOKENS, UNPRICED
from exporter.history.report.spending import Cost, cost_of
from exporter.history.report.summary import Part, Summary, Used, total
from exporter.model import DAY, Amounts, Bucket, PriceKey
from exporter.money.estimates import Costs, Counts, by_api_key
from exporter.money.learning import DIGITS, Day
from exporter.money.money import Money
from exporter.money.prices import Prices
from exporter.money.table import Cell

Rows = Mapping[int, Counts]
"""What was used on days, by their start (Unix seconds); one without usage may be missing."""
Spent = Mapping[int, Costs]


@dataclass(frozen=True, slots=True)
class Records:
    """What was read at ``now`` for the days with ``start`` <= time < ``end``; Unix seconds.

    ``usage`` and ``api_key_usage`` (None if it cannot be read) are of these days and of as many ``before``.
    ``everything`` is the whole organisation's usage: of the days from which prices are learned, and of the running
    month's.
    """

    start: int
    end: int
    now: int
    usage: Sequence[Bucket[int]]
    everything: Sequence[Bucket[int]]
    api_key_usage: Sequence[Bucket[int]] | None

    @property
    def asked(self) -> range:
        """The days asked for."""
        return range(self.start, self.end, DAY)

    @property
    def before(self) -> range:
        """As many days before."""
        return range(2 * self.start - self.end, self.start, DAY)


def summarize(records: Records, money: Money) -> Summary:
    """Return the figures; ``money`` has taken in the same usage of everything, and the bill if it can be read."""
    usage, everything, bill = _by_day(records.usage), _by_day(records.everything), money.bill.days
    # Anew, from all days: money's own table forgets those of long ago.
    newest = sorted(everything.keys() & bill.keys(), reverse=True)
    money.prices.learn(Day(day, bill[day], everything[day]) for day in newest)
    spent = {day: money.best_cost(rows, day) for day, rows in usage.items()}
    billed = [bill.get(day, {}) for day in records.asked] if money.bill.is_known else None

    def parts(label: str, names: Mapping[str, str]) -> list[Part]:
        by_id = None if billed is None else _billed(label, billed, names)
        return _parts(records, label, (usage, ESTIMATED, spent), by_id)

    unpriced = _dollars("model", UNPRICED, spent, records.asked)
    return Summary(
        {day: total(_used("model", usage, [day]).values()) for day in records.asked},
        parts("model", money.models),
        parts("workspace_id", {}),
        _api_keys(records, usage, money.prices),
        _cost(records, money, everything) if money.bill.is_known else None,
        {model: int(tokens) for model, tokens in unpriced.items()},
    )


def _by_day(buckets: Iterable[Bucket[int]]) -> Rows:
    return {bucket.start: bucket.counts for bucket in buckets}


def _cost(records: Records, money: Money, everything: Rows) -> Cost:
    priced = {day: money.best_cost(rows, day).items() for day, rows in everything.items()}
    estimated = {
        day: sum((usd for series, usd in costs if series.family == ESTIMATED), Decimal(0))
        for day, costs in priced.items()
    }
    return cost_of(records.now, records.asked, money.bill.days, estimated)


def _api_keys(records: Records, usage: Rows, prices: Prices) -> list[Part] | None:
    if records.api_key_usage is None:
        return None
    rows = _by_day(records.api_key_usage)
    spent = {day: _priced_by_api_key(prices, day, counts, usage.get(day, {})) for day, counts in rows.items()}
    return _parts(records, "api_key_id", (rows, API_KEY_ESTIMATED, spent), None)


def _parts(
    records: Records, label: str, view: tuple[Rows, str, Spent], billed: Mapping[str, Decimal] | None
) -> list[Part]:
    rows, family, spent = view
    used, before = (_used(label, rows, days) for days in (records.asked, records.before))
    usd, usd_before = (_dollars(label, family, spent, days) for days in (records.asked, records.before))
    found = [
        Part(
            name,
            used.get(name, Used()),
            before.get(name, Used()),
            usd.get(name, Decimal(0)),
            usd_before.get(name, Decimal(0)),
            None if billed is None else billed.get(name, Decimal(0)),
        )
        for name in used.keys() | before.keys() | usd.keys() | usd_before.keys() | (billed or {}).keys()
    ]
    return sorted(found, key=lambda part: (-part.usd, -part.used.tokens, part.id))


def _used(label: str, rows: Rows, days: Iterable[int]) -> Mapping[str, Used]:
    """Return what was used on some days by a label."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(Used()))
    for (family, labels), figures in (row for day in days for row in rows.get(day, {}).items()):
        odometer = ODOMETERS[family]
        sum_of = sums[labels[odometer.labels.index(label)]]
        for lane, figure in enumerate(figures, 0 if odometer.lanes == TOKEN_TYPES else len(TOKEN_TYPES)):
            sum_of[lane] += figure
    return {name: Used(*figures) for name, figures in sums.items()}


def _dollars(label: str, family: str, spent: Spent, days: Iterable[int]) -> Mapping[str, Decimal]:
    """Return the amounts of a family on some days by a label."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for series, usd in (row for day in days for row in spent.get(day, {}).items()):
        if series.family == family:
            sums[series.labels[ODOMETERS[family].labels.index(label)]] += usd
    return sums


def _billed(label: str, days: Iterable[Amounts], names: Mapping[str, str]) -> Mapping[str, Decimal]:
    """Return what was billed by a label; ``names`` are what usage calls some of its values."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for labels, usd in (line for amounts in days for line in amounts.items()):
        value = labels[COST_LABELS.index(label)]
        sums[names.get(value, value)] += usd
    return sums


def _priced_by_api_key(prices: Prices, day: int, rows: Counts, usage: Counts) -> Costs:
    """Return what a day of the per-key view costs: a token of a cell, what the usage view's cost in all geographies."""
    paid: defaultdict[tuple[Cell, str], Decimal] = defaultdict(Decimal)
    used: defaultdict[tuple[Cell, str], int] = defaultdict(int)
    for (family, labels), figures in usage.items():
        if family == TOKENS:
            model, workspace_id, tier, window, geo = labels
            for word, tokens in zip(TOKEN_TYPES, figures, strict=True):
                place = (model, workspace_id, tier, window), word
                if tokens and (usd := prices.usd(PriceKey(model, tier, window, geo, word), day)) is not None:
                    paid[place] += tokens * usd
                used[place] += tokens

    def token(cell: Cell, word: str) -> Decimal | None:
        return DIGITS.divide(paid[cell, word], Decimal(used[cell, word])) if (cell, word) in paid else None

    return by_api_key(rows, token, partial(prices.usd, time=day))
