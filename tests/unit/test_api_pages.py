import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing
from exporter.api.credentials import Credentials
from exporter.api.pace import FIRST, GROWTH, PAGE_ROWS, Pace
from exporter.errors import BadResponseError, ServerError
from exporter.model import DAY, HOUR, MINUTE, MOST_BUCKETS, Bucket, Series, Window

MONDAY = 1_793_577_600  # 2026-11-02T00:00:00Z
VIEWS = ["usage", "api_key_usage"]
Json = dict[str, Any]


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def row(number: int = 0, **changes: object) -> Json:
    """Return a row of usage with a label set of its own for each number."""
    return {
        "uncached_input_tokens": 1000 + number,
        "cache_read_input_tokens": 2000,
        "cache_creation": {"ephemeral_5m_input_tokens": 3000, "ephemeral_1h_input_tokens": 4000},
        "output_tokens": 5000,
        "server_tool_use": {"web_search_requests": 6},
        "model": f"claude-model-{number}",
        "workspace_id": "wrkspc_1",
        "api_key_id": "apikey_1",
    } | changes


def cost_row(number: int = 0) -> Json:
    return {"amount": "12.5", "model": f"claude-model-{number}", "cost_type": "tokens", "token_type": "output_tokens"}


class Written:
    """An API that has ``rows(bucket start)`` in each bucket, and answers what is asked, ``cut`` buckets to a page."""

    def __init__(self, rows: Callable[[int], list[Json]], cut: int = 10_000) -> None:
        self.parts: list[tuple[int, int]] = []
        self.limits: list[int] = []
        self.drift: Counter[str] = Counter()
        self.broken_from: int | None = None
        self._rows = rows
        self._cut = cut
        self.api = self.new()

    def new(self) -> AdminApi:
        transport = httpx.MockTransport(self._answer)
        client = Client("http://api.test", Credentials("sk-ant-admin01-canary", None), timeout=60, listener=Listener(),
                        timing=Timing(), transport=transport)  # fmt: skip
        return AdminApi(client, drift=lambda field, rows: self.drift.update({field: rows}), retry=False)

    def read(self, view: str, window: Window) -> list[Bucket[int]]:
        return self.api.usage(window) if view == "usage" else self.api.api_key_usage(window)

    def asked(self, view: str, window: Window) -> list[int]:
        """Return how many buckets each part of a window has that is read now."""
        del self.parts[:]
        self.read(view, window)
        return [(end - start) // window.width for start, end in self.parts]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        start, end, limit = seconds(asked["starting_at"]), seconds(asked["ending_at"]), int(asked["limit"])
        width = {"1m": MINUTE, "1h": HOUR, "1d": DAY}[asked["bucket_width"]]
        if "page" not in asked:
            self.parts.append((start, end))
            self.limits.append(limit)
        if self.broken_from is not None and start >= self.broken_from:
            return httpx.Response(500)
        begin = int(asked.get("page", start))
        stop = min(end, begin + min(limit, self._cut) * width)
        data = [{"starting_at": iso(time), "results": self._rows(time)} for time in range(begin, stop, width)]
        return httpx.Response(200, json={"data": data, "has_more": stop < end, "next_page": str(stop)})


def iso(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def minutes(buckets: int) -> Window:
    return Window(MINUTE, MONDAY, MONDAY + buckets * MINUTE)


# --- parts of a window


@pytest.mark.parametrize("width", [MINUTE, HOUR, DAY])
@pytest.mark.parametrize("view", VIEWS)
def test_a_first_read_is_modest(view: str, width: int) -> None:
    window = Window(width, MONDAY, MONDAY + MOST_BUCKETS[width] * width)
    parts = Written(lambda _start: []).asked(view, window)
    assert FIRST[width] / 2 < parts[0] <= FIRST[width]
    assert FIRST == {MINUTE: 60, HOUR: 24, DAY: 7}


@pytest.mark.parametrize(("width", "buckets"), [(MINUTE, 31), (MINUTE, 60), (HOUR, 24), (DAY, 7), (DAY, 1)])
@pytest.mark.parametrize("view", VIEWS)
def test_a_window_that_is_modest_itself_is_one_request(view: str, width: int, buckets: int) -> None:
    assert Written(lambda _start: [row()]).asked(view, Window(width, MONDAY, MONDAY + buckets * width)) == [buckets]


@pytest.mark.parametrize("rows", [0, 1, 50])
@pytest.mark.parametrize(("width", "buckets"), [(MINUTE, 31), (HOUR, 48), (DAY, 7), (DAY, 31)])
def test_an_ordinary_organisation_is_read_in_one_request_once_it_is_known(width: int, buckets: int, rows: int) -> None:
    world = Written(lambda _start: [row(n) for n in range(rows)])
    window = Window(width, MONDAY, MONDAY + buckets * width)
    assert len(world.asked("usage", window)) <= 3
    for _ in range(3):
        assert world.asked("usage", window) == [buckets]


@pytest.mark.parametrize("rows", [0, 1, 7, 600, 5000])
@pytest.mark.parametrize("buckets", [1, 59, 61, 200])
def test_the_parts_cover_the_window_exactly_once_in_its_order(buckets: int, rows: int) -> None:
    world = Pace()
    rest, covered = minutes(buckets), list[int]()
    while rest.buckets:
        part = world.part("usage", rest)
        assert part.buckets > 0
        covered += range(part.start, part.end, MINUTE)
        world.saw("usage", part, rows * part.buckets)
        rest = Window(MINUTE, part.end, rest.end)
    assert covered == list(range(MONDAY, MONDAY + buckets * MINUTE, MINUTE))


def test_each_part_has_its_own_range_and_a_limit_that_holds_all_of_it() -> None:
    world = Written(lambda _start: [row()])
    found = world.read("usage", minutes(500))
    assert [bucket.start for bucket in found] == list(range(MONDAY, MONDAY + 500 * MINUTE, MINUTE))
    assert [start for start, _ in world.parts] == [MONDAY, *(end for _, end in world.parts[:-1])]
    assert world.parts[-1][1] == MONDAY + 500 * MINUTE
    assert world.limits == [(end - start) // MINUTE for start, end in world.parts]
    assert len(world.parts) > 1


def test_parts_shrink_to_what_fills_a_page_and_grow_no_faster_than_dared() -> None:
    pace, rest = Pace(), minutes(1440)
    first = pace.part("usage", rest)
    assert first.buckets == 60
    pace.saw("usage", first, 60 * 1000)
    assert pace.most("usage", MINUTE, 60) == PAGE_ROWS // 1000
    pace.saw("usage", minutes(30), 0)
    assert pace.most("usage", MINUTE, 60) == 30 * GROWTH
    pace.saw("usage", minutes(1), 0)
    assert pace.most("usage", MINUTE, 60) == 30 * GROWTH
    pace.saw("usage", minutes(120), 120)
    assert pace.most("usage", MINUTE, 60) == 120 * GROWTH
    for _ in range(5):
        pace.saw("usage", minutes(1440), 1440)
    assert pace.most("usage", MINUTE, 60) == MOST_BUCKETS[MINUTE]


def test_no_report_dares_more_for_what_another_has_read() -> None:
    pace = Pace()
    pace.saw("usage", minutes(1440), 0)
    pace.saw("api_key_usage", minutes(2), 0)
    assert pace.most("api_key_usage", MINUTE, 60) == 2 * GROWTH
    assert pace.most("usage", MINUTE, 60) == MOST_BUCKETS[MINUTE]


def test_what_is_larger_than_a_page_by_itself_is_read_alone() -> None:
    pace = Pace()
    pace.saw("usage", minutes(60), 60 * (PAGE_ROWS + 1))
    assert pace.part("usage", minutes(31)).buckets == 1


def test_parts_are_of_equal_size() -> None:
    pace = Pace()
    pace.saw("usage", minutes(30), PAGE_ROWS)
    assert pace.part("usage", minutes(31)).buckets == 16


def test_reports_and_widths_are_known_apart() -> None:
    world = Written(lambda start: [row(n) for n in range(600)] if start == MONDAY else [])
    assert world.asked("usage", minutes(1)) == [1]
    assert world.asked("usage", minutes(31))[0] == GROWTH
    assert world.asked("api_key_usage", minutes(31)) == [31]
    assert world.asked("usage", Window(HOUR, MONDAY + DAY, MONDAY + 2 * DAY)) == [24]


def test_a_busy_organisation_is_read_in_pages_of_bearable_size() -> None:
    world = Written(lambda _start: [row(n) for n in range(700)])
    parts = world.asked("usage", minutes(150))
    assert all(buckets * 700 <= PAGE_ROWS for buckets in parts[1:])
    assert parts[0] <= 60
    assert len(parts) <= 5


def test_cost_is_asked_for_in_one_range_whatever_its_pages() -> None:
    world = Written(lambda _start: [cost_row(n) for n in range(3000)])
    window = Window(DAY, MONDAY - 31 * DAY, MONDAY)
    first = world.api.cost(window)
    assert world.api.cost(window) == first
    assert world.parts == [(window.start, window.end)] * 2
    assert world.limits == [31, PAGE_ROWS // 3000]
    assert [bucket.start for bucket in first] == list(range(window.start, window.end, DAY))
    assert {amount for bucket in first for amount in bucket.counts.values()} == {(Decimal("0.125"),)}


@pytest.mark.parametrize("view", VIEWS)
def test_an_error_in_a_later_part_gives_nothing_and_the_next_read_is_whole(view: str) -> None:
    world, whole = Written(lambda start: [row(start % 7)]), Written(lambda start: [row(start % 7)])
    world.broken_from = MONDAY + MINUTE
    with pytest.raises(ServerError):
        world.read(view, minutes(200))
    assert len(world.parts) == 2
    world.broken_from = None
    assert world.read(view, minutes(200)) == whole.read(view, minutes(200))


# --- bucket by bucket


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_drift_is_heard_once_for_each_row(cut: int) -> None:
    strange = row(video_tokens=1)
    del strange["output_tokens"]
    world = Written(lambda start: [strange, row(1)] if start % (2 * MINUTE) else [row(2, audio_tokens=9)], cut)
    world.read("usage", minutes(100))
    assert world.drift == {"video_tokens": 50, "output_tokens": 50, "audio_tokens": 50}


def test_a_new_field_in_one_bucket_changes_nothing_in_another() -> None:
    plain = Written(lambda start: [row(start % 5), row(9)])
    strange = Written(lambda start: [row(start % 5, new=3 if start == MONDAY + MINUTE else None), row(9)])
    assert strange.read("usage", minutes(30)) == plain.read("usage", minutes(30))
    assert strange.drift == {"new": 1}


def test_nothing_is_heard_of_a_page_that_is_refused() -> None:
    world = Written(lambda start: [row(new=1)] if start < MONDAY + 5 * MINUTE else [row(output_tokens="x")])
    with pytest.raises(BadResponseError):
        world.read("usage", minutes(10))
    assert not world.drift


def test_an_error_tells_where_in_the_page_it_is() -> None:
    with pytest.raises(BadResponseError) as caught:
        Written(lambda start: [row(), row(output_tokens="x" if start > MONDAY + MINUTE else 1)]).read(
            "usage", minutes(5)
        )
    assert str(caught.value) == (
        "usage: the answer is not what the API promises: Expected `int | null`, got `str` - at "
        "`$.data[2].results[1].output_tokens`"
    )


# --- memory


@pytest.mark.parametrize("view", VIEWS)
def test_each_series_is_held_once_however_many_rows_and_reads_are_of_it(view: str) -> None:
    world = Written(lambda _start: [row(n) for n in range(20)])
    held = [*world.read(view, minutes(150)), *world.read(view, minutes(150))]
    series = [series for bucket in held for series in bucket.counts]
    assert len(series) == 300 * 40
    assert len({id(one) for one in series}) == len(set(series)) == 40
    assert len({id(one.labels) for one in series}) == 20
    assert len({id(label) for one in series for label in one.labels}) == len({x for one in series for x in one.labels})


def test_each_series_of_the_bill_is_held_once() -> None:
    world = Written(lambda _start: [cost_row(n) for n in range(20)])
    window = Window(DAY, MONDAY - 31 * DAY, MONDAY)
    series = [series for _ in range(2) for bucket in world.api.cost(window) for series in bucket.counts]
    assert len(series) == 62 * 20
    assert len({id(one) for one in series}) == 20


@pytest.mark.parametrize("view", VIEWS)
def test_series_that_are_not_met_any_more_are_forgotten(view: str) -> None:
    world = Written(lambda start: [row(model=f"forgotten-{view}-{start}")])
    for hour in range(10):
        world.read(view, Window(MINUTE, MONDAY + hour * HOUR, MONDAY + hour * HOUR + 50 * MINUTE))
    held = [one for one in gc.get_objects() if isinstance(one, Series)]
    assert 0 < len([one for one in held if any(label.startswith(f"forgotten-{view}-") for label in one.labels)]) <= 200


class Chunks(httpx.SyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), 1000):
            yield self._body[start : start + 1000]


@pytest.mark.parametrize("view", [*VIEWS, "cost"])
def test_of_the_bodies_one_is_held_at_a_time_and_only_once(view: str) -> None:
    """Each page is a megabyte, most of it unknown."""
    size, days = 1_000_000, range(MONDAY - 7 * DAY, MONDAY, DAY)
    padding = {"padding": "x" * size}
    bodies = [
        {
            "data": [{"starting_at": iso(day), "results": [], **padding}],
            "has_more": day != days[-1],
            "next_page": iso(day),
        }
        for day in days
    ]
    answers = iter([json.dumps(body).encode() for body in bodies])
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, stream=Chunks(next(answers))))
    client = Client("http://api.test", Credentials("sk-ant-admin01-canary", None), timeout=60, listener=Listener(),
                    timing=Timing(), transport=transport)  # fmt: skip
    api, window = AdminApi(client, retry=False), Window(DAY, days[0], MONDAY)
    tracemalloc.start()
    try:
        found: object = api.cost(window) if view == "cost" else getattr(api, view)(window)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert size < peak < 1.6 * size
