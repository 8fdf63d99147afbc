import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import chain, count, repeat
from typing import Any

import httpx
import pytest

from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.demo import api as simulated
from exporter.demo.faults import Fault, FaultKind
from exporter.demo.organization import Dimensions, Tokens
from exporter.demo.simulation import SimulatedOrganization
from exporter.errors import (
    ApiError,
    AuthError,
    BadRequestError,
    BadResponseError,
    NoAnswerError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
)
from exporter.families import (
    API_KEY_DIMENSIONS,
    API_KEY_TOKENS,
    API_KEY_TOOL_REQUESTS,
    BILLED,
    SERVER_TOOL_REQUESTS,
    TOKENS,
    USAGE_DIMENSIONS,
)
from exporter.model import DAY, HOUR, MINUTE, MOST_BUCKETS, ApiKey, Bucket, Organization, Series, Window, Workspace

KEY = "sk-ant-admin01-canary"
MONDAY = 1_793_577_600  # 2026-11-02T00:00:00Z
NOW = MONDAY + 12 * HOUR + 17 * MINUTE + 25
HOURS = Window(HOUR, MONDAY, MONDAY + 3 * HOUR)
DAYS = Window(DAY, MONDAY - 3 * DAY, MONDAY)
LABELS = ("claude-opus-5", "wrkspc_1", "standard", "0-200k", "global")
BILL_TYPES = {
    "uncached_input_tokens": "uncached_input",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_creation_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_creation_1h",
    "output_tokens": "output",
}
ABSENT = object()
VIEWS = {"usage": USAGE_DIMENSIONS, "api_key_usage": API_KEY_DIMENSIONS}
FAMILIES = {"usage": (TOKENS, SERVER_TOOL_REQUESTS), "api_key_usage": (API_KEY_TOKENS, API_KEY_TOOL_REQUESTS)}
WORDS = {"api_key_id": "console", "workspace_id": "default"}
ENDPOINTS = {"api_key_usage": "usage"}
REPORTS = ["usage", "api_key_usage", "cost"]

Json = dict[str, Any]


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def only(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not ABSENT}


def usage_row(**changes: object) -> Json:
    """Return a row as the API reference shows it, with 1, 2, 3, 4, 5 tokens and 6 searches."""
    row = {
        **dict(zip(USAGE_DIMENSIONS, LABELS, strict=True)),
        "uncached_input_tokens": 1,
        "cache_read_input_tokens": 2,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 5,
        "server_tool_use": {"web_search_requests": 6},
        **dict.fromkeys(("account_id", "api_key_id", "service_account_id")),
    }
    return only(row | changes)


def cost_row(amount: object = "123.45", **changes: object) -> Json:
    row = {
        **dict(zip(USAGE_DIMENSIONS, LABELS, strict=True)),
        "amount": amount,
        "currency": "USD",
        "description": "Claude Opus 5 Usage - Output Tokens",
        "cost_type": "tokens",
        "token_type": "output_tokens",
    }
    return only(row | changes)


def bucket(start: int, *rows: Json) -> Json:
    return {"starting_at": iso(start), "ending_at": iso(start + HOUR), "results": list(rows)}


def page(*buckets: Json, **changes: object) -> Json:
    return only({"data": list(buckets), "has_more": False, "next_page": None} | changes)


def listed(*items: Json, **changes: object) -> Json:
    return only({"data": list(items), "has_more": False, "first_id": None, "last_id": None} | changes)


class Canned:
    """An API that gives these answers (JSON, raw bytes, or a status), the last of them for ever."""

    def __init__(self, *answers: object, filters: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.asked: list[httpx.QueryParams] = []
        self.paths: list[str] = []
        self.drift: Counter[str] = Counter()
        self._answers = chain(answers, repeat(answers[-1]))
        self.api = AdminApi(client(httpx.MockTransport(self._handle)), filters or {}, self._hear)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.params)
        self.paths.append(request.url.path)
        answer = next(self._answers)
        if isinstance(answer, int):
            return httpx.Response(answer)
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _hear(self, field: str, rows: int) -> None:
        self.drift[field] += rows


def client(transport: httpx.BaseTransport) -> Client:
    timing = Timing(clock=lambda: NOW, timer=lambda: 0.0, sleep=lambda _seconds: None, spread=lambda: 0.5)
    return Client(
        "http://api.test", Credentials(KEY, None), timeout=1, listener=Listener(), timing=timing, transport=transport
    )


class Simulated:
    """The simulated API in process, ``buckets`` to a page, read without retries."""

    def __init__(self, buckets: int = 1000) -> None:
        self.organization = SimulatedOrganization(seed=5, started=MONDAY - 15 * DAY)
        self.server = simulated.AdminApi(
            self.organization, key=KEY, clock=lambda: NOW, page_buckets=dict.fromkeys((MINUTE, HOUR, DAY), buckets)
        )
        self.api = AdminApi(client(httpx.WSGITransport(app=self.server)), retry=False)


def usage_counts(*rows: Json) -> Mapping[Series, tuple[int, ...]]:
    """Return the counts of one bucket with these rows."""
    return view_counts("usage", *rows)


def view_counts(view: str, *rows: Json) -> Mapping[Series, tuple[int, ...]]:
    return look(Canned(page(bucket(MONDAY, *rows))).api, view, HOURS)[0].counts


def look(api: AdminApi, view: str, window: Window) -> list[Bucket[int]]:
    """Read usage by geography or by API key."""
    return api.usage(window) if view == "usage" else api.api_key_usage(window)


def cost_counts(*rows: Json) -> Mapping[Series, tuple[Decimal, ...]]:
    return Canned(page(bucket(MONDAY - DAY, *rows))).api.cost(DAYS)[0].counts


def drift_of(*rows: Json) -> Counter[str]:
    canned = Canned(page(bucket(MONDAY, *rows)))
    canned.api.usage(HOURS)
    return canned.drift


# --- what is asked for


@pytest.mark.parametrize(("width", "word"), [(MINUTE, "1m"), (HOUR, "1h"), (DAY, "1d")])
@pytest.mark.parametrize("view", VIEWS)
def test_usage_is_asked_for_aligned_with_an_explicit_limit_and_five_dimensions(
    view: str, width: int, word: str
) -> None:
    canned = Canned(page())
    look(canned.api, view, Window(width, MONDAY - 7 * width, MONDAY))
    assert canned.paths == ["/v1/organizations/usage_report/messages"]
    assert sorted(canned.asked[0].multi_items()) == sorted(
        [
            ("starting_at", iso(MONDAY - 7 * width)),
            ("ending_at", "2026-11-02T00:00:00Z"),
            ("limit", "7"),
            ("bucket_width", word),
            *(("group_by[]", name) for name in VIEWS[view]),
        ]
    )
    assert len(canned.asked[0].get_list("group_by[]")) == 5


def test_usage_by_api_key_tells_apart_all_that_a_price_needs_but_the_geography() -> None:
    canned = Canned(page())
    canned.api.api_key_usage(HOURS)
    dimensions = ["api_key_id", "workspace_id", "model", "service_tier", "context_window"]
    assert canned.asked[0].get_list("group_by[]") == dimensions


def test_cost_is_asked_for_in_days_by_workspace_and_description() -> None:
    canned = Canned(page())
    canned.api.cost(DAYS)
    assert canned.paths == ["/v1/organizations/cost_report"]
    assert canned.asked[0].multi_items() == [
        ("starting_at", "2026-10-30T00:00:00Z"),
        ("ending_at", "2026-11-02T00:00:00Z"),
        ("limit", "3"),
        ("bucket_width", "1d"),
        ("group_by[]", "workspace_id"),
        ("group_by[]", "description"),
    ]


def test_a_limit_never_exceeds_the_api_s_maximum() -> None:
    assert MOST_BUCKETS == {MINUTE: 1440, HOUR: 168, DAY: 31}
    for width, most in MOST_BUCKETS.items():
        for buckets in (1, most, most + 1, 10 * most):
            canned = Canned(page())
            canned.api.usage(Window(width, MONDAY - buckets * width, MONDAY))
            assert max(int(asked["limit"]) for asked in canned.asked) <= most
            canned.api.cost(Window(DAY, MONDAY - buckets * DAY, MONDAY))
            assert canned.asked[-1]["limit"] == str(min(buckets, MOST_BUCKETS[DAY]))


@pytest.mark.parametrize("view", VIEWS)
def test_filters_are_passed_to_the_usage_report_only(view: str) -> None:
    filters = {"workspace_ids[]": ("wrkspc_1", "wrkspc_2"), "models[]": ("claude-opus-5",), "service_tiers[]": ()}
    canned = Canned(page(), filters=filters)
    look(canned.api, view, HOURS)
    canned.api.cost(DAYS)
    assert canned.asked[0].get_list("workspace_ids[]") == ["wrkspc_1", "wrkspc_2"]
    assert canned.asked[0].get_list("models[]") == ["claude-opus-5"]
    assert not {"service_tiers[]"} & set(canned.asked[0])
    assert not filters.keys() & set(canned.asked[1])


# --- pages


@pytest.mark.parametrize("view", VIEWS)
def test_pages_are_followed_with_unchanged_parameters(view: str) -> None:
    cursors = ["page_MjAy+/==", "2025-05-14T00:00:00Z", "page_3"]
    pages = [page(bucket(MONDAY), has_more=True, next_page=cursor) for cursor in cursors]
    canned = Canned(*pages, page(), filters={"models[]": ("a", "b")})
    look(canned.api, view, HOURS)
    first = canned.asked[0].multi_items()
    assert "page" not in canned.asked[0]
    assert [asked.multi_items() for asked in canned.asked[1:]] == [[*first, ("page", cursor)] for cursor in cursors]


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("cursor", [None, "", ABSENT])
def test_more_without_a_cursor_is_an_error(report: str, cursor: object) -> None:
    more = page(bucket(MONDAY - DAY), has_more=True, next_page=cursor)
    with pytest.raises(BadResponseError, match="cursor"):
        read(Canned(more, page()).api, report)


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"], ["a", "b", "b"]])
@pytest.mark.parametrize("report", REPORTS)
def test_a_repeated_cursor_is_an_error(report: str, cursors: list[str]) -> None:
    canned = Canned(*(page(has_more=True, next_page=cursor) for cursor in cursors), page())
    with pytest.raises(BadResponseError, match="cursor"):
        read(canned.api, report)
    assert len(canned.asked) == len(cursors)


@pytest.mark.parametrize("report", REPORTS)
def test_endless_pages_are_an_error(report: str) -> None:
    canned = Canned(*(page(has_more=True, next_page=str(number)) for number in range(100)))
    with pytest.raises(BadResponseError, match="more than"):
        read(canned.api, report)
    assert len(canned.asked) <= HOURS.buckets + 1


def read(api: AdminApi, what: str) -> object:
    if what in VIEWS:
        return look(api, what, HOURS)
    if what == "cost":
        return api.cost(DAYS)
    return api.api_keys((), None) if what == "api_keys" else getattr(api, what)()


NOT_A_PAGE = [
    b"", b"{", b'{"data": [', b"<!DOCTYPE html><html></html>", b"upstream connect error", b"null", b"[]", b"{}", b'"x"',
    b'{"data": []}', b'{"has_more": false}', b'{"data": null, "has_more": false}', b'{"data": {}, "has_more": false}',
    b'{"data": [1], "has_more": false}', b'{"data": [], "has_more": 0}', b'{"data": [], "has_more": "false"}',
    b'{"data": [], "has_more": false} trailing', b'{"data": [], "has_more": tr', b"\xef\xbb\xbf{}", b"\xff\xfe",
    b'{"data": [], "has_more": false, "x": ' + b"[" * 100_000, b'{"data": [], "next_page": 1, "has_more": false',
    b'{"data": [[]], "has_more": false}', b'{"data": [{}], "has_more": false}',
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_A_PAGE)
@pytest.mark.parametrize("what", [*REPORTS, "workspaces", "api_keys", "organization"])
def test_what_is_not_the_promised_shape_is_an_error(what: str, body: bytes) -> None:
    with pytest.raises(BadResponseError) as caught:
        read(Canned(body).api, what)
    assert str(caught.value).startswith(f"{ENDPOINTS.get(what, what)}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"starting_at": ABSENT}, {"starting_at": None}, {"starting_at": 1793577600}, {"starting_at": "2026-11-02"},
        {"starting_at": "2026-11-02T00:00:00"}, {"starting_at": ""}, {"starting_at": "now"}, {"results": ABSENT},
        {"results": None}, {"results": {}}, {"results": [[]]}, {"results": ["row"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("report", REPORTS)
def test_a_bucket_of_another_shape_is_an_error(report: str, changes: Json) -> None:
    row = cost_row() if report == "cost" else usage_row()
    with pytest.raises(BadResponseError):
        read(Canned(page(only(bucket(MONDAY - DAY, row) | changes))).api, report)


SPOILED: list[tuple[FaultKind, type[ApiError]]] = [
    (400, BadRequestError), (401, AuthError), (403, PermissionDeniedError), (429, RateLimitedError), (500, ServerError),
    (529, ServerError), ("html", BadResponseError), ("truncated", BadResponseError), ("not_json", BadResponseError),
    ("missing_next_page", BadResponseError), ("repeated_cursor", BadResponseError), ("redirect", BadResponseError),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "error"), SPOILED)
@pytest.mark.parametrize("report", REPORTS)
def test_pages_that_break_half_way_are_an_error_and_the_next_read_is_whole(
    report: str, kind: FaultKind, error: type[ApiError]
) -> None:
    world, whole = Simulated(buckets=1), Simulated()
    endpoint = ENDPOINTS.get(report, report)
    world.server.faults.add(Fault(kind=kind, endpoint=endpoint, after_pages=1, times=1))
    with pytest.raises(error):
        read(world.api, report)
    assert world.server.requests[endpoint] >= 2
    assert read(world.api, report) == read(whole.api, report)


def test_an_answer_that_does_not_come_half_way_is_an_error() -> None:
    pages = count()

    def late(request: httpx.Request) -> httpx.Response:
        if next(pages):
            raise httpx.ReadTimeout("late", request=request)
        return httpx.Response(200, json=page(bucket(MONDAY, usage_row()), has_more=True, next_page="2"))

    with pytest.raises(NoAnswerError):
        AdminApi(client(httpx.MockTransport(late)), retry=False).usage(HOURS)


# --- buckets


@pytest.mark.parametrize("buckets", [1, 7, 1000])
@pytest.mark.parametrize("view", VIEWS)
def test_usage_is_what_the_organisation_used_however_the_pages_are_cut(view: str, buckets: int) -> None:
    world = Simulated(buckets)
    window = Window(MINUTE, MONDAY + 10 * HOUR, MONDAY + 11 * HOUR)
    found = look(world.api, view, window)
    assert [found.start for found in found] == list(range(window.start, window.end, MINUTE))
    truth = world.organization.usage(MINUTE, window.start, window.end, NOW)
    assert {bucket.start: dict(bucket.counts) for bucket in found} == {
        start: expected_usage(view, truth.get(start, {})) for start in range(window.start, window.end, MINUTE)
    }


def expected_usage(view: str, rows: Mapping[Dimensions, Tokens]) -> dict[Series, tuple[int, ...]]:
    """Return the series of one bucket, added up over what the view does not tell."""
    counts: Counter[tuple[Series, int]] = Counter()
    of_tokens, of_requests = FAMILIES[view]
    for dimensions, tokens in rows.items():
        labels = tuple(getattr(dimensions, name) or WORDS[name] for name in VIEWS[view])
        for lane, tokens_of_lane in enumerate(tokens[:5]):
            counts[Series(of_tokens, labels), lane] += tokens_of_lane
        counts[Series(of_requests, labels), 0] += tokens.web_search
    lanes = {of_tokens: 5, of_requests: 1}
    sums = {series: tuple(counts[series, lane] for lane in range(lanes[series.family])) for series, _ in counts}
    return {series: figures for series, figures in sums.items() if any(figures)}


SHARED = ("workspace_id", "model", "service_tier", "context_window")


def shared_sums(view: str, buckets: list[Bucket[int]]) -> dict[object, tuple[int, ...]]:
    """Add up, by bucket and whether it is tokens or requests, over what only one of the views tells."""
    sums: dict[object, tuple[int, ...]] = {}
    for bucket in buckets:
        for series, counts in bucket.counts.items():
            labels = dict(zip(VIEWS[view], series.labels, strict=True))
            place = (bucket.start, FAMILIES[view].index(series.family), *(labels[name] for name in SHARED))
            sums[place] = tuple(a + b for a, b in zip(sums.get(place, (0,) * len(counts)), counts, strict=True))
    return sums


@pytest.mark.parametrize("width", [MINUTE, HOUR, DAY])
def test_the_sums_over_keys_are_the_sums_over_geographies(width: int) -> None:
    world = Simulated()
    window = Window(width, MONDAY - 6 * width, MONDAY + width)
    by_geography, by_key = (shared_sums(view, look(world.api, view, window)) for view in VIEWS)
    assert by_key == by_geography
    assert len(by_key) > 50


@pytest.mark.parametrize("filters", [{"models[]": ("claude-haiku-5-5",)}, {"service_tiers[]": ("batch", "priority")}])
def test_filters_narrow_both_views_down_alike(filters: Mapping[str, tuple[str, ...]]) -> None:
    world = Simulated()
    api = AdminApi(client(httpx.WSGITransport(app=world.server)), filters)
    by_geography, by_key = (shared_sums(view, look(api, view, HOURS)) for view in VIEWS)
    assert by_key == by_geography
    assert 0 < len(by_key) < len(shared_sums("usage", world.api.usage(HOURS)))


def test_usage_by_api_key_alone_may_be_refused() -> None:
    world = Simulated()
    world.server.faults.add(Fault(kind=403, endpoint="usage", grouped_by="api_key_id"))
    with pytest.raises(PermissionDeniedError, match=r"^usage: "):
        world.api.api_key_usage(HOURS)
    assert world.api.usage(HOURS) == Simulated().api.usage(HOURS)


@pytest.mark.parametrize("buckets", [1, 1000])
def test_cost_is_what_the_organisation_was_billed(buckets: int) -> None:
    world = Simulated(buckets)
    found = {bucket.start: dict(bucket.counts) for bucket in world.api.cost(DAYS)}
    assert set(found) == set(range(DAYS.start, DAYS.end, DAY))
    for day, counts in found.items():
        expected: dict[Series, tuple[Decimal]] = {}
        for line in world.organization.cost(day, NOW) or ():
            words = (line.model, line.workspace_id or "default", line.service_tier, line.context_window,
                     line.inference_geo, line.cost_type, BILL_TYPES.get(line.token_type or ""))  # fmt: skip
            series = Series(BILLED, tuple(word or "none" for word in words))
            expected[series] = (expected.get(series, (Decimal(0),))[0] + line.amount_cents / 100,)
        assert counts == expected


@pytest.mark.parametrize(
    "text",
    ["2026-11-02T01:00:00Z", "2026-11-02T01:00:00+00:00", "2026-11-02T01:00:00-00:00", "2026-11-02T01:00:00.000Z",
     "2026-11-02T01:00:00.000000+00:00", "2026-11-02T01:00:00.000000000Z", "2026-11-02T03:30:00+02:30",
     "2026-11-01T20:00:00-05:00"],
)  # fmt: skip
def test_a_bucket_s_begin_may_be_written_in_any_way_of_rfc_3339(text: str) -> None:
    found = Canned(page(bucket(0, usage_row()) | {"starting_at": text})).api.usage(HOURS)
    assert [bucket.start for bucket in found] == [MONDAY + HOUR]


@pytest.mark.parametrize("seconds", [1, 60, 1800, HOUR - 1, -1])
def test_a_bucket_that_is_not_aligned_is_refused(seconds: int) -> None:
    with pytest.raises(BadResponseError, match="aligned"):
        Canned(page(bucket(MONDAY + HOUR + seconds, usage_row()))).api.usage(HOURS)


def test_buckets_outside_the_window_are_left_out() -> None:
    starts = (MONDAY - HOUR, MONDAY, MONDAY + 2 * HOUR, MONDAY + 3 * HOUR)
    found = Canned(page(*(bucket(start, usage_row()) for start in starts))).api.usage(HOURS)
    assert [bucket.start for bucket in found] == [MONDAY, MONDAY + 2 * HOUR]


def test_an_empty_usage_bucket_is_known_to_be_empty() -> None:
    found = Canned(page(bucket(MONDAY), bucket(MONDAY + HOUR, usage_row()))).api.usage(HOURS)
    assert [(bucket.start, bool(bucket.counts)) for bucket in found] == [(MONDAY, False), (MONDAY + HOUR, True)]


def test_a_day_without_cost_rows_is_unknown_not_zero() -> None:
    days = [bucket(MONDAY - 2 * DAY, cost_row("0")), bucket(MONDAY - DAY)]
    assert [bucket.start for bucket in Canned(page(*days)).api.cost(DAYS)] == [MONDAY - 2 * DAY]


def test_a_bucket_on_two_pages_counts_once_with_its_greater_figures() -> None:
    first = bucket(MONDAY, usage_row(), usage_row(model="only-here"))
    again = bucket(MONDAY, usage_row(output_tokens=50, uncached_input_tokens=0))
    found = Canned(page(first, has_more=True, next_page="2"), page(again, bucket(MONDAY + HOUR))).api.usage(HOURS)
    assert [bucket.start for bucket in found] == [MONDAY, MONDAY + HOUR]
    assert found[0].counts[Series(TOKENS, LABELS)] == (1, 2, 3, 4, 50)
    assert found[0].counts[Series(TOKENS, ("only-here", *LABELS[1:]))] == (1, 2, 3, 4, 5)


def test_a_day_on_two_pages_is_billed_once() -> None:
    day = bucket(MONDAY - DAY, cost_row("100"), cost_row("50", description="other"))
    found = Canned(page(day, has_more=True, next_page="2"), page(day)).api.cost(DAYS)
    assert [list(bucket.counts.values()) for bucket in found] == [[(Decimal("1.5"),)]]


# --- usage rows


KEY_LABELS = ("apikey_1", "wrkspc_1", "claude-opus-5", "standard", "0-200k")


def test_a_usage_row_becomes_tokens_and_server_tool_requests() -> None:
    assert usage_counts(usage_row()) == {
        Series(TOKENS, LABELS): (1, 2, 3, 4, 5),
        Series(SERVER_TOOL_REQUESTS, LABELS): (6,),
    }


def test_a_usage_row_of_a_key_becomes_the_key_s_tokens_and_server_tool_requests() -> None:
    assert view_counts("api_key_usage", usage_row(api_key_id="apikey_1", inference_geo=None)) == {
        Series(API_KEY_TOKENS, KEY_LABELS): (1, 2, 3, 4, 5),
        Series(API_KEY_TOOL_REQUESTS, KEY_LABELS): (6,),
    }


@pytest.mark.parametrize("nothing", [None, "", ABSENT])
@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("usage", ("none", "default", "none", "none", "none")),
        ("api_key_usage", ("console", "default", "none", "none", "none")),
    ],
)
def test_a_dimension_without_a_value_has_a_word(view: str, words: tuple[str, ...], nothing: object) -> None:
    counts = view_counts(view, usage_row(**dict.fromkeys(VIEWS[view], nothing)))
    assert set(counts) == {Series(family, words) for family in FAMILIES[view]}


@pytest.mark.parametrize("field", API_KEY_DIMENSIONS)
def test_each_dimension_of_a_key_s_usage_may_be_null_alone(field: str) -> None:
    (series, *_) = view_counts("api_key_usage", usage_row(api_key_id="apikey_1") | {field: None})
    assert dict(zip(API_KEY_DIMENSIONS, series.labels, strict=True)) == {
        **dict(zip(API_KEY_DIMENSIONS, KEY_LABELS, strict=True)),
        field: WORDS.get(field, "none"),
    }


@pytest.mark.parametrize("view", VIEWS)
def test_unknown_values_of_usage_dimensions_pass_through(view: str) -> None:
    words = ("claude-next", "wrkspc_x", 'flex ✓ "q"\n', "1M-2M", "mars")
    (series, *_) = view_counts(view, usage_row(**dict(zip(VIEWS[view], words, strict=True))))
    assert series.labels == words


def test_usage_rows_of_equal_labels_are_summed() -> None:
    counts = usage_counts(usage_row(api_key_id="apikey_1"), usage_row(api_key_id="apikey_2"), usage_row(model="other"))
    assert counts[Series(TOKENS, LABELS)] == (2, 4, 6, 8, 10)
    assert counts[Series(SERVER_TOOL_REQUESTS, LABELS)] == (12,)
    assert len(counts) == 4


def test_a_key_s_rows_of_equal_labels_are_summed() -> None:
    of_key = usage_row(api_key_id="apikey_1")
    counts = view_counts("api_key_usage", of_key, of_key | {"inference_geo": "us"}, usage_row(), usage_row(speed="x"))
    assert counts == {
        Series(API_KEY_TOKENS, KEY_LABELS): (2, 4, 6, 8, 10),
        Series(API_KEY_TOOL_REQUESTS, KEY_LABELS): (12,),
        Series(API_KEY_TOKENS, ("console", *KEY_LABELS[1:])): (2, 4, 6, 8, 10),
        Series(API_KEY_TOOL_REQUESTS, ("console", *KEY_LABELS[1:])): (12,),
    }


def test_a_row_of_zeros_makes_no_series() -> None:
    searches = {"web_search_requests": 0}
    zeros = usage_row(
        uncached_input_tokens=0,
        cache_read_input_tokens=0,
        cache_creation=None,
        output_tokens=0,
        server_tool_use=searches,
    )
    assert usage_counts(zeros) == {}
    assert set(usage_counts(zeros | {"output_tokens": 1})) == {Series(TOKENS, LABELS)}


def test_figures_may_be_larger_than_a_float_can_count() -> None:
    assert usage_counts(usage_row(output_tokens=2**62 + 1))[Series(TOKENS, LABELS)][4] == 2**62 + 1


@pytest.mark.parametrize("figure", ["12", 12.5, 12.0, True, [], {}, 2**64, 10**30])
@pytest.mark.parametrize("field", ["output_tokens", "cache_creation", "server_tool_use"])
def test_a_figure_that_is_no_whole_number_is_refused(field: str, figure: object) -> None:
    nested = {"cache_creation": "ephemeral_5m_input_tokens", "server_tool_use": "web_search_requests"}
    value = {nested[field]: figure} if field in nested else figure
    with pytest.raises(BadResponseError):
        usage_counts(usage_row(**{field: value}))


@pytest.mark.parametrize("label", [1, True, [], {}])
def test_a_label_that_is_no_text_is_refused(label: object) -> None:
    with pytest.raises(BadResponseError):
        usage_counts(usage_row(model=label))


@pytest.mark.parametrize("text", [b'"\xff"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"a\nb"'])
def test_a_label_that_is_no_unicode_is_refused(text: bytes) -> None:
    body = json.dumps(page(bucket(MONDAY, usage_row(model="@")))).encode()
    with pytest.raises(BadResponseError):
        Canned(body.replace(b'"@"', text)).api.usage(HOURS)


# --- schema drift


def test_a_row_as_documented_is_no_drift() -> None:
    assert not drift_of(usage_row(), usage_row(speed="fast"), usage_row(cache_creation=None, server_tool_use=None))


def test_unknown_figures_are_heard_by_name_with_the_rows_that_have_them() -> None:
    creation = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1, "ephemeral_24h_input_tokens": 7}
    deep = {"reasoning": {"hidden_tokens": 2.5}}
    assert drift_of(
        usage_row(video_tokens=1, cache_creation=creation),
        usage_row(video_tokens=2, output_details=deep),
        usage_row(video_tokens=0, server_tool_use={"web_search_requests": 1, "web_fetch_requests": 1}),
    ) == {
        "video_tokens": 2,
        "cache_creation.ephemeral_24h_input_tokens": 1,
        "output_details.reasoning.hidden_tokens": 1,
        "server_tool_use.web_fetch_requests": 1,
    }


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("cache_creation", "ephemeral_24h_input_tokens"),
        ("server_tool_use", "web_fetch_requests"),
        ("output_details", "reasoning_tokens"),
    ],
)
def test_a_nested_figure_is_heard_when_it_is_all_that_is_new(field: str, name: str) -> None:
    row = usage_row()
    assert drift_of(row | {field: row.get(field, {}) | {name: 1}}, row) == {f"{field}.{name}": 1}


def test_unknown_figures_change_nothing_that_is_counted() -> None:
    assert usage_counts(usage_row(video_tokens=9, details={"x": 1})) == usage_counts(usage_row())


@pytest.mark.parametrize("new", ["text", None, True, False, 0, 0.0, [], [1, 2], {}, {"a": "b", "c": None}])
def test_unknown_fields_that_count_nothing_are_ignored(new: object) -> None:
    assert not drift_of(usage_row(something_new=new))


def test_unknown_fields_beside_the_rows_are_ignored() -> None:
    canned = Canned(page(bucket(MONDAY, usage_row()) | {"total": 5}, data_refreshed_at=5))
    assert len(canned.api.usage(HOURS)) == 1
    assert not canned.drift


def test_drift_of_a_key_s_rows_is_heard_too() -> None:
    canned = Canned(page(bucket(MONDAY, usage_row(video_tokens=1, output_tokens=ABSENT))))
    canned.api.api_key_usage(HOURS)
    assert canned.drift == {"video_tokens": 1, "output_tokens": 1}


@pytest.mark.parametrize("field", ["uncached_input_tokens", "cache_read_input_tokens", "output_tokens"])
def test_a_missing_figure_is_heard_and_counts_0(field: str) -> None:
    rows = [usage_row(**{field: ABSENT}) for _ in range(3)]
    assert drift_of(*rows) == {field: 3}
    assert sum(usage_counts(*rows)[Series(TOKENS, LABELS)]) == 3 * sum(
        value for name, value in zip(BILL_TYPES, (1, 2, 3, 4, 5), strict=True) if name != field
    )


@pytest.mark.parametrize(
    ("field", "value", "heard"),
    [
        ("cache_creation", ABSENT, {"cache_creation"}),
        (
            "cache_creation",
            {},
            {"cache_creation.ephemeral_5m_input_tokens", "cache_creation.ephemeral_1h_input_tokens"},
        ),
        ("cache_creation", {"ephemeral_1h_input_tokens": 4}, {"cache_creation.ephemeral_5m_input_tokens"}),
        ("server_tool_use", ABSENT, {"server_tool_use"}),
        ("server_tool_use", {}, {"server_tool_use.web_search_requests"}),
    ],
)
def test_a_missing_nested_figure_is_heard(field: str, value: object, heard: set[str]) -> None:
    assert drift_of(usage_row(**{field: value})) == dict.fromkeys(heard, 1)


def test_a_renamed_figure_is_heard_under_both_names() -> None:
    assert drift_of(usage_row(output_tokens=ABSENT, completion_tokens=5)) == {
        "output_tokens": 1,
        "completion_tokens": 1,
    }


def test_a_null_figure_counts_0_and_is_no_drift() -> None:
    creation = dict.fromkeys(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"))
    row = usage_row(output_tokens=None, cache_creation=creation, server_tool_use={"web_search_requests": None})
    assert usage_counts(row) == {Series(TOKENS, LABELS): (1, 2, 0, 0, 0)}
    assert not drift_of(row)


@pytest.mark.parametrize("text", [b'"\xff"', b'"\\ud800"', b"1" * 5000])
def test_an_unknown_field_that_cannot_be_read_is_an_error_of_the_api(text: bytes) -> None:
    body = json.dumps(page(bucket(MONDAY, usage_row(new="@")))).encode()
    with pytest.raises(BadResponseError):
        Canned(body.replace(b'"@"', text)).api.usage(HOURS)


# --- cost rows


def dollars(*amounts: object) -> Decimal:
    ((amount,),) = cost_counts(*(cost_row(amount, description=str(n)) for n, amount in enumerate(amounts))).values()
    return amount


def test_a_cost_row_becomes_dollars_by_what_was_paid_for() -> None:
    assert cost_counts(cost_row("123.45")) == {Series(BILLED, (*LABELS, "tokens", "output")): (Decimal("1.2345"),)}


@pytest.mark.parametrize(
    "amount",
    ["0", "1", "123.78912", "40.922816", "1234.567890123", "0.000000000001", "-5.5", "+5", "1e2", "99999999999999.99",
     "123456789012345678.123456789012345678901234567890"],
)  # fmt: skip
def test_cents_become_dollars_exactly(amount: str) -> None:
    assert Fraction(dollars(amount)) == Fraction(Decimal(amount)) / 100


def test_cents_as_a_json_number_are_exact_too() -> None:
    body = json.dumps(page(bucket(MONDAY - DAY, cost_row(0)))).encode()
    for text in (b"0.1", b"1234.567890123456789012345", b"70", b"-3.3", b"1e2", b"103.1554"):
        (day,) = Canned(body.replace(b'"amount": 0', b'"amount": ' + text)).api.cost(DAYS)
        assert list(day.counts.values()) == [(Decimal(text.decode()) / 100,)]


def test_rows_that_differ_only_in_their_description_are_summed_without_rounding() -> None:
    assert dollars("0.1", "0.2", "0.3") == Decimal("0.006")
    assert str(dollars("100000000000000", "0.00000000000000000001")) == "1000000000000.0000000000000000000001"


def test_negative_rows_count_as_they_are() -> None:
    assert dollars("100", "-30.5") == Decimal("0.695")
    assert dollars("-30.5") == Decimal("-0.305")


@pytest.mark.parametrize("amount", ["", "12,5", "$5", "abc", "NaN", "sNaN", "Infinity", "-inf", "1e18", "-1e30",
                                    "1e999999999", None, ABSENT, True, [], {}])  # fmt: skip
def test_what_is_no_amount_of_money_is_refused(amount: object) -> None:
    with pytest.raises(BadResponseError):
        cost_counts(cost_row(amount))


@pytest.mark.parametrize("currency", ["EUR", "", "US", "USDC"])
def test_another_currency_is_refused(currency: str) -> None:
    with pytest.raises(BadResponseError, match="USD"):
        cost_counts(cost_row(), cost_row(currency=currency))


@pytest.mark.parametrize("currency", ["USD", "usd", ABSENT])
def test_dollars_are_dollars_however_they_are_called(currency: object) -> None:
    assert cost_counts(cost_row("1", currency=currency)) == cost_counts(cost_row("1"))


@pytest.mark.parametrize("nothing", [None, "", ABSENT])
def test_what_does_not_apply_to_a_cost_row_has_a_word(nothing: object) -> None:
    names = (*USAGE_DIMENSIONS, "cost_type", "token_type", "description")
    (series,) = cost_counts(cost_row("1", **dict.fromkeys(names, nothing)))
    assert series.labels == ("none", "default", "none", "none", "none", "none", "none")


@pytest.mark.parametrize(("word", "shared"), [*BILL_TYPES.items(), ("video_tokens", "video_tokens")])
def test_token_types_of_the_bill_are_called_as_those_of_usage(word: str, shared: str) -> None:
    (series,) = cost_counts(cost_row("1", token_type=word))
    assert series.labels[-1] == shared


def test_unknown_values_and_fields_of_cost_rows_pass() -> None:
    row = cost_row(
        "1", cost_type="session_usage", token_type=None, model=None, service_tier="flex", speed="fast", new=7
    )
    (series,) = cost_counts(row)
    assert series.labels == ("none", "wrkspc_1", "flex", "0-200k", "global", "session_usage", "none")


# --- names


def workspace(number: int, **changes: object) -> Json:
    return only({"id": f"wrkspc_{number}", "name": f"Workspace {number}", "archived_at": None, "tags": {}} | changes)


DEFAULT = workspace(0, name="Default")


def workspaces(plain: list[Json], with_default: list[Json] | int) -> tuple[tuple[Workspace, ...], str | None]:
    """Read the workspaces from an API with these two lists, or with an error for ``include_default``."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.params["include_archived"] == "true"
        answer = with_default if request.url.params.get("include_default") == "true" else plain
        return httpx.Response(answer) if isinstance(answer, int) else httpx.Response(200, json=listed(*answer))

    return AdminApi(client(httpx.MockTransport(handle)), retry=False).workspaces()


def api_key(**changes: object) -> Json:
    key = {"id": "apikey_1", "name": "ci", "status": "active", "workspace_id": "wrkspc_1", "expires_at": None}
    return only(key | changes)


def keys(*items: Json, default_id: str | None = None) -> tuple[ApiKey, ...]:
    return Canned(listed(*items)).api.api_keys((), default_id)


def test_names_are_those_of_the_organisation() -> None:
    world = Simulated()
    real = world.organization
    assert world.api.organization() == Organization(real.id, real.name)
    expected = {Workspace(item.id, item.name, "archived" if item.archived else "active") for item in real.workspaces}
    found, default_id = world.api.workspaces()
    assert set(found) == {Workspace("default", "Default", "active"), *expected}
    assert default_id == real.default_workspace_id
    for known in (None, default_id):
        assert {key.id: (key.name, key.workspace_id, key.expires) for key in world.api.api_keys((), known)} == {
            key.id: (key.name, "default" if key.workspace_id == default_id else key.workspace_id, key.expires_at)
            for key in real.api_keys
        }


def test_archived_workspaces_are_named_too() -> None:
    plain = [workspace(1), workspace(2, archived_at="2026-01-01T00:00:00Z"), workspace(3, archived_at=ABSENT)]
    found, _ = workspaces(plain, [DEFAULT, *plain])
    assert {item.id: item.state for item in found} == {
        "default": "active", "wrkspc_1": "active", "wrkspc_2": "archived", "wrkspc_3": "active",
    }  # fmt: skip


def test_the_default_workspace_is_what_only_the_newer_list_holds() -> None:
    renamed = workspace(0, name="Main")
    found, real_id = workspaces([workspace(1)], [workspace(1), renamed])
    assert found == (Workspace("default", "Main", "active"), Workspace("wrkspc_1", "Workspace 1", "active"))
    assert real_id == "wrkspc_0"


@pytest.mark.parametrize("with_default", [400, 404, 422, [workspace(1)], [workspace(1), workspace(2), workspace(3)]])
def test_an_api_that_does_not_tell_the_default_workspace_still_names_the_workspaces(
    with_default: list[Json] | int,
) -> None:
    found, real_id = workspaces([workspace(1)], with_default)
    assert found == (Workspace("default", "Default", "active"), Workspace("wrkspc_1", "Workspace 1", "active"))
    assert real_id is None


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthError), (403, PermissionDeniedError), (429, RateLimitedError), (500, ServerError)]
)
def test_other_errors_of_include_default_are_errors(status: int, error: type[ApiError]) -> None:
    with pytest.raises(error):
        workspaces([workspace(1)], status)


def test_a_workspace_made_between_the_two_reads_does_not_pass_for_the_default_one() -> None:
    """The API here does not know ``include_default`` and ignores it."""
    canned = Canned(listed(workspace(1)), listed(workspace(1), workspace(2)))
    found, real_id = canned.api.workspaces()
    assert found[0] == Workspace("default", "Default", "active")
    assert {item.id for item in found} == {"default", "wrkspc_1", "wrkspc_2"}
    assert real_id is None


@pytest.mark.parametrize("nothing", [None, "", ABSENT])
def test_what_has_no_name_is_called_by_its_id(nothing: object) -> None:
    assert Canned(only({"id": "org", "name": nothing})).api.organization() == Organization("org", "org")
    found, _ = workspaces([workspace(1, name=nothing)], [workspace(0, name=nothing), workspace(1, name=nothing)])
    assert [item.name for item in found] == ["Default", "wrkspc_1"]
    (key,) = keys(api_key(name=nothing, status=nothing))
    assert (key.name, key.status) == ("apikey_1", "unknown")


@pytest.mark.parametrize("nothing", [None, "", ABSENT, 7])
@pytest.mark.parametrize("what", ["organization", "workspaces", "api_keys"])
def test_what_has_no_id_is_refused(what: str, nothing: object) -> None:
    item = only({"id": nothing, "name": "x"})
    with pytest.raises(BadResponseError):
        read(Canned(item if what == "organization" else listed(item)).api, what)


IN_1 = {"type": "workspace", "workspace_id": "wrkspc_1"}
IN_DEFAULT = {"type": "workspace", "workspace_id": "wrkspc_0"}


@pytest.mark.parametrize(
    ("workspace_id", "scope", "expected"),
    [
        ("wrkspc_1", None, "wrkspc_1"),
        ("wrkspc_1", IN_1, "wrkspc_1"),
        ("wrkspc_0", IN_DEFAULT, "default"),
        ("wrkspc_0", ABSENT, "default"),
        ("wrkspc_0", {"type": "organization"}, "default"),
        (None, IN_DEFAULT, "default"),
        (None, None, "default"),
        (None, ABSENT, "default"),
        (None, {}, "default"),
        ("", IN_DEFAULT, "default"),
        (None, {"type": "organization"}, "none"),
        ("", {"type": "organization", "workspace_id": None}, "none"),
    ],
)
def test_a_key_s_workspace(workspace_id: str | None, scope: object, expected: str) -> None:
    (key,) = keys(api_key(workspace_id=workspace_id, scope=scope), default_id="wrkspc_0")
    assert key.workspace_id == expected


def test_a_key_s_scope_names_its_workspace_where_the_old_field_is_null() -> None:
    listed = (Workspace("wrkspc_1", "One", "active"),)
    items = [
        api_key(id="a", workspace_id=None, scope={"type": "workspace", "workspace_id": "wrkspc_1"}),
        api_key(id="b", workspace_id=None, scope={"type": "workspace", "workspace_id": "wrkspc_default"}),
    ]
    found = Canned({"data": items, "has_more": False}).api.api_keys(listed, None)
    assert [key.workspace_id for key in found] == ["wrkspc_1", "default"]


def test_a_key_that_the_list_holds_twice_comes_once() -> None:
    assert len(keys(api_key(id="a"), api_key(id="a"))) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None), ("", None), (ABSENT, None), ("2026-11-02T00:00:00Z", MONDAY),
        ("2026-11-02T01:00:00.123456+01:00", MONDAY),
    ],
)  # fmt: skip
def test_a_key_expires_at_its_time_or_never(text: object, seconds: int | None) -> None:
    (key,) = keys(api_key(expires_at=text))
    assert key.expires == seconds


@pytest.mark.parametrize("text", ["never", "2026-11-02", "2026-11-02T00:00:00", 1793577600])
def test_an_expiry_that_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(BadResponseError):
        keys(api_key(expires_at=text))


def test_lists_are_read_to_the_end_with_unchanged_parameters() -> None:
    ids = ["apikey_1", "apikey_2", "apikey_3"]
    pages = [listed(api_key(id=name), has_more=name != ids[-1], last_id=name) for name in ids]
    canned = Canned(*pages)
    assert [key.id for key in canned.api.api_keys((), None)] == ids
    assert [asked.multi_items() for asked in canned.asked] == [
        [("limit", "1000")], [("limit", "1000"), ("after_id", ids[0])], [("limit", "1000"), ("after_id", ids[1])],
    ]  # fmt: skip


@pytest.mark.parametrize("cursors", [[None], [""], [ABSENT], ["a", "a"], ["a", "b", "a"]])
@pytest.mark.parametrize("what", ["workspaces", "api_keys"])
def test_a_list_with_a_missing_or_repeated_cursor_is_an_error(what: str, cursors: list[object]) -> None:
    canned = Canned(*(listed(has_more=True, last_id=cursor) for cursor in cursors), listed())
    with pytest.raises(BadResponseError, match="cursor"):
        read(canned.api, what)
    assert len(canned.asked) == len(cursors)


def test_an_endless_list_is_an_error() -> None:
    canned = Canned(*(listed(has_more=True, last_id=str(number)) for number in range(2000)))
    with pytest.raises(BadResponseError, match="more than"):
        canned.api.api_keys((), None)
    assert len(canned.asked) <= 1000


@pytest.mark.parametrize(
    ("what", "kind", "error"),
    [
        (what, kind, error)
        for what in ("organization", "workspaces", "api_keys")
        for kind, error in SPOILED
        if what != "organization" or kind not in {"missing_next_page", "repeated_cursor"}
    ],
)
def test_names_that_cannot_be_read_are_an_error(what: str, kind: FaultKind, error: type[ApiError]) -> None:
    world = Simulated()
    world.server.faults.add(Fault(kind=kind, endpoint=what))
    with pytest.raises(error):
        read(world.api, what)
