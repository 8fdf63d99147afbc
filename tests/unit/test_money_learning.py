from collections.abc import Iterable, Mapping
from decimal import Decimal

import pytest

from exporter import pricefiles
from exporter.families import BILLED, SERVER_TOOL_REQUESTS, TOKEN_TYPES, TOKENS
from exporter.model import DAY, HOUR, Bucket, Price, PriceKey, Series, Window
from exporter.money.learning import Day, Learned, learn, undated
from exporter.money.money import Filters, Money
from exporter.money.prices import Prices
from exporter.money.table import UsageTable
from tests.world import at

NEWEST = int(at("2026-03-09"))
OUTPUT = PriceKey("claude-opus-5", "standard", "0-200k", "global", "output")
NAME = "claude-opus-5"
DATED, LATER = "claude-opus-4-5-20251101", "claude-opus-4-5-20260115"

Line = tuple[tuple[str, ...], str]
"""The cost labels of a line of the bill, and its USD."""
Row = tuple[Series, tuple[int, ...]]


def billed(
    usd: str, kind: str = "output", *, workspace: str = "default", cost_type: str = "tokens", **key: str
) -> Line:
    wanted = OUTPUT._replace(token_type=kind, **key)
    model, *others, token_type = wanted
    return (model, workspace, *others, cost_type, token_type), usd


def used(tokens: int, kind: str = "output", *, workspace: str = "default", **key: str) -> Row:
    model, *others, _ = OUTPUT._replace(**key)
    counts = tuple(tokens if kind == token_type else 0 for token_type in TOKEN_TYPES)
    return Series(TOKENS, (model, workspace, *others)), counts


def searched(requests: int, *, model: str = NAME, tier: str = "standard") -> Row:
    return Series(SERVER_TOOL_REQUESTS, (model, "default", tier, "0-200k", "global")), (requests,)


def search_line(usd: str, *, model: str = "none") -> Line:
    return (model, "default", "none", "none", "none", "web_search", "none"), usd


def day(back: int, bill: Iterable[Line], usage: Iterable[Row]) -> Day:
    """Return the day so many days before the newest one; equal labels are summed, as in the reports."""
    amounts: dict[tuple[str, ...], Decimal] = {}
    for labels, usd in bill:
        amounts[labels] = amounts.get(labels, Decimal(0)) + Decimal(usd)
    counts: dict[Series, tuple[int, ...]] = {}
    for series, row in usage:
        known = counts.get(series, (0,) * len(row))
        counts[series] = tuple(old + new for old, new in zip(known, row, strict=True))
    return Day(NEWEST - back * DAY, amounts, counts)


def days(*amounts: str, tokens: int = 1000) -> list[Day]:
    """Return days, the newest first, on which so many tokens were billed so many USD."""
    return [day(back, [billed(usd)], [used(tokens)]) for back, usd in enumerate(amounts)]


def learned(found: Iterable[Day], listed: str | None = None) -> Learned:
    usd = None if listed is None else Decimal(listed)
    return learn(found, lambda _what, _day: usd)


def usd(found: Iterable[Day], **key: str) -> Decimal | None:
    """Return what a token is found to cost."""
    price = learned(found).tokens.get(OUTPUT._replace(**key))
    return price.usd if price else None


def test_two_days_that_agree_tell_the_exact_price() -> None:
    found = [
        day(0, [billed("0.0123")], [used(1000)]),
        day(1, [billed("0.1599")], [used(13_000)]),
    ]
    assert learned(found)[:3] == ({OUTPUT: Price(Decimal("0.0000123"), "billed", 0)}, {}, frozenset())


def test_a_price_that_does_not_end_is_rounded_to_18_digits() -> None:
    found = [day(back, [billed("1")], [used(3_000_000)]) for back in (0, 1)]
    assert str(usd(found)) == "3.33333333333333333E-7"


def test_one_day_is_not_enough() -> None:
    assert learned(days("0.02"))[:3] == ({}, {}, frozenset())


def test_nothing_is_learned_from_nothing() -> None:
    assert learned([])[:3] == ({}, {}, frozenset())


def test_days_need_not_follow_each_other() -> None:
    found = [day(0, [billed("0.02")], [used(1000)]), day(5, [], []), day(9, [billed("0.04")], [used(2000)])]
    assert usd(found) == Decimal("0.00002")


def test_each_token_type_has_its_own_price() -> None:
    bill = [billed("0.005", "uncached_input"), billed("0.025", "output"), billed("0.01", "cache_creation_1h")]
    usage = [used(1000, "uncached_input"), used(1000, "output"), used(1000, "cache_creation_1h")]
    tokens = learned([day(0, bill, usage), day(1, bill, usage)]).tokens
    assert {key.token_type: str(price.usd) for key, price in tokens.items()} == {
        "uncached_input": "0.000005",
        "output": "0.000025",
        "cache_creation_1h": "0.00001",
    }


def test_tier_context_window_and_geography_have_prices_of_their_own() -> None:
    kinds: list[Mapping[str, str]] = [
        {},
        {"service_tier": "batch"},
        {"context_window": "200k-1M"},
        {"inference_geo": "us"},
        {"model": "claude-haiku-5-5"},
    ]
    bill = [billed(f"0.00{number}", **kind) for number, kind in enumerate(kinds, 1)]
    found = [day(back, bill, [used(1000, **kind) for kind in kinds]) for back in (0, 1)]
    assert [usd(found, **kind) for kind in kinds] == [Decimal(number) / 1_000_000 for number in range(1, 6)]


def test_workspaces_share_a_price() -> None:
    bill = [billed("0.03"), billed("0.01", workspace="wrkspc_1")]
    usage = [used(1500), used(300, workspace="wrkspc_1"), used(200, workspace="wrkspc_2")]
    assert usd([day(0, bill, usage), day(1, bill, usage)]) == Decimal("0.00002")


def test_the_newest_days_that_agree_are_taken_together() -> None:
    assert usd(days("0.020000", "0.020008", "0.020004")) == Decimal("0.000020004")


@pytest.mark.parametrize(("other", "price"), [("1.001", "0.0010005"), ("0.999", "0.0009995"), ("1.0011", "0.002")])
def test_days_agree_if_their_prices_differ_by_no_more_than_a_thousandth(other: str, price: str) -> None:
    assert usd(days("1", other, "2", "2", "2", "2")) == Decimal(price)


@pytest.mark.parametrize("newest", ["0.010", "0.001", "0.0199", "0.021", "0.350"])
def test_a_newest_day_that_is_half_posted_or_odd_does_not_move_a_price(newest: str) -> None:
    found = learned(days(newest, "0.020", "0.020", "0.020", "0.020"))
    assert found.tokens == {OUTPUT: Price(Decimal("0.00002"), "billed", 0)}


def test_an_odd_day_among_older_ones_does_not_move_a_price() -> None:
    assert usd(days("0.020", "0.020", "0.5", "0.020")) == Decimal("0.00002")


def test_a_change_is_followed_from_the_second_day_that_confirms_it_on() -> None:
    assert usd(days("0.030", "0.020", "0.020", "0.020")) == Decimal("0.00002")
    followed = learned(days("0.030", "0.030", "0.020", "0.020", "0.020")).tokens[OUTPUT]
    assert followed == Price(Decimal("0.00003"), "billed", NEWEST - DAY)


@pytest.mark.parametrize(("amounts", "back"), [("33332222", 3), ("32222222", None), ("3333", None), ("3323", 1)])
def test_a_changed_price_is_known_to_hold_since_the_first_day_of_it(amounts: str, back: int | None) -> None:
    price = learned(days(*amounts)).tokens[OUTPUT]
    assert price.since == (0 if back is None else NEWEST - back * DAY)


def test_of_two_changes_the_newer_one_is_followed() -> None:
    price = learned(days("0.04", "0.04", "0.03", "0.03", "0.03", "0.02", "0.02")).tokens[OUTPUT]
    assert price == Price(Decimal("0.00004"), "billed", NEWEST - DAY)


@pytest.mark.parametrize("odd", [["0.015"], ["0.015", "0.9"], ["0.001", "0.029"]])
def test_up_to_two_newest_days_that_are_odd_do_not_undo_a_change_that_was_confirmed(odd: list[str]) -> None:
    price = learned(days(*odd, "0.030", "0.030", *["0.020"] * 5)).tokens[OUTPUT]
    assert price == Price(Decimal("0.00003"), "billed", NEWEST - (len(odd) + 1) * DAY)


def test_a_change_is_not_followed_before_a_second_day_confirms_it() -> None:
    assert usd(days("0.030", "0.015", "0.020", "0.020", "0.020")) == Decimal("0.00002")
    assert usd(days("0.030", "0.015", "0.030", "0.020", "0.020")) == Decimal("0.00003")


def test_behind_three_odd_days_the_median_counts() -> None:
    assert usd(days("0.015", "0.018", "0.025", "0.030", "0.030", "0.030")) == Decimal("0.0000275")


def test_prices_from_before_a_change_are_known_the_newest_first() -> None:
    found = learned(days("0.04", "0.04", "0.9", "0.03", "0.03", "0.02", "0.02", "0.02"))
    assert found.tokens == {OUTPUT: Price(Decimal("0.00004"), "billed", NEWEST - DAY)}
    assert found.earlier == {
        OUTPUT: [Price(Decimal("0.00003"), "billed", NEWEST - 4 * DAY), Price(Decimal("0.00002"), "billed", 0)]
    }


def test_a_single_day_before_a_change_tells_no_price() -> None:
    assert learned(days("0.04", "0.04", "0.02")).earlier == {}


def test_a_day_costs_what_was_paid_on_it() -> None:
    prices = Prices(pricefiles.shipped(), None, UsageTable())
    prices.learn(days("0.04", "0.04", "0.03", "0.03", "0.02", "0.02"))
    found = [prices.best(OUTPUT, NEWEST - back * DAY + 43_200) for back in (-1, 0, 1, 2, 3, 4, 30)]
    expected = ("0.00004", "0.00004", "0.00004", "0.00003", "0.00003", "0.00002", "0.00002")
    assert [price and price.usd for price in found] == [Decimal(usd) for usd in expected]


def test_a_day_before_all_that_was_learned_costs_the_oldest_price_of_it() -> None:
    prices = Prices(pricefiles.shipped(), None, UsageTable())
    prices.learn(days("0.04", "0.04", "0.02"))
    assert prices.best(OUTPUT, NEWEST - 2 * DAY) == Price(Decimal("0.00004"), "billed", NEWEST - DAY)


def test_where_no_two_days_agree_the_price_is_the_median_of_the_newest_7() -> None:
    assert usd(days("0.021", "0.025", "0.023", "0.029", "0.027", "0.022", "0.030", "0.9", "0.9")) == Decimal("0.000025")
    assert usd(days("0.021", "0.025")) == Decimal("0.000023")


def test_a_median_is_known_to_hold_from_no_day_on() -> None:
    assert learned(days("0.021", "0.025", "0.023")).tokens[OUTPUT] == Price(Decimal("0.000023"), "billed", 0)


@pytest.mark.parametrize(("tokens", "is_learned"), [(99, False), (100, True)])
def test_too_few_tokens_tell_no_price(tokens: int, is_learned: bool) -> None:  # noqa: FBT001 - a column of the table
    assert (usd(days("0.02", "0.02", tokens=tokens)) is not None) == is_learned


def test_a_day_with_too_few_tokens_is_passed_over() -> None:
    found = days("0.02", "0.02", "0.02")
    found.insert(0, day(-1, [billed("0.5")], [used(99)]))
    assert usd(found) == Decimal("0.00002")


def test_what_was_billed_but_not_used_or_used_but_not_billed_that_day_tells_nothing() -> None:
    bill, usage = [billed("0.02")], [used(1000)]
    assert learned([day(0, bill, []), day(1, [], usage), day(2, bill, usage)])[:3] == ({}, {}, frozenset())
    assert usd([day(0, bill, []), day(1, [], usage), day(2, bill, usage), day(3, bill, usage)]) == Decimal("0.00002")


def test_lines_and_rows_are_matched_by_day() -> None:
    found = [
        day(0, [billed("0.02"), billed("5", inference_geo="us")], [used(1000)]),
        day(1, [billed("0.02")], [used(1000), used(70_000, inference_geo="us")]),
    ]
    assert learned(found).tokens.keys() == {OUTPUT}


@pytest.mark.parametrize("amount", ["0", "-0.01", "0.5001", "100"])
def test_an_absurd_price_is_rejected_and_does_not_poison_the_others(amount: str) -> None:
    found = learned(days(amount, "0.03", "0.03"), listed="0.000025")
    assert found[:3] == ({OUTPUT: Price(Decimal("0.00003"), "billed", 0)}, {}, frozenset({(OUTPUT, NEWEST)}))


def test_20_times_the_list_price_is_not_absurd_yet() -> None:
    assert learned(days("0.5", "0.5"), listed="0.000025").tokens[OUTPUT].usd == Decimal("0.0005")


def test_only_absurd_days_tell_no_price() -> None:
    found = learned(days("0.6", "0.6", "0"), listed="0.000025")
    assert (found.tokens, len(found.rejected)) == ({}, 3)


def test_a_model_that_is_not_listed_may_cost_anything_but_nothing() -> None:
    assert usd(days("900", "900")) == Decimal("0.9")
    assert learned(days("0", "900", "-1")).rejected == {(OUTPUT, NEWEST), (OUTPUT, NEWEST - 2 * DAY)}


def test_prices_count_what_is_absurd_once_and_go_on_with_what_is_left() -> None:
    prices = Prices(pricefiles.shipped(), None, UsageTable())
    first = days("0.6", "0.02", "0.02")
    prices.learn(first)
    prices.learn(first)
    assert prices.rejected == 1
    assert prices.best(OUTPUT, NEWEST) == Price(Decimal("0.00002"), "billed", 0)
    prices.learn([day(-1, [billed("-3")], [used(1000)]), *first])
    assert prices.rejected == 2
    prices.learn([])
    assert prices.rejected == 2
    assert prices.best(OUTPUT, NEWEST) == Price(Decimal("0.000025"), "list")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-opus-4-5", "claude-opus-4-5"),
        ("claude-opus-4-5-2025110", "claude-opus-4-5-2025110"),
        ("claude-opus-4-5-latest", "claude-opus-4-5-latest"),
    ],
)
def test_a_bill_leaves_out_the_date_of_a_model(model: str, name: str) -> None:
    assert undated(model) == name


def test_a_line_without_the_date_is_for_the_model_with_it() -> None:
    bill, usage = [billed("0.02", model="claude-opus-4-5")], [used(1000, model=DATED)]
    assert usd([day(0, bill, usage), day(1, bill, usage)], model=DATED) == Decimal("0.00002")


def test_a_line_with_the_date_goes_before_one_without_it() -> None:
    bill = [billed("0.03", model=DATED), billed("0.01", model="claude-opus-4-5")]
    usage = [used(1000, model=DATED), used(1000, model="claude-opus-4-5")]
    found = [day(0, bill, usage), day(1, bill, usage)]
    assert usd(found, model=DATED) == Decimal("0.00003")
    assert usd(found, model="claude-opus-4-5") == Decimal("0.00001")


def test_two_dated_models_under_one_name_share_its_line() -> None:
    bill = [billed("0.06", model="claude-opus-4-5")]
    found = [day(back, bill, [used(1000, model=DATED), used(2000, model=LATER)]) for back in (0, 1)]
    assert usd(found, model=DATED) == usd(found, model=LATER) == Decimal("0.00002")


def test_few_tokens_of_one_model_are_enough_if_its_line_has_many() -> None:
    bill = [billed("0.02", model="claude-opus-4-5")]
    found = [day(back, bill, [used(1, model=DATED), used(999, model=LATER)]) for back in (0, 1)]
    assert usd(found, model=DATED) == Decimal("0.00002")


@pytest.mark.parametrize(
    "left_out", [("inference_geo",), ("service_tier",), ("context_window",), PriceKey._fields[1:4]]
)
def test_what_a_line_leaves_out_stands_for_all_values(left_out: tuple[str, ...]) -> None:
    bill = [billed("0.06", **dict.fromkeys(left_out, "none"))]
    others = dict.fromkeys(left_out, "x")
    found = [day(back, bill, [used(1000), used(2000, **others)]) for back in (0, 1)]
    assert usd(found) == usd(found, **others) == Decimal("0.00002")


def test_an_exact_line_goes_before_one_that_leaves_something_out() -> None:
    bill = [billed("0.022", inference_geo="us"), billed("0.04", inference_geo="none")]
    usage = [used(1000, inference_geo="us"), used(1500), used(500, inference_geo="eu")]
    found = [day(0, bill, usage), day(1, bill, usage)]
    prices = [usd(found, inference_geo=geo) for geo in ("us", "global", "eu")]
    assert prices == [Decimal("0.000022"), Decimal("0.00002"), Decimal("0.00002")]


def test_a_line_for_other_values_only_is_no_line() -> None:
    bill, usage = [billed("0.02", inference_geo="us")], [used(1000)]
    assert learned([day(0, bill, usage), day(1, bill, usage)]).tokens == {}


def test_priority_tier_tells_no_price_on_either_side() -> None:
    usage = [used(1000), used(9000, service_tier="priority")]
    for tier in ("standard", "none"):
        bill = [billed("0.02", service_tier=tier), billed("7", service_tier="priority")]
        found = [day(0, bill, usage), day(1, bill, usage)]
        assert usd(found) == Decimal("0.00002")
        assert usd(found, service_tier="priority") is None


def test_corrections_are_summed_with_what_they_correct() -> None:
    bill = [billed("0.05"), billed("-0.02"), billed("-0.01", workspace="wrkspc_1")]
    assert usd([day(back, bill, [used(1000)]) for back in (0, 1)]) == Decimal("0.00002")


def test_other_costs_of_a_model_are_not_its_tokens() -> None:
    others = [billed("3", cost_type="session_usage"), billed("4", "none", cost_type="web_search")]
    bill = [billed("0.02"), *others, billed("5", "thoughts")]
    assert usd([day(back, bill, [used(1000)]) for back in (0, 1)]) == Decimal("0.00002")


def test_a_web_search_costs_what_all_of_a_day_s_were_billed() -> None:
    usage = [searched(3), searched(1, model="claude-haiku-5-5"), searched(100, tier="priority"), used(1000)]
    others = [billed("5", "none"), billed("7", "none", cost_type="code_execution")]
    bill = [search_line("0.020"), search_line("0.012", model="claude-haiku-5-5"), *others]
    found = learned([day(0, bill, usage), day(1, bill, usage)])
    assert found[:3] == ({}, {"web_search": Price(Decimal("0.008"), "billed", 0)}, frozenset())


def test_a_correction_next_to_a_change_does_not_bring_the_old_price_back() -> None:
    assert learned(days("0.012", "0.007", "0.012", "0.02", "0.02", "0.02", "0.02", "0.02")).tokens[OUTPUT] == Price(
        Decimal("0.000012"), "billed", NEWEST - 2 * DAY
    )


def test_days_with_three_others_between_do_not_agree() -> None:
    assert usd(days("0.012", "0.007", "0.008", "0.009", "0.012")) == Decimal("0.000009")


def test_web_searches_follow_the_rules_of_tokens() -> None:
    def searches(*amounts: str) -> list[Day]:
        return [day(back, [search_line(amount)], [searched(10)]) for back, amount in enumerate(amounts)]

    assert learned(searches("0.08")).requests == {}
    assert learned(searches("0.08", "0.08", "0.1", "0.1")).requests == {
        "web_search": Price(Decimal("0.008"), "billed", NEWEST - DAY)
    }
    absurd = learned(searches("2.1", "-0.1", "0", "0.08", "0.08"), listed="0.01")
    assert absurd.requests == {"web_search": Price(Decimal("0.008"), "billed", 0)}
    assert absurd.rejected == {("web_search", NEWEST - back * DAY) for back in range(3)}


def test_searches_that_are_only_billed_or_only_used_tell_nothing() -> None:
    bill, usage = [search_line("0.1")], [searched(10)]
    assert learned([day(0, bill, []), day(1, [], usage), day(2, bill, usage)])[:3] == ({}, {}, frozenset())


def test_days_that_were_not_read_whole_or_have_no_bill_yet_are_left_out() -> None:
    money = Money(pricefiles.shipped(), None, Filters())
    series, counts = used(1000)
    oldest, now = NEWEST - 4 * DAY, NEWEST + DAY + HOUR

    def use(width: int, start: int, number: int) -> None:
        buckets = [Bucket(start + index * width, {series: counts}) for index in range(number)]
        money.take_usage(Window(width, start, start + number * width), buckets, now)

    def bill(back: int, usd: str) -> Bucket[Decimal]:
        return Bucket(NEWEST - back * DAY, {Series(BILLED, billed(usd)[0]): (Decimal(usd),)})

    use(DAY, oldest, 3)
    use(HOUR, NEWEST - DAY, 23)
    use(HOUR, NEWEST, 24)
    money.take_bill([bill(2, "0.02"), bill(1, "0.46")])
    assert money.prices.best(OUTPUT, now) == Price(Decimal("0.000025"), "list", 0)
    money.take_bill([bill(4, "0.02")])
    assert money.prices.best(OUTPUT, now) == Price(Decimal("0.00002"), "billed", 0)
    money.take_bill([bill(0, "0.72"), bill(1, "0.72")])
    use(HOUR, NEWEST - HOUR, 1)
    assert money.prices.best(OUTPUT, now) == Price(Decimal("0.00003"), "billed", NEWEST - DAY)
