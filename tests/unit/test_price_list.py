from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from exporter import pricefiles
from exporter.errors import SettingsError
from exporter.families import TOKEN_TYPES
from exporter.model import PriceKey
from exporter.money.pricelist import PriceList, PriceListError, parse

SHIPPED = pricefiles.shipped()
MILLION = 1_000_000

PUBLISHED = """
    claude-fable-5-1   10    0.25  12.50  20    50
    claude-mythos-5-1  10    0.25  12.50  20    50
    claude-fable-5     10    1     12.50  20    50
    claude-mythos-5    10    1     12.50  20    50
    claude-opus-5-5     4    0.20   5      8    20
    claude-opus-5       5    0.50   6.25  10    25
    claude-opus-4-8     5    0.50   6.25  10    25
    claude-opus-4-7     5    0.50   6.25  10    25
    claude-opus-4-6     5    0.50   6.25  10    25
    claude-opus-4-5     5    0.50   6.25  10    25
    claude-opus-4-1    15    1.50  18.75  30    75
    claude-opus-4      15    1.50  18.75  30    75
    claude-sonnet-5-5   2    0.10   2.50   4    10
    claude-sonnet-5     2    0.20   2.50   4    10
    claude-sonnet-4-6   3    0.30   3.75   6    15
    claude-sonnet-4-5   3    0.30   3.75   6    15
    claude-sonnet-4     3    0.30   3.75   6    15
    claude-haiku-5-5    0.10 0.01   0.125  0.20  0.50
    claude-haiku-4-5    1    0.10   1.25   2     5
    claude-3-5-haiku    0.80 0.08   1      1.60  4
    claude-haiku-3-5    0.80 0.08   1      1.60  4
"""
"""Copied by hand: the model, and USD per million tokens in the order of TOKEN_TYPES."""

FURTHER = """
    claude-opus-5-5    batch     0-200k   global         uncached_input     2
    claude-opus-5-5    batch     0-200k   global         cache_read         0.10
    claude-opus-5-5    batch     0-200k   global         output            10
    claude-sonnet-5    batch     0-200k   global         cache_creation_5m  1.25
    claude-sonnet-5    batch     0-200k   global         cache_creation_1h  2
    claude-opus-5-5    standard  0-200k   us             output            22
    claude-fable-5-1   standard  0-200k   us             cache_read         0.275
    claude-opus-5-5    batch     0-200k   us             output            11
    claude-opus-5-5    none      none     none           output            20
    claude-opus-5-5    standard  0-200k   not_available  output            20
    claude-opus-5-5    standard  0-200k   mars           output            20
    claude-opus-5-5    standard  1M-2M    global         output            20
    claude-opus-4-6    standard  200k-1M  global         uncached_input     5
    claude-sonnet-4-6  standard  200k-1M  global         output            15
    claude-sonnet-4-5  standard  200k-1M  global         uncached_input     3
    claude-sonnet-4    standard  200k-1M  global         output            15
    claude-haiku-5-5   standard  none     global         output             0.50
    claude-haiku-5-5   standard  200k-1M  global         uncached_input     0.50
    claude-haiku-5-5   standard  200k-1M  global         cache_read         0.05
    claude-haiku-5-5   standard  200k-1M  global         cache_creation_5m  0.625
    claude-haiku-5-5   standard  200k-1M  global         cache_creation_1h  1
    claude-haiku-5-5   standard  200k-1M  global         output             2.50
    claude-haiku-5-5   batch     200k-1M  us             output             1.375
    claude-opus-4-1-20250805    standard  0-200k  not_available  output    75
    claude-opus-4-20250514      batch     0-200k  not_available  output    37.50
    claude-3-5-haiku-20241022   standard  0-200k  not_available  output     4
    claude-haiku-5-5-20261007   standard  200k-1M global         output     2.50
"""
"""Worked out by hand from the page's factors: model, tier, context window, geography, token type, USD per million."""

WHOLE = "uncached_input = 1\ncache_read = 2\ncache_creation_5m = 3\ncache_creation_1h = 4\noutput = 5\n"


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW = day("2026-11-01")


def key(model: str, kind: str = "output", *, tier: str = "standard", context: str = "0-200k") -> PriceKey:
    return PriceKey(model, tier, context, "global", kind)


def usd(prices: PriceList, asked: PriceKey, when: str = "2026-11-01", **further: str) -> Decimal | None:
    """Return the USD for a million tokens."""
    price = prices.usd_per_token(asked, day(when), **further)
    return None if price is None else price * MILLION


def published() -> list[tuple[str, str, Decimal]]:
    lines = [line.split() for line in PUBLISHED.strip().splitlines()]
    return [
        (model, kind, Decimal(figure))
        for model, *figures in lines
        for kind, figure in zip(TOKEN_TYPES, figures, strict=True)
    ]


@pytest.mark.parametrize(("model", "token_type", "figure"), published())
def test_every_published_price_is_listed(model: str, token_type: str, figure: Decimal) -> None:
    assert usd(SHIPPED, key(model, token_type)) == figure


def test_no_other_model_is_listed() -> None:
    assert set(SHIPPED.tokens) == {model for model, _, _ in published()}


def test_the_order_of_the_published_figures_is_that_of_the_columns() -> None:
    assert TOKEN_TYPES == ("uncached_input", "cache_read", "cache_creation_5m", "cache_creation_1h", "output")


@pytest.mark.parametrize("line", FURTHER.strip().splitlines())
def test_tier_context_geography_and_date_suffix_count(line: str) -> None:
    *dimensions, figure = line.split()
    assert usd(SHIPPED, PriceKey(*dimensions)) == Decimal(figure)


def test_a_price_is_exact() -> None:
    assert str(SHIPPED.usd_per_token(key("claude-haiku-5-5", "cache_creation_5m"), NOW)) == "1.25E-7"


@pytest.mark.parametrize(
    ("when", "figure"), [("2025-01-01", "0.20"), ("2026-10-06", "0.20"), ("2026-10-07", "0.10"), ("2030-01-01", "0.10")]
)
def test_cache_reads_of_sonnet_5_5_became_cheaper(when: str, figure: str) -> None:
    assert usd(SHIPPED, key("claude-sonnet-5-5", "cache_read"), when) == Decimal(figure)


@pytest.mark.parametrize(
    ("model", "speed", "figure"),
    [
        ("claude-opus-5-5", "fast", 40),
        ("claude-opus-5", "fast", 50),
        ("claude-opus-4-8", "fast", 50),
        ("claude-opus-4-8-20260101", "fast", 50),
        ("claude-opus-5-5", "standard", 20),
        ("claude-sonnet-5-5", "standard", 10),
        ("claude-sonnet-5-5", "none", 10),
        ("claude-sonnet-5-5", "fast", None),
        ("claude-opus-4-6", "fast", None),
        ("claude-opus-5-5", "faster", None),
    ],
)
def test_speed_counts_where_it_is_sold(model: str, speed: str, figure: int | None) -> None:
    assert usd(SHIPPED, key(model), speed=speed) == figure


@pytest.mark.parametrize(
    "model",
    [
        "claude-opus-5-6",
        "claude-opus-5-5-1",
        "claude-opus-55",
        "claude-opus",
        "claude-opus-5-",
        "claude-opus-5-latest",
        "claude-opus-5-2026010",
        "claude-opus-5-202601011",
        "claude-opus-5-20260101\n",
        "claude-opus-5-20260101-20260101",
        "Claude-opus-5",
        "anthropic.claude-opus-5",
        "",
        "none",
    ],
)
def test_a_model_that_only_looks_like_a_listed_one_has_no_price(model: str) -> None:
    assert usd(SHIPPED, key(model)) is None


def test_an_unknown_tier_or_token_type_has_no_price() -> None:
    assert usd(SHIPPED, key("claude-opus-5", tier="flex")) is None
    assert usd(SHIPPED, key("claude-opus-5", tier="priority")) is None
    assert usd(SHIPPED, key("claude-opus-5", "thoughts")) is None


def test_a_web_search_costs_a_cent() -> None:
    assert SHIPPED.usd_per_request("web_search", NOW) == Decimal("0.01")
    assert SHIPPED.usd_per_request("web_fetch", NOW) is None


def test_the_list_says_when_it_was_checked() -> None:
    assert SHIPPED.checked == date(2026, 10, 24)


def test_an_override_has_only_what_is_written_in_it() -> None:
    own = parse('[[model]]\nids = ["claude-opus-5"]\noutput = 20\n', base=SHIPPED)
    assert usd(own, key("claude-opus-5")) == 20
    assert usd(own, key("claude-opus-5-20260101")) == 20
    assert usd(own, key("claude-opus-5", "cache_read")) is None
    assert usd(own, key("claude-opus-5-5")) is None
    assert own.usd_per_request("web_search", NOW) is None
    assert own.checked is None


def test_an_override_inherits_factors() -> None:
    own = parse('[[model]]\nids = ["claude-opus-5", "claude-new-1"]\noutput = 20\n', base=SHIPPED)
    assert usd(own, key("claude-opus-5", tier="batch")) == 10
    assert usd(own, key("claude-new-1")._replace(inference_geo="us")) == 22
    assert usd(own, key("claude-opus-5"), speed="fast") == 40
    assert usd(own, key("claude-new-1"), speed="fast") is None


def test_an_override_s_own_factors_win() -> None:
    models = '[[model]]\nids = ["claude-opus-5", "claude-opus-5-5", "claude-new-1"]\noutput = 20\n'
    own = parse(f"{models}[factor.service_tier]\nbatch = 0.25\nflex = 0.7\n", base=SHIPPED)
    assert usd(own, key("claude-opus-5", tier="batch")) == 5
    assert usd(own, key("claude-opus-5", tier="flex")) == 14
    assert usd(own, key("claude-opus-5")._replace(inference_geo="us")) == 22
    some = parse(f"{models}[factor.speed]\nfast = {{ claude-opus-5 = 3, claude-new-1 = 4 }}\n", base=SHIPPED)
    fast = [usd(some, key(model), speed="fast") for model in ("claude-opus-5", "claude-opus-5-5", "claude-new-1")]
    assert fast == [60, 40, 80]
    every = parse(f"{models}[factor.speed]\nfast = 3\n", base=SHIPPED)
    assert usd(every, key("claude-opus-5-5"), speed="fast") == 60


def test_reading_an_override_leaves_the_base_as_it_was() -> None:
    parse('[[model]]\nids = ["claude-opus-5"]\noutput = 1\n[factor.service_tier]\nbatch = 0.1\n', base=SHIPPED)
    assert usd(SHIPPED, key("claude-opus-5", tier="batch")) == Decimal("12.5")


def test_the_newest_price_that_has_begun_wins_in_any_order() -> None:
    entry = '[[model]]\nids = ["a"]\noutput = {}\nsince = {}\n'
    dated = [entry.format(2, "2026-02-01"), entry.format(3, "2026-03-01"), entry.format(1, "2026-01-01")]
    own = parse("".join(dated), base=SHIPPED)
    days = ("2025-12-31", "2026-01-01", "2026-02-28", "2026-03-01")
    assert [usd(own, key("a"), when) for when in days] == [None, 1, 2, 3]


def test_a_narrower_price_wins_and_includes_its_factor() -> None:
    own = parse(
        '[[model]]\nids = ["a"]\noutput = 2\nsince = 2026-05-01\n'
        '[[model]]\nids = ["a"]\noutput = 3\nservice_tier = "batch"\n'
        '[[model]]\nids = ["a"]\noutput = 4\nservice_tier = "batch"\ncontext_window = "200k-1M"\n'
        '[[model]]\nids = ["a"]\noutput = 5\nservice_tier = "flex"\n',
        base=SHIPPED,
    )
    assert usd(own, key("a")) == 2
    assert usd(own, key("a", tier="batch")) == 3
    assert usd(own, key("a", tier="batch")._replace(inference_geo="us")) == Decimal("3.3")
    assert usd(own, key("a", tier="batch", context="200k-1M")) == 4
    assert usd(own, key("a", tier="flex")) == 5
    assert usd(own, key("a"), "2026-04-30") is None


def test_a_dated_id_is_asked_for_before_it_is_shortened() -> None:
    own = parse('[[model]]\nids = ["a-20250101"]\noutput = 2\n[[model]]\nids = ["a"]\noutput = 3\n', base=SHIPPED)
    assert usd(own, key("a-20250101")) == 2
    assert usd(own, key("a-20250102")) == 3
    only_dated = parse('[[model]]\nids = ["a-20250101"]\noutput = 2\n', base=SHIPPED)
    assert usd(only_dated, key("a")) is None


def test_prices_of_requests_may_have_dates() -> None:
    own = parse("[[request]]\nweb_search = 0.01\n[[request]]\nweb_search = 0.02\nsince = 2026-05-01\n")
    assert own.usd_per_request("web_search", day("2026-04-30")) == Decimal("0.01")
    assert own.usd_per_request("web_search", day("2026-05-01")) == Decimal("0.02")


def test_a_price_may_be_zero_but_not_less() -> None:
    own = parse('[[model]]\nids = ["a"]\noutput = 0\ncache_read = -0.0\n', base=SHIPPED)
    assert own.usd_per_token(key("a"), NOW) == 0
    assert not str(own.usd_per_token(key("a", "cache_read"), NOW)).startswith("-")


MODEL = f'[[model]]\nids = ["m"]\n{WHOLE}'

BROKEN = {
    "": "no prices",
    "checked = 2026-10-24": "no prices",
    "[factor.service_tier]\nbatch = 0.5": "no prices",
    "\n\na =": "line 3",
    "a = 1\na = 2": "line 2",
    "[[model]]\nids = [": "line 2",
    "a = " + "[" * 100_000: "nested too deeply",
    "a = " + "1" * 5000: "too many digits",
    "a = 1e" + "9" * 30: "too many digits",
    "modle = 1": "'modle' is not known; did you mean model?",
    '"a\\nb" = 1': r"'a\nb' is not known",
    "checked = '2026-10-24'\n" + MODEL: "checked is '2026-10-24'",
    "checked = 2026-10-24T00:00:00Z\n" + MODEL: "checked is 2026-10-24 00:00:00",
    "model = 3": "model is 3; write it as [[model]]",
    "[model]\nids = ['m']": "model is a table; write it as [[model]]",
    "model = [3]": "model 1 is 3",
    "request = true": "request is true",
    "request = [[]]": "request 1 is a list",
    "[request]\nweb_serach = 0.01": "request 1: 'web_serach' is not known; did you mean web_search?",
    "[request]\nweb_search = 10": "request 1: web_search is 10; write a number from 0 to 1",
    "[[request]]\nweb_search = 0.1\n[[request]]\nweb_search = 0.2": "request 2: web_search is listed before",
    f"[[model]]\n{WHOLE}": "model 1: ids is missing",
    f"[[model]]\nids = []\n{WHOLE}": "model 1: ids is missing",
    f'[[model]]\nids = "m"\n{WHOLE}': "model 1: ids is 'm'",
    f'[[model]]\nids = ["m", ""]\n{WHOLE}': "model 1: an id is ''",
    f'[[model]]\nids = [" m"]\n{WHOLE}': "model 1: an id is ' m'",
    f"[[model]]\nids = [5]\n{WHOLE}": "model 1: an id is 5",
    f"[[model]]\nids = ['{'m' * 201}']\n{WHOLE}": "model 1: an id is 'mmm",
    f"{MODEL}ouptut = 1": "model 1 (m): 'ouptut' is not known; did you mean output?",
    f"{MODEL}[model.output_tokens]": "model 1 (m): 'output_tokens' is not known; did you mean output?",
    MODEL.replace("output = 5", ""): "model 1 (m): output is missing",
    MODEL.replace("5\n", "'abc'\n"): "model 1 (m): output is 'abc'",
    MODEL.replace("5\n", "true\n"): "output is true",
    MODEL.replace("5\n", "-1\n"): "output is -1",
    MODEL.replace("5\n", "-0.001\n"): "output is -0.001",
    MODEL.replace("5\n", "nan\n"): "output is nan",
    MODEL.replace("5\n", "inf\n"): "output is inf",
    MODEL.replace("5\n", "-inf\n"): "output is -inf",
    MODEL.replace("5\n", "1000000.1\n"): "output is 1000000.1",
    MODEL.replace("5\n", "1000001\n"): "output is 1000001",
    MODEL.replace("5\n", "1e999999\n"): "output is 1e+999999",
    MODEL.replace("5\n", "1e-999999\n"): "output is 1e-999999",
    MODEL.replace("5\n", "0x" + "f" * 20_000 + "\n"): "output is a huge number",
    MODEL.replace("5\n", "2026-01-01\n"): "output is 2026-01-01",
    MODEL.replace("5\n", "[5]\n"): "output is a list",
    MODEL.replace("5\n", "{ usd = 5 }\n"): "output is a table",
    MODEL + "since = '2026-01-01'": "model 1 (m): since is '2026-01-01'; write it as YYYY-MM-DD",
    MODEL + "since = 2026-01-01T00:00:00": "since is 2026-01-01 00:00:00",
    MODEL + "since = 2026-01-01 00:00:00Z": "since is 2026-01-01 00:00:00",
    MODEL + "since = 20260101": "since is 20260101",
    MODEL + "since = 2026-02-30": "line 8",
    MODEL + "context_window = 200": "context_window is 200",
    MODEL + "service_tier = ''": "service_tier is ''",
    MODEL + MODEL: "model 2 (m): uncached_input is listed before",
    MODEL + "since = 2026-01-01\n" + MODEL + "since = 2026-01-01": "model 2 (m): uncached_input is listed before",
    MODEL.replace('"m"', '"m", "m"'): "model 1 (m): uncached_input is listed before",
    MODEL + "speed = 'fast'\n" + MODEL + "speed = 'fast'\n": "model 2 (m): uncached_input is listed before",
    "factor = 1\n" + MODEL: "factor is 1",
    MODEL + "[factor]\nspeed = 2": "factor.speed is 2",
    MODEL + "[factor.sped]\nfast = 2": "factor: 'sped' is not known; did you mean speed?",
    MODEL + "[factor.speed]\nfast = 0": "factor.speed, 'fast': the factor is 0; write a number from 0.001",
    MODEL + "[factor.speed]\nfast = -1": "the factor is -1",
    MODEL + "[factor.speed]\nfast = true": "the factor is true",
    MODEL + "[factor.speed]\nfast = inf": "the factor is inf",
    MODEL + "[factor.speed]\nfast = 1001": "the factor is 1001",
    MODEL + "[factor.speed]\nfast = '2'": "the factor is '2'",
    MODEL + "[factor.speed.fast]\nm = 'x'": "factor.speed, 'fast': 'm' is 'x'",
    MODEL + "[factor.speed.fast.m]\nx = 1": "factor.speed, 'fast': 'm' is a table",
}


@pytest.mark.parametrize(("text", "culprit"), BROKEN.items(), ids=map(str, range(len(BROKEN))))
def test_a_broken_list_is_refused_with_one_line_that_names_the_culprit(text: str, culprit: str) -> None:
    with pytest.raises(PriceListError) as caught:
        parse(text)
    message = str(caught.value)
    assert culprit in message
    assert "; " in message
    assert message.isprintable()
    assert len(message) < 300


def test_the_list_that_the_broken_ones_come_from_is_fine() -> None:
    assert usd(parse(MODEL), key("m")) == 5


def test_a_whole_list_needs_every_token_type_and_one_of_exceptions_needs_one() -> None:
    assert usd(parse('[[model]]\nids = ["m"]\noutput = 5', base=SHIPPED), key("m")) == 5
    with pytest.raises(PriceListError, match="uncached_input is missing"):
        parse('[[model]]\nids = ["m"]\noutput = 5')
    with pytest.raises(PriceListError, match="uncached_input is missing"):
        parse('[[model]]\nids = ["m"]\nsince = 2026-01-01', base=SHIPPED)


def test_no_file_is_no_override() -> None:
    assert pricefiles.override(None, SHIPPED) is None


def test_the_operator_s_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_bytes(b'\xef\xbb\xbf[[model]]\r\nids = ["claude-opus-5"]\r\noutput = 20\r\n')
    own = pricefiles.override(file, SHIPPED)
    assert own is not None
    assert usd(own, key("claude-opus-5", tier="batch")) == 10


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "it is not UTF-8"),
        (b"# \n" * 400_000, "it is larger than 1 MiB"),
        (b"[[model]]\nids = ['m']\noutput = 'x'", "model 1 (m): output is 'x'; write a number"),
        (b"[[model]", "it is not valid TOML"),
    ],
)
def test_a_bad_file_is_one_line_that_names_setting_and_file(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(content)
    assert refusal(file).startswith(f"prices.file is {str(file)!r}: {problem}")


def test_a_file_that_is_not_there_or_none_is_refused(tmp_path: Path) -> None:
    assert "there is no such file; give the path" in refusal(tmp_path / "a\nb")
    assert "that is not a file; give the path" in refusal(tmp_path)
    assert "that is not a file; give the path" in refusal(Path("/dev/zero"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "it cannot be read (File name too long); give a file" in refusal(tmp_path / ("a" * 1000))


def refusal(file: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        pricefiles.override(file, SHIPPED)
    assert str(caught.value).isprintable()
    assert "; " in str(caught.value)
    return str(caught.value)
