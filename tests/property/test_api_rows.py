import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from operator import add
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.api.pace import Pace
from exporter.api.retry import LONGEST_WISH, parse_retry_after
from exporter.api.rows import (
    API_KEY_USAGE,
    USAGE,
    Grouping,
    cost_bucket,
    cost_shelf,
    merged,
    timestamp,
    usage_bucket,
    usage_shelf,
)
from exporter.api.wire import CostItem, UsageItem, WireBucket
from exporter.errors import BadResponseError
from exporter.families import BILLED, USAGE_DIMENSIONS
from exporter.model import HOUR, MOST_BUCKETS, Bucket, RateLimits, Series, Window

START = 1_793_577_600
WINDOW = Window(HOUR, START, START + 6 * HOUR)
CALM = settings(deadline=None, max_examples=60)
VIEWS = [USAGE, API_KEY_USAGE]
SHARED = ("workspace_id", "model", "service_tier", "context_window")
Json = dict[str, Any]

figures = st.integers(0, 2**53) | st.none()
texts = st.text(max_size=8)
labels = st.none() | st.sampled_from(["", "a", "b"]) | texts
usage_rows = st.fixed_dictionaries(
    dict.fromkeys((*USAGE_DIMENSIONS, "api_key_id"), labels)
    | dict.fromkeys(("uncached_input_tokens", "cache_read_input_tokens", "output_tokens"), figures)
    | {
        "cache_creation": st.none()
        | st.fixed_dictionaries(dict.fromkeys(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"), figures)),
        "server_tool_use": st.none() | st.fixed_dictionaries({"web_search_requests": figures}),
    }
)
amounts = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places), st.integers(-(10**18) + 1, 10**18 - 1), st.integers(0, 60)
)
names = st.text("abcü_", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def wire(start: int, rows: Sequence[Json]) -> Json:
    return {"starting_at": iso(start), "ending_at": iso(start + HOUR), "results": list(rows)}


def usage_of(rows: Sequence[Json], view: Grouping) -> Bucket[int]:
    body = json.dumps(wire(START, rows)).encode()
    return usage_bucket(msgspec.json.decode(body, type=WireBucket[UsageItem]), usage_shelf(view), lambda _field: None)


def read(admin: AdminApi, view: Grouping) -> list[Bucket[int]]:
    return admin.usage(WINDOW) if view == USAGE else admin.api_key_usage(WINDOW)


def cost_of(rows: Sequence[Json]) -> Bucket[Decimal]:
    return cost_bucket(msgspec.json.decode(json.dumps(wire(START, rows)), type=WireBucket[CostItem]), cost_shelf())


def api(bodies: Sequence[bytes], drift: Counter[str] | None = None) -> AdminApi:
    """Return an API that answers with these bodies in turn."""
    answers = iter(bodies)
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=next(answers)))
    client = Client("http://api.test", Credentials("sk-ant-admin01-canary", None), timeout=1, listener=Listener(),
                    timing=Timing(), transport=transport)  # fmt: skip
    heard = Counter[str]() if drift is None else drift
    return AdminApi(client, drift=lambda field, rows: heard.update({field: rows}), retry=False)


def page(buckets: Sequence[Json], following: str | None = None) -> bytes:
    return json.dumps({"data": list(buckets), "has_more": following is not None, "next_page": following}).encode()


histories = st.lists(st.lists(usage_rows, max_size=3), min_size=6, max_size=6).map(
    lambda hours: [wire(START + n * HOUR, rows) for n, rows in enumerate(hours)]
)


@pytest.mark.parametrize("view", VIEWS)
@CALM
@given(histories, st.sets(st.integers(1, 5)), st.lists(st.integers(0, 5), max_size=3), st.randoms())
def test_any_cut_into_pages_any_order_and_any_duplicates_give_the_same_buckets(
    view: Grouping, history: list[Json], cuts: set[int], again: list[int], random: Any
) -> None:
    whole = read(api([page(history)]), view)
    assert [bucket.start for bucket in whole] == list(range(WINDOW.start, WINDOW.end, HOUR))
    ends = [0, *sorted(cuts), len(history)]
    pages = [history[begin:end] for begin, end in pairwise(ends)]
    for number in again:
        random.choice(pages).append(history[number])
    random.shuffle(pages)
    cursors = [*map(str, range(1, len(pages))), None]
    cut = api([page(buckets, cursor) for buckets, cursor in zip(pages, cursors, strict=True)])
    assert read(cut, view) == whole


def served(history: Sequence[Json], cut: int, page_rows: int, random: Any) -> AdminApi:
    """Return an API that answers any range of these hours, ``cut`` of them to a page, which are in any order on it."""

    def handle(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        start, end = (timestamp(asked[name]) for name in ("starting_at", "ending_at"))
        begin = int(asked.get("page", start))
        stop = min(end, begin + min(cut, int(asked["limit"])) * HOUR)
        data = [hour for hour in history if begin <= timestamp(hour["starting_at"]) < stop]
        following = str(stop) if stop < end else None
        return httpx.Response(200, content=page(random.sample(data, len(data)), following))

    client = Client("http://api.test", Credentials("sk-ant-admin01-canary", None), timeout=1, listener=Listener(),
                    timing=Timing(), transport=httpx.MockTransport(handle))  # fmt: skip
    return AdminApi(client, retry=False, pace=Pace(page_rows))


@pytest.mark.parametrize("view", VIEWS)
@CALM
@given(histories, st.integers(1, 6), st.integers(1, 20), st.integers(1, 6), st.randoms())
def test_any_parts_any_pages_and_any_order_on_them_give_the_same_buckets(
    view: Grouping, history: list[Json], cut: int, page_rows: int, seen: int, random: Any
) -> None:
    admin = served(history, cut, page_rows, random)
    look = admin.usage if view == USAGE else admin.api_key_usage
    look(Window(HOUR, START, START + seen * HOUR))
    whole = read(api([page(history)]), view)
    assert look(WINDOW) == whole
    assert look(WINDOW) == whole


pasts = st.lists(st.tuples(st.integers(1, 1440), st.integers(0, 10**7)), max_size=5)


@CALM
@given(st.sampled_from(sorted(MOST_BUCKETS)), st.integers(1, 5000), pasts, st.integers(0, 5000))
def test_parts_cover_a_window_once_and_none_is_longer_than_the_api_allows(
    width: int, buckets: int, past: list[tuple[int, int]], rows: int
) -> None:
    pace = Pace()
    for length, total in past:
        pace.saw("usage", Window(width, 0, length * width), total)
    rest, end = Window(width, START, START + buckets * width), START
    while rest.buckets:
        part = pace.part("usage", rest)
        assert (part.width, part.start) == (width, end)
        assert 0 < part.buckets <= min(rest.buckets, MOST_BUCKETS[width])
        pace.saw("usage", part, part.buckets * rows)
        end = part.end
        rest = Window(width, end, rest.end)
    assert end == START + buckets * width


@pytest.mark.parametrize("view", VIEWS)
@CALM
@given(st.lists(usage_rows, max_size=6), st.randoms())
def test_rows_add_up_to_the_same_whatever_their_order_and_no_token_is_lost(
    view: Grouping, rows: list[Json], random: Any
) -> None:
    bucket = usage_of(rows, view)
    shuffled = random.sample(rows, len(rows))
    assert usage_of(shuffled, view) == bucket
    counted = sum(sum(counts) for series, counts in bucket.counts.items() if series.family == view.tokens)
    plain = ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens")
    sent = sum(row[name] or 0 for row in rows for name in plain)
    sent += sum(figure or 0 for row in rows for figure in (row["cache_creation"] or {}).values())
    assert counted == sent


def shared_sums(bucket: Bucket[int], view: Grouping) -> dict[object, tuple[int, ...]]:
    """Add up over what only one of the views tells."""
    sums: dict[object, tuple[int, ...]] = {}
    for series, counts in bucket.counts.items():
        known = dict(zip(view.dimensions, series.labels, strict=True))
        shared = tuple(known[name] for name in SHARED)
        place = (series.family == view.tokens, shared)
        sums[place] = tuple(map(add, sums.get(place, (0,) * len(counts)), counts))
    return sums


@CALM
@given(st.lists(usage_rows, max_size=6))
def test_both_views_of_the_same_rows_add_up_to_the_same(rows: list[Json]) -> None:
    by_geography, by_key = (shared_sums(usage_of(rows, view), view) for view in VIEWS)
    assert by_geography == by_key


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (USAGE, ("none", "default", "none", "none", "none")),
        (API_KEY_USAGE, ("console", "default", "none", "none", "none")),
    ],
)
@CALM
@given(st.lists(usage_rows, max_size=3))
def test_labels_are_never_empty_and_their_text_survives(
    view: Grouping, words: tuple[str, ...], rows: list[Json]
) -> None:
    expected = {
        tuple(row[name] or word for name, word in zip(view.dimensions, words, strict=True))
        for row in rows
        if any(any(counts) for counts in usage_of([row], view).counts.values())
    }
    assert {series.labels for series in usage_of(rows, view).counts} == expected
    assert all(all(series.labels) for series in usage_of(rows, view).counts)


@CALM
@given(st.lists(amounts, min_size=1, max_size=8))
def test_dollars_are_a_hundredth_of_the_cents_to_the_last_digit(cents: list[Decimal]) -> None:
    rows = [{"amount": str(amount), "currency": "USD", "description": str(n)} for n, amount in enumerate(cents)]
    ((dollars,),) = cost_of(rows).counts.values()
    assert Fraction(dollars) == sum(map(Fraction, cents)) / 100


@CALM
@given(amounts)
def test_an_amount_is_the_same_as_a_number_and_as_a_text(amount: Decimal) -> None:
    body = '{"starting_at": "2026-11-02T00:00:00Z", "results": [{"amount": %s}]}'
    as_text, as_number = (
        cost_bucket(msgspec.json.decode(body % text, type=WireBucket[CostItem]), cost_shelf()).counts
        for text in (f'"{amount}"', f"{amount}")
    )
    assert as_text == as_number


buckets = st.builds(
    lambda hour, counts: Bucket(START + hour * HOUR, {Series(BILLED, (name,)): (n,) for name, n in counts.items()}),
    st.integers(-2, 8),
    st.dictionaries(st.sampled_from("abc"), st.integers(-5, 5)),
)


@CALM
@given(st.lists(buckets, max_size=12), st.randoms())
def test_merging_is_idempotent_and_knows_no_order(found: list[Bucket[int]], random: Any) -> None:
    once = merged(WINDOW, found)
    assert merged(WINDOW, [*random.sample(found, len(found)), *found]) == once
    assert merged(WINDOW, once) == once
    starts = [bucket.start for bucket in once]
    assert starts == sorted({bucket.start for bucket in found if WINDOW.start <= bucket.start < WINDOW.end})


@CALM
@given(st.integers(-(10**6), 10**6).filter(lambda seconds: seconds % HOUR))
def test_no_bucket_that_is_not_aligned_is_taken(seconds: int) -> None:
    with pytest.raises(BadResponseError):
        merged(WINDOW, [Bucket(START + seconds, {})])


zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@CALM
@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=zones), st.sampled_from("T "))  # noqa: DTZ001
def test_a_time_in_any_zone_is_the_same_second(time: datetime, separator: str) -> None:
    assert timestamp(time.isoformat(separator)) == (time.replace(microsecond=0) - datetime.fromtimestamp(0, UTC)) // (
        timedelta(seconds=1)
    )


@CALM
@given(st.text(max_size=30) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-].*)?"))
def test_any_text_is_a_time_or_an_error_of_ours(text: str) -> None:
    with suppress(BadResponseError):
        assert isinstance(timestamp(text), int)


@CALM
@given(st.text(max_size=30) | st.integers().map(str) | st.floats().map(str), st.floats(0, 1e10))
def test_any_retry_after_is_between_now_and_an_hour_or_nothing(text: str, now: float) -> None:
    seconds = parse_retry_after(text, now)
    assert seconds is None or 0 <= seconds <= LONGEST_WISH


def places(node: Any) -> list[tuple[Any, Any]]:
    """List every container and key within a JSON document."""
    found: list[tuple[Any, Any]] = []
    keys = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        found += [(node, key), *places(node[key])]
    return found


@pytest.mark.parametrize("view", VIEWS)
@CALM
@given(usage_rows, values, st.data())
def test_any_value_anywhere_is_read_or_is_an_error_of_ours(
    view: Grouping, row: Json, value: Any, data: st.DataObject
) -> None:
    document = {"data": [wire(START, [row])], "has_more": False, "next_page": None}
    node, key = data.draw(st.sampled_from(places(document)))
    node[key] = value
    try:
        found = read(api([json.dumps(document).encode()]), view)
    except BadResponseError:
        return
    assert all(all(series.labels) for bucket in found for series in bucket.counts)


@CALM
@given(usage_rows, st.data())
def test_a_page_cut_off_anywhere_is_an_error(row: Json, data: st.DataObject) -> None:
    body = page([wire(START, [row])])
    end = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(BadResponseError):
        api([body[:end]]).usage(WINDOW)


@CALM
@given(usage_rows, st.binary(max_size=4), st.data())
def test_any_bytes_anywhere_are_read_or_are_an_error_of_ours(row: Json, junk: bytes, data: st.DataObject) -> None:
    body = page([wire(START, [row | {"unknown": "text"}])])
    place = data.draw(st.integers(0, len(body)))
    with suppress(BadResponseError):
        api([body[:place] + junk + body[place:]]).usage(WINDOW)


def leaves(value: Any, name: str) -> set[str]:
    """Name the numbers in a value that are not 0, through objects only."""
    if isinstance(value, dict):
        return set().union(*(leaves(inner, f"{name}.{key}") for key, inner in value.items()))
    return {name} if isinstance(value, int | float) and not isinstance(value, bool) and value else set()


@CALM
@given(st.lists(st.dictionaries(names, values, max_size=2), min_size=1, max_size=3))
def test_every_unknown_figure_is_heard_once_for_each_row(rows: list[Json]) -> None:
    known = {"cache_creation": None, "server_tool_use": None} | dict.fromkeys(
        ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens"), 1
    )
    heard = Counter[str]()
    body = page([wire(START, [known | {"new": row} for row in rows])])
    assert len(api([body], heard).usage(WINDOW)) == 1
    assert heard == Counter(name for row in rows for name in leaves(row, "new"))


words = st.none() | st.sampled_from(["", "a", "b", "batch", "model_group"])
limits = st.fixed_dictionaries({}, optional={"type": words, "value": values})
rate_limits = st.fixed_dictionaries(
    {},
    optional={
        "id": words,
        "group_type": words,
        "group": st.none() | st.fixed_dictionaries({}, optional={"id": words, "type": words, "display_name": texts}),
        "models": st.none() | st.lists(words, max_size=3),
        "limits": st.none() | st.lists(limits, max_size=3),
    },
)


def limits_of(pages: Sequence[Sequence[Json]]) -> RateLimits:
    """Read the rate limits from these pages."""
    cursors = [*map(str, range(1, len(pages))), None]
    bodies = [{"data": list(items), "next_page": cursor} for items, cursor in zip(pages, cursors, strict=True)]
    return api([json.dumps(body).encode() for body in bodies]).rate_limits()


@CALM
@given(st.lists(rate_limits, max_size=6), st.sets(st.integers(0, 6)), st.randoms())
def test_rate_limits_are_the_same_in_any_order_and_on_any_pages(items: list[Json], cuts: set[int], random: Any) -> None:
    whole = limits_of([items])
    assert all(all(names) and type(value) is int and 0 <= value < 2**63 for names, value in whole.values.items())
    assert all(all(pair) for pair in whole.models)
    assert len(set(whole.models)) == len(whole.models)
    shuffled = random.sample(items, len(items))
    found = limits_of([shuffled[begin:end] for begin, end in pairwise([0, *sorted(cuts), len(items)])])
    assert (found.values, set(found.models)) == (whole.values, set(whole.models))


@CALM
@given(rate_limits, values, st.data())
def test_any_value_anywhere_in_rate_limits_is_read_or_is_an_error_of_ours(
    item: Json, value: Any, data: st.DataObject
) -> None:
    document = {"data": [item], "next_page": None}
    node, key = data.draw(st.sampled_from(places(document)))
    node[key] = value
    body = json.dumps(document).encode()
    with suppress(BadResponseError):
        assert isinstance(api([body, b'{"data": []}']).rate_limits(), RateLimits)
