"""What the real program shows while the Admin API has a bad day: nothing wrong, and nothing missing."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from exporter.demo.api import AdminApi, RequestSeen
from exporter.demo.faults import Fault, FaultKind
from exporter.demo.organization import DAY, MINUTE
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from tests.world import KEY, TOKENS, World, by, tokens, total, value, watermark

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess, Samples

pytestmark = pytest.mark.process

QUICK = (
    *("--usage.poll-interval", "1", "--usage.settle", "70", "--usage.hold", "1"),
    *("--cost.poll-interval", "1", "--names.poll-interval", "1", "--limits.poll-interval", "1"),
    *("--usage.api-key-poll-interval", "1"),
    *("--api.timeout", "5", "--api.poll-deadline", "1"),
)
"""A minute is complete when it begins to be counted: at each watermark there is one right value."""


class Story:
    """The program, an API that fails when it is told to, and the truth about the organisation."""

    def __init__(self, api: AdminApi, world: World, anchor: int, start: Callable[[], "ExporterProcess"]) -> None:
        self.api = api
        self.faults = api.faults
        self._world = world
        self._anchor = anchor
        self._start = start
        self._known: tuple[int, Counter[tuple[str, ...]]] = anchor, Counter()

    def begin(self) -> "ExporterProcess":
        self.program = self._start()
        return self.program

    def truth(self, moment: float) -> Counter[tuple[str, ...]]:
        """Return what was used up to a moment; within a minute usage is even."""
        minute = int(moment // MINUTE) * MINUTE
        self._world.now = time.time()
        begin, known = self._known
        self._known = minute, known + self._world.truth(begin, minute)
        part = int((moment - minute) * 1000)
        growing = self._world.truth(minute, minute + MINUTE)
        return +(self._known[1] + Counter({labels: count * part // 60_000 for labels, count in growing.items()}))

    def is_exact(self, samples: "Samples") -> bool:
        return tokens(samples) == self.truth(watermark(samples))

    def is_well(self, samples: "Samples") -> bool:
        # What the program says of itself may be newer than the snapshot on the same page.
        begun = by(samples, "anthropic_usage_watermark_timestamp_seconds", ["report"])
        return total(samples, "anthropic_up") == 5 and ("usage",) in begun and self.is_exact(samples)

    def watch(self, before: "Samples", seconds: float) -> "Samples":
        """Scrape for a while: nothing may fall or vanish, and each page must be exact at its own watermark."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            after = self.program.samples()
            assert_kept(before, after)
            assert self.is_exact(after)
            before = after
            time.sleep(0.1)
        return before

    def requests(self, since: float, endpoint: str | None = None) -> list[RequestSeen]:
        return [seen for seen in self.api.log if seen.time >= since and endpoint in {None, seen.endpoint}]


@pytest.fixture
def story(exporter_process: Callable[..., "ExporterProcess"]) -> Iterator[Story]:
    now = time.time()
    anchor = int(now // DAY - 1) * DAY
    arrival = Arrival(median=0, late_share=0)
    organization = SimulatedOrganization(seed=11, started=anchor - 2 * DAY, arrival=arrival, bill_delay=0)
    api = AdminApi(organization, key=KEY, clock=time.time, page_buckets={MINUTE: 15})
    with serve(api) as server:
        flags = ("--api.base-url", server.url, "--usage.anchor", f"{datetime.fromtimestamp(anchor, UTC):%Y-%m-%d}")

        def start() -> "ExporterProcess":
            return exporter_process(*flags, *QUICK, env={"ANTHROPIC_ADMIN_API_KEY": KEY})

        yield Story(api, World(organization, now), anchor, start)


def assert_kept(before: "Samples", after: "Samples") -> None:
    """No series is gone, and no counter has fallen."""
    assert before.keys() <= after.keys()
    fallen = [key for key, sample in before.items() if key[0].endswith("_total") and after[key] < sample]
    assert not fallen


def money(samples: "Samples") -> dict[Any, float]:
    billed = ("anthropic_cost_last", "anthropic_cost_month", "anthropic_cost_previous", "anthropic_cost_usd")
    return {key: sample for key, sample in samples.items() if key[0].startswith(billed)}


def failures(samples: "Samples", report: str, reason: str) -> float:
    return value(samples, "anthropic_exporter_poll_failures_total", report=report, reason=reason)


def test_usage_goes_on_while_the_cost_endpoint_is_down(story: Story) -> None:
    program = story.begin()
    before = program.wait_for(story.is_well)
    story.faults.add(Fault(kind=503, endpoint="cost"))
    down = program.wait_for(lambda samples: value(samples, "anthropic_up", report="cost") == 0)
    assert_kept(before, down)
    after = story.watch(down, 8)
    assert watermark(after) > watermark(down) + 5
    assert total(after, TOKENS) > total(down, TOKENS)
    assert money(after) == money(before)
    assert [value(after, "anthropic_up", report=report) for report in ("usage", "cost", "names")] == [1, 0, 1]
    assert failures(after, "cost", "server") > 0
    assert failures(after, "usage", "server") == 0
    story.faults.clear()
    program.wait_for(story.is_well)


def test_a_storm_of_429_is_waited_out_with_few_requests(story: Story) -> None:
    program = story.begin()
    before = program.wait_for(story.is_well)
    story.faults.add(Fault(kind=429, retry_after="3"))
    begun = time.time()
    after = story.watch(before, 8)
    in_storm = story.requests(begun)
    story.faults.clear()
    for endpoint in {seen.endpoint for seen in in_storm}:
        times = [seen.time for seen in in_storm if seen.endpoint == endpoint]
        assert all(later - earlier >= 3 for earlier, later in pairwise(times)), (endpoint, times)
    assert 2 <= len(in_storm) <= 12
    assert value(after, "anthropic_up", report="usage") == 0
    assert failures(after, "usage", "rate_limited") > 0
    assert value(after, "anthropic_exporter_api_retries_total", endpoint="usage", reason="rate_limited") > 0
    assert_kept(after, program.wait_for(story.is_well))


@pytest.mark.parametrize(("kind", "reason"), [(500, "server"), ("truncated", "connection")])
def test_pages_that_break_half_way_are_never_served_in_part(story: Story, kind: FaultKind, reason: str) -> None:
    story.faults.add(Fault(kind=kind, endpoint="usage", after_pages=1))
    program = story.begin()
    broken = program.wait_for(lambda samples: failures(samples, "usage", reason) > 0)
    assert not [name for name, _ in broken if name.startswith("anthropic_usage_")]
    story.faults.clear()
    whole = program.wait_for(story.is_well)
    assert total(whole, TOKENS) == sum(story.truth(watermark(whole)).values()) > 0
    story.faults.add(Fault(kind=kind, endpoint="usage", after_pages=1))
    program.wait_for(lambda samples: value(samples, "anthropic_up", report="usage") == 0)
    still = program.samples()
    after = story.watch(still, 3)
    assert (tokens(after), watermark(after)) == (tokens(still), watermark(still))
    story.faults.clear()
    healed = program.wait_for(lambda samples: watermark(samples) > watermark(still) and story.is_well(samples))
    assert_kept(after, healed)


def test_a_hanging_cost_endpoint_starves_usage_for_one_timeout_at_most(story: Story) -> None:
    program = story.begin()
    before = program.wait_for(story.is_well)
    story.faults.add(Fault(kind="slow", seconds=60, endpoint="cost"))
    begun = time.time()
    program.wait_for(lambda samples: failures(samples, "cost", "timeout") > 0)
    story.watch(before, 3)
    asked = [seen.time for seen in story.requests(begun, "usage")]
    gaps = [later - earlier for earlier, later in pairwise([begun, *asked, time.time()])]
    timeout, interval, slack = 5, 1, 0.5
    assert max(gaps) < timeout + interval + slack
    assert value(program.samples(), "anthropic_up", report="usage") == 1
    assert len(story.requests(begun, "cost")) <= 4
