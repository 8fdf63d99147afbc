"""Which price was in force when: fixed for a minute of usage time by the first use of it, and never changed again.

So what a bucket costs is a product of its counts and constants. It can be read twice, late or in any order, and its
registers give the same dollars, as they give the same tokens. A new price begins with the next minute that nothing was
priced in.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import inf
from typing import Generic, TypeVar

from exporter.model import DAY, HOUR, MINUTE

KEPT = 8 * DAY
"""Seconds that an old price is remembered for late usage: a day longer than usage can be revised."""
UNUSED = 35 * DAY
"""Seconds without use after which a key is forgotten."""

K = TypeVar("K", bound=tuple[str, ...])
Quote = tuple[Decimal | None, int] | None
"""USD a unit, or None for no price, and the Unix time from which it is known to hold; None while nobody can tell."""
Entry = tuple[int, Decimal | None]
"""The usage time (Unix seconds) with which a price begins, and USD a unit."""
Row = tuple[tuple[str, ...], int, list[Entry]]
"""A key, the last usage time that may have been priced, and its entries: what is kept."""


@dataclass(slots=True)
class _Prices:
    until: int
    entries: list[Entry]


class Tariff(Generic[K]):
    """The prices in force of each key; ``quote`` tells the price for a usage time that nothing was priced in yet.

    A price is fixed for ``grain`` seconds at a time. One that is within ``tolerance``, relative to the one in force,
    does not replace it.
    """

    def __init__(
        self, quote: Callable[[K, int], Quote], *, grain: int = MINUTE, tolerance: Decimal = Decimal(0)
    ) -> None:
        self._quote = quote
        self._grain = grain
        self._tolerance = tolerance
        self._keys: dict[K, _Prices] = {}
        self.untold = 0

    def at(self, key: K, start: int, width: int) -> Decimal | None:
        """Return the price for a bucket of ``width`` seconds; the lowest if it changes within, and None if it has none.

        With the lowest one an hour never costs more than its minutes, unless it holds what they have missed. ``untold``
        grows when nobody can tell the price yet: then it is not fixed, and None is returned as well.
        """
        first = start - start % self._grain
        last = max(first, start + width - self._grain)
        prices = self._fixed(key, first, last)
        if prices is None:
            self.untold += 1
            return None
        entries = prices.entries
        # What is older than all that is remembered costs the oldest price of it.
        begin = max(0, bisect_right(entries, first, key=lambda entry: entry[0]) - 1)
        end = max(begin + 1, bisect_right(entries, last, key=lambda entry: entry[0]))
        if end - begin == 1:
            return entries[begin][1]
        found = [usd or Decimal(0) for _, usd in entries[begin:end]]
        return min(found)

    def rows(self, now: float, since: float = inf) -> list[Row]:
        """Return what is to be kept at the Unix time ``now``, without what is too old for usage from ``since`` on."""
        self.forget(now, since)
        # To the end of the hour, so that what is kept does not change with each poll.
        return [
            (tuple(key), prices.until - prices.until % HOUR + HOUR - 1, list(prices.entries))
            for key, prices in self._keys.items()
        ]

    def forget(self, now: float, since: float = inf) -> None:
        """Forget what is too old at the Unix time ``now`` for usage from ``since`` on."""
        oldest = min(now - KEPT, since)
        self._keys = {key: prices for key, prices in self._keys.items() if prices.until >= now - UNUSED}
        for prices in self._keys.values():
            while len(prices.entries) > 1 and prices.entries[1][0] < oldest:
                del prices.entries[0]

    def restore(self, rows: Iterable[Row], key: Callable[..., K]) -> None:
        """Go on with what was kept; ``key`` makes a key of its words."""
        self._keys = {key(*words): _Prices(until, list(entries)) for words, until, entries in rows}

    def _fixed(self, key: K, first: int, last: int) -> _Prices | None:
        prices = self._keys.get(key)
        if prices is None or first > prices.until:
            quote = self._quote(key, first)
            if quote is None:
                return None
            usd, since = quote
            if prices is None:
                prices = self._keys[key] = _Prices(last, [(0, usd)])
            elif since <= first and not self._is_near(usd, prices.entries[-1][1]):
                prices.entries.append((first, usd))
        prices.until = max(prices.until, last)
        return prices

    def _is_near(self, usd: Decimal | None, known: Decimal | None) -> bool:
        if usd is None or known is None:
            return usd is known
        return abs(usd - known) <= self._tolerance * known
