"""What a token and a request cost: an override before the organisation's own bill before the price list."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from exporter.families import TOKEN_TYPES
from exporter.model import DAY, HOUR, MINUTE, Price, PriceKey
from exporter.money.learning import DIGITS, Day, Learned, learn
from exporter.money.pricelist import PriceList
from exporter.money.table import Cell, UsageTable
from exporter.money.tariff import Quote, Row, Tariff

ENOUGH = Decimal("0.001")
"""How much the mix of geographies must move an effective price before a new one comes in force."""

MIXED_ANEW = 5 * MINUTE
"""Seconds for which an effective price holds at least."""

NEVER = 2**62
"""Unix seconds that do not come."""

NO_PRICES = Learned({}, {}, frozenset())


class EffectiveKey(NamedTuple):
    """A token type of a workspace's cell, whatever the geography."""

    model: str
    workspace_id: str
    service_tier: str
    context_window: str
    token_type: str


class Prices:
    """Today's best price of everything, and the prices in force, by which counters are priced once and for ever.

    ``rejected`` counts unit prices of the bill that were absurd, each ``(what, day)`` once. ``is_informed`` is set
    once the bill was read: until then what is in force stays so.
    """

    def __init__(self, listed: PriceList, override: PriceList | None, table: UsageTable) -> None:
        self._listed = listed
        self._override = override
        self._table = table
        self.is_informed = False
        self._begun = NEVER
        self._learned = NO_PRICES
        self._memo: dict[tuple[PriceKey | str, int], Price | None] = {}
        self._seen: set[tuple[PriceKey | str, int]] = set()
        self._tokens: Tariff[PriceKey] = Tariff(self._quote_token)
        self._requests: Tariff[tuple[str]] = Tariff(self._quote_request)
        self._effective: Tariff[EffectiveKey] = Tariff(self._quote_effective, grain=MIXED_ANEW, tolerance=ENOUGH)

    @property
    def rejected(self) -> int:
        """How many unit prices were absurd so far."""
        return len(self._seen)

    def learn(self, days: Iterable[Day]) -> None:
        """Learn anew from ``days``, the newest first."""
        self._learned = learn(days, self._list_price)
        self._seen |= self._learned.rejected
        self._memo.clear()

    def best(self, what: PriceKey | str, time: float) -> Price | None:
        """Return the best price that is known for a token or, by the tool's name, for a request at a Unix time."""
        key = what, int(time // DAY) * DAY
        if key not in self._memo:
            self._memo[key] = self._best(*key)
        return self._memo[key]

    def usd(self, what: PriceKey | str, time: float) -> Decimal | None:
        """Return what ``best`` tells, in USD."""
        price = self.best(what, time)
        return price.usd if price else None

    def token(self, key: PriceKey, start: int, width: int) -> Decimal | None:
        """Return the price in force for a token of a bucket of ``width`` seconds."""
        return self._tokens.at(key, start, width)

    def request(self, tool: str, start: int, width: int) -> Decimal | None:
        """Return the price in force for a request of a bucket of ``width`` seconds."""
        return self._requests.at((tool,), start, width)

    @property
    def untold(self) -> int:
        """How often an effective price was asked for in vain, because the usage view has not seen the cell yet."""
        return self._effective.untold

    def effective(self, cell: Cell, token_type: str, start: int, width: int) -> Decimal | None:
        """Return what a token costs a cell of the usage view, by the mix of geographies around that time."""
        return self._effective.at(EffectiveKey(*cell, token_type), start, width)

    def rows(self, now: float, since: float) -> dict[str, list[Row]]:
        """Return what of the prices in force is to be kept, by name, for usage from ``since`` on."""
        tariffs: Mapping[str, Tariff[PriceKey] | Tariff[tuple[str]] | Tariff[EffectiveKey]] = {
            "token": self._tokens,
            "request": self._requests,
            "effective": self._effective,
        }
        return {name: tariff.rows(now, since) for name, tariff in tariffs.items()}

    def forget(self, now: float) -> None:
        """Forget the prices in force that are too old at the Unix time ``now``."""
        for tariff in (self._tokens, self._requests, self._effective):
            tariff.forget(now)

    def restore(self, rows: Mapping[str, list[Row]]) -> None:
        """Go on with what was kept."""
        self._tokens.restore(rows.get("token", ()), PriceKey)
        self._requests.restore(rows.get("request", ()), lambda tool: (tool,))
        self._effective.restore(rows.get("effective", ()), EffectiveKey)

    def _best(self, what: PriceKey | str, day: int) -> Price | None:
        usd = _listed(self._override, what, day) if self._override else None
        if usd is not None:
            return Price(usd, "override")
        usd = self._list_price(what, day)
        return self._billed(what, day) or (Price(usd, "list") if usd is not None else None)

    def _billed(self, what: PriceKey | str, day: int) -> Price | None:
        """Return what was learned for a day, or else the oldest that was."""
        newest = self._learned.requests.get(what) if isinstance(what, str) else self._learned.tokens.get(what)
        known = [newest, *self._learned.earlier.get(what, ())] if newest else []
        return next((price for price in known if price.since <= day), known[-1] if known else None)

    def _list_price(self, what: PriceKey | str, day: int) -> Decimal | None:
        return _listed(self._listed, what, day)

    def _quote_token(self, key: PriceKey, time: int) -> Quote:
        return self._quote(self.best(key, time), time)

    def _quote_request(self, key: tuple[str], time: int) -> Quote:
        return self._quote(self.best(key[0], time), time)

    def _quote(self, price: Price | None, time: int) -> Quote:
        """Return a quote; before the bill was read, for a day at most, it is for what has no price in force yet."""
        self._begun = min(self._begun, time)
        since = NEVER if not self.is_informed and time < self._begun + DAY else price.since if price else 0
        return (price.usd if price else None), since

    def _quote_effective(self, key: EffectiveKey, time: int) -> Quote:
        """Weigh the prices in force of all geographies with their tokens of this type, or of all if there are none."""
        mix = self._table.mix(key[:4], time - time % HOUR)
        if not mix:
            return None
        lane = TOKEN_TYPES.index(key.token_type)
        weights = {geo: counts[lane] for geo, counts in mix.items()}
        if not any(weights.values()):
            weights = {geo: sum(counts) for geo, counts in mix.items()}
        priced = [
            (weight, usd)
            for geo, weight in weights.items()
            if (usd := self._tokens.at(_priced_as(key, geo), time, MINUTE)) is not None
        ]
        whole = sum(weight for weight, _ in priced)
        return (DIGITS.divide(sum(weight * usd for weight, usd in priced), whole) if whole else None), 0


def _priced_as(key: EffectiveKey, geo: str) -> PriceKey:
    return PriceKey(key.model, key.service_tier, key.context_window, geo, key.token_type)


def _listed(prices: PriceList, what: PriceKey | str, day: int) -> Decimal | None:
    return prices.usd_per_request(what, day) if isinstance(what, str) else prices.usd_per_token(what, day)
