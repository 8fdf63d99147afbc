import socket
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization

MONDAY = 1_793_577_600
NOW = MONDAY + 12 * HOUR + 17 * MINUTE + 25
KEY = "sk-ant-admin01-simulated"
USAGE, COST = "usage_report/messages", "cost_report"
Json = dict[str, Any]


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class Desk:
    """A client at the simulated API, and the clock that both go by."""

    def __init__(self, **options: Any) -> None:
        self.now: float = NOW
        self.organization = SimulatedOrganization(seed=5, started=MONDAY - 15 * DAY)
        self.api = AdminApi(self.organization, key=KEY, clock=lambda: self.now, **options)
        self.client = httpx.Client(
            transport=httpx.WSGITransport(self.api),
            base_url="http://api.test/v1/organizations/",
            headers={"x-api-key": KEY, "anthropic-version": "2023-06-01", "user-agent": "tests/1"},
        )

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return self.client.get(path, params=query(parameters))

    def read(self, path: str, **parameters: Any) -> Json:
        response = self.get(path, **parameters)
        assert response.status_code == 200, response.text
        body: Json = response.json()
        return body

    def pages(self, path: str, **parameters: Any) -> list[Json]:
        """Follow the cursors to the end."""
        pages = [self.read(path, **parameters)]
        while pages[-1]["has_more"]:
            pages.append(self.read(path, **parameters, page=pages[-1]["next_page"]))
        return pages

    def refusal(self, path: str, **parameters: Any) -> tuple[int, str, str]:
        response = self.get(path, **parameters)
        error = response.json()["error"]
        return response.status_code, error["type"], error["message"]


def query(parameters: Json) -> Json:
    """Send lists as ``name[]`` and times as RFC 3339."""
    return {
        name + "[]" * isinstance(value, list): iso(value) if name.endswith("ing_at") else value
        for name, value in parameters.items()
    }


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    with desk.client:
        yield desk


LAST_HOUR: Json = {
    "starting_at": MONDAY + 11 * HOUR,
    "ending_at": MONDAY + 12 * HOUR,
    "bucket_width": "1m",
    "group_by": ["model", "workspace_id", "service_tier", "context_window", "inference_geo"],
}
BILLED: Json = {"starting_at": MONDAY - 7 * DAY, "ending_at": MONDAY, "group_by": ["description", "workspace_id"]}


@pytest.mark.parametrize("path", [USAGE, COST, "me", "workspaces", "api_keys", "rate_limits"])
def test_a_wrong_key_is_refused_everywhere(desk: Desk, path: str) -> None:
    response = desk.client.get(path, headers={"x-api-key": "sk-ant-api03-other"})
    assert response.status_code == 401
    assert response.json() == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "invalid x-api-key"},
        "request_id": response.headers["request-id"],
    }


def test_a_version_a_path_and_a_method_are_needed(desk: Desk) -> None:
    desk.client.headers.pop("anthropic-version")
    assert desk.refusal("me")[:2] == (400, "invalid_request_error")
    desk.client.headers["anthropic-version"] = "2023-06-01"
    assert desk.refusal("users")[:2] == (404, "not_found_error")
    assert desk.client.post("me").status_code == 405


def test_answers_carry_the_headers_of_the_real_api(desk: Desk) -> None:
    response = desk.get("me")
    assert response.json()["id"] == desk.organization.id
    assert response.headers["anthropic-organization-id"] == desk.organization.id
    assert response.headers["content-type"] == "application/json"
    assert response.headers["date"] == "Mon, 02 Nov 2026 12:17:25 GMT"
    assert response.headers["request-id"] != desk.get("me").headers["request-id"]


def test_usage_has_the_fields_of_the_reference(desk: Desk) -> None:
    bucket = desk.read(USAGE, **LAST_HOUR)["data"][0]
    assert (bucket["starting_at"], bucket["ending_at"]) == ("2026-11-02T11:00:00Z", "2026-11-02T11:01:00Z")
    item = bucket["results"][0]
    assert set(item) == {
        *("uncached_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens"),
        *("server_tool_use", "account_id", "api_key_id", "service_account_id", "workspace_id", "model"),
        *("context_window", "inference_geo", "service_tier"),
    }
    assert set(item["cache_creation"]) == {"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}
    assert set(item["server_tool_use"]) == {"web_search_requests"}
    assert item["api_key_id"] is None
    assert item["model"].startswith("claude-")


def test_grouping_never_changes_the_sum(desk: Desk) -> None:
    def sums(group_by: list[str]) -> list[int]:
        data = desk.read(USAGE, **{**LAST_HOUR, "group_by": group_by})["data"]
        return [sum(item["output_tokens"] for item in bucket["results"]) for bucket in data]

    alone = desk.read(USAGE, **{**LAST_HOUR, "group_by": []})["data"][0]["results"]
    assert len(alone) == 1
    assert alone[0]["model"] is None
    assert sums([]) == sums(["model"]) == sums(["api_key_id", "account_id"]) == sums(LAST_HOUR["group_by"])


def test_usage_is_cut_into_one_bucket_per_interval(desk: Desk) -> None:
    asked = {"starting_at": MONDAY - 20 * DAY + 7, "ending_at": MONDAY - 10 * DAY + HOUR, "limit": 31}
    data = desk.read(USAGE, **asked)["data"]
    assert [bucket["starting_at"] for bucket in data] == [iso(MONDAY - offset * DAY) for offset in range(20, 10, -1)]
    assert [bool(bucket["results"]) for bucket in data] == [False] * 5 + [True] * 5


def test_the_open_bucket_is_shown_when_its_end_is_asked_for(desk: Desk) -> None:
    asked = {"starting_at": MONDAY, "bucket_width": "1d"}
    assert desk.read(USAGE, **asked, ending_at=NOW)["data"] == []
    for ending in (MONDAY + DAY, MONDAY + 9 * DAY):
        (today,) = desk.read(USAGE, **asked, ending_at=ending)["data"]
        assert today["results"]
    assert desk.read(USAGE, starting_at=MONDAY + 2 * DAY, ending_at=MONDAY + 3 * DAY)["data"] == []


@pytest.mark.parametrize(("width", "default", "most"), [("1m", 60, 1440), ("1h", 24, 168), ("1d", 7, 31)])
def test_usage_pages_have_a_default_and_a_largest_size(desk: Desk, width: str, default: int, most: int) -> None:
    asked = {"starting_at": MONDAY - 60 * DAY, "ending_at": MONDAY, "bucket_width": width}
    first = desk.read(USAGE, **asked)
    assert len(first["data"]) == default
    assert first["has_more"]
    assert first["next_page"].startswith("page_")
    assert len(desk.read(USAGE, **asked, limit=most)["data"]) == most
    assert desk.refusal(USAGE, **asked, limit=most + 1)[0] == 400
    assert desk.refusal(USAGE, **asked, limit=0)[0] == 400


@pytest.mark.parametrize(("path", "asked"), [(USAGE, {**LAST_HOUR, "limit": 60}), (COST, BILLED)])
def test_pages_give_what_one_page_gives(desk: Desk, path: str, asked: Json) -> None:
    small = Desk(page_buckets={MINUTE: 7, DAY: 2})
    whole, pages = desk.read(path, **asked), small.pages(path, **asked)
    assert not whole["has_more"]
    assert whole["next_page"] is None
    assert len(pages) > 3
    assert [bucket for page in pages for bucket in page["data"]] == whole["data"]


def test_a_cursor_belongs_to_its_query(desk: Desk) -> None:
    asked = {**LAST_HOUR, "limit": 7}
    page = desk.read(USAGE, **asked)["next_page"]
    assert desk.read(USAGE, **asked, page=page)["data"][0]["starting_at"] == "2026-11-02T11:07:00Z"
    for changed in ({"limit": 8}, {"group_by": ["model"]}, {"ending_at": NOW}):
        assert desk.refusal(USAGE, **{**asked, **changed}, page=page)[:2] == (400, "invalid_request_error")
    assert desk.refusal(COST, **BILLED, page=page)[0] == 400
    assert desk.refusal(USAGE, **asked, page="page_x")[0] == 400


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"group_by": [*LAST_HOUR["group_by"], "api_key_id"]}, "at most 5"),
        ({"group_by": ["model", "city"]}, "'city'"),
        ({"group_by": ["speed"]}, "anthropic-beta"),
        ({"colour": "red"}, "colour"),
        ({"bucket_width": "5m"}, "bucket_width"),
        ({"ending_at": MONDAY}, "Invalid date range"),
        ({"limit": "many"}, "limit"),
    ],
)
def test_usage_refuses_what_it_does_not_know(desk: Desk, changed: Json, words: str) -> None:
    status, kind, message = desk.refusal(USAGE, **{**LAST_HOUR, **changed})
    assert (status, kind) == (400, "invalid_request_error")
    assert words in message


@pytest.mark.parametrize("time", ["", "?starting_at=yesterday", "?starting_at=2026-11-02T00:00:00"])
def test_a_report_needs_a_time_with_its_zone(desk: Desk, time: str) -> None:
    for path in (USAGE, COST):
        response = desk.client.get(path + time)
        assert response.status_code == 400
        assert "starting_at" in response.json()["error"]["message"]


def test_usage_can_be_filtered(desk: Desk) -> None:
    workspace = desk.organization.workspaces[0].id
    asked = {**LAST_HOUR, "workspace_ids": [workspace], "service_tiers": ["standard"]}
    items = [item for bucket in desk.read(USAGE, **asked)["data"] for item in bucket["results"]]
    assert {(item["workspace_id"], item["service_tier"]) for item in items} == {(workspace, "standard")}
    default = desk.organization.default_workspace_id
    for nobody in ({"workspace_ids": [default]}, {"account_ids": ["user_1"]}, {"service_account_ids": ["svac_1"]}):
        assert not any(bucket["results"] for bucket in desk.read(USAGE, **LAST_HOUR, **nobody)["data"])


def test_cost_has_finished_days_only(desk: Desk) -> None:
    for ending in ({"ending_at": NOW + 5 * DAY}, {"ending_at": MONDAY}, {}):
        data = desk.read(COST, starting_at=MONDAY - 2 * DAY, **ending)["data"]
        assert [bucket["starting_at"] for bucket in data] == ["2026-10-31T00:00:00Z", "2026-11-01T00:00:00Z"]
    (snapped,) = desk.read(COST, starting_at=MONDAY - DAY + 5 * HOUR)["data"]
    assert snapped["starting_at"] == "2026-11-01T00:00:00Z"
    refused = (400, "invalid_request_error", "Invalid date range: ending date must be after starting date")
    assert desk.refusal(COST, starting_at=MONDAY, ending_at=MONDAY + DAY) == refused
    assert desk.refusal(COST, starting_at=MONDAY - DAY, ending_at=MONDAY - 1) == refused


def test_a_day_is_empty_until_its_bill_is_out(desk: Desk) -> None:
    desk.now = MONDAY + 2 * HOUR
    asked = {"starting_at": MONDAY - 2 * DAY, "ending_at": MONDAY}
    assert [bool(day["results"]) for day in desk.read(COST, **asked)["data"]] == [True, False]
    desk.now = MONDAY + 9 * HOUR
    assert [bool(day["results"]) for day in desk.read(COST, **asked)["data"]] == [True, True]


def test_cost_rows_are_summed_as_grouped(desk: Desk) -> None:
    def items(*group_by: str) -> list[Json]:
        data = desk.read(COST, **{**BILLED, "group_by": list(group_by)})["data"]
        return [item for bucket in data for item in bucket["results"]]

    def usd(rows: list[Json]) -> Decimal:
        return sum((Decimal(row["amount"]) for row in rows), Decimal(0))

    detailed, by_workspace, alone = items("description", "workspace_id"), items("workspace_id"), items()
    assert usd(detailed) == usd(by_workspace) == usd(alone) == usd(items("description"))
    assert len(alone) == 7 < len(by_workspace) < len(detailed)
    assert set(detailed[0]) == set(alone[0])
    assert {row["currency"] for row in detailed} == {"USD"}
    assert any(row["description"] == "Claude Opus 5.5 Usage - Input Tokens" for row in detailed)
    assert {value for row in alone for name, value in row.items() if name not in {"amount", "currency"}} == {None}
    assert {row["cost_type"] for row in by_workspace} == {None}


def test_cost_refuses_what_only_usage_knows(desk: Desk) -> None:
    for changed in ({"bucket_width": "1h"}, {"group_by": ["model"]}, {"models": ["x"]}, {"limit": 32}):
        assert desk.refusal(COST, **{**BILLED, **changed})[0] == 400


def test_workspaces_hide_archived_and_default_ones_unless_asked_for(desk: Desk) -> None:
    def names(**parameters: str) -> list[str]:
        return [row["name"] for row in desk.read("workspaces", **parameters)["data"]]

    active = ["Production", "Engineering", "Data Platform"]
    assert names() == active
    assert names(include_archived="true") == [*active, "Prototypes 2025"]
    assert names(include_default="true") == ["Default", *active]
    (default, *_) = desk.read("workspaces", include_default="true")["data"]
    assert default["id"] == desk.organization.default_workspace_id
    assert desk.refusal("workspaces", include_default="maybe")[0] == 400


def test_lists_are_paged_forwards_and_backwards(desk: Desk) -> None:
    every = [row["id"] for row in desk.read("api_keys", limit=1000)["data"]]
    assert len(every) == len(desk.organization.api_keys)
    first = desk.read("api_keys", limit=5)
    assert (first["first_id"], first["last_id"], first["has_more"]) == (every[0], every[4], True)
    last = desk.read("api_keys", limit=1000, after_id=first["last_id"])
    assert [row["id"] for row in last["data"]] == every[5:]
    assert not last["has_more"]
    back = desk.read("api_keys", limit=3, before_id=every[5])
    assert [row["id"] for row in back["data"]] == every[2:5]
    assert desk.refusal("api_keys", limit=1001)[0] == 400
    assert desk.refusal("api_keys", after_id="apikey_none")[0] == 400


def test_keys_have_a_status_and_a_real_workspace(desk: Desk) -> None:
    def keys(**parameters: str) -> dict[str, Json]:
        return {row["name"]: row for row in desk.read("api_keys", **parameters)["data"]}

    every = keys()
    assert every["old-importer"]["status"] == "inactive"
    assert every["docs-writer"]["status"] == "active"
    desk.now = MONDAY + 60 * DAY
    assert set(keys(status="expired")) == {"docs-writer"}
    default = desk.organization.default_workspace_id
    assert every["sandbox"]["workspace_id"] is None
    assert every["sandbox"]["scope"] == {"type": "workspace", "workspace_id": default}
    assert set(keys(workspace_id=default)) == {"sandbox", "internal-chat", "old-importer"}


def test_rate_limits_are_listed_by_group(desk: Desk) -> None:
    data = desk.read("rate_limits")["data"]
    assert {row["group_type"] for row in data} == {"model_group", "batch", "web_search"}
    (opus,) = desk.read("rate_limits", model="claude-opus-5-5")["data"]
    assert {limit["type"] for limit in opus["limits"]} >= {"requests_per_minute", "input_tokens_per_minute"}
    assert desk.refusal("rate_limits", model="claude-none")[0] == 404


def limits_pages(desk: Desk, **parameters: Any) -> list[list[Json]]:
    """Follow the cursors of the rate limits to the end."""
    pages = [desk.read("rate_limits", **parameters)]
    while pages[-1]["next_page"]:
        pages.append(desk.read("rate_limits", **parameters, page=pages[-1]["next_page"]))
    return [page["data"] for page in pages]


@pytest.mark.parametrize(
    ("parameters", "sizes"),
    [
        ({}, [6]),
        ({"limit": 1000}, [6]),
        ({"limit": 4}, [4, 2]),
        ({"limit": 3}, [3, 3]),
        ({"limit": 3, "group_type": "model_group"}, [3, 1]),
        ({"limit": 1, "model": "claude-opus-5-5"}, [1]),
    ],
)
def test_rate_limits_are_on_one_page_unless_a_limit_is_given(desk: Desk, parameters: Json, sizes: list[int]) -> None:
    pages = limits_pages(desk, **parameters)
    whole = desk.read("rate_limits", **{name: word for name, word in parameters.items() if name != "limit"})
    assert [len(page) for page in pages] == sizes
    assert [row for page in pages for row in page] == whole["data"]
    assert set(whole) == {"data", "next_page"}


def test_rate_limits_refuse_what_they_do_not_know(desk: Desk) -> None:
    page = desk.read("rate_limits", limit=4)["next_page"]
    assert page.startswith("page_")
    for changed in ({"limit": 0}, {"limit": 1001}, {"page": "x"}, {"page": page}, {"page": page, "limit": 3}, {"a": 1}):
        assert desk.refusal("rate_limits", **changed)[:2] == (400, "invalid_request_error")


def test_requests_are_counted_and_logged(desk: Desk) -> None:
    desk.get("me", colour="red")
    desk.read(USAGE, **LAST_HOUR)
    desk.read(USAGE, **LAST_HOUR)
    assert desk.api.requests == {"organization": 1, "usage": 2}
    seen = desk.api.log[-1]
    assert (seen.endpoint, seen.time, seen.user_agent) == ("usage", NOW, "tests/1")
    assert seen.query["group_by[]"] == LAST_HOUR["group_by"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_fault_can_be_a_status(desk: Desk, status: int, kind: str) -> None:
    desk.api.faults.add(Fault(kind=status, times=1, retry_after="7"))
    response = desk.get("me")
    assert response.status_code == status
    assert response.json()["error"]["type"] == kind
    assert response.headers["retry-after"] == "7"
    assert desk.get("me").status_code == 200


def test_a_fault_can_be_a_broken_body(desk: Desk) -> None:
    whole = desk.get("me").text
    desk.api.faults.add(Fault(kind="html", times=1))
    assert desk.get("me").headers["content-type"] == "text/html"
    desk.api.faults.add(Fault(kind="truncated", times=1))
    assert desk.get("me").text == whole[: len(whole) // 2]
    desk.api.faults.add(Fault(kind="not_json", times=1))
    with pytest.raises(ValueError, match="Expecting value"):
        desk.get("me").json()
    desk.api.faults.add(Fault(kind="redirect", times=1))
    assert desk.get("me").headers["location"] == "https://elsewhere.invalid/v1/organizations/me"
    assert desk.get("me").text == whole


@pytest.mark.parametrize(("path", "cursor"), [(USAGE, "next_page"), ("workspaces", "last_id")])
def test_a_fault_can_promise_more_but_not_where(desk: Desk, path: str, cursor: str) -> None:
    asked = LAST_HOUR if path == USAGE else {}
    desk.api.faults.add(Fault(kind="missing_next_page"))
    body = desk.read(path, **asked)
    assert body["has_more"]
    assert body[cursor] is None


@pytest.mark.parametrize(
    ("path", "parameter", "cursor"),
    [(COST, "page", "next_page"), ("workspaces", "after_id", "last_id"), ("rate_limits", "page", "next_page")],
)
def test_a_fault_can_repeat_a_cursor_for_ever(desk: Desk, path: str, parameter: str, cursor: str) -> None:
    asked = BILLED if path == COST else {}
    desk.api.faults.add(Fault(kind="repeated_cursor"))
    first = desk.read(path, **asked)
    second = desk.read(path, **asked, **{parameter: first[cursor]})
    assert second["has_more"]
    assert first[cursor] == second[cursor]


def test_a_fault_can_break_a_read_half_way() -> None:
    desk = Desk(page_buckets={MINUTE: 20})
    desk.api.faults.add(Fault(kind=500, after_pages=1, endpoint="usage"))
    page = desk.read(USAGE, **LAST_HOUR)["next_page"]
    assert desk.get(USAGE, **LAST_HOUR, page=page).status_code == 500
    assert desk.get("workspaces", after_id="x").status_code == 400


def test_a_fault_can_hit_only_what_is_grouped_by_a_dimension(desk: Desk) -> None:
    desk.api.faults.add(Fault(kind=403, endpoint="usage", grouped_by="api_key_id", times=2))
    by_key = {**LAST_HOUR, "group_by": ["model", "api_key_id"]}
    filtered = {**LAST_HOUR, "api_key_ids": [desk.organization.api_keys[0].id]}
    for _ in range(2):
        assert desk.get(USAGE, **LAST_HOUR).status_code == 200
        assert desk.get(USAGE, **filtered).status_code == 200
        assert desk.get("rate_limits").status_code == 200
        assert desk.refusal(USAGE, **by_key)[:2] == (403, "permission_error")
    assert desk.get(USAGE, **by_key).status_code == 200


def test_a_fault_can_answer_out_of_the_past(desk: Desk) -> None:
    asked = {**LAST_HOUR, "ending_at": NOW + MINUTE, "limit": 1440}
    desk.now = NOW - 600
    before = desk.read(USAGE, **asked)
    desk.now = NOW
    assert desk.read(USAGE, **asked) != before
    desk.api.faults.add(Fault(kind="stale", seconds=600))
    assert desk.read(USAGE, **asked) == before


def test_a_fault_can_be_slow(desk: Desk) -> None:
    desk.api.faults.add(Fault(kind="slow", seconds=0.05))
    begun = time.perf_counter()
    assert desk.read("me")["id"] == desk.organization.id
    assert time.perf_counter() - begun >= 0.05


def test_a_fault_has_a_place_and_a_time(desk: Desk) -> None:
    def statuses() -> list[int]:
        return [desk.get("me").status_code, desk.get("workspaces").status_code]

    desk.api.faults.add(Fault(kind=500, endpoint="workspaces", since=NOW + 10, until=NOW + 20))
    assert statuses() == [200, 200]
    desk.now = NOW + 10
    assert statuses() == [200, 500]
    desk.now = NOW + 20
    assert statuses() == [200, 200]
    desk.api.faults.add(Fault(kind=529))
    desk.api.faults.clear()
    assert statuses() == [200, 200]


def test_a_fault_can_happen_now_and_then(desk: Desk) -> None:
    desk.api.faults.add(Fault(kind=500, probability=0.5))
    assert {desk.get("me").status_code for _ in range(30)} == {200, 500}


def test_a_socket_gives_the_same_and_breaks_bodies(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(desk.api) as server, httpx.Client(headers=desk.client.headers, trust_env=False) as client:
        url = f"{server.url}/v1/organizations/me"
        assert client.get(url).json() == desk.get("me").json()
        assert client.get(url).headers["date"] == "Mon, 02 Nov 2026 12:17:25 GMT"
        desk.api.faults.add(Fault(kind="truncated", times=1))
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(url)
        desk.api.faults.add(Fault(kind="slow", seconds=0.3, times=1))
        with pytest.raises(httpx.ReadTimeout):
            client.get(url, timeout=0.05)
        time.sleep(0.4)
        assert client.get(url).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)
    assert capfd.readouterr().err == ""


def test_a_client_may_go_away_in_the_middle(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    with serve(desk.api) as server:
        with socket.create_connection(("127.0.0.1", httpx.URL(server.url).port or 0)) as client:
            client.sendall(b"GET /v1/organ")
            time.sleep(0.1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.1)
        assert httpx.get(server.url, trust_env=False).status_code == 401
    assert capfd.readouterr().err == ""
