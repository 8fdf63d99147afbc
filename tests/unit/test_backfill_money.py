"""What ``backfill`` writes of bills, prices and a part of the usage, and what it says, against a simulated API."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from exporter.demo.organization import Dimensions, Tokens
from exporter.model import DAY, HOUR, MINUTE
from tests.events import OPUS, SONNET, Use, usd_per_million
from tests.unit.test_backfill import (
    ANCHOR,
    ANCHORED,
    ESTIMATES,
    FIRST,
    NOW,
    REACHED,
    REACHING_BACK,
    TODAY,
    Desk,
    billed,
    grown,
    reached,
    used,
)
from tests.world import TOKENS, at, tokens, total


def few(since: int = FIRST - 4 * DAY) -> list[Use]:
    """Return uses that all have the same labels, so that there is little to write."""
    return [replace(use, dimensions=SONNET) for use in used(since)]


def test_late_usage_is_not_counted_before_the_live_counters_have_it(tmp_path: Path) -> None:
    """What was used in the hour before the start arrives after it: the live counters begin without it."""
    late = [Use(time, SONNET, Tokens(5000), delay=NOW + HOUR - time) for time in range(int(NOW) - HOUR, int(NOW), 600)]
    desk = Desk(tmp_path, billed([*few(), *late]), *ANCHORED)
    desk.world.run(2 * HOUR, scrape_every=HOUR)
    assert total(desk.world.page(), TOKENS) > total(desk.first, TOKENS) + 5 * 5000
    last = reached(desk.lines("2026-11-18"), ANCHOR)
    assert {key for key, value in last.items() if key[0] in REACHING_BACK and value > desk.first[key]} == set()


@pytest.mark.parametrize("flags", [(), ANCHORED])
def test_no_bill_is_lost_where_it_comes_after_the_start(tmp_path: Path, flags: Sequence[str]) -> None:
    desk = Desk(tmp_path, billed(few()), *flags, now=TODAY + 2 * HOUR)
    end, cost, warning = TODAY + 2 * HOUR, "anthropic_cost_usd_total", "2026-11-18 is not billed yet"
    lines = desk.lines()
    begun = total(reached(lines, FIRST), cost)
    assert grown(lines, cost, FIRST, end) == pytest.approx(
        billed(few()).dollars(REACHED if flags else FIRST, TODAY - 2 * DAY if flags else TODAY - DAY)
    )
    assert begun == 0
    assert any(warning in told for told in desk.said) == (not flags)
    desk.world.now = TODAY + DAY + 6 * HOUR
    live = total(desk.world.run(10 * MINUTE), cost)
    desk.said.clear()
    last = total(reached(desk.lines(), end), cost)
    assert not any(warning in told for told in desk.said)
    if flags:
        assert last <= total(desk.first, cost)
        assert live == pytest.approx(billed(few()).dollars(REACHED, TODAY + DAY))
    else:
        assert last == pytest.approx(billed(few()).dollars(FIRST, TODAY))
        assert live == pytest.approx(billed(few()).dollars(TODAY, TODAY + DAY))


@pytest.mark.parametrize(
    ("first", "changed"),
    [
        (FIRST, FIRST + DAY),
        # The last day of a week that is read at once: the bill of the day after it confirms the change.
        (TODAY - 6 * DAY, TODAY - 2 * DAY),
    ],
)
def test_each_day_costs_what_its_bill_says(tmp_path: Path, first: int, changed: int) -> None:
    def price(dimensions: Dimensions, word: str, day: int) -> Decimal:
        return usd_per_million(dimensions, word, day) * (3 if day >= changed else 1)

    organization = replace(billed(few(first - 4 * DAY)), price=price)
    lines = Desk(tmp_path, organization).lines(f"{datetime.fromtimestamp(first, UTC):%Y-%m-%d}")
    for family in ESTIMATES:
        for day in range(first, TODAY, DAY):
            usd = grown(lines, family, day, day + DAY)
            assert usd == pytest.approx(organization.dollars(day, day + DAY), rel=5e-3), (family, day)


def test_what_the_month_has_cost_is_billed_or_estimated(tmp_path: Path) -> None:
    organization = billed(few())
    lines = Desk(tmp_path, organization).lines()
    families = ("anthropic_cost_month_to_date_usd", "anthropic_cost_unbilled_estimate_usd")
    for time in (FIRST + 4 * HOUR, FIRST + 8 * HOUR, TODAY - MINUTE, TODAY + HOUR, ANCHOR):
        shown = [total(reached(lines, time), family) for family in families]
        assert all(shown)
        assert sum(shown) == pytest.approx(organization.dollars(int(at("2026-11-01")), time), rel=0.01)


def test_without_usage_by_api_key_there_is_none_of_it(tmp_path: Path) -> None:
    lines = Desk(tmp_path, billed(), "--usage.by-api-key", "false").lines("2026-11-18")
    assert [family for family, _ in lines if family.startswith(("anthropic_api_key_usage", ESTIMATES[1]))] == []
    marks = [labels for family, labels in lines if family == "anthropic_usage_watermark_timestamp_seconds"]
    assert marks == [frozenset({("report", "usage")})]
    assert TOKENS in {family for family, _ in lines}


def test_a_part_of_the_usage_tells_nothing_of_what_the_organisation_owes(tmp_path: Path) -> None:
    desk = Desk(tmp_path, billed(), "--usage.models", OPUS.model)
    part = desk.lines("2026-11-18")
    ended = reached(part, ANCHOR)
    assert "anthropic_cost_unbilled_estimate_usd" not in {family for family, _ in part}
    wanted = desk.world.truth(TODAY - DAY, ANCHOR)
    assert tokens(ended) == {labels: count for labels, count in wanted.items() if labels[0] == OPUS.model}
    assert {dict(labels)["model"] for family, labels in ended if family == ESTIMATES[0]} == {OPUS.model}
    assert total(ended, ESTIMATES[0]) > 0


def test_progress_is_told_by_the_day_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the live counters begin at midnight."""
    for folder, now in {"a": TODAY + HOUR, "b": TODAY + 5 * MINUTE}.items():
        (tmp_path / folder).mkdir()
        desk = Desk(tmp_path / folder, billed(used(TODAY - DAY)), now=now)
        capsys.readouterr()
        desk.text("2026-11-18")
        days = 2 if folder == "a" else 1
        out, err = capsys.readouterr()
        assert (out, err) == ("", "".join(f"backfill: {n} of {days} days\n" for n in range(1, days + 1)))
        told = "".join(desk.said)
        assert f"wrote {desk.folder / 'out.om'}" in told
        assert re.search("\nusage from 2026-11-18 to 2026-11-19 0.:.. UTC, where the live counters begin", told)
        assert "--storage.tsdb.retention.time=2d or more" in told
