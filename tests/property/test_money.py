"""Money: sums are exact, usage costs tokens x price however it is read, and a price that is learned is the one paid."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import cycle
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.families import ESTIMATED, TOKEN_TYPES, TOKENS
from exporter.ledger.ledger import Ledger
from exporter.ledger.registers import Registers
from exporter.model import DAY, HOUR, MINUTE, Bucket, Labels, PriceKey, Reading, Series, Window
from exporter.money.estimates import by_workspace
from exporter.money.learning import DIGITS, Day, learn
from exporter.money.tariff import Quote, Tariff
from tests.world import at

Thread = Callable[[Callable[[], object]], object]

FINEST = 10**15
"""Parts of a dollar that amounts are whole numbers of here."""


@pytest.fixture(params=["this thread", "a new thread"])
def thread(request: pytest.FixtureRequest) -> Thread:
    """Run something: each thread has a decimal context of its own."""

    def new_thread(work: Callable[[], object]) -> object:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(work).result()

    return new_thread if request.param == "a new thread" else lambda work: work()


def amounts(number: int, *, signed: bool = True) -> Iterator[tuple[int, Decimal]]:
    """Yield random amounts of up to 18 digits before the point and 15 after it, as parts of a dollar and as dollars."""
    random = Random(20260309)  # noqa: S311 - the same figures each time
    tens = [10**digits for digits in range(19)]
    for _ in range(number):
        bits = random.getrandbits(160)
        digits = bits % 16
        whole = (bits >> 40) % tens[(bits >> 8) % 19]
        part = (bits >> 100) % tens[digits]
        sign = -1 if signed and bits >> 20 & 1 else 1
        text = f"{'-' * (sign < 0)}{whole}.{part:0{digits}d}" if digits else str(sign * whole)
        yield sign * (whole * FINEST + part * tens[15 - digits]), Decimal(text)


def test_the_random_amounts_are_of_all_lengths() -> None:
    shapes = {(len(str(abs(int(usd)))), -int(usd.as_tuple().exponent)) for _, usd in amounts(20_000)}
    assert {(whole, part) for whole in range(1, 19) for part in range(16)} <= shapes


def test_a_million_amounts_sum_exactly(thread: Thread) -> None:
    parts = 0

    def work() -> Decimal:
        def dollars() -> Iterator[Decimal]:
            nonlocal parts
            for exact, usd in amounts(1_000_000):
                parts += exact
                yield usd

        return sum(dollars(), Decimal(0))

    total = thread(work)
    assert isinstance(total, Decimal)
    assert Fraction(total) == Fraction(parts, FINEST)


def test_tokens_times_a_price_is_exact(thread: Thread) -> None:
    random = Random(4)  # noqa: S311 - the same figures each time
    prices = [DIGITS.divide(random.randint(1, 10**9), random.randint(1, 10**15)) for _ in range(20_000)]
    tokens = [random.randrange(10 ** random.randint(1, 15)) for _ in prices]
    total = thread(lambda: sum((count * usd for count, usd in zip(tokens, prices, strict=True)), Decimal(0)))
    assert isinstance(total, Decimal)
    assert Fraction(total) == sum(count * Fraction(usd) for count, usd in zip(tokens, prices, strict=True))


ANCHOR = int(at("2026-03-08T21:00"))
NAMES = [Series(ESTIMATED, (workspace, "claude-opus-5", "standard", "tokens", "output")) for workspace in "abcde"]


def ledger_of(buckets: Iterable[Bucket[Decimal]], end: int) -> Reading[Decimal]:
    """Return what a ledger shows that reads these minutes, up to ``end``."""
    ledger = Ledger(
        Registers(ANCHOR, ESTIMATED, Decimal(0)),
        settle=300,
        grace=90,
        hold=150,
        reaches_back=True,
        revision=7 * DAY,
        most_series=1000,
    )
    ledger.observe(Window(MINUTE, ANCHOR, end), buckets, end + 300)
    ledger.complete(end + 300, end + 300)
    reading = ledger.reading(end + 300, 0, None, None)
    assert reading
    return reading


def test_a_ledger_of_random_amounts_sums_exactly(thread: Thread) -> None:
    parts: defaultdict[Series, int] = defaultdict(int)
    buckets: list[Bucket[Decimal]] = []
    for number, (exact, usd) in enumerate(amounts(10_000, signed=False)):
        minute, name = divmod(number, len(NAMES))
        parts[NAMES[name]] += exact
        if name == 0:
            buckets.append(Bucket(ANCHOR + minute * MINUTE, {}))
        buckets[-1] = Bucket(buckets[-1].start, {**buckets[-1].counts, NAMES[name]: (usd,)})
    end = ANCHOR + len(buckets) * MINUTE

    def work() -> Mapping[Series, tuple[Decimal, ...]]:
        reading = ledger_of(buckets, end)
        shown = reading.at(end + 300)
        return {series: shown(line) for series, line in reading.lines.items()}

    shown = thread(work)
    assert isinstance(shown, dict)
    assert {series: Fraction(usd) for series, (usd,) in shown.items()} == {
        series: Fraction(exact, FINEST) for series, exact in parts.items()
    }


def test_registers_of_random_amounts_sum_exactly_whichever_bucket_holds_them(thread: Thread) -> None:
    found = list(amounts(24_000, signed=False))
    midnight = ANCHOR + 3 * HOUR

    def work() -> Decimal:
        registers = Registers(midnight, ESTIMATED, Decimal(0))
        widths = {MINUTE: found[:8000], HOUR: found[8000:16_000], DAY: found[16_000:]}
        for place, (width, ones) in enumerate(widths.items()):
            for number, (_, usd) in enumerate(ones):
                series = Series(ESTIMATED, (f"{place}", "m", "standard", "tokens", f"{number // 20}"))
                start = midnight + number % 20 * width
                registers.observe(width, start, {series: (usd,)}, -inf)
        registers.advance(midnight + 20 * DAY)
        return sum((usd for (usd,) in registers.totals.values()), Decimal(0))

    total = thread(work)
    assert isinstance(total, Decimal)
    assert Fraction(total) == Fraction(sum(exact for exact, _ in found), FINEST)


HOURS = 29
"""From the anchor on: two midnights, and one day that is whole."""
PERIOD = 20
"""Minutes after which there may be a new price."""
PERIODS = range(0, HOURS * 60, PERIOD)
PLACES: list[Labels] = [
    ("claude-opus-5", "default", "standard", "0-200k", "global"),
    ("claude-opus-5", "default", "standard", "0-200k", "us"),
    ("claude-haiku-5-5", "wrkspc_1", "batch", "200k-1M", "global"),
]
FACTORS = {"global": Decimal(1), "us": Decimal("1.1")}


@dataclass(frozen=True)
class Use:
    """Tokens in a minute after the anchor; what is ``late`` is not there yet in a stale reading."""

    minute: int
    place: int
    tokens: tuple[int, ...]
    late: bool


@dataclass(frozen=True)
class Read:
    """A reading of the minutes of an hour after the anchor, or of the hour, or of the day that it lies in."""

    width: int
    hour: int
    stale: bool


class Till:
    """Prices whatever it reads as the meter does, by ``usd`` for a token of output, and counts it in registers."""

    def __init__(self, uses: list[Use]) -> None:
        self.usd = Decimal(0)
        self._uses = uses
        self.tariff: Tariff[PriceKey] = Tariff(self._quote)
        self.registers = Registers(ANCHOR, ESTIMATED, Decimal(0))

    def read(self, read: Read) -> None:
        begin = ANCHOR + read.hour * HOUR
        span = max(read.width, HOUR)
        self._take(read.width, begin - begin % span, begin - begin % span + span, stale=read.stale)

    def read_period(self, period: int) -> None:
        """Read the minutes of a period, without what is late."""
        begin = ANCHOR + period * MINUTE
        self._take(MINUTE, begin, begin + PERIOD * MINUTE, stale=True)

    def restart(self) -> None:
        """Go on with what would be kept."""
        kept = self.tariff.rows(ANCHOR + HOURS * HOUR)
        self.tariff = Tariff(self._quote)
        self.tariff.restore(kept, PriceKey)

    def totals(self) -> dict[Labels, Decimal]:
        """Return what all of it costs, by the labels of estimates."""
        self.registers.advance(ANCHOR + HOURS * HOUR)
        return {series.labels: usd for series, (usd,) in self.registers.totals.items() if usd}

    def _take(self, width: int, begin: int, end: int, *, stale: bool) -> None:
        buckets: defaultdict[int, dict[Series, tuple[int, ...]]] = defaultdict(dict)
        for use in self._uses:
            time = ANCHOR + use.minute * MINUTE
            if begin <= time < end and not (stale and use.late):
                counts, series = buckets[time - time % width], Series(TOKENS, PLACES[use.place])
                counts[series] = tuple(map(int.__add__, counts.get(series, (0,) * len(TOKEN_TYPES)), use.tokens))
        for start, counts in sorted(buckets.items()):
            price = partial(self.tariff.at, start=start, width=width)
            costs = by_workspace(counts, price, lambda _tool: None)
            self.registers.observe(width, start, {series: (usd,) for series, usd in costs.items()}, -inf)

    def _quote(self, key: PriceKey, _time: int) -> Quote:
        return price_of(key, self.usd), 0


def price_of(key: PriceKey, usd: Decimal) -> Decimal:
    """Return the price of a key when a token of output costs ``usd``."""
    return usd * FACTORS[key.inference_geo] * (TOKEN_TYPES.index(key.token_type) + 1) / len(TOKEN_TYPES)


def cost(uses: list[Use], price: Callable[[PriceKey, int], Decimal | None]) -> dict[Labels, Decimal]:
    """Return tokens x price, which is told the key and the minute after the anchor."""
    sums: defaultdict[Labels, Decimal] = defaultdict(Decimal)
    for use in uses:
        model, workspace_id, tier, window, geo = PLACES[use.place]
        for token_type, tokens in zip(TOKEN_TYPES, use.tokens, strict=True):
            usd = price(PriceKey(model, tier, window, geo, token_type), use.minute)
            assert usd is not None
            sums[workspace_id, model, tier, "tokens", token_type] += tokens * usd
    return {labels: usd for labels, usd in sums.items() if usd}


EVERY_PERIOD = [
    Use(minute, place, (0, 0, 0, 0, 1), late=False) for minute in (*PERIODS, HOURS * 60 - 1) for place in range(3)
]

minutes = st.integers(0, HOURS * 60 - 1)
counts = st.tuples(*[st.integers(0, 10**12)] * len(TOKEN_TYPES))
uses = st.lists(st.builds(Use, minutes, st.sampled_from(range(len(PLACES))), counts, st.booleans()), max_size=30)
some_prices = st.lists(
    st.sampled_from([1, 2, 10]) | st.integers(1, 10**9), min_size=len(PERIODS), max_size=len(PERIODS)
).map(lambda parts: [Decimal(part) / 10**12 for part in parts])
reads = st.lists(
    st.builds(Read, st.sampled_from([MINUTE, HOUR]), st.integers(0, HOURS - 1), st.booleans())
    | st.builds(Read, st.just(DAY), st.integers(3, 26), st.booleans()),
    max_size=25,
)
orders = st.permutations(range(HOURS))


def at_last(order: list[int]) -> list[Read]:
    """Return reads of all minutes."""
    return [Read(MINUTE, hour, stale=False) for hour in order]


@settings(max_examples=20, deadline=None)
@given(uses, some_prices, reads, orders, st.integers(0, 80))
def test_what_is_read_in_time_costs_tokens_x_price_however_it_is_read_again(
    used: list[Use], prices: list[Decimal], again: list[Read], order: list[int], restart: int
) -> None:
    till = Till([*used, *EVERY_PERIOD])
    for period, usd in zip(PERIODS, prices, strict=True):
        till.usd = usd
        till.read_period(period)
    for number, read in enumerate([*again, *at_last(order), *again]):
        if number == restart:
            till.restart()
        till.usd = Decimal(number) / 1000
        till.read(read)

    def price(key: PriceKey, minute: int) -> Decimal:
        return price_of(key, prices[minute // PERIOD])

    assert till.totals() == cost([*used, *EVERY_PERIOD], price)


@settings(max_examples=20, deadline=None)
@given(uses, some_prices, st.lists(st.sampled_from([MINUTE, HOUR, DAY]), min_size=HOURS, max_size=HOURS), orders)
def test_what_is_only_read_late_costs_tokens_x_the_price_of_its_first_reading(
    used: list[Use], prices: list[Decimal], widths: list[int], order: list[int]
) -> None:
    till = Till(used)
    till.usd = prices[0]
    for width, hour in zip(widths, order, strict=True):
        till.read(Read(width, hour, stale=False))
    till.usd = prices[1]
    for read in at_last(order):
        till.read(read)

    assert till.totals() == cost(used, lambda key, _minute: price_of(key, prices[0]))


@settings(max_examples=20, deadline=None)
@given(uses, some_prices, reads, orders)
def test_what_is_first_read_in_any_order_costs_tokens_x_the_price_in_force_then(
    used: list[Use], prices: list[Decimal], again: list[Read], order: list[int]
) -> None:
    till = Till(used)
    for usd, read in zip(cycle(prices), [*again, *at_last(order), *again], strict=False):
        till.usd = usd
        till.read(read)

    assert till.totals() == cost(used, lambda key, minute: till.tariff.at(key, ANCHOR + minute * MINUTE, MINUTE))


@dataclass(frozen=True)
class Deal:
    """What a key was used for in each workspace on each day, at a price that was agreed on."""

    key: PriceKey
    usd: Decimal
    tokens: list[list[int]]


NEWEST = int(at("2026-03-09"))
keys = st.builds(
    PriceKey,
    st.sampled_from(["claude-opus-5", "claude-haiku-5-5"]),
    st.sampled_from(["standard", "batch"]),
    st.sampled_from(["0-200k", "200k-1M"]),
    st.sampled_from(["global", "us"]),
    st.sampled_from(TOKEN_TYPES),
)
agreed = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent), st.integers(1, 10**12), st.integers(-21, -12)
)
tokens_of_a_day = st.lists(st.integers(100, 10**13), min_size=1, max_size=3)


@st.composite
def deals(draw: st.DrawFn, days: int) -> list[Deal]:
    found = draw(st.lists(keys, min_size=1, max_size=5, unique=True))
    by_day = st.lists(tokens_of_a_day, min_size=days, max_size=days)
    return [Deal(key, draw(agreed), draw(by_day)) for key in found]


def day_of(deals: list[Deal], back: int, factor: int = 1) -> Day:
    """Return the day so many days before the newest one, on which everything was ``factor`` times as dear."""
    billed: dict[Labels, Decimal] = {}
    used: dict[Series, tuple[int, ...]] = {}
    for deal in deals:
        model, *others, token_type = deal.key
        lane = TOKEN_TYPES.index(token_type)
        for workspace, tokens in enumerate(deal.tokens[back]):
            series = Series(TOKENS, (model, f"wrkspc_{workspace}", *others))
            row = list(used.get(series, (0,) * len(TOKEN_TYPES)))
            row[lane] += tokens
            used[series] = tuple(row)
            billed[*series.labels, "tokens", token_type] = tokens * deal.usd * factor
    return Day(NEWEST - back * DAY, billed, used)


def close_to(usd: Decimal) -> object:
    return pytest.approx(usd, rel=Decimal("1e-9"), abs=Decimal(0))


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 10).flatmap(lambda days: st.tuples(st.just(days), deals(days))), st.sampled_from([None, 1, 15]))
def test_the_learned_price_is_the_one_that_was_agreed_on(found: tuple[int, list[Deal]], cheaper: int | None) -> None:
    days, agreed_on = found
    prices = {deal.key: deal.usd for deal in agreed_on}

    def listed(what: PriceKey | str, _day: int) -> Decimal | None:
        assert isinstance(what, PriceKey)
        return None if cheaper is None else prices[what] / cheaper

    learned = learn([day_of(agreed_on, back) for back in range(days)], listed)

    assert {key: price.usd for key, price in learned.tokens.items()} == {
        key: close_to(usd) for key, usd in prices.items()
    }
    assert {(price.basis, price.since) for price in learned.tokens.values()} == {("billed", 0)}
    assert (learned.requests, learned.rejected) == ({}, frozenset())


@settings(max_examples=100, deadline=None)
@given(deals(10), st.integers(2, 9), st.integers(2, 10))
def test_a_price_that_changed_is_followed_from_its_second_day_on(
    agreed_on: list[Deal], new_days: int, factor: int
) -> None:
    days = [day_of(agreed_on, back, factor if back < new_days else 1) for back in range(10)]
    learned = learn(days, lambda _what, _day: None)

    assert {key: price.usd for key, price in learned.tokens.items()} == {
        deal.key: close_to(deal.usd * factor) for deal in agreed_on
    }
    assert {price.since for price in learned.tokens.values()} == {NEWEST - (new_days - 1) * DAY}
