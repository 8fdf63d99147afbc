from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import pairwise

import pytest

from exporter.demo.organization import DAY, HOUR, MINUTE, Dimensions, Organization, Tokens, total
from exporter.demo.simulation import Arrival, SimulatedOrganization

MONDAY = 1_793_577_600
STARTED = MONDAY - 20 * DAY
NOON = MONDAY + 12 * HOUR
NOW = NOON + 17 * MINUTE + 25

Report = Mapping[int, Mapping[Dimensions, Tokens]]


@pytest.fixture(scope="module")
def organization() -> SimulatedOrganization:
    return SimulatedOrganization(seed=7, started=STARTED)


def rows_of(report: Report) -> dict[Dimensions, Tokens]:
    """All buckets of a report together."""
    rows: dict[Dimensions, Tokens] = {}
    for bucket in report.values():
        for dimensions, tokens in bucket.items():
            rows[dimensions] = rows.get(dimensions, Tokens()).plus(tokens)
    return rows


def whole(report: Report) -> Tokens:
    return total(rows_of(report).values())


def no_less(rows: Mapping[Dimensions, Tokens], than: Mapping[Dimensions, Tokens]) -> bool:
    return all(
        after >= before
        for dimensions, tokens in than.items()
        for after, before in zip(rows[dimensions], tokens, strict=True)
    )


def output_of(tokens: Iterable[Tokens]) -> int:
    return sum(row.output for row in tokens)


@pytest.mark.parametrize("as_of", [NOON + 1, NOW, NOON + 59 * MINUTE, MONDAY + DAY + 40, MONDAY + 3 * DAY])
def test_minutes_add_up_to_hours_and_days(organization: SimulatedOrganization, as_of: float) -> None:
    minutes, hours, days = (organization.usage(width, MONDAY, MONDAY + DAY, as_of) for width in (MINUTE, HOUR, DAY))
    assert rows_of(minutes) == rows_of(hours) == rows_of(days)
    for hour, rows in hours.items():
        assert rows_of({minute: minutes[minute] for minute in minutes if hour <= minute < hour + HOUR}) == rows


def test_a_seed_decides_on_history_whatever_is_asked_before() -> None:
    one, other = (SimulatedOrganization(seed=3, started=STARTED) for _ in range(2))
    one.usage(DAY, STARTED, MONDAY + DAY, NOW)
    one.cost(MONDAY - 3 * DAY, NOW)
    asked = (MINUTE, NOON - HOUR, NOON + 18 * MINUTE, NOW)
    assert one.usage(*asked) == other.usage(*asked)
    assert one.cost(MONDAY - 2 * DAY, NOW) == other.cost(MONDAY - 2 * DAY, NOW)
    assert (one.id, one.api_keys, one.workspaces) == (other.id, other.api_keys, other.workspaces)


def test_another_seed_is_another_organization(organization: SimulatedOrganization) -> None:
    other = SimulatedOrganization(seed=8, started=STARTED)
    asked = (HOUR, MONDAY, NOON, NOW)
    assert organization.id != other.id
    assert sorted(map(output_of, (rows.values() for rows in organization.usage(*asked).values()))) != sorted(
        map(output_of, (rows.values() for rows in other.usage(*asked).values()))
    )


def test_usage_appears_later_and_never_shrinks() -> None:
    late = SimulatedOrganization(seed=7, started=STARTED, arrival=Arrival(late_share=0.3))
    asked = (MINUTE, NOON, NOON + 5 * MINUTE)
    seen = [rows_of(late.usage(*asked, as_of)) for as_of in range(NOON + 60, NOON + 75 * MINUTE, 97)]
    assert all(no_less(after, before) for before, after in pairwise(seen))
    assert output_of(seen[8].values()) < output_of(seen[-1].values())
    assert seen[-1] == rows_of(late.usage(*asked, NOON + DAY))


def test_usage_is_known_for_good_after_the_largest_delay(organization: SimulatedOrganization) -> None:
    asked = (MINUTE, NOON, NOON + MINUTE)
    known = organization.usage(*asked, NOON + MINUTE + organization.max_delay - 0.01)
    assert known == organization.usage(*asked, NOON + MINUTE + organization.max_delay)
    assert organization.max_delay == 3600
    punctual = SimulatedOrganization(seed=7, started=STARTED, arrival=Arrival(late_share=0))
    assert punctual.max_delay < 600


def test_half_of_a_minute_is_known_a_good_minute_after_its_end(organization: SimulatedOrganization) -> None:
    def known_after(age: float) -> float:
        minutes = range(NOON, NOON + HOUR, MINUTE)
        asked = [(MINUTE, minute, minute + MINUTE) for minute in minutes]
        seen = sum(whole(organization.usage(*ask, ask[2] + age)).cache_read for ask in asked)
        return seen / whole(organization.usage(HOUR, NOON, NOON + HOUR, NOON + DAY)).cache_read

    assert known_after(60) > 0.40
    assert known_after(80) < 0.65
    assert 0.96 < known_after(280) < 0.999


def test_the_open_minute_is_known_in_part() -> None:
    prompt = SimulatedOrganization(seed=7, started=STARTED, arrival=Arrival(median=0, late_share=0))
    half, full = (whole(prompt.usage(MINUTE, NOON, NOON + MINUTE, NOON + age)) for age in (30, 60))
    assert half.cache_read == pytest.approx(full.cache_read / 2, rel=0.001)
    assert prompt.usage(MINUTE, NOON, NOON + MINUTE, NOON) == {}


def test_usage_stops_when_it_is_to_be_quiet(organization: SimulatedOrganization) -> None:
    quiet = SimulatedOrganization(seed=7, started=STARTED, quiet_after=NOON + 10 * MINUTE)
    asked = (MINUTE, NOON - HOUR, NOON + 2 * HOUR, NOON + DAY)
    before = {start: rows for start, rows in organization.usage(*asked).items() if start < NOON + 10 * MINUTE}
    assert quiet.usage(*asked) == before
    assert rows_of(quiet.usage(DAY, MONDAY, MONDAY + 2 * DAY, NOON + 3 * DAY)) == rows_of(
        quiet.usage(MINUTE, MONDAY, MONDAY + DAY, NOON + 3 * DAY)
    )


def test_history_begins_with_the_first_hour(organization: SimulatedOrganization) -> None:
    first = SimulatedOrganization(seed=7, started=NOON + 61)
    assert first.started == NOON
    assert min(first.usage(HOUR, MONDAY, MONDAY + DAY, MONDAY + 2 * DAY)) == NOON
    days = first.usage(DAY, MONDAY - 9 * DAY, MONDAY + DAY, MONDAY + 2 * DAY)
    assert list(days) == [MONDAY]
    assert rows_of(days) == rows_of(first.usage(HOUR, NOON, MONDAY + DAY, MONDAY + 2 * DAY))
    assert organization.usage(DAY, STARTED - 5 * DAY, STARTED, NOW) == {}


def test_everything_that_a_report_can_say_is_used(organization: SimulatedOrganization) -> None:
    rows = rows_of(organization.usage(DAY, STARTED, MONDAY, NOW))
    assert 35 <= len(rows) <= 60
    assert {dimensions.service_tier for dimensions in rows} == {"standard", "batch", "priority"}
    assert {dimensions.context_window for dimensions in rows} == {"0-200k", "200k-1M"}
    assert {dimensions.inference_geo for dimensions in rows} == {"global", "us", "not_available"}
    assert all(total(rows.values()))
    assert any(dimensions.api_key_id is None for dimensions in rows)
    assert any(dimensions.api_key_id and dimensions.workspace_id is None for dimensions in rows)
    used = {key.id for key in organization.api_keys if key.name != "evaluation-runs"}
    assert {dimensions.api_key_id for dimensions in rows} - {None} == used


def test_one_key_is_first_used_after_a_year_and_half_a_day(organization: SimulatedOrganization) -> None:
    (new,) = [key.id for key in organization.api_keys if key.name == "evaluation-runs"]
    first, end = STARTED + 365 * DAY + 12 * HOUR, STARTED + 367 * DAY
    hours = organization.usage(HOUR, first - DAY, end, end + DAY)
    assert min(hour for hour, rows in hours.items() if new in {dimensions.api_key_id for dimensions in rows}) == first


def test_weekends_are_quieter(organization: SimulatedOrganization) -> None:
    days = organization.usage(DAY, MONDAY - 7 * DAY, MONDAY, NOW)
    used = [output_of(days[MONDAY - offset * DAY].values()) for offset in range(7, 0, -1)]
    assert max(used[5:]) < min(used[:5])


def test_a_key_spikes_now_and_then(organization: SimulatedOrganization) -> None:
    hours = organization.usage(HOUR, MONDAY - 14 * DAY, MONDAY, NOW)
    ratios = []
    for hour in range(MONDAY - 7 * DAY, MONDAY - 2 * DAY, HOUR):
        for dimensions, tokens in hours[hour].items():
            before = hours[hour - 7 * DAY].get(dimensions, Tokens())
            if dimensions.service_tier == "standard" and before.output > 1000:
                ratios.append(tokens.output / before.output)
    spikes = [ratio for ratio in ratios if ratio > 3.5]
    assert 0 < len(spikes) < len(ratios) / 20


def test_a_bill_comes_out_hours_after_the_day(organization: SimulatedOrganization) -> None:
    assert organization.cost(MONDAY, MONDAY + DAY + 3 * HOUR - 1) is None
    assert organization.cost(MONDAY, MONDAY + DAY + 9 * HOUR)
    assert organization.cost(STARTED - 3 * DAY, NOW) == ()
    fixed = SimulatedOrganization(seed=7, started=STARTED, bill_delay=100)
    assert fixed.cost(MONDAY, MONDAY + DAY + 99) is None
    assert fixed.cost(MONDAY, MONDAY + DAY + 100) == organization.cost(MONDAY, NOW + 9 * DAY)


def billed(organization: Organization, day: int, token_type: str, **wanted: str) -> Decimal:
    lines = organization.cost(day, day + 9 * DAY) or ()
    return sum(
        (
            line.amount_cents
            for line in lines
            if line.token_type == token_type
            and all(getattr(line, name) == value for name, value in wanted.items())
            and "Correction" not in line.description
        ),
        Decimal(0),
    )


def used(organization: Organization, day: int, **wanted: str) -> Tokens:
    rows = rows_of(organization.usage(DAY, day, day + DAY, day + 9 * DAY))
    return total(
        tokens
        for dimensions, tokens in rows.items()
        if all(getattr(dimensions, name) == value for name, value in wanted.items())
    )


@pytest.mark.parametrize(
    ("model", "tier", "geo", "cents_per_million"),
    [
        ("claude-opus-5-5", "standard", "global", Decimal(2000) * Decimal("0.875")),
        ("claude-opus-5-5", "standard", "us", Decimal(2000) * Decimal("0.875") * Decimal("1.1")),
        ("claude-opus-5-5", "batch", "global", Decimal(2000) * Decimal("0.875") / 2),
        ("claude-fable-5-1", "standard", "global", Decimal(5000)),
    ],
)
def test_a_bill_is_tokens_times_negotiated_prices(
    organization: SimulatedOrganization, model: str, tier: str, geo: str, cents_per_million: Decimal
) -> None:
    wanted = {"model": model, "service_tier": tier, "inference_geo": geo}
    tokens = used(organization, MONDAY - 5 * DAY, **wanted).output
    cents = billed(organization, MONDAY - 5 * DAY, "output_tokens", **wanted)
    assert tokens
    assert cents == tokens * cents_per_million / 1_000_000


def test_a_bill_has_an_eighth_of_haiku_in_dearer_long_prompts(organization: SimulatedOrganization) -> None:
    day, wanted = MONDAY - 5 * DAY, {"model": "claude-haiku-5-5", "service_tier": "standard"}
    rows = rows_of(organization.usage(DAY, day, day + DAY, NOW))
    in_us = used(organization, day, **wanted, inference_geo="us").output
    cents = billed(organization, day, "output_tokens", **wanted, inference_geo="us")
    groups = len({row.workspace_id for row in rows if row.model == wanted["model"] and row.inference_geo == "us"})
    assert cents == pytest.approx(Decimal(in_us) * 55 / 1_000_000 * Decimal("1.5"), abs=Decimal("0.001") * groups)


def test_a_bill_knows_cache_prices_and_web_searches(organization: SimulatedOrganization) -> None:
    day = MONDAY - 4 * DAY
    tokens = used(organization, day, model="claude-fable-5-1")
    prices = {"5m": (tokens.cache_creation_5m, 1250), "1h": (tokens.cache_creation_1h, 2000)}
    for age, (count, cents_per_million) in prices.items():
        token_type = f"cache_creation.ephemeral_{age}_input_tokens"
        cents = billed(organization, day, token_type, model="claude-fable-5-1")
        assert cents == Decimal(count) * cents_per_million / 1_000_000
    searches = [line for line in organization.cost(day, NOW) or () if line.cost_type == "web_search"]
    assert sum(line.amount_cents for line in searches) == used(organization, day).web_search
    assert {(line.model, line.token_type, line.service_tier) for line in searches} == {(None, None, None)}


def test_a_bill_has_no_priority_tier_and_no_dates_in_models(organization: SimulatedOrganization) -> None:
    lines = organization.cost(MONDAY - 3 * DAY, NOW) or ()
    assert {line.service_tier for line in lines} <= {"standard", "batch", None}
    assert "claude-sonnet-4-5" in {line.model for line in lines}
    tokens = used(organization, MONDAY - 3 * DAY, model="claude-sonnet-4-5-20250929", service_tier="standard")
    cents = billed(organization, MONDAY - 3 * DAY, "output_tokens", model="claude-sonnet-4-5", service_tier="standard")
    assert cents == Decimal(tokens.output) * 1500 / 1_000_000


def test_bills_have_lines_that_differ_in_words_only_and_rare_ones(organization: SimulatedOrganization) -> None:
    days = range(STARTED, MONDAY, DAY)
    lines = [line for day in days for line in organization.cost(day, NOW) or ()]
    words = {line.description for line in lines if line.model == "claude-haiku-5-5"}
    assert "Claude Haiku 5.5 Usage - Output Tokens" in words
    assert "Claude Haiku 5.5 Usage - Output Tokens (Prompt over 100k)" in words
    assert "Claude Haiku 5.5 Usage - Output Tokens (Batch)" in words
    assert "Code Execution Usage" in {line.description for line in lines}
    assert any(line.amount_cents < 0 for line in lines)


def test_a_day_costs_what_an_organization_of_this_size_pays(organization: SimulatedOrganization) -> None:
    for day in range(STARTED, MONDAY, DAY):
        cents = sum(line.amount_cents for line in organization.cost(day, NOW) or ())
        assert 300 < cents / 100 < 1500
