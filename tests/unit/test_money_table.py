import pickle
from math import inf

import pytest

from exporter.families import SERVER_TOOL_REQUESTS, TOKENS
from exporter.model import DAY, HOUR, MINUTE, Bucket, Series, Window
from exporter.money.table import UsageTable
from tests.world import at

TODAY = int(at("2026-03-09"))
TEN = int(at("2026-03-09T10:00"))
CELL = ("claude-opus-5", "default", "standard", "0-200k")


def series(
    *, model: str = "claude-opus-5", workspace: str = "default", tier: str = "standard", geo: str = "global"
) -> Series:
    return Series(TOKENS, (model, workspace, tier, "0-200k", geo))


OPUS = series()


def out(tokens: int) -> tuple[int, ...]:
    """Return the counts of so many tokens of output, and 3 that were read from the cache."""
    return (0, 3, 0, 0, tokens)


def read(table: UsageTable, width: int, start: int, *outputs: int | None, read_at: float, of: Series = OPUS) -> None:
    """Take in buckets from ``start`` on with so many tokens of output each, None being an empty one."""
    buckets = [
        Bucket(start + number * width, {} if tokens is None else {of: out(tokens)})
        for number, tokens in enumerate(outputs)
    ]
    table.observe(Window(width, start, start + len(outputs) * width), buckets, read_at)


def outputs(table: UsageTable, day: int = TODAY, until: float = inf) -> int:
    """Return the output tokens of a day."""
    return sum(counts[-1] for counts in table.day(day, until).values())


def test_the_newest_reading_of_a_bucket_wins_whether_it_is_higher_or_lower() -> None:
    table = UsageTable()
    for count, (tokens, seen) in enumerate([(5, 5), (9, 9), (4, 4)]):
        read(table, MINUTE, TEN, tokens, read_at=TEN + 60 + count)
        assert outputs(table) == seen


@pytest.mark.parametrize("width", [MINUTE, HOUR, DAY])
def test_what_the_api_lowers_or_takes_back_is_lower_here(width: int) -> None:
    table = UsageTable()
    start = TEN - TEN % width
    read(table, width, start, 50, read_at=start + width)
    assert outputs(table) == 50
    read(table, width, start, 20, read_at=start + width + 60)
    assert table.day(TODAY) == {OPUS: (0, 3, 0, 0, 20)}
    read(table, width, start, None, read_at=start + width + 120)
    assert table.day(TODAY) == {}


def test_a_day_is_the_sum_of_its_hours_and_minutes_for_each_series_and_token_type() -> None:
    table, us = UsageTable(), series(geo="us")
    read(table, HOUR, TEN - 2 * HOUR, 100, 20, read_at=TEN)
    read(table, MINUTE, TEN, 3, 4, read_at=TEN + 120)
    read(table, MINUTE, TEN + 120, 5, read_at=TEN + 180, of=us)
    assert table.day(TODAY) == {OPUS: (0, 12, 0, 0, 127), us: (0, 3, 0, 0, 5)}


@pytest.mark.parametrize(("hour_read_at", "tokens"), [(TEN + HOUR + 1, 60), (TEN + HOUR + 10, 60), (TEN + 5000, 77)])
def test_an_hour_counts_by_its_own_bucket_only_if_that_is_newer_than_its_minutes(
    hour_read_at: int, tokens: int
) -> None:
    table = UsageTable()
    read(table, HOUR, TEN, 77, read_at=hour_read_at)
    read(table, MINUTE, TEN, *[1] * 60, read_at=TEN + HOUR + 10)
    assert outputs(table) == tokens


@pytest.mark.parametrize(("day_read_at", "tokens"), [(TODAY + DAY + 10, 24), (TODAY + DAY + 11, 99)])
def test_a_day_counts_by_its_own_bucket_only_if_that_is_newer_than_its_hours(day_read_at: int, tokens: int) -> None:
    table = UsageTable()
    read(table, HOUR, TODAY, *[1] * 24, read_at=TODAY + DAY + 10)
    read(table, DAY, TODAY, 99, read_at=day_read_at)
    assert outputs(table) == tokens


def test_a_newer_reading_of_the_parts_counts_again_and_so_does_one_of_the_whole_after_that() -> None:
    table = UsageTable()
    read(table, MINUTE, TEN, *[1] * 60, read_at=TEN + HOUR)
    read(table, HOUR, TEN, 70, read_at=TEN + HOUR + 60)
    assert outputs(table) == 70
    read(table, MINUTE, TEN + 59 * MINUTE, 31, read_at=TEN + HOUR + 120)
    assert outputs(table) == 90
    read(table, HOUR, TEN, 80, read_at=TEN + HOUR + 180)
    assert outputs(table) == 80


def test_an_hour_that_was_read_before_its_end_counts_by_its_minutes() -> None:
    table = UsageTable()
    read(table, MINUTE, TEN, *[2] * 60, read_at=TEN + 1800)
    read(table, HOUR, TEN, 500, read_at=TEN + HOUR - 1)
    assert outputs(table) == 120


def test_usage_counts_in_the_minutes_that_have_ended_by_a_time() -> None:
    table = UsageTable()
    read(table, HOUR, TEN - HOUR, 1000, read_at=TEN)
    read(table, MINUTE, TEN, 1, 10, 100, read_at=TEN + 180)
    times = [TEN - 1, TEN, TEN + 59.9, TEN + 60, TEN + 119.5, TEN + 120, TEN + 180, TEN + 999, inf]
    assert [outputs(table, until=time) for time in times] == [0, 1000, 1000, 1001, 1001, 1011, 1111, 1111, 1111]


def test_an_hour_or_a_day_that_is_not_over_by_then_counts_by_its_minutes_however_new_it_is() -> None:
    table = UsageTable()
    read(table, MINUTE, TEN, *[1] * 60, read_at=TEN + HOUR)
    read(table, HOUR, TEN, 300, read_at=TEN + HOUR + 1)
    read(table, DAY, TODAY, 5000, read_at=TODAY + DAY)
    assert outputs(table, until=TEN + 30 * MINUTE) == 30
    assert outputs(table, until=TEN + HOUR) == 300
    assert outputs(table, until=TODAY + DAY - 1) == 300
    assert outputs(table, until=TODAY + DAY) == 5000


def test_a_day_that_has_not_begun_by_then_has_no_usage() -> None:
    table = UsageTable()
    read(table, DAY, TODAY, 7, read_at=TODAY + DAY)
    assert table.day(TODAY, TODAY - HOUR) == {}
    assert table.day(TODAY + DAY) == {}


def test_an_hour_with_a_minute_missing_counts_by_its_own_bucket_even_if_that_is_older() -> None:
    table = UsageTable()
    read(table, HOUR, TEN, 77, read_at=TEN + HOUR)
    read(table, MINUTE, TEN + MINUTE, *[1] * 59, read_at=TEN + HOUR + 60)
    assert outputs(table) == 77
    read(table, MINUTE, TEN, None, read_at=TEN + HOUR + 120)
    assert outputs(table) == 59


def test_what_is_known_of_a_day_counts_though_parts_of_it_are_missing() -> None:
    table = UsageTable()
    read(table, HOUR, TODAY, 5, read_at=TODAY + HOUR)
    read(table, MINUTE, TEN, 1, 1, read_at=TEN + 120)
    assert outputs(table) == 7
    assert not table.is_whole(TODAY)


def test_a_day_is_whole_when_all_of_it_was_read_after_its_end() -> None:
    table = UsageTable()
    assert not table.is_whole(TODAY)
    read(table, HOUR, TODAY, *[1] * 23, read_at=TODAY + 23 * HOUR)
    read(table, MINUTE, TODAY + 23 * HOUR, *[1] * 60, read_at=TODAY + DAY - 1)
    assert not table.is_whole(TODAY)
    read(table, MINUTE, TODAY + DAY - MINUTE, None, read_at=TODAY + DAY)
    assert table.is_whole(TODAY)
    assert outputs(table) == 23 + 59


def test_a_day_with_an_hour_missing_is_not_whole_unless_its_own_bucket_was_read_after_its_end() -> None:
    table = UsageTable()
    read(table, HOUR, TODAY + HOUR, *[1] * 23, read_at=TODAY + DAY + 60)
    assert not table.is_whole(TODAY)
    read(table, DAY, TODAY, 30, read_at=TODAY + DAY - 1)
    assert not table.is_whole(TODAY)
    read(table, DAY, TODAY, 30, read_at=TODAY + DAY)
    assert table.is_whole(TODAY)
    assert outputs(table) == 30


def test_the_days_of_which_something_was_read_come_newest_first() -> None:
    table = UsageTable()
    read(table, DAY, TODAY - 3 * DAY, 1, None, read_at=TODAY)
    read(table, MINUTE, TEN, None, read_at=TEN)
    assert table.days == [TODAY, TODAY - 2 * DAY, TODAY - 3 * DAY]


def test_the_groups_are_what_there_ever_was_usage_of() -> None:
    table = UsageTable()
    read(table, MINUTE, TEN, None, read_at=TEN)
    assert table.groups == set()
    read(table, MINUTE, TEN, 1, read_at=TEN + 1)
    read(table, MINUTE, TEN, 1, read_at=TEN + 2, of=series(workspace="wrkspc_1", geo="us"))
    assert table.groups == {
        ("claude-opus-5", "standard", "0-200k", "global"),
        ("claude-opus-5", "standard", "0-200k", "us"),
    }


def run(table: UsageTable, days: range) -> None:
    """Poll as the meter does: minutes at each minute, hours at each hour, days at each day; then ask for all days."""
    for day in days:
        midnight = TODAY + day * DAY
        for now in range(midnight, midnight + DAY, MINUTE):
            if now % DAY == 0:
                read(table, DAY, now - 3 * DAY, 9, 9, 9, read_at=now)
            if now % HOUR == 0:
                read(table, HOUR, now - 2 * HOUR, 2, 2, read_at=now)
                assert all(table.day(known, now) is not None for known in table.days)
            read(table, MINUTE, now - MINUTE, 1, None, read_at=now)


def test_over_60_days_of_polls_the_table_keeps_40_days_3_days_of_hours_and_3_hours_of_minutes() -> None:
    table = UsageTable()
    run(table, range(60))
    last = TODAY + 60 * DAY - MINUTE
    newest, oldest = last - last % DAY, last - last % DAY - 41 * DAY
    assert table.days == list(range(newest, oldest - 1, -DAY))
    assert outputs(table, newest, newest + 10 * MINUTE) == 0
    assert outputs(table, newest, last - 60) == 22 * 2 + 60 + 58
    assert [outputs(table, newest - days * DAY) for days in (1, 2, 40)] == [24 * 2, 9, 9]


@pytest.mark.parametrize(("width", "kept"), [(MINUTE, 3 * HOUR), (HOUR, 3 * DAY), (DAY, 40 * DAY)])
@pytest.mark.parametrize(("further", "tokens"), [(0, 5), (1, 0)])
def test_a_bucket_is_forgotten_when_a_much_newer_one_of_its_width_was_read(
    width: int, kept: int, further: int, tokens: int
) -> None:
    table = UsageTable()
    read(table, width, TODAY, 5, read_at=TODAY + width)
    newer = TODAY + kept + further * width
    read(table, width, newer, 1, read_at=newer + width)
    assert sum(outputs(table, day) for day in {TODAY, newer - newer % DAY}) == tokens + 1


def test_over_60_days_of_polls_the_table_stops_growing() -> None:
    table = UsageTable()
    run(table, range(45))
    before = len(pickle.dumps(table))
    run(table, range(45, 60))
    assert len(pickle.dumps(table)) < 1.02 * before


def test_a_mix_is_that_of_the_hour_and_the_one_before_it() -> None:
    table, us = UsageTable(), series(geo="us")
    read(table, HOUR, TEN - 2 * HOUR, 1000, read_at=TEN - HOUR)
    read(table, HOUR, TEN - HOUR, 200, read_at=TEN, of=us)
    read(table, MINUTE, TEN, 30, 4, read_at=TEN + 120)
    assert table.mix(CELL, TEN) == {"global": (0, 6, 0, 0, 34), "us": (0, 3, 0, 0, 200)}


def test_a_mix_follows_what_was_read_last() -> None:
    table = UsageTable()
    for tokens in (30, 20):
        read(table, MINUTE, TEN, tokens, read_at=TEN + 60)
        assert table.mix(CELL, TEN) == {"global": (0, 3, 0, 0, tokens)}


def test_a_cell_without_usage_around_the_hour_has_the_mix_of_its_day() -> None:
    table = UsageTable()
    read(table, HOUR, TODAY, 7, read_at=TODAY + HOUR)
    read(table, HOUR, TEN + 2 * HOUR, 5, read_at=TEN + 3 * HOUR, of=series(geo="us"))
    assert table.mix(CELL, TEN) == {"global": (0, 3, 0, 0, 7), "us": (0, 3, 0, 0, 5)}


def test_the_day_of_an_hour_goes_before_newer_ones() -> None:
    table = UsageTable()
    read(table, DAY, TODAY - DAY, 100, read_at=TODAY, of=series(geo="us"))
    read(table, HOUR, TODAY, 7, read_at=TODAY + HOUR)
    assert table.mix(CELL, TEN - DAY) == {"us": (0, 3, 0, 0, 100)}


def test_a_cell_without_usage_on_the_day_has_the_mix_of_its_newest_day() -> None:
    table = UsageTable()
    read(table, DAY, TODAY - 3 * DAY, 100, read_at=TODAY, of=series(geo="us"))
    read(table, DAY, TODAY - 2 * DAY, 5, read_at=TODAY)
    read(table, DAY, TODAY - DAY, 8, read_at=TODAY, of=series(workspace="wrkspc_1", geo="us"))
    read(table, MINUTE, TEN, None, read_at=TEN + 60)
    assert table.mix(CELL, TEN) == {"global": (0, 3, 0, 0, 5)}


def test_a_cell_has_no_mix_of_another_model_workspace_tier_or_context_window_or_of_requests() -> None:
    table = UsageTable()
    others = [
        series(model="claude-opus-4"),
        series(workspace="wrkspc_1"),
        series(tier="batch"),
        Series(TOKENS, ("claude-opus-5", "default", "standard", "200k-1M", "global")),
    ]
    counts = {other: out(1) for other in others} | {Series(SERVER_TOOL_REQUESTS, OPUS.labels): (9,)}
    table.observe(Window(MINUTE, TEN, TEN + MINUTE), [Bucket(TEN, counts)], TEN + 60)
    assert table.mix(CELL, TEN) == {}
