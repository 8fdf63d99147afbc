"""The meter against a simulated organisation: the bill, names, and what one report's failure does to the others."""

from collections import defaultdict
from decimal import Decimal

import pytest

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, ApiKey, Tokens, Workspace
from exporter.demo.simulation import SimulatedOrganization
from tests.events import SONNET, Use, WrittenOrganization, line
from tests.world import KEY, Page, World, at, by, total, value

NOW = at("2026-03-09T21:17:23")
TODAY = int(at("2026-03-09"))
BILLED = "anthropic_cost_usd_total"
LAST_DAY, LAST_DAY_START = "anthropic_cost_last_day_usd", "anthropic_cost_last_day_start_timestamp_seconds"
MONTH, PREVIOUS = "anthropic_cost_month_to_date_usd", "anthropic_cost_previous_month_usd"
NAMES = {"claude-sonnet-4-5": "claude-sonnet-4-5-20250929"}
"""The usage report's names of models that the bill calls otherwise."""
WORDS = {
    "uncached_input_tokens": "uncached_input",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_creation_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_creation_1h",
    "output_tokens": "output",
}
LABELS = ("model", "workspace_id", "service_tier", "context_window", "inference_geo", "cost_type", "token_type")


def billed(world: World, first: str, end: str) -> dict[tuple[str, ...], float]:
    """Return the dollars of the days from ``first`` up to ``end``, by cost labels."""
    cents: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for day in range(int(at(first)), int(at(end)), DAY):
        for row in world.organization.cost(day, world.now) or ():
            token_type = WORDS.get(row.token_type or "", row.token_type)
            usage = (
                NAMES.get(row.model or "", row.model),
                row.workspace_id or "default",
                row.service_tier,
                row.context_window,
                row.inference_geo,
            )
            cents[tuple(label or "none" for label in (*usage, row.cost_type, token_type))] += row.amount_cents
    return {labels: float(amount / 100) for labels, amount in cents.items()}


def shown(page: Page, name: str) -> dict[tuple[str, ...], float]:
    return by(page, name, LABELS)


def test_the_gauges_are_the_bill_to_the_cent_fraction() -> None:
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-01-20")), bill_delay=4 * HOUR), NOW)
    world.poll("usage", "cost")
    page = world.page()
    assert shown(page, LAST_DAY) == billed(world, "2026-03-08", "2026-03-09")
    assert value(page, LAST_DAY_START) == at("2026-03-08")
    assert shown(page, PREVIOUS) == billed(world, "2026-02-01", "2026-03-01")
    this_month = billed(world, "2026-03-01", "2026-03-09")
    assert {labels: usd for labels, usd in shown(page, MONTH).items() if labels in this_month} == this_month
    assert all(usd == 0 for labels, usd in shown(page, MONTH).items() if labels not in this_month)


def test_the_billed_counter_counts_finished_days_from_a_configured_anchor_on() -> None:
    organization = SimulatedOrganization(seed=3, started=int(at("2025-12-20")), bill_delay=4 * HOUR)
    world = World(organization, NOW, "--usage.anchor", "2026-01-05")
    world.poll("usage", "cost")
    expected = {labels: usd for labels, usd in billed(world, "2026-01-05", "2026-03-09").items() if usd > 0}
    found = shown(world.page(), BILLED)
    assert {labels: found[labels] for labels in expected} == pytest.approx(expected, rel=1e-12)
    corrections = billed(world, "2026-01-05", "2026-03-09")
    assert sum(found.values()) >= sum(corrections.values()) - 1e-6


def test_by_default_the_billed_counter_begins_at_0_with_the_day_of_the_first_start() -> None:
    organization = WrittenOrganization(bills={TODAY - DAY: [line("500")], TODAY: [line("1234.5")]})
    world = World(organization, NOW)
    assert BILLED not in {name for name, _ in world.run(HOUR)}
    world.run(2 * HOUR, scrape_every=30)
    assert shown(world.run(HOUR, scrape_every=30), BILLED) == {
        ("claude-sonnet-5-5", "default", "standard", "0-200k", "global", "tokens", "output"): 12.345
    }


def test_a_correction_raises_the_counter_or_shows_as_overcounted() -> None:
    organization = WrittenOrganization(bills={TODAY - DAY: [line("500"), line("-100", text="Correction")]})
    world = World(organization, NOW, "--usage.anchor", "2026-03-01")
    world.poll("usage", "cost")
    assert total(world.page(), BILLED) == 4
    organization.bills[TODAY - DAY] = [line("300")]
    world.poll("cost")
    page = world.page()
    assert (total(page, BILLED), total(page, LAST_DAY), value(page, "anthropic_cost_overcounted_usd")) == (4, 3, 1)
    organization.bills[TODAY - DAY] = [line("700")]
    world.poll("cost")
    page = world.page()
    assert (total(page, BILLED), total(page, LAST_DAY), value(page, "anthropic_cost_overcounted_usd")) == (7, 7, 0)


def test_a_day_on_which_credits_exceed_charges_counts_0_and_shows_as_overcounted() -> None:
    credit = line("-5000", workspace="wrkspc_1", text="Credit")
    world = World(WrittenOrganization(bills={TODAY - DAY: [line("910"), credit]}), NOW, "--usage.anchor", "2026-03-01")
    world.poll("usage", "cost")
    page = world.page()
    assert (total(page, BILLED), value(page, "anthropic_cost_overcounted_usd")) == (9.1, 50)
    assert total(page, LAST_DAY) == total(page, MONTH) == pytest.approx(-40.9)


def test_absent_and_empty_days_are_unknown_not_zero() -> None:
    organization = WrittenOrganization(bills={TODAY - 3 * DAY: [line("500")], TODAY - 2 * DAY: []})
    world = World(organization, NOW)
    world.poll("usage", "cost")
    page = world.page()
    assert (total(page, LAST_DAY), value(page, LAST_DAY_START)) == (5, TODAY - 3 * DAY)


def test_months_turn_by_the_clock_and_the_first_of_a_month_asks_for_finished_days() -> None:
    first = int(at("2026-03-01"))
    organization = WrittenOrganization(bills={first - DAY: [line("250")], first - 40 * DAY: [line("999")]})
    world = World(organization, first - 600)
    organization.bills[first - 2 * DAY] = [line("100")]
    world.poll("usage", "cost")
    assert (total(world.page(), MONTH), total(world.page(), PREVIOUS)) == (1, 9.99)
    world.now = first + 1
    assert set(shown(world.page(), MONTH).values()) == {0}
    assert total(world.page(), PREVIOUS) == 1
    assert world.poll("cost")[0].reason is None
    assert (total(world.page(), MONTH), total(world.page(), PREVIOUS)) == (0, 3.5)


def test_cost_fails_for_an_hour_while_usage_goes_on() -> None:
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-02-20"))), NOW, "--cost.poll-interval", "600")
    before = world.run(600)
    world.faults.add(Fault(kind=503, endpoint="cost"))
    after = world.run(HOUR, scrape_every=60)
    assert (value(after, "anthropic_up", report="cost"), value(after, "anthropic_up", report="usage")) == (0, 1)
    assert [shown(after, name) for name in (LAST_DAY, MONTH, PREVIOUS)] == [
        shown(before, name) for name in (LAST_DAY, MONTH, PREVIOUS)
    ]
    tokens = "anthropic_usage_tokens_total"
    assert total(after, tokens) > total(before, tokens)
    assert value(after, "anthropic_exporter_poll_failures_total", report="cost", reason="server") > 2


def test_no_day_is_lost_when_cost_is_refused_across_a_turn_of_the_month() -> None:
    days = range(int(at("2026-01-01")), int(at("2026-04-05")), DAY)
    organization = WrittenOrganization(bills={day: [line("100")] for day in days})
    world = World(organization, at("2026-03-30T12:00"), "--usage.anchor", "2026-01-01", "--usage.poll-interval", "3600")
    world.faults.add(Fault(kind=403, endpoint="cost", since=at("2026-03-31"), until=at("2026-04-03T12:00")))
    page = world.run(5 * DAY, scrape_every=6 * HOUR)
    assert total(page, BILLED) == len([day for day in days if day < world.now - world.now % DAY])


def test_a_429_storm_is_waited_out_as_the_server_wishes() -> None:
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-02-20"))), NOW)
    world.run(600)
    asked = len(world.api.log)
    world.faults.add(Fault(kind=429, until=world.now + 1200, retry_after="300"))
    page = world.run(1199)
    assert len(world.api.log) - asked <= 3 * 5
    assert value(page, "anthropic_up", report="usage") == 0
    assert value(world.run(600), "anthropic_up", report="usage") == 1


def test_a_page_that_breaks_half_way_serves_nothing_of_it() -> None:
    organization = WrittenOrganization([Use(NOW - 200 + 60 * n, SONNET, Tokens(output=1)) for n in range(30)])
    world = World(organization, NOW, page_buckets={60: 5})
    before = world.run(1200)
    world.faults.add(Fault(kind="truncated", endpoint="usage", after_pages=1))
    organization.uses.append(Use(NOW + 900, SONNET, Tokens(output=1000)))
    after = world.run(600)
    tokens = "anthropic_usage_tokens_total"
    assert total(after, tokens) - total(before, tokens) <= 2
    assert value(after, "anthropic_exporter_poll_failures_total", report="usage", reason="bad_response") > 0
    world.faults.clear()
    assert total(world.run(600), tokens) == 1030


def test_names_are_there_for_every_id_and_one_refused_list_does_not_hide_the_others() -> None:
    organization = WrittenOrganization(
        [Use(NOW, SONNET._replace(workspace_id="wrkspc_gone"), Tokens(output=1)), Use(NOW, SONNET, Tokens(output=1))],
        workspaces=[Workspace("wrkspc_1", 'Re"search\n', archived=False), Workspace("wrkspc_2", "Old", archived=True)],
        api_keys=[ApiKey("apikey_1", "bot", "wrkspc_default", "active", int(NOW) + 99, 0)],
    )
    world = World(organization, NOW)
    world.faults.add(Fault(kind=403, endpoint="organization"))
    page = world.run(900)
    assert by(page, "anthropic_workspace_info", ["workspace_id", "workspace_name", "state"]).keys() == {
        ("default", "Default", "active"),
        ("wrkspc_1", 'Re"search\n', "active"),
        ("wrkspc_2", "Old", "archived"),
        ("wrkspc_gone", "wrkspc_gone", "unknown"),
    }
    keys = by(page, "anthropic_api_key_info", ["api_key_id", "api_key_name", "workspace_id", "status"])
    assert keys == {("apikey_1", "bot", "default", "active"): 1}
    assert value(page, "anthropic_api_key_expires_timestamp_seconds", api_key_id="apikey_1") == int(NOW) + 99
    assert value(page, "anthropic_exporter_poll_failures_total", report="names", reason="permission") == 1


def test_before_the_first_complete_poll_there_is_nothing_but_ourselves() -> None:
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-02-20"))), NOW)
    names = {name for name, _ in world.page()}
    assert not {name for name in names if name.startswith(("anthropic_usage", "anthropic_cost", "anthropic_up"))}
    assert value(world.page(), "anthropic_exporter_polls_total", report="usage") == 0
    assert value(world.page(), "anthropic_exporter_poll_failures_total", report="cost", reason="timeout") == 0


def test_the_key_is_on_no_page() -> None:
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-02-20"))), NOW)
    world.faults.add(Fault(kind=401, times=1))
    world.run(60)
    assert KEY not in world.scrape()
