from decimal import Decimal

import pytest

from exporter.model import DAY, HOUR, MINUTE
from exporter.money.tariff import Quote, Tariff
from tests.world import at

TODAY = int(at("2026-03-09"))
TEN = int(at("2026-03-09T10:00"))
KEY, OTHER = ("claude-opus-5",), ("claude-sonnet-5",)


class Market:
    """Asks ``usd`` for a unit of anything, from ``since`` on, or cannot tell; and remembers who asked."""

    def __init__(self, usd: str | None, since: int = 0) -> None:
        self.usd, self.since, self.can_tell = usd, since, True
        self.asked: list[tuple[tuple[str, ...], int]] = []

    def quote(self, key: tuple[str, ...], time: int) -> Quote:
        self.asked.append((key, time))
        return ((None if self.usd is None else Decimal(self.usd)), self.since) if self.can_tell else None


def tariff(market: Market, *, grain: int = MINUTE, tolerance: str = "0") -> Tariff[tuple[str, ...]]:
    return Tariff(market.quote, grain=grain, tolerance=Decimal(tolerance))


def price(prices: Tariff[tuple[str, ...]], start: int, width: int = MINUTE, key: tuple[str, ...] = KEY) -> str | None:
    usd = prices.at(key, start, width)
    return None if usd is None else str(usd)


def history(market: Market, prices: Tariff[tuple[str, ...]], *changes: tuple[int, str | None]) -> None:
    """Use the minutes that are named, each when there is a new price."""
    for minute, usd in changes:
        market.usd = usd
        prices.at(KEY, minute, MINUTE)


def test_a_price_is_fixed_for_its_minute_by_the_first_use() -> None:
    market = Market("1")
    prices = tariff(market)
    assert price(prices, TEN) == "1"
    market.usd = "2"
    assert [price(prices, TEN) for _ in range(3)] == ["1"] * 3
    assert market.asked == [(KEY, TEN)]


def test_a_new_price_begins_with_the_next_minute_and_leaves_those_before_alone() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"), (TEN + MINUTE, "2"))
    market.usd = "3"
    assert price(prices, TEN + MINUTE) == "2"
    assert price(prices, TEN + 2 * MINUTE) == "3"
    assert [price(prices, TEN + minute * MINUTE) for minute in (-100, -1, 0, 1, 2)] == ["1", "1", "1", "2", "3"]


def test_a_minute_that_is_used_late_costs_what_was_in_force_then() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"), (TEN + 5 * MINUTE, "2"))
    market.usd = "3"
    assert price(prices, TEN + 3 * MINUTE) == "1"
    assert price(prices, TEN - DAY) == "1"
    assert price(prices, TEN + 5 * MINUTE) == "2"


def test_keys_have_prices_of_their_own() -> None:
    market = Market("1")
    prices = tariff(market)
    assert price(prices, TEN) == "1"
    market.usd = "2"
    assert price(prices, TEN, key=OTHER) == "2"
    assert price(prices, TEN) == "1"


def test_a_price_is_not_in_force_before_the_day_since_when_it_is_known_to_hold() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"))
    market.usd, market.since = "2", TEN + 3 * HOUR
    assert [price(prices, TEN + hour * HOUR) for hour in (1, 2, 3, 4)] == ["1", "1", "2", "2"]


def test_a_price_that_is_known_to_hold_for_long_begins_with_the_next_minute_all_the_same() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"))
    market.usd, market.since = "2", TEN - 2 * DAY
    assert [price(prices, TEN + minute * MINUTE) for minute in (-1, 0, 1)] == ["1", "1", "2"]


def test_an_hour_or_a_day_costs_the_lowest_price_in_force_within_it() -> None:
    market = Market("5")
    prices = tariff(market)
    changes = [(-60, "1"), (0, "4"), (600, "3"), (601, "9"), (659, "8"), (660, "6"), (1440, "2")]
    history(market, prices, *[(TODAY + minute * MINUTE, usd) for minute, usd in changes])
    assert [price(prices, TODAY + hour * HOUR, HOUR) for hour in (-1, 0, 9, 10, 11, 23, 24)] == list("1443662")
    assert [price(prices, TODAY + day * DAY, DAY) for day in (-1, 0, 1)] == ["1", "3", "2"]


@pytest.mark.parametrize("width", [HOUR, DAY])
@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("2", "1")])
def test_of_two_prices_the_lower_one_counts_whichever_comes_first(width: int, first: str, second: str) -> None:
    market = Market(first)
    prices = tariff(market)
    history(market, prices, (TODAY, first), (TODAY + width - MINUTE, second))
    assert price(prices, TODAY, width) == "1"


@pytest.mark.parametrize("width", [HOUR, DAY])
def test_what_is_read_as_a_whole_first_fixes_all_of_its_minutes(width: int) -> None:
    market = Market("1")
    prices = tariff(market)
    assert price(prices, TODAY, width) == "1"
    market.usd = "2"
    assert price(prices, TODAY + width - MINUTE) == "1"
    assert price(prices, TODAY + width) == "2"
    assert price(prices, TODAY, width) == "1"


def test_what_began_under_a_price_goes_on_so_when_it_is_read_as_a_whole() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN + 7 * MINUTE, "1"))
    market.usd = "0.5"
    assert price(prices, TEN, HOUR) == "1"
    assert price(prices, TEN + 59 * MINUTE) == "1"
    assert price(prices, TEN + HOUR) == "0.5"


def test_what_has_no_price_has_none_for_that_minute_even_when_there_is_one_later() -> None:
    market = Market(None)
    prices = tariff(market)
    history(market, prices, (TEN, None), (TEN + MINUTE, "2"))
    assert [price(prices, TEN + minute * MINUTE) for minute in (-1, 0, 1)] == [None, None, "2"]
    assert prices.untold == 0


def test_what_loses_its_price_has_none_from_the_next_minute_on() -> None:
    market = Market("1")
    prices = tariff(market, tolerance="0.001")
    history(market, prices, *[(TEN + minute * MINUTE, usd) for minute, usd in enumerate(["1", None, None, "1"])])
    assert [price(prices, TEN + minute * MINUTE) for minute in range(4)] == ["1", None, None, "1"]


def test_an_hour_with_a_minute_without_price_costs_nothing_and_one_without_any_has_no_price() -> None:
    market = Market(None)
    prices = tariff(market)
    history(market, prices, (TEN, None), (TEN + 20 * MINUTE, "2"))
    assert price(prices, TEN, HOUR) == "0"
    assert price(prices, TEN - HOUR, HOUR) is None
    assert price(prices, TEN + HOUR, HOUR) == "2"


def test_a_price_of_zero_is_a_price() -> None:
    market = Market("0")
    prices = tariff(market)
    history(market, prices, (TEN, "0"), (TEN + MINUTE, None))
    assert [price(prices, TEN), price(prices, TEN + MINUTE)] == ["0", None]


def test_what_nobody_can_tell_yet_is_not_fixed_but_counted() -> None:
    market = Market("1")
    prices = tariff(market)
    market.can_tell = False
    assert [price(prices, TEN), price(prices, TEN, HOUR), prices.untold] == [None, None, 2]
    market.can_tell = True
    assert [price(prices, TEN), prices.untold] == ["1", 2]
    market.can_tell = False
    assert [price(prices, TEN), price(prices, TEN + MINUTE), prices.untold] == ["1", None, 3]
    market.can_tell, market.usd = True, "2"
    assert [price(prices, TEN), price(prices, TEN + MINUTE), prices.untold] == ["1", "2", 3]


def test_a_price_of_a_coarser_grain_is_fixed_for_as_long_from_a_multiple_of_it_on() -> None:
    market = Market("1")
    prices = tariff(market, grain=5 * MINUTE)
    history(market, prices, (TEN + 3 * MINUTE, "1"), (TEN + 4 * MINUTE, "2"), (TEN + 7 * MINUTE, "3"))
    minutes = [-1, 0, 4, 5, 6, 9]
    assert [price(prices, TEN + minute * MINUTE) for minute in minutes] == ["1", "1", "1", "3", "3", "3"]
    assert market.asked == [(KEY, TEN), (KEY, TEN + 5 * MINUTE)]
    assert price(prices, TEN, HOUR) == "1"


@pytest.mark.parametrize(
    ("tolerance", "quoted", "found"),
    [
        ("0.001", "1000.9", "1000"),
        ("0.001", "1001", "1000"),
        ("0.001", "1001.1", "1001.1"),
        ("0.001", "999", "1000"),
        ("0.001", "998.9", "998.9"),
        ("0", "1000.000000000000001", "1000.000000000000001"),
    ],
)
def test_a_price_within_the_tolerance_does_not_replace_the_one_in_force(
    tolerance: str, quoted: str, found: str
) -> None:
    market = Market("1000")
    prices = tariff(market, tolerance=tolerance)
    history(market, prices, (TEN, "1000"), (TEN + MINUTE, quoted))
    assert price(prices, TEN + MINUTE) == found


def test_a_price_that_drifts_is_followed_once_it_is_far_from_the_one_in_force() -> None:
    market = Market("1000")
    prices = tariff(market, tolerance="0.001")
    quotes = ["1000", "1000.6", "1001.2", "1001.8"]
    history(market, prices, *[(TEN + minute * MINUTE, usd) for minute, usd in enumerate(quotes)])
    assert [price(prices, TEN + minute * MINUTE) for minute in range(4)] == ["1000", "1000", "1001.2", "1001.2"]


def test_asking_again_gives_the_same_in_any_order_and_changes_nothing() -> None:
    market = Market("1")
    prices = tariff(market)
    starts = [TEN + 7 * minute * MINUTE for minute in range(24)]
    history(market, prices, *[(start, str(number % 5)) for number, start in enumerate(starts)])
    before, kept = [price(prices, start) for start in starts], prices.rows(TODAY)
    market.usd = "99"
    assert [price(prices, start) for start in reversed(starts)] == before[::-1]
    assert [price(prices, TEN, HOUR) for _ in range(2)] == ["0", "0"]
    assert [price(prices, start + MINUTE) for start in starts * 2 if start != starts[-1]] == before[:-1] * 2
    assert prices.rows(TODAY) == kept


def test_what_is_kept_is_the_key_the_end_of_its_last_hour_and_the_prices_by_when_they_begin() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"), (TEN + HOUR, None), (TEN + HOUR + MINUTE, None))
    kept = [(KEY, TEN + 2 * HOUR - 1, [(0, Decimal(1)), (TEN + HOUR, None)])]
    assert prices.rows(TEN) == prices.rows(TEN) == kept


def test_a_tariff_goes_on_where_it_stopped_with_the_next_hour() -> None:
    market, later = Market("1"), Market("9")
    prices, resumed = tariff(market), tariff(later)
    history(market, prices, (TODAY, "1"), (TEN, None), (TEN + 90 * MINUTE, "2.50"))
    resumed.restore(prices.rows(TEN + 2 * HOUR), lambda *words: words)
    assert resumed.rows(TEN + 2 * HOUR) == prices.rows(TEN + 2 * HOUR)
    minutes = [TODAY, TODAY + HOUR, TEN, TEN + 89 * MINUTE, TEN + 90 * MINUTE, TEN + 119 * MINUTE]
    assert [price(resumed, minute) for minute in minutes] == ["1", "1", None, None, "2.50", "2.50"]
    assert later.asked == []
    assert price(resumed, TEN + 2 * HOUR) == "9"


def test_what_was_kept_is_not_changed_by_what_comes_later() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"))
    kept = prices.rows(TEN)
    history(market, prices, (TEN + HOUR, "2"))
    resumed = tariff(market)
    resumed.restore(kept, lambda *words: words)
    assert resumed.rows(TEN) == [(KEY, TEN + HOUR - 1, [(0, Decimal(1))])]
    assert price(resumed, TEN + HOUR) == "2"
    assert kept == [(KEY, TEN + HOUR - 1, [(0, Decimal(1))])]


@pytest.mark.parametrize(("age", "entries"), [(8 * DAY, 3), (8 * DAY + 1, 2), (9 * DAY + 1, 1), (30 * DAY, 1)])
def test_a_price_is_forgotten_8_days_after_the_next_one_has_begun(age: int, entries: int) -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TEN, "1"), (TEN + HOUR, "2"), (TEN + HOUR + DAY, "3"))
    changes = [(0, Decimal(1)), (TEN + HOUR, Decimal(2)), (TEN + HOUR + DAY, Decimal(3))]
    assert [kept for _, _, kept in prices.rows(TEN + HOUR + age)] == [changes[-entries:]]


def test_late_usage_of_up_to_8_days_costs_what_it_cost_then() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, *[(TODAY + hour * HOUR, str(hour)) for hour in range(20 * 24)])
    now = TODAY + 20 * DAY
    prices.rows(now)
    assert [price(prices, TODAY + hour * HOUR, HOUR) for hour in (288, 289, 479)] == ["288", "289", "479"]
    assert price(prices, now - 8 * DAY, DAY) == "288"


def test_usage_from_before_all_that_is_remembered_costs_the_oldest_price_of_it() -> None:
    market = Market("1")
    prices = tariff(market)
    history(market, prices, (TODAY, "1"), (TEN, "2"), (TEN + HOUR, "3"))
    prices.rows(TEN + 8 * DAY + 1)
    assert price(prices, TEN - HOUR) == "2"
    assert price(prices, TODAY, DAY) == "2"


def test_a_key_is_forgotten_35_days_after_its_last_use() -> None:
    market = Market("1")
    prices = tariff(market)
    prices.at(KEY, TEN, MINUTE)
    prices.at(OTHER, TEN + DAY, MINUTE)
    assert [key for key, *_ in prices.rows(TEN + 35 * DAY)] == [KEY, OTHER]
    assert [key for key, *_ in prices.rows(TEN + 35 * DAY + 1)] == [OTHER]
    market.usd = "2"
    assert price(prices, TEN + 36 * DAY) == "2"
    assert price(prices, TEN + 36 * DAY, key=OTHER) == "2"
    assert price(prices, TEN + DAY, key=OTHER) == "1"


def test_what_is_kept_is_bounded_however_often_prices_change() -> None:
    market = Market("1")
    prices = tariff(market)
    for hour in range(60 * 24):
        history(market, prices, (TODAY + hour * HOUR, str(hour)))
        rows = prices.rows(TODAY + hour * HOUR)
    assert [len(entries) for _, _, entries in rows] == [8 * 24 + 2]
