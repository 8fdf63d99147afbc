"""What is asked for, and when."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.model import DAY, HOUR, MINUTE, MOST_BUCKETS, Window
from exporter.polling.windows import Tiers, ceil, floor, split
from tests.world import at

NOON = at("2026-03-09T12:00:20")


def read_all(tiers: Tiers, now: float) -> list[Window]:
    windows = tiers.due(now)
    for window in windows:
        tiers.done(window)
    tiers.complete(now)
    return windows


def covered(windows: list[Window], width: int) -> tuple[int, int] | None:
    chosen = [window for window in windows if window.width == width]
    return (min(w.start for w in chosen), max(w.end for w in chosen)) if chosen else None


@given(st.sampled_from([MINUTE, HOUR, DAY]), st.integers(0, 3000), st.integers(0, 3000))
def test_pieces_tile_the_range_and_fit_a_page(width: int, start: int, buckets: int) -> None:
    begin = start * width
    pieces = split(width, begin, begin + buckets * width)
    assert [piece.start for piece in pieces[1:]] == [piece.end for piece in pieces[:-1]]
    assert sum(piece.buckets for piece in pieces) == buckets
    assert all(1 <= piece.buckets <= MOST_BUCKETS[width] for piece in pieces)


@given(st.floats(0, 4e9), st.sampled_from([MINUTE, HOUR, DAY]))
def test_floor_and_ceil_enclose_the_time(time: float, width: int) -> None:
    assert floor(time, width) <= time <= ceil(time, width)
    assert ceil(time, width) - floor(time, width) in (0, width)


def test_a_first_start_reads_minutes_since_the_anchor_only() -> None:
    anchor = floor(NOON - 300, MINUTE)
    assert Tiers(anchor).due(NOON) == [Window(MINUTE, anchor, floor(NOON, MINUTE) + MINUTE)]


def test_a_configured_anchor_is_reached_by_days_then_hours_then_minutes() -> None:
    windows = Tiers(int(at("2026-01-01"))).due(NOON)
    assert covered(windows, DAY) == (at("2026-01-01"), at("2026-03-09"))
    assert covered(windows, HOUR) == (at("2026-03-07T12:00"), at("2026-03-09T12:00"))
    assert covered(windows, MINUTE) == (at("2026-03-08T12:00"), at("2026-03-09T12:01"))
    assert [window.width for window in windows] == sorted((w.width for w in windows), reverse=True)


def test_steady_state_reads_half_an_hour_of_minutes_and_coarse_tiers_at_their_pace() -> None:
    tiers = Tiers(int(at("2026-02-01")))
    read_all(tiers, NOON)
    assert read_all(tiers, NOON + 60) == [Window(MINUTE, floor(NOON, MINUTE) - 29 * MINUTE, floor(NOON, MINUTE) + 120)]
    assert covered(read_all(tiers, NOON + 900), HOUR) == (at("2026-03-07T12:00"), at("2026-03-09T12:00"))
    assert covered(read_all(tiers, NOON + 6 * HOUR), DAY) == (at("2026-03-02"), at("2026-03-09"))


def test_after_an_outage_minutes_go_back_to_a_full_hour_before_the_last_read() -> None:
    tiers = Tiers(int(at("2026-02-01")))
    read_all(tiers, NOON)
    assert covered(tiers.due(NOON + 5 * HOUR), MINUTE) == (at("2026-03-09T11:00"), at("2026-03-09T17:01"))


def test_after_days_each_tier_goes_back_as_far_as_it_may() -> None:
    tiers = Tiers(int(at("2026-02-01")))
    read_all(tiers, NOON)
    windows = tiers.due(NOON + 20 * DAY)
    assert covered(windows, MINUTE) == (at("2026-03-28T12:00"), at("2026-03-29T12:01"))
    assert covered(windows, HOUR) == (at("2026-03-22T12:00"), at("2026-03-29T12:00"))
    assert covered(windows, DAY) == (at("2026-03-02"), at("2026-03-29"))


def test_what_was_read_before_a_failure_is_not_read_again() -> None:
    tiers = Tiers(int(at("2026-01-01")))
    first, *rest = tiers.due(NOON)
    tiers.done(first)
    assert tiers.due(NOON + 30)[:-1] == rest[:-1]


def test_no_window_reaches_before_the_anchor_and_its_day_is_read_again_in_hours_and_minutes() -> None:
    anchor = int(at("2026-03-05T10:40"))
    tiers = Tiers(anchor)
    read_all(tiers, anchor + 300)
    windows = tiers.due(NOON)
    assert min(window.start for window in windows) == anchor
    assert Window(MINUTE, anchor, int(at("2026-03-05T11:00"))) in windows
    assert Window(HOUR, int(at("2026-03-05T11:00")), int(at("2026-03-06"))) in windows
    assert covered(windows, DAY) == (at("2026-03-06"), at("2026-03-09"))


def test_the_anchor_day_is_left_alone_once_it_is_frozen() -> None:
    anchor = int(at("2026-02-05T10:40"))
    tiers = Tiers(anchor)
    read_all(tiers, NOON)
    windows = tiers.due(NOON + 6 * HOUR)
    assert all(window.start >= at("2026-03-02") for window in windows)
