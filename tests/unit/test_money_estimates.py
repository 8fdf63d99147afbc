from collections.abc import Collection, Mapping
from decimal import Decimal

from exporter.families import (
    API_KEY_ESTIMATED,
    API_KEY_TOKENS,
    API_KEY_TOOL_REQUESTS,
    ESTIMATED,
    SERVER_TOOL_REQUESTS,
    TOKENS,
    UNPRICED,
)
from exporter.model import DAY, HOUR, MINUTE, Bucket, PriceKey, Series
from exporter.money.estimates import News, by_api_key, by_workspace
from exporter.money.table import Cell

OPUS = ("claude-opus-5", "default", "standard", "0-200k", "global")
PRICES = {"uncached_input": "0.000005", "cache_read": "5E-7", "cache_creation_5m": "0.00000625", "output": "0.000025"}
"""USD; nobody knows a price for cache_creation_1h."""
FACTORS = {"batch": "0.5", "us": "1.1"}

Costs = Mapping[Series, Decimal]


def token(key: PriceKey) -> Decimal | None:
    if key.model == "claude-new-1" or key.token_type not in PRICES:
        return None
    factors = [Decimal(FACTORS.get(value, 1)) for value in (key.service_tier, key.inference_geo)]
    return Decimal(PRICES[key.token_type]) * factors[0] * factors[1]


def request(tool: str) -> Decimal | None:
    return {"web_search": Decimal("0.01")}.get(tool)


def cell_token(cell: Cell, token_type: str) -> Decimal | None:
    model, workspace_id, tier, window = cell
    dearer = 2 if workspace_id == "wrkspc_1" else 1
    usd = token(PriceKey(model, tier, window, "global", token_type))
    return None if usd is None else dearer * usd


def priced(counts: Mapping[Series, tuple[int, ...]]) -> Costs:
    return by_workspace(counts, token, request)


def keyed(counts: Mapping[Series, tuple[int, ...]]) -> Costs:
    return by_api_key(counts, cell_token, request)


def dollars(costs: Costs, family: str = ESTIMATED) -> dict[tuple[str, ...], str]:
    """Return the costs of one family that are not 0, by their labels."""
    return {labels: str(usd.normalize()) for (name, labels), usd in costs.items() if name == family and usd}


def test_tokens_cost_their_number_times_the_price_of_their_type() -> None:
    costs = priced({Series(TOKENS, OPUS): (1000, 2000, 400, 0, 300)})
    place = ("default", "claude-opus-5", "standard", "tokens")
    assert dollars(costs) == {
        (*place, "uncached_input"): "0.005",
        (*place, "cache_read"): "0.001",
        (*place, "cache_creation_5m"): "0.0025",
        (*place, "output"): "0.0075",
    }


def test_types_without_tokens_come_with_the_others_as_0() -> None:
    costs = priced({Series(TOKENS, OPUS): (0, 0, 0, 0, 1)})
    assert {labels[-1]: usd for (_, labels), usd in costs.items()} == {
        "uncached_input": 0,
        "cache_read": 0,
        "cache_creation_5m": 0,
        "output": Decimal("0.000025"),
    }
    assert {(family, *labels[:-1]) for family, labels in costs} == {
        (ESTIMATED, "default", "claude-opus-5", "standard", "tokens")
    }


def test_context_windows_and_geographies_of_a_workspace_are_added_up() -> None:
    costs = priced(
        {
            Series(TOKENS, OPUS): (0, 0, 0, 0, 1000),
            Series(TOKENS, (*OPUS[:3], "200k-1M", "global")): (0, 0, 0, 0, 2000),
            Series(TOKENS, (*OPUS[:4], "us")): (0, 0, 0, 0, 4000),
        }
    )
    assert dollars(costs) == {("default", "claude-opus-5", "standard", "tokens", "output"): "0.185"}


def test_workspaces_models_and_tiers_are_told_apart() -> None:
    model, workspace, tier, *rest = OPUS
    costs = priced(
        {
            Series(TOKENS, OPUS): (0, 0, 0, 0, 1000),
            Series(TOKENS, (model, "wrkspc_1", tier, *rest)): (0, 0, 0, 0, 2000),
            Series(TOKENS, (model, workspace, "batch", *rest)): (0, 0, 0, 0, 4000),
            Series(TOKENS, ("claude-opus-4", workspace, tier, *rest)): (0, 0, 0, 0, 8000),
        }
    )
    assert dollars(costs) == {
        ("default", "claude-opus-5", "standard", "tokens", "output"): "0.025",
        ("wrkspc_1", "claude-opus-5", "standard", "tokens", "output"): "0.05",
        ("default", "claude-opus-5", "batch", "tokens", "output"): "0.05",
        ("default", "claude-opus-4", "standard", "tokens", "output"): "0.2",
    }


def test_web_searches_cost_their_number_times_the_price_of_one() -> None:
    costs = priced(
        {Series(SERVER_TOOL_REQUESTS, OPUS): (3,), Series(SERVER_TOOL_REQUESTS, (*OPUS[:4], "us")): (4,)},
    )
    assert dollars(costs) == {("default", "claude-opus-5", "standard", "web_search", "none"): "0.07"}


def test_priority_tier_is_neither_priced_nor_unpriced() -> None:
    for model in ("claude-opus-5", "claude-new-1"):
        labels = (model, "default", "priority", "0-200k", "global")
        counts = {Series(TOKENS, labels): (9, 9, 9, 9, 9), Series(SERVER_TOOL_REQUESTS, labels): (9,)}
        assert priced(counts) == {}


def test_tokens_without_a_price_are_counted_by_model() -> None:
    costs = priced(
        {
            Series(TOKENS, ("claude-new-1", *OPUS[1:])): (1, 2, 3, 4, 5),
            Series(TOKENS, ("claude-new-1", "wrkspc_1", *OPUS[2:])): (100, 0, 0, 0, 0),
        }
    )
    assert costs == {Series(UNPRICED, ("claude-new-1",)): Decimal(115)}


def test_a_type_without_a_price_is_unpriced_alone() -> None:
    costs = priced({Series(TOKENS, OPUS): (0, 0, 0, 70, 1000)})
    assert dollars(costs) == {("default", "claude-opus-5", "standard", "tokens", "output"): "0.025"}
    assert dollars(costs, UNPRICED) == {("claude-opus-5",): "7E+1"}


def test_a_price_of_0_is_a_price() -> None:
    costs = by_workspace({Series(TOKENS, OPUS): (7, 7, 7, 7, 7)}, lambda _key: Decimal(0), request)
    assert [family for family, _ in costs] == [ESTIMATED] * 5


def test_requests_without_a_price_are_left_out() -> None:
    assert by_workspace({Series(SERVER_TOOL_REQUESTS, OPUS): (3,)}, token, lambda _tool: None) == {}
    labels = ("apikey_1", "default", "claude-opus-5", "standard", "0-200k")
    assert by_api_key({Series(API_KEY_TOOL_REQUESTS, labels): (3,)}, cell_token, lambda _tool: None) == {}


def test_a_bucket_without_usage_costs_nothing() -> None:
    assert priced({}) == keyed({}) == {}


def test_a_key_costs_its_tokens_of_all_types_and_its_searches() -> None:
    labels = ("apikey_1", "default", "claude-opus-5", "standard", "0-200k")
    costs = keyed(
        {Series(API_KEY_TOKENS, labels): (1000, 2000, 400, 99, 300), Series(API_KEY_TOOL_REQUESTS, labels): (2,)}
    )
    assert dollars(costs, API_KEY_ESTIMATED) == {("apikey_1", "default", "claude-opus-5"): "0.036"}
    assert len(costs) == 1


def test_a_key_pays_by_its_workspace_tier_and_context_window_which_are_added_up() -> None:
    def output(tokens: int, *labels: str) -> tuple[Series, tuple[int, ...]]:
        key, workspace, model, tier, window = labels
        return Series(API_KEY_TOKENS, (key, workspace, model, tier, window)), (0, 0, 0, 0, tokens)

    costs = keyed(
        dict(
            [
                output(1000, "apikey_1", "default", "claude-opus-5", "standard", "0-200k"),
                output(2000, "apikey_1", "default", "claude-opus-5", "batch", "0-200k"),
                output(4000, "apikey_1", "default", "claude-opus-5", "standard", "200k-1M"),
                output(1000, "apikey_1", "wrkspc_1", "claude-opus-5", "standard", "0-200k"),
                output(8000, "console", "default", "claude-opus-5", "standard", "0-200k"),
                output(9000, "console", "default", "claude-opus-5", "priority", "0-200k"),
                output(9000, "console", "default", "claude-new-1", "standard", "0-200k"),
            ]
        )
    )
    assert dollars(costs, API_KEY_ESTIMATED) == {
        ("apikey_1", "default", "claude-opus-5"): "0.15",
        ("apikey_1", "wrkspc_1", "claude-opus-5"): "0.05",
        ("console", "default", "claude-opus-5"): "0.2",
    }
    assert len(costs) == 3


def test_a_key_has_a_series_as_soon_as_it_has_a_price() -> None:
    labels = ("apikey_1", "default", "claude-opus-5", "standard", "0-200k")
    costs = keyed({Series(API_KEY_TOKENS, labels): (0, 0, 0, 5, 0)})
    assert costs == {Series(API_KEY_ESTIMATED, ("apikey_1", "default", "claude-opus-5")): Decimal(0)}


def bucket(start: int, tokens: int) -> Bucket[int]:
    return Bucket(start, {Series(TOKENS, OPUS): (0, 0, 0, 0, tokens)})


def told(news: News, width: int, *buckets: Bucket[int], untold: Collection[int] = ()) -> list[int]:
    """Return the starts of what is new, and let all of it be priced."""
    found = [bucket.start for bucket in news.of(width, buckets)]
    news.priced(width, buckets, untold)
    return found


def test_only_buckets_that_are_not_what_they_were_are_news() -> None:
    news = News()
    assert told(news, MINUTE, bucket(0, 1), bucket(60, 2)) == [0, 60]
    assert told(news, MINUTE, bucket(0, 1), bucket(60, 2)) == []
    assert told(news, MINUTE, bucket(0, 1), bucket(60, 3), bucket(120, 0)) == [60, 120]
    assert told(news, MINUTE, bucket(0, 0), bucket(60, 3), bucket(120, 0)) == [0]


def test_widths_are_told_apart() -> None:
    news = News()
    assert [told(news, width, bucket(0, 1)) for width in (MINUTE, HOUR, DAY, MINUTE)] == [[0], [0], [0], []]


def test_what_the_last_reading_has_not_had_is_news_again() -> None:
    news = News()
    told(news, MINUTE, bucket(0, 1), bucket(60, 2))
    told(news, MINUTE, bucket(60, 2))
    assert told(news, MINUTE, bucket(0, 1), bucket(60, 2)) == [0]


def test_what_was_not_priced_or_whose_price_was_untold_is_news_at_the_next_reading() -> None:
    news = News()
    assert news.of(MINUTE, [bucket(0, 1)]) == news.of(MINUTE, [bucket(0, 1)]) == [bucket(0, 1)]
    told(news, MINUTE, bucket(0, 1), bucket(60, 2), untold={0})
    told(news, HOUR, bucket(0, 1))
    assert told(news, MINUTE, bucket(0, 1), bucket(60, 2)) == [0]
    assert told(news, HOUR, bucket(0, 1)) == []


def test_a_bucket_without_usage_is_news_once() -> None:
    news = News()
    assert told(news, MINUTE, Bucket(0, {})) == [0]
    assert told(news, MINUTE, Bucket(0, {})) == []
