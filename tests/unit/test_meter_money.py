"""The meter and money: prices by the bill, estimates in minutes, the month, and how well it all fits together."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, Dimensions, Tokens
from exporter.demo.simulation import SimulatedOrganization
from tests.events import OPUS, SONNET, BilledOrganization, Use, line, usd_per_million
from tests.world import TOTALS_ONLY, Page, World, at, by, total, value

NOW = at("2026-03-19T11:17:23")
TODAY = int(at("2026-03-19"))
MARCH = at("2026-03-01")
PRICE, REQUEST_PRICE = "anthropic_price_usd_per_token", "anthropic_price_usd_per_request"
ESTIMATED, KEY_ESTIMATED = "anthropic_estimated_cost_usd_total", "anthropic_api_key_estimated_cost_usd_total"
MONTH, UNBILLED = "anthropic_cost_month_to_date_usd", "anthropic_cost_unbilled_estimate_usd"
UNPRICED, RATIO = "anthropic_unpriced_tokens_total", "anthropic_estimate_to_bill_ratio"
REJECTED = "anthropic_exporter_prices_rejected_total"
KEY = ("model", "service_tier", "context_window", "inference_geo", "token_type", "basis")
MIX = Tokens(uncached_input=4_100, cache_read=90_000, cache_creation_5m=700, cache_creation_1h=300, output=1_700)
WATERMARK = "anthropic_usage_watermark_timestamp_seconds"
US = SONNET._replace(inference_geo="us", api_key_id="apikey_3")
PRIORITY = OPUS._replace(service_tier="priority", model="claude-opus-4-8")
NOVA = SONNET._replace(model="claude-nova-9")
SEARCHING = MIX._replace(web_search=3)


def daily(
    first: str, end: float, kinds: Sequence[Dimensions] = (SONNET, OPUS), tokens: Tokens = SEARCHING, each: int = HOUR
) -> list[Use]:
    """Return a use of each kind every so many seconds, from a day on."""
    times = range(int(at(first)), int(end), each)
    return [Use(time + 7 * n, kind, tokens) for time in times for n, kind in enumerate(kinds)]


def unit_prices(page: Page, basis: str) -> dict[tuple[str, ...], float]:
    """Return the prices of one basis in USD for a million tokens."""
    return {labels[:-1]: usd * 1e6 for labels, usd in by(page, PRICE, KEY).items() if labels[-1] == basis}


def best_known(page: Page) -> float:
    return total(page, MONTH) + total(page, UNBILLED)


def spent(world: World, page: Page) -> float:
    """Return what was used this month up to the watermark, in whole minutes, at the prices of the bill."""
    reached = value(page, WATERMARK, report="usage") // MINUTE * MINUTE
    month = MARCH if world.now < at("2026-04-01") else at("2026-04-01")
    assert isinstance(world.organization, BilledOrganization)
    return world.organization.dollars(month, reached)


# --- prices


@pytest.mark.parametrize(("days", "basis"), [(1, "list"), (2, "billed"), (9, "billed")])
def test_prices_are_those_of_the_bill_from_the_second_finished_day_on(days: int, basis: str) -> None:
    world = World(BilledOrganization(daily(f"2026-03-{19 - days}", NOW + HOUR)), NOW)
    world.poll()
    page = world.page()
    found = unit_prices(page, basis)
    if basis == "list":
        assert unit_prices(page, "billed") == {}
        assert found["claude-sonnet-5-5", "standard", "0-200k", "global", "output"] == pytest.approx(10)
        assert value(page, REQUEST_PRICE, tool="web_search", basis="list") == pytest.approx(0.01)
        return
    expected = {
        (*kind[2:], word): float(usd_per_million(kind, word, 0)) for kind in (SONNET, OPUS) for word in MIX._fields[:-1]
    }
    assert found == pytest.approx(expected, rel=1e-9)
    assert value(page, REQUEST_PRICE, tool="web_search", basis="billed") == pytest.approx(0.008, rel=1e-9)


def test_a_price_that_changes_in_mid_month_is_followed_and_old_usage_is_not_priced_anew() -> None:
    change = TODAY + DAY

    def price(dimensions: Dimensions, word: str, day: int) -> Decimal:
        return usd_per_million(dimensions, word, day) * (2 if day >= change else 1)

    organization = BilledOrganization(daily("2026-03-10", NOW + 5 * DAY, [SONNET], each=1800), price=price)
    world = World(organization, at("2026-03-19T22:00"), "--usage.poll-interval", "900", *TOTALS_ONLY)
    page = world.run(2 * HOUR, scrape_every=600)
    before = total(page, ESTIMATED)
    assert before == pytest.approx(organization.dollars(at("2026-03-19T21:37"), world.now - 1350), rel=0.01)
    page = world.run(50 * HOUR, scrape_every=600)
    assert unit_prices(page, "billed")["claude-sonnet-5-5", "standard", "0-200k", "global", "output"] == pytest.approx(
        27.4
    )
    two_days, now = total(page, ESTIMATED), world.now
    page = world.run(24 * HOUR, scrape_every=600)
    assert total(page, ESTIMATED) - two_days == pytest.approx(
        organization.dollars(now - 1350, world.now - 1350), rel=0.02
    )
    assert total(page, UNBILLED) == pytest.approx(
        organization.dollars(world.now // DAY * DAY, world.now - 1350), rel=0.03
    )


def test_an_override_comes_before_the_bill_and_a_model_of_ones_own_gets_a_price(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(
        '[[model]]\nids = ["claude-sonnet-5-5"]\noutput = 7\n\n[[model]]\nids = ["claude-nova-9"]\nuncached_input = 1\n'
    )
    uses = daily("2026-03-10", NOW + HOUR, [SONNET, NOVA], MIX)
    world = World(BilledOrganization(uses), NOW, "--prices.file", str(tmp_path / "prices.toml"))
    world.poll()
    overrides, billed = unit_prices(world.page(), "override"), unit_prices(world.page(), "billed")
    assert overrides == {
        ("claude-sonnet-5-5", "standard", "0-200k", "global", "output"): pytest.approx(7),
        ("claude-nova-9", "standard", "0-200k", "global", "uncached_input"): pytest.approx(1),
    }
    assert billed["claude-nova-9", "standard", "0-200k", "global", "output"] == pytest.approx(13.7)


def test_absurd_bills_are_not_believed_and_counted() -> None:
    organization = BilledOrganization(daily("2026-03-10", NOW + HOUR, [SONNET], MIX))
    organization.price = lambda _kind, word, _day: Decimal(-1) if word == "output" else Decimal("0.1")
    world = World(organization, NOW)
    world.poll()
    page = world.page()
    assert "output" not in {labels[4] for labels in unit_prices(page, "billed")}
    assert unit_prices(page, "list")["claude-sonnet-5-5", "standard", "0-200k", "global", "output"] == pytest.approx(10)
    assert value(page, REJECTED) == 9


# --- estimates


def test_estimates_are_tokens_times_price_from_the_first_start_on() -> None:
    world = World(BilledOrganization(daily("2026-03-10", NOW + 3 * HOUR, [SONNET, OPUS], each=90)), NOW)
    world.zero_first = True
    page = world.run(2 * HOUR)
    tokens = by(page, "anthropic_usage_tokens_total", ("workspace_id", "model", "service_tier", "token_type"))
    estimated = by(page, ESTIMATED, ("workspace_id", "model", "service_tier", "cost_type", "token_type"))
    for (workspace, model, tier, word), count in tokens.items():
        usd = float(usd_per_million(SONNET, word, 0)) * 1e-6
        assert estimated[workspace, model, tier, "tokens", word] == pytest.approx(count * usd, abs=2 * usd)
    searches = by(page, "anthropic_usage_server_tool_requests_total", ("workspace_id", "model", "service_tier"))
    for labels, count in searches.items():
        assert count
        assert estimated[*labels, "web_search", "none"] == pytest.approx(count * 0.008, abs=0.016)


def test_priority_tier_carries_no_money_and_a_model_without_price_is_counted() -> None:
    uses = daily("2026-03-19", NOW + 2 * HOUR, [PRIORITY, NOVA], MIX, each=60)
    world = World(BilledOrganization(uses), NOW)
    page = world.run(HOUR)
    assert {labels[0] for labels in by(page, ESTIMATED, ("model",))} == set()
    assert by(page, UNPRICED, ("model",)).keys() == {("claude-nova-9",)}
    used = total(page, "anthropic_usage_tokens_total", model="claude-nova-9")
    assert total(page, UNPRICED) == pytest.approx(used, abs=2)
    assert total(page, "anthropic_usage_tokens_total", service_tier="priority") > 0
    assert PRICE not in {name for name, _ in page}


def test_estimates_begin_with_the_first_start_even_if_tokens_reach_back() -> None:
    organization = BilledOrganization(daily("2026-03-01", NOW + HOUR, [SONNET], each=600))
    world = World(organization, NOW, "--usage.anchor", "2026-03-01")
    page = world.run(HOUR)
    assert total(page, "anthropic_usage_tokens_total") > 100 * sum(MIX)
    reached = value(page, WATERMARK, report="usage") // MINUTE * MINUTE
    expected = organization.dollars((NOW - 300) // MINUTE * MINUTE, reached)
    assert total(page, ESTIMATED) == pytest.approx(expected, rel=1e-9)
    keys = value(page, WATERMARK, report="api_key_usage") // MINUTE * MINUTE
    expected = organization.dollars((NOW - 300) // MINUTE * MINUTE, keys)
    assert total(page, KEY_ESTIMATED) == pytest.approx(expected, rel=1e-9)


def test_folded_label_sets_are_priced_before_they_are_folded() -> None:
    models = {SONNET.model: (2, 0.2, 2.5, 4, 10), OPUS.model: (4, 0.2, 5, 8, 20)}
    kinds = [SONNET._replace(workspace_id=f"wrkspc_{n}", model=model) for n in range(9) for model in models]
    uses = daily("2026-03-19", NOW + HOUR, kinds, MIX, each=60)
    world = World(BilledOrganization(uses, missing={TODAY}), NOW, "--metrics.max-series", "10")
    page = world.run(HOUR)
    assert len(by(page, ESTIMATED, ("workspace_id", "model"))) == 3, "two, and all the others"
    minutes = (value(page, WATERMARK, report="usage") - (NOW - 300) // MINUTE * MINUTE) / MINUTE
    dollars = sum(
        count * usd * 9 * minutes / 1e6 for prices in models.values() for count, usd in zip(MIX, prices, strict=False)
    )
    assert total(page, ESTIMATED) == pytest.approx(dollars, rel=1e-9)


# --- by key


def test_keys_add_up_to_their_workspaces_in_every_mix_of_geographies() -> None:
    organization = SimulatedOrganization(seed=3, started=int(at("2026-02-20")))
    world = World(organization, NOW, "--usage.api-key-poll-interval", "60")
    page = world.run(HOUR, scrape_every=60)
    assert value(page, WATERMARK, report="usage") == value(page, WATERMARK, report="api_key_usage")
    assert total(page, "anthropic_api_key_usage_tokens_total") == pytest.approx(
        total(page, "anthropic_usage_tokens_total"), abs=1000
    )
    assert total(page, KEY_ESTIMATED) == pytest.approx(total(page, ESTIMATED), rel=0.005)
    for (workspace, model), usd in sums(page, ESTIMATED).items():
        assert sums(page, KEY_ESTIMATED)[workspace, model] == pytest.approx(usd, rel=0.02, abs=0.01)
    assert ("console",) in by(page, KEY_ESTIMATED, ("api_key_id",))


def sums(page: Page, name: str) -> Counter[tuple[str, ...]]:
    """Return the samples of a family summed by workspace and model."""
    found: Counter[tuple[str, ...]] = Counter()
    for (family, labels), usd in page.items():
        if family == name:
            found[dict(labels)["workspace_id"], dict(labels)["model"]] += usd  # type: ignore[assignment]
    return found


def test_a_refused_per_key_view_is_visible_and_hides_nothing() -> None:
    world = World(BilledOrganization(daily("2026-03-10", NOW + 2 * HOUR, each=60)), NOW)
    world.faults.add(Fault(kind=403, endpoint="usage", grouped_by="api_key_id"))
    page = world.run(HOUR)
    assert value(page, "anthropic_up", report="api_key_usage") == 0
    assert value(page, "anthropic_exporter_poll_failures_total", report="api_key_usage", reason="permission") > 1
    assert {value(page, "anthropic_up", report=name) for name in ("usage", "cost", "names", "limits")} == {1}
    assert total(page, ESTIMATED) > 0
    assert KEY_ESTIMATED not in {name for name, _ in page}


def test_the_per_key_view_can_be_switched_off() -> None:
    world = World(BilledOrganization(daily("2026-03-10", NOW + 2 * HOUR, each=60)), NOW, "--usage.by-api-key", "false")
    page = world.run(HOUR)
    assert not {name for name, _ in page if name.startswith("anthropic_api_key_usage") or name == KEY_ESTIMATED}
    assert ("api_key_usage",) not in by(page, "anthropic_up", ["report"])
    assert not [seen for seen in world.api.log if "api_key_id" in seen.query.get("group_by[]", [])]


# --- the month


@pytest.mark.parametrize("posted", [0, 5 * HOUR, 40 * HOUR])
@pytest.mark.parametrize(
    "now", ["2026-03-19T11:17:23", "2026-03-02T00:02:10", "2026-04-01T00:02:10", "2026-04-01T09:30"]
)
def test_a_first_start_shows_the_best_known_spend_of_the_month_at_once(now: str, posted: float) -> None:
    organization = BilledOrganization(daily("2026-02-20", at(now) + HOUR, each=600), posted=posted)
    world = World(organization, at(now))
    world.poll()
    page = world.page()
    assert best_known(page) == pytest.approx(spent(world, page), rel=1e-9, abs=1e-9)
    page = world.run(2 * MINUTE)
    assert best_known(page) == pytest.approx(spent(world, page), rel=1e-9, abs=1e-9)


def test_a_day_without_a_bill_is_estimated_until_its_bill_comes() -> None:
    organization = BilledOrganization(daily("2026-03-01", NOW + 2 * DAY, each=600), missing={TODAY - 9 * DAY})
    world = World(organization, NOW, *TOTALS_ONLY)
    page = world.run(HOUR, scrape_every=600)
    assert best_known(page) == pytest.approx(spent(world, page), rel=1e-9)
    billed = total(page, MONTH)
    organization.missing.clear()
    page = world.run(2 * HOUR, scrape_every=600)
    assert total(page, MONTH) > billed
    assert best_known(page) == pytest.approx(spent(world, page), rel=1e-9)


def test_the_month_is_right_through_its_turn_and_after_a_restart(tmp_path: Path) -> None:
    organization = BilledOrganization(daily("2026-03-01", at("2026-04-03"), each=600), posted=5 * HOUR)
    world = World(organization, at("2026-03-31T22:00"), *TOTALS_ONLY, state=tmp_path / "state")
    for moment in ("2026-03-31T23:59:30", "2026-04-01T00:00:30", "2026-04-01T00:20", "2026-04-01T07:00"):
        page = world.run(at(moment) - world.now, scrape_every=300)
        # Before the watermark has turned there is nothing of the new month, whatever the clock says.
        assert best_known(page) == pytest.approx(spent(world, page), rel=1e-9, abs=1e-9)
        assert UNBILLED in {name for name, _ in page}
    world.crash()
    world.now += 3 * HOUR
    world.start()
    assert UNBILLED not in {name for name, _ in world.page()}
    world.poll()
    # Counters stand still for a while, but this is no counter.
    known = organization.dollars(at("2026-04-01"), (world.now - 300) // MINUTE * MINUTE)
    assert best_known(world.page()) == pytest.approx(known, rel=1e-9)
    page = world.run(HOUR)
    assert best_known(page) == pytest.approx(spent(world, page), rel=1e-9)


def test_with_filters_the_month_stays_organisation_wide_and_counters_do_not() -> None:
    organization = BilledOrganization(daily("2026-03-01", NOW + 2 * HOUR, each=600), posted=20 * HOUR)
    world = World(organization, NOW, "--usage.models", "claude-opus-5-5")
    page = world.run(HOUR)
    assert best_known(page) == pytest.approx(spent(world, page), rel=0.001)
    assert set(by(page, ESTIMATED, ("model",))) == {("claude-opus-5-5",)}
    filtered = [seen for seen in world.api.log if seen.endpoint == "usage" and "models[]" in seen.query]
    assert len(filtered) > 60


# --- estimate and bill


def test_the_ratio_compares_the_first_whole_day_and_survives_a_restart(tmp_path: Path) -> None:
    organization = BilledOrganization(daily("2026-03-01", NOW + 4 * DAY, each=900), posted=3 * HOUR)
    flags = ("--usage.poll-interval", "600", *TOTALS_ONLY)
    world = World(organization, at("2026-03-19T22:00"), *flags, state=tmp_path / "state")
    page = world.run(25 * HOUR, scrape_every=1800)
    assert RATIO not in {name for name, _ in page}, "the 19th was not estimated as a whole"
    page = world.run(6 * HOUR, scrape_every=1800)
    assert value(page, RATIO) == pytest.approx(1, abs=0.001)
    world.crash()
    world.faults.add(Fault(kind=503))
    world.start()
    assert value(world.page(), RATIO) == value(page, RATIO)


def test_the_ratio_shows_what_the_list_does_not_know(tmp_path: Path) -> None:
    def price(dimensions: Dimensions, word: str, _day: int) -> Decimal:
        return {"output": Decimal(5)}.get(word, usd_per_million(dimensions, word, 0))

    organization = BilledOrganization(
        daily("2026-03-20", NOW + 4 * DAY, [SONNET], Tokens(output=1000), each=900), price=price, posted=3 * HOUR
    )
    world = World(organization, at("2026-03-19T22:00"), "--usage.poll-interval", "600", *TOTALS_ONLY)
    page = world.run(31 * HOUR, scrape_every=1800)
    assert value(page, RATIO) == pytest.approx(2)


@pytest.mark.parametrize("flag", ["--usage.models=claude-opus-5-5", "--usage.service-tiers=standard"])
def test_under_a_filter_the_ratio_leaves_out_what_the_bill_does_not_tell_apart(flag: str) -> None:
    searched = Tokens(output=1000, web_search=40)
    organization = BilledOrganization(daily("2026-03-16", NOW + 4 * DAY, tokens=searched, each=900), posted=3 * HOUR)
    flags = ("--usage.poll-interval", "600", *TOTALS_ONLY)
    world = World(organization, at("2026-03-19T22:00"), flag, *flags)
    page = world.run(31 * HOUR, scrape_every=1800)
    assert total(page, ESTIMATED, cost_type="web_search") > 0
    assert value(page, RATIO) == pytest.approx(1, abs=0.001)


def test_a_day_that_was_caught_up_after_its_bill_is_no_estimate(tmp_path: Path) -> None:
    organization = BilledOrganization(daily("2026-03-01", NOW + 9 * DAY, each=900), posted=3 * HOUR)
    flags = ("--usage.poll-interval", "600", *TOTALS_ONLY)
    world = World(organization, at("2026-03-19T22:00"), *flags, state=tmp_path / "state")
    world.run(HOUR, scrape_every=600)
    world.crash()
    world.now += 2 * DAY
    world.start()
    page = world.run(2 * HOUR, scrape_every=600)
    assert total(page, ESTIMATED) == pytest.approx(
        organization.dollars(at("2026-03-19T21:45"), value(page, WATERMARK, report="usage")), rel=0.001
    )
    assert RATIO not in {name for name, _ in page}


# --- names, budgets, limits


def test_prices_estimates_and_the_bill_meet_under_the_usage_reports_name_of_a_model() -> None:
    dated = SONNET._replace(model="claude-sonnet-4-5-20250929")
    organization = BilledOrganization(
        daily("2026-03-10", NOW + HOUR, [dated], MIX), bill_model=lambda name: name.removesuffix("-20250929")
    )
    world = World(organization, NOW, "--usage.anchor", "2026-03-10")
    page = world.run(HOUR)
    names = (PRICE, MONTH, UNBILLED, ESTIMATED, "anthropic_cost_last_day_usd", "anthropic_cost_usd_total")
    for name in names:
        assert set(by(page, name, ("model",))) == {("claude-sonnet-4-5-20250929",)}, name
    assert sorted(set(unit_prices(page, "billed").values())) == pytest.approx([0.17, 3.1, 13.7])


def test_where_two_models_share_a_name_on_the_bill_it_stays_the_bills() -> None:
    one, other = (SONNET._replace(model=f"claude-sonnet-4-{date}") for date in ("20250514", "20250601"))
    organization = BilledOrganization(
        daily("2026-03-10", NOW + HOUR, [one, other], MIX), bill_model=lambda name: name[: -len("-20250514")]
    )
    world = World(organization, NOW)
    page = world.run(HOUR)
    assert {labels[0] for labels in unit_prices(page, "billed")} == {"claude-sonnet-4"}
    assert by(page, MONTH, ("model",)).keys() == {("claude-sonnet-4",)}
    assert by(page, ESTIMATED, ("model",)).keys() == {(one.model,), (other.model,)}


def test_every_id_on_a_value_series_has_a_name() -> None:
    uses = daily("2026-03-10", NOW + HOUR, [SONNET, OPUS._replace(api_key_id=None), US], MIX, each=300)
    world = World(BilledOrganization(uses), NOW, "--budget.workspaces", "wrkspc_9=5")
    page = world.run(HOUR)
    for label, info in (("workspace_id", "anthropic_workspace_info"), ("api_key_id", "anthropic_api_key_info")):
        named = {labels[0] for labels in by(page, info, (label,))}
        used = {dict(labels)[label] for (name, labels) in page if label in dict(labels) and not name.endswith("_info")}
        assert used
        assert used <= named
    keys = by(page, "anthropic_api_key_info", ("api_key_id", "api_key_name", "status"))
    assert {
        ("console", "Console", "active"),
        ("apikey_3", "apikey_3", "unknown"),
        ("apikey_1", "bot", "active"),
    } <= keys.keys()


def test_budgets_and_rate_limits_are_shown() -> None:
    organization = BilledOrganization(daily("2026-03-10", NOW + HOUR))
    flags = ("--budget.monthly-usd", "1234.5", "--budget.workspaces", "default=7,wrkspc_1=8.25")
    world = World(organization, NOW, *flags)
    page = world.page()
    assert value(page, "anthropic_budget_usd") == 1234.5
    assert by(page, "anthropic_workspace_budget_usd", ["workspace_id"]) == {("default",): 7, ("wrkspc_1",): 8.25}
    world.poll()
    page = world.page()
    groups = by(page, "anthropic_model_group_info", ("model", "model_group"))
    (group,) = [group for model, group in groups if model == "claude-opus-5-5"]
    assert value(page, "anthropic_rate_limit", model_group=group, limit="requests_per_minute") == 4000
    assert value(page, "anthropic_rate_limit", model_group="batch", limit="enqueued_batch_requests") == 500_000


def test_a_budget_for_a_workspace_that_is_not_there_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    world = World(BilledOrganization(), NOW, "--budget.workspaces", "wrkspc_9=5,default=1")
    world.poll("names")
    world.poll("names")
    warnings = [record.message for record in caplog.records if "budget.workspaces" in record.message]
    (warning,) = warnings
    assert "has wrkspc_9, which this organisation has not" in warning
    assert "its workspaces are default (Default), wrkspc_1 (Research)" in warning


def test_what_costs_nothing_at_all_does_not_disturb_the_ratio_or_the_month() -> None:
    world = World(BilledOrganization(bills={TODAY - DAY: [line("0")]}), NOW)
    page = world.run(HOUR)
    assert best_known(page) == 0
    assert RATIO not in {name for name, _ in page}


def test_a_day_without_a_bill_before_a_price_change_is_estimated_at_the_price_of_its_time() -> None:
    def price(dimensions: Dimensions, word: str, day: int) -> Decimal:
        return usd_per_million(dimensions, word, day) * (Decimal("0.8") if day >= at("2026-03-14") else 1)

    uses = daily("2026-03-01", NOW + HOUR, each=600)
    world = World(BilledOrganization(uses, missing={int(at("2026-03-10"))}, price=price), NOW)
    world.poll()
    assert best_known(world.page()) == pytest.approx(spent(world, world.page()), rel=1e-9)


def test_what_the_usage_endpoint_tells_one_report_holds_for_the_other() -> None:
    world = World(BilledOrganization(daily("2026-03-10", NOW + HOUR)), NOW)
    world.run(600)
    world.faults.add(Fault(kind=429, endpoint="usage", retry_after="400", times=1))
    asked = len(world.api.log)
    world.poll("usage")
    world.now += 200
    (outcome,) = world.poll("api_key_usage")
    assert outcome.reason == "rate_limited"
    assert outcome.retry_in == pytest.approx(200, abs=1)
    assert [seen.endpoint for seen in world.api.log[asked:]] == ["usage"]
    world.now += 201
    assert [one.reason for one in world.poll("api_key_usage", "usage")] == [None, None]


def test_a_restart_while_the_bill_cannot_be_read_keeps_the_prices_in_force(tmp_path: Path) -> None:
    organization = BilledOrganization(daily("2026-03-10", NOW + DAY, [SONNET, NOVA], MIX, each=120))
    world = World(organization, NOW, *TOTALS_ONLY, state=tmp_path / "state")
    world.run(HOUR, scrape_every=60)
    world.crash()
    world.faults.add(Fault(kind=503, endpoint="cost"))
    world.start()
    page = world.run(2 * HOUR, scrape_every=60)
    reached = value(page, WATERMARK, report="usage")
    expected = organization.dollars((NOW - 300) // MINUTE * MINUTE, reached)
    assert total(page, ESTIMATED) == pytest.approx(expected, rel=0.02)
    assert total(page, UNPRICED) == 0


def test_days_of_downtime_and_a_failed_first_read_price_nothing_anew(tmp_path: Path) -> None:
    def price(dimensions: Dimensions, word: str, day: int) -> Decimal:
        return usd_per_million(dimensions, word, day) * (2 if day >= TODAY + 2 * DAY else 1)

    organization = BilledOrganization(daily("2026-03-10", NOW + 10 * DAY, [SONNET], MIX, each=HOUR), price=price)
    world = World(organization, NOW, "--usage.poll-interval", "3600", *TOTALS_ONLY, state=tmp_path / "state")
    world.run(4 * DAY, scrape_every=12 * HOUR)
    world.crash()
    world.now += 5 * DAY
    world.start()
    world.poll("cost", "names")
    page = world.run(DAY, scrape_every=HOUR)
    dollars = organization.dollars(NOW - 5400, value(page, WATERMARK, report="usage"))
    late = organization.dollars(TODAY + 2 * DAY, TODAY + 4 * DAY) / 2
    assert dollars - late * 1.05 < total(page, ESTIMATED) < dollars * 1.001
