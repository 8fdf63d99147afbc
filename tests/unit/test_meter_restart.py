"""The meter and its state file over a restart, where the property test does not look."""

from collections import Counter
from pathlib import Path

import pytest

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, Tokens
from tests.events import OPUS, SONNET, Use, WrittenOrganization, line
from tests.world import World, at, tokens, total, value, watermark

NOW = at("2026-03-09T12:00:30")
ANCHOR = int((NOW - 300) // MINUTE) * MINUTE


def stream(hours: float) -> WrittenOrganization:
    """Return an organisation that uses something each 20 seconds."""
    return WrittenOrganization(
        [Use(NOW - 600 + 20 * n, (SONNET, OPUS)[n % 2], Tokens(n % 7 + 600)) for n in range(int(hours * 180))]
    )


@pytest.mark.parametrize("wrong", [365 * DAY, -365 * DAY, 3 * HOUR, -3 * HOUR])
def test_a_host_that_wakes_up_with_a_wrong_clock_goes_on_like_any_other(tmp_path: Path, wrong: float) -> None:
    world = World(stream(4), NOW, state=tmp_path / "state")
    world.run(HOUR)
    world.crash()
    world.wrong = wrong
    world.now += 600
    world.start()
    world.watch()
    before = world.seen
    world.run(140)
    assert {name: count for name, count in world.seen.items() if "late" not in name}.items() <= before.items()
    page = world.run(200)
    assert watermark(page) == pytest.approx(world.now - 300, abs=5)
    world.run(3 * HOUR)
    page = world.run(HOUR)
    assert tokens(page) == world.truth(ANCHOR, int(watermark(page)))


@pytest.mark.parametrize(
    ("down", "widths"),
    [
        (MINUTE, {"1d": 31, "1h": 48 + 1, "1m": 68}),
        (40 * MINUTE, {"1d": 31, "1h": 48 + 1, "1m": 107}),
        (2 * HOUR, {"1d": 31, "1h": 48 + 3, "1m": 187}),
        (9 * DAY, {"1d": 31, "1h": 180, "1m": 1447}),
    ],
)
def test_after_downtime_it_reads_what_is_missing_and_little_else(
    tmp_path: Path, down: int, widths: dict[str, int]
) -> None:
    """Money's table is read anew: a month in days, two days in hours, the last full hour in minutes."""
    world = World(stream(4), NOW, state=tmp_path / "state")
    world.run(HOUR)
    world.crash()
    world.now += down
    world.start()
    del world.api.log[:]
    world.poll("usage")
    asked: Counter[str] = Counter()
    for seen in (seen for seen in world.api.log if seen.endpoint == "usage"):
        width = seen.query["bucket_width"][0]
        span = at(seen.query["ending_at"][0][:-1]) - at(seen.query["starting_at"][0][:-1])
        asked[width] += int(span / {"1d": DAY, "1h": HOUR, "1m": MINUTE}[width])
    assert asked == widths


def test_a_wrong_clock_and_a_broken_usage_report_bring_no_old_bill_into_the_counters() -> None:
    today = int(NOW // DAY) * DAY
    organization = WrittenOrganization(bills={today + n * DAY: [line("100")] for n in range(-40, 3)})
    world = World(organization, NOW, wrong=-3 * DAY)
    world.faults.add(Fault(kind=503, endpoint="usage", times=8))
    page = world.run(2 * HOUR)
    assert total(page, "anthropic_up", report="usage") == 1
    assert total(page, "anthropic_cost_usd_total") == 0


def test_nothing_is_moved_while_the_api_is_away_and_everything_is_there_before_the_first_poll(tmp_path: Path) -> None:
    world = World(stream(4), NOW, state=tmp_path / "state")
    before = world.run(HOUR)
    world.crash()
    world.faults.add(Fault(kind=503))
    world.now += HOUR
    world.start()
    shown = world.page()
    assert sum(tokens(shown).values()) > 0
    assert watermark(before) <= watermark(shown) <= watermark(before) + 90
    assert value(shown, "anthropic_exporter_state_loaded") == 1
    page = world.run(HOUR)
    assert tokens(page) == tokens(shown)
    assert watermark(page) == watermark(shown)
    assert total(page, "anthropic_up", report="usage") == 0
