"""Unit prices learned from the organisation's own bill: what a day's tokens were billed, divided by those tokens.

The days of both reports are matched exactly, and so are the labels, but for two things that bills leave out: the date
in a model's name, and dimensions that are null there (they stand for all values).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal
from itertools import product
from statistics import median
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from exporter.families import COST_LABELS, SERVER_TOOL_REQUESTS, SERVER_TOOLS, TOKEN_COST, TOKEN_TYPES, TOKENS
from exporter.model import NOT_APPLICABLE, PRIORITY, Amounts, Price, PriceKey
from exporter.money.table import Rows

LEAST_DAYS = 2
"""Days that must agree: one alone may be half posted, corrected, or used up by something that is not billed."""
LEAST_TOKENS = 100
"""Tokens of a day below which amounts are rounded too coarsely to divide them."""
ODD_DAYS = 2
"""Newest days that may stand alone before days that agree."""
MOST_DAYS = 7
"""Newest days that a price is taken from when no two agree: billed amounts then depend on more than tokens."""
AGREEING = Decimal("0.001")
"""How far apart unit prices may be to be the same one."""
MOST_TIMES_LIST = 20
"""A unit price this many times the list's is no price."""
DIGITS = Context(prec=18)
"""What prices are rounded to, so that products with tokens stay exact."""

COST_TYPE = COST_LABELS.index("cost_type")

K = TypeVar("K", PriceKey, str)


class Day(NamedTuple):
    """A UTC day, by its start in Unix seconds, that was billed, and read whole from the usage report."""

    start: int
    billed: Amounts
    used: Rows


class _Sample(NamedTuple):
    day: int
    usd: Decimal
    units: int

    @property
    def price(self) -> Decimal:
        return self.usd / self.units


class Learned(NamedTuple):
    """Prices by token and by request, and the ``(what, day)`` whose price was absurd.

    Of a price that has changed, ``earlier`` has those before, the newest first.
    """

    tokens: Mapping[PriceKey, Price]
    requests: Mapping[str, Price]
    rejected: frozenset[tuple[PriceKey | str, int]]
    earlier: Mapping[PriceKey | str, Sequence[Price]] = MappingProxyType({})


def learn(days: Iterable[Day], listed: Callable[[PriceKey | str, int], Decimal | None]) -> Learned:
    """Return what can be learned from ``days``, the newest first; ``listed`` tells the list price on a day."""
    tokens: defaultdict[PriceKey, list[_Sample]] = defaultdict(list)
    requests: defaultdict[str, list[_Sample]] = defaultdict(list)
    rejected: set[tuple[PriceKey | str, int]] = set()
    for day in days:
        for key, sample in _token_samples(day):
            _sift(key, sample, listed, tokens[key], rejected)
        for tool, sample in _request_samples(day):
            _sift(tool, sample, listed, requests[tool], rejected)
    earlier = _earlier(tokens) | _earlier(requests)
    return Learned(_prices(tokens), _prices(requests), frozenset(rejected), earlier)


def undated(model: str) -> str:
    """Return a model's name without the date at its end, as bills have it."""
    return re.sub(r"-\d{8}$", "", model)


def _sift(
    key: PriceKey | str,
    sample: _Sample,
    listed: Callable[[PriceKey | str, int], Decimal | None],
    samples: list[_Sample],
    rejected: set[tuple[PriceKey | str, int]],
) -> None:
    """Put a sample to the others, or to what is absurd."""
    most = listed(key, sample.day)
    if sample.usd <= 0 or (most is not None and sample.price > MOST_TIMES_LIST * most):
        rejected.add((key, sample.day))
    else:
        samples.append(sample)


def _prices(samples: Mapping[K, Sequence[_Sample]]) -> dict[K, Price]:
    found = ((key, _unit_price(of_key)) for key, of_key in samples.items())
    return {key: price for key, price in found if price}


def _earlier(samples: Mapping[K, Sequence[_Sample]]) -> dict[PriceKey | str, Sequence[Price]]:
    found = {key: list(_history(of_key))[1:] for key, of_key in samples.items()}
    return {key: prices for key, prices in found.items() if prices}


def _history(samples: Sequence[_Sample]) -> Iterator[Price]:
    """Yield what a unit has cost, the newest price first."""
    while price := _unit_price(samples):
        yield price
        samples = [sample for sample in samples if sample.day < price.since]


def _unit_price(samples: Sequence[_Sample]) -> Price | None:
    """Return the price that the newest days agree on, from the first of them on, or else the median of the newest.

    A price that has changed is followed as soon as a second day confirms it, from the first one on; up to ``ODD_DAYS``
    newest ones that nothing confirms are passed over, and as many between days that agree if no neighbours do.
    """
    if len(samples) < LEAST_DAYS:
        return None
    for between, odd in product((0, ODD_DAYS), range(min(ODD_DAYS, len(samples) - LEAST_DAYS) + 1)):
        run = _agreeing(samples[odd:], between)
        if len(run) >= LEAST_DAYS:
            usd, units = sum((sample.usd for sample in run), Decimal(0)), sum(sample.units for sample in run)
            since = 0 if run[-1] is samples[-1] else run[-1].day
            return Price(DIGITS.divide(usd, Decimal(units)), "billed", since)
    return Price(DIGITS.plus(median(sample.price for sample in samples[:MOST_DAYS])), "billed")


def _agreeing(samples: Sequence[_Sample], odd: int) -> list[_Sample]:
    """Return the newest sample and those behind it whose prices are the same, with at most ``odd`` others between."""
    newest = samples[0].price
    run: list[_Sample] = []
    for sample in samples:
        if abs(sample.price - newest) <= AGREEING * newest:
            run.append(sample)
        elif odd:
            odd -= 1
        else:
            break
    return run


def _token_samples(day: Day) -> Iterable[tuple[PriceKey, _Sample]]:
    """Yield for each key that was used and billed what it was billed for; keys of one line share its price."""
    billed, used = _billed_tokens(day.billed), _used_tokens(day.used)
    lines = {key: line for key in used if (line := _line(key, billed))}
    units: defaultdict[PriceKey, int] = defaultdict(int)
    for key, line in lines.items():
        units[line] += used[key]
    for key, line in lines.items():
        if units[line] >= LEAST_TOKENS:
            yield key, _Sample(day.start, billed[line], units[line])


def _request_samples(day: Day) -> Iterable[tuple[str, _Sample]]:
    for lane, tool in enumerate(SERVER_TOOLS):
        amounts = [amount for labels, amount in day.billed.items() if labels[COST_TYPE] == tool]
        rows = day.used.items()
        units = sum(
            counts[lane]
            for series, counts in rows
            if series.family == SERVER_TOOL_REQUESTS and series.labels[2] != PRIORITY
        )
        if amounts and units:
            yield tool, _Sample(day.start, sum(amounts, Decimal(0)), units)


def _billed_tokens(amounts: Amounts) -> Mapping[PriceKey, Decimal]:
    billed: defaultdict[PriceKey, Decimal] = defaultdict(Decimal)
    for (model, _workspace_id, tier, window, geo, cost_type, token_type), amount in amounts.items():
        if cost_type == TOKEN_COST and token_type in TOKEN_TYPES:
            billed[PriceKey(model, tier, window, geo, token_type)] += amount
    return billed


def _used_tokens(rows: Rows) -> Mapping[PriceKey, int]:
    used: defaultdict[PriceKey, int] = defaultdict(int)
    for series, counts in rows.items():
        if series.family == TOKENS and series.labels[2] != PRIORITY:
            model, _workspace_id, tier, window, geo = series.labels
            for token_type, count in zip(TOKEN_TYPES, counts, strict=True):
                used[PriceKey(model, tier, window, geo, token_type)] += count
    return {key: count for key, count in used.items() if count}


def _line(key: PriceKey, billed: Mapping[PriceKey, Decimal]) -> PriceKey | None:
    """Return the line of the bill that has this key in it: the one with its own labels before any wider one."""
    choices = [(key.model, undated(key.model)), *((value, NOT_APPLICABLE) for value in key[1:-1])]
    lines = (PriceKey._make((*names, key.token_type)) for names in product(*choices))
    return next((line for line in lines if line in billed), None)
