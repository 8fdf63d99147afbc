"""The meter against a simulated organisation: usage."""

import pickle

import pytest

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, Tokens
from exporter.demo.simulation import SimulatedOrganization
from tests.events import OPUS, SONNET, Use, WrittenOrganization
from tests.world import TOKEN_TYPES, TOKENS, TOTALS_ONLY, World, at, by, tokens, total, value, watermark

NOW = at("2026-03-09T21:17:23")
LATE = "anthropic_usage_late_tokens_total"
OVERCOUNTED = "anthropic_usage_overcounted_tokens"


@pytest.mark.parametrize(
    ("flags", "anchor"), [((), int((NOW - 300) // 60 * 60)), (("--usage.anchor", "2026-03-01"), int(at("2026-03-01")))]
)
def test_every_counter_equals_the_organisations_own_sum_at_the_watermark(flags: tuple[str, ...], anchor: int) -> None:
    organization = SimulatedOrganization(seed=3, started=int(at("2026-02-20")), quiet_after=NOW + HOUR)
    world = World(organization, NOW, *flags)
    world.run(HOUR, scrape_every=120)
    world.run(7 * HOUR, scrape_every=1200)
    page = world.page()
    truth = world.truth(anchor, int(watermark(page) // MINUTE * MINUTE))
    assert len(truth) > 50
    assert tokens(page) == truth
    assert total(page, LATE) > 0
    assert total(page, OVERCOUNTED) == 0


def test_a_new_series_is_shown_at_0_with_all_token_types_for_the_hold_after_its_first_scrape() -> None:
    organization = WrittenOrganization([Use(NOW - 250, SONNET, Tokens(output=600))])
    world = World(organization, NOW)
    world.poll("usage")
    world.now += 400
    world.poll("usage")
    first = by(world.page(), TOKENS, ["token_type"])
    assert first == {(token_type,): 0 for token_type in TOKEN_TYPES}
    world.now += 60
    world.poll("usage")
    world.now += 89
    world.poll("usage")
    assert total(world.page(), TOKENS) == 0
    world.now += 2
    world.poll("usage")
    assert total(world.page(), TOKENS) == 600


def test_only_a_configured_anchor_shows_series_at_their_full_value_at_once() -> None:
    organization = WrittenOrganization([Use(NOW - 3 * DAY, SONNET, Tokens(output=600))])
    world = World(organization, NOW, "--usage.anchor", "2026-03-01")
    world.poll("usage")
    assert total(world.page(), TOKENS) == 600


def test_release_is_linear_inside_the_minute() -> None:
    minute = int(NOW // MINUTE) * MINUTE
    organization = WrittenOrganization([Use(minute, SONNET, Tokens(output=600))])
    world = World(organization, minute, "--usage.hold", "1")
    for _ in range(5):
        world.poll("usage")
        world.page()
        world.now += 60
    world.poll("usage")
    shown = []
    for _ in range(4):
        shown.append((watermark(world.page()) - minute, total(world.page(), TOKENS)))
        world.now += 15
    assert shown == [(0, 0), (15, 150), (30, 300), (45, 450)]


def test_data_later_than_settle_counts_when_seen_and_is_late() -> None:
    organization = WrittenOrganization(
        [Use(NOW, SONNET, Tokens(output=100)), Use(NOW, SONNET, Tokens(output=7), delay=1000)]
    )
    world = World(organization, NOW)
    assert total(world.run(900), TOKENS) == 100
    page = world.run(300)
    assert total(page, TOKENS) == 107
    assert value(page, LATE, report="usage") == 7


def test_what_arrives_after_the_minutes_were_last_read_is_found_by_hours_and_then_by_days() -> None:
    organization = WrittenOrganization([Use(NOW, SONNET, Tokens(output=100))])
    world = World(organization, NOW, *TOTALS_ONLY)
    world.run(2 * HOUR, scrape_every=600)
    organization.uses.append(Use(NOW - NOW % HOUR + HOUR, OPUS, Tokens(output=5)))
    assert total(world.run(20 * MINUTE), TOKENS) == 105
    world.run(3 * DAY, scrape_every=6 * HOUR)
    organization.uses.append(Use(at("2026-03-10T01:00"), SONNET, Tokens(output=11)))
    page = world.run(7 * HOUR, scrape_every=HOUR)
    assert total(page, TOKENS) == 116
    assert value(page, LATE, report="usage") == 16


def test_what_changes_after_a_day_is_frozen_never_enters() -> None:
    organization = WrittenOrganization([Use(NOW, SONNET, Tokens(output=100)), Use(NOW + DAY, OPUS, Tokens(output=1))])
    world = World(organization, NOW, "--usage.poll-interval", "1800", *TOTALS_ONLY)
    world.run(11 * DAY, scrape_every=DAY)
    organization.uses.append(Use(NOW + 60, OPUS, Tokens(output=1000)))
    assert total(world.run(DAY, scrape_every=DAY), TOKENS) == 101


def test_a_downward_revision_never_lowers_a_counter_and_is_shown() -> None:
    organization = WrittenOrganization([Use(NOW, SONNET, Tokens(output=100)), Use(NOW, OPUS, Tokens(output=30))])
    world = World(organization, NOW)
    world.run(900)
    organization.uses[:] = [Use(NOW, SONNET, Tokens(output=95))]
    page = world.run(300)
    assert (total(page, TOKENS), value(page, OVERCOUNTED, report="usage")) == (130, 35)
    organization.uses[:] = [Use(NOW, SONNET, Tokens(output=100)), Use(NOW, OPUS, Tokens(output=30))]
    assert value(world.run(300), OVERCOUNTED, report="usage") == 0


def test_the_watermark_stands_still_in_an_outage_and_what_was_missed_is_caught_up_exactly() -> None:
    organization = SimulatedOrganization(seed=5, started=int(at("2026-03-01")))
    world = World(organization, NOW)
    world.run(20 * MINUTE)
    polled = world.now
    world.faults.add(Fault(kind=529, until=NOW + 5 * HOUR))
    page = world.run(4 * HOUR, scrape_every=600)
    assert value(page, "anthropic_up", report="usage") == 0
    assert watermark(page) <= polled + 90 - 300
    late = value(page, LATE, report="usage")
    page = world.run(2 * HOUR, scrape_every=600)
    assert value(page, "anthropic_up", report="usage") == 1
    assert watermark(page) >= world.now - 300 - 60
    assert value(page, LATE, report="usage") - late < 0.05 * total(page, TOKENS)


def test_a_clock_that_steps_back_lowers_nothing() -> None:
    world = World(SimulatedOrganization(seed=5, started=int(at("2026-03-01"))), NOW)
    before = world.run(20 * MINUTE)
    world.wrong = -HOUR
    world.poll("usage")
    after = world.page()
    assert all(after[key] >= sample for key, sample in before.items() if key[0] in (TOKENS, LATE))
    assert watermark(after) >= watermark(before)


def test_server_tools_are_counted_beside_the_tokens() -> None:
    world = World(WrittenOrganization([Use(NOW, SONNET, Tokens(output=1, web_search=4))]), NOW)
    page = world.run(900)
    searched = by(page, "anthropic_usage_server_tool_requests_total", ["model", "tool"])
    assert searched == {("claude-sonnet-5-5", "web_search"): 4}


def test_filters_are_passed_to_the_api() -> None:
    organization = WrittenOrganization([Use(NOW, SONNET, Tokens(output=1)), Use(NOW, OPUS, Tokens(output=2))])
    page = World(organization, NOW, "--usage.models", "claude-opus-5-5").run(900)
    assert by(page, TOKENS, ["model", "token_type"])["claude-opus-5-5", "output"] == 2
    assert total(page, TOKENS, model="claude-sonnet-5-5") == 0


def test_the_arrival_delay_is_weighted_by_tokens_and_skips_the_catch_up() -> None:
    minute = int(NOW // MINUTE) * MINUTE
    uses = [Use(minute + 120, SONNET, Tokens(output=10), 130), Use(minute + 7200, SONNET, Tokens(output=1000), 0)]
    world = World(WrittenOrganization(uses), minute)
    world.run(900)
    world.faults.add(Fault(kind=500, endpoint="usage", until=minute + 9000))
    page = world.run(3 * HOUR, scrape_every=600)
    assert total(page, TOKENS) == 1010
    assert value(page, "anthropic_usage_arrival_delay_seconds_count") == 10
    assert value(page, "anthropic_usage_arrival_delay_seconds_bucket", le="120.0") == 10
    assert value(page, "anthropic_usage_arrival_delay_seconds_bucket", le="60.0") == 0


def test_after_an_outage_of_days_the_watermark_waits_for_all_that_is_due_and_nothing_is_late() -> None:
    organization = WrittenOrganization([Use(NOW + n * HOUR, SONNET, Tokens(output=1)) for n in range(64)])
    world = World(organization, NOW, "--usage.poll-interval", "300")
    world.run(2 * HOUR, scrape_every=600)
    world.faults.add(Fault(kind=500, endpoint="usage", until=NOW + 62 * HOUR))
    page = world.run(62 * HOUR, scrape_every=600)
    assert watermark(page) > NOW + 61 * HOUR
    assert total(page, TOKENS) == len([use for use in organization.uses if use.time < watermark(page)])
    assert value(page, LATE, report="usage") == 0
    assert total(world.run(2 * HOUR, scrape_every=600), TOKENS) == 64


def test_a_bucket_that_the_api_leaves_out_had_no_usage() -> None:
    organization = WrittenOrganization([Use(NOW, SONNET, Tokens(output=100))])
    ledger_sees = Use(NOW + 60, OPUS, Tokens(output=1))
    world = World(organization, NOW)
    organization.uses.append(ledger_sees)
    world.run(900)
    organization.uses[:] = [ledger_sees]
    assert value(world.run(300), OVERCOUNTED, report="usage") == 100


def test_a_filtered_scrape_lets_new_series_grow_too() -> None:
    world = World(WrittenOrganization([Use(NOW, SONNET, Tokens(output=100))]), NOW)
    for _ in range(12):
        world.poll("usage")
        page = world.scrape(TOKENS)
        world.now += 60
    assert 'token_type="output"' in page
    assert "} 100.0" in page


def test_a_glitch_of_the_hosts_clock_stops_no_counter() -> None:
    organization = WrittenOrganization([Use(NOW + 600 + 60 * n, SONNET, Tokens(output=1)) for n in range(40)])
    world = World(organization, NOW)
    world.run(300)
    for wrong in (365 * DAY, 0, -365 * DAY, 0):
        world.wrong = wrong
        world.run(120)
    page = world.run(2 * HOUR, scrape_every=60)
    assert total(page, TOKENS) == 40
    assert value(page, LATE, report="usage") == 0


@pytest.mark.parametrize("wrong", [20 * DAY, 6 * HOUR, -HOUR, -20 * DAY])
@pytest.mark.parametrize("flags", [(), ("--usage.anchor", "2026-02-09")])
def test_a_host_that_is_wrong_from_the_start_counts_by_the_apis_time(wrong: float, flags: tuple[str, ...]) -> None:
    uses = [Use(NOW + 60 * n, SONNET, Tokens(output=1)) for n in range(-30, 60)]
    world = World(WrittenOrganization(uses), NOW, *flags, wrong=wrong)
    page = world.run(2 * HOUR, scrape_every=60)
    anchor = at("2026-02-09") if flags else NOW - 300 - 60
    assert total(page, TOKENS) == len([use for use in uses if use.time >= anchor and use.time // 60 > anchor // 60])
    assert world.now - 400 < watermark(page) <= world.now - 300
    assert value(page, LATE, report="usage") == 0
    assert value(page, "anthropic_exporter_clock_skew_seconds") == pytest.approx(wrong, abs=1)


def test_when_nobody_answers_at_the_start_the_counters_still_begin_with_the_start() -> None:
    uses = [Use(NOW + 60 * n, SONNET, Tokens(output=1)) for n in range(-30, 90)]
    world = World(WrittenOrganization(uses), NOW, wrong=6 * HOUR)
    world.faults.add(Fault(kind="truncated", until=NOW + HOUR))
    page = world.run(3 * HOUR, scrape_every=300)
    assert total(page, TOKENS) == len([use for use in uses if use.time // 60 >= (NOW - 300) // 60])


@pytest.mark.parametrize("start", ["2026-03-09T22:12", "2026-03-09T23:12:30", "2026-03-09T23:58", "2026-03-10T00:05"])
def test_what_is_kept_does_not_grow_with_time(start: str) -> None:
    begin = at(start)
    uses = [Use(begin + n * 7200, SONNET, Tokens(output=1)) for n in range(12 * 20)]
    world = World(WrittenOrganization(uses), begin, "--usage.poll-interval", "900", *TOTALS_ONLY)
    sizes = []
    for _ in range(2):
        world.run(10 * DAY, scrape_every=DAY)
        ledgers = world.meter._counters.ledgers.values()  # noqa: SLF001 - memory has no other surface
        sizes.append(len(pickle.dumps([ledger._registers for ledger in ledgers])))  # noqa: SLF001
    assert sizes[1] < sizes[0] * 1.2
    assert total(world.page(), TOKENS) == pytest.approx(12 * 20, abs=2)
