"""The demo organisation's past in a real Prometheus, against what the organisation has used and paid."""

from collections import Counter
from collections.abc import Collection, Iterable
from random import Random
from typing import TYPE_CHECKING

import pytest

from exporter.demo import bill
from exporter.demo.organization import NO_TOKENS, CostLine, Dimensions, Tokens, total
from exporter.families import SERVER_TOOLS, TOKEN_COST, TOKEN_TYPES
from exporter.model import DAY, HOUR, MINUTE
from exporter.money.bill import month_of, month_start
from exporter.polling.windows import floor
from tests import history
from tests.history import ANCHOR, LAST, NOW, SEAM, SETTLE, START

if TYPE_CHECKING:
    from tests.integration.conftest import PrometheusServer, Result

pytestmark = pytest.mark.prometheus

TOKENS = "anthropic_usage_tokens_total"
KEY_TOKENS = "anthropic_api_key_usage_tokens_total"
ESTIMATED = "anthropic_estimated_cost_usd_total"
KEY_ESTIMATED = "anthropic_api_key_estimated_cost_usd_total"
ESTIMATED_TYPES = (TOKEN_COST, *SERVER_TOOLS)
SPAN = f"{NOW - START}s"
TODAY = floor(NOW, DAY)
MONTH = month_start(month_of(NOW))
DAYS = (TODAY - 35 * DAY, MONTH - DAY, MONTH, TODAY - 5 * DAY, TODAY - DAY)
"""The first one, those around the turn of the month, a Saturday, and yesterday."""
SCRAPES_A_DAY = DAY // (5 * MINUTE) - 1
"""Those in a left-open day: they are one growth short, and increase makes up for it by the mean of the others."""
ORGANIZATION = history.organization()


def rows_of(start: int, end: int) -> dict[Dimensions, Tokens]:
    """Return what the organisation used between two full minutes."""
    width = MINUTE if start % HOUR or end % HOUR else HOUR
    rows: dict[Dimensions, Tokens] = {}
    for found in ORGANIZATION.usage(width, start, end, NOW).values():
        for dimensions, tokens in found.items():
            rows[dimensions] = rows.get(dimensions, NO_TOKENS).plus(tokens)
    return rows


def used(start: int, end: int) -> Counter[str]:
    """Return the tokens of some minutes by type."""
    return Counter(dict(zip(TOKEN_TYPES, total(rows_of(start, end).values()), strict=False)))


def usd(lines: Iterable[CostLine], cost_types: Collection[str] = ()) -> float:
    """Return the sum of a bill, or of some of its cost types."""
    return float(sum(line.amount_cents for line in lines if not cost_types or line.cost_type in cost_types)) / 100


def by_type(result: "Result") -> Counter[str]:
    return Counter({row["metric"]["token_type"]: float(row["value"][1]) for row in result})


def grown(server: "PrometheusServer", family: str, start: int, end: int) -> Counter[str]:
    """Return by how much counters grew from one scrape to another, by token type."""
    last, first = (by_type(server.query(f"sum by (token_type) ({family})", time)) for time in (end, start))
    last.subtract(first)
    return last


@pytest.mark.parametrize("family", [TOKENS, KEY_TOKENS, ESTIMATED, KEY_ESTIMATED])
def test_a_counter_begins_at_zero_and_falls_at_the_seam_only(
    history_prometheus: "PrometheusServer", family: str
) -> None:
    at_once = history_prometheus.query(family, START)
    assert {row["value"][1] for row in at_once} == {"0"}
    before = f"min_over_time({family}[{LAST - START + 1}s])"
    assert history_prometheus.scalar(f"count({before} == 0) / count({before})", LAST) == 1
    assert history_prometheus.scalar(f"max(resets({family}[{SPAN}]))", NOW) == 1
    assert history_prometheus.scalar(f"max(resets({family}[{LAST - START}s]))", LAST) == 0


@pytest.mark.parametrize("family", [TOKENS, KEY_TOKENS])
@pytest.mark.parametrize("day", DAYS)
def test_a_day_counts_exactly_what_was_used_in_it(
    history_prometheus: "PrometheusServer", family: str, day: int
) -> None:
    end = day + DAY + SETTLE
    assert grown(history_prometheus, family, day + SETTLE, end) == used(day, day + DAY)
    # A second more holds the scrapes at both ends, whether ranges are closed (Prometheus 2) or left-open (3).
    for window, error in (("1d1s", 2e-5), ("1d", 1 / SCRAPES_A_DAY)):
        increase = history_prometheus.scalar(f"sum(increase({family}[{window}]))", end)
        assert increase == pytest.approx(used(day, day + DAY).total(), rel=error), window


def test_no_token_is_lost_or_counted_twice_at_the_seam(history_prometheus: "PrometheusServer") -> None:
    before = grown(history_prometheus, TOKENS, TODAY + SETTLE, LAST)
    after = by_type(history_prometheus.query(f"sum by (token_type) ({TOKENS})", NOW))
    assert before == used(TODAY, ANCHOR)
    # What is later than settle is still to come.
    assert after.total() == pytest.approx(used(ANCHOR, NOW - SETTLE).total(), rel=2e-3)


@pytest.mark.parametrize("family", [ESTIMATED, KEY_ESTIMATED])
@pytest.mark.parametrize("day", DAYS)
def test_a_day_is_estimated_at_what_it_costs(history_prometheus: "PrometheusServer", family: str, day: int) -> None:
    begin, end = (history_prometheus.scalar(f"sum({family})", day + after + SETTLE) for after in (0, DAY))
    assert end - begin == pytest.approx(usd(ORGANIZATION.cost(day, NOW) or (), ESTIMATED_TYPES), rel=5e-3)


def test_keys_cost_what_their_workspaces_cost(history_prometheus: "PrometheusServer") -> None:
    ratio = f"sum by (workspace_id) ({KEY_ESTIMATED}) / sum by (workspace_id) ({ESTIMATED})"
    ratios = [float(row["value"][1]) for row in history_prometheus.query(ratio, LAST)]
    assert len(ratios) == 4
    assert ratios == pytest.approx([1.0] * 4, rel=5e-3)


@pytest.mark.parametrize("time", [MONTH + 6 * HOUR, TODAY - 10 * DAY + HOUR, TODAY, SEAM - 2 * HOUR, NOW])
def test_month_to_date_and_unbilled_are_what_the_month_has_cost(
    history_prometheus: "PrometheusServer", time: int
) -> None:
    families = ("anthropic_cost_month_to_date_usd", "anthropic_cost_unbilled_estimate_usd")
    shown = sum(history_prometheus.scalar(f"sum({family})", time) for family in families)
    days = range(MONTH, floor(time - SETTLE, DAY), DAY)
    whole = sum(usd(ORGANIZATION.cost(day, NOW) or ()) for day in days)
    rows = rows_of(max(MONTH, floor(time - SETTLE, DAY)), time - SETTLE)
    begun = usd(bill.lines(rows, Random(0)), ESTIMATED_TYPES)  # noqa: S311 - it decides on the other cost types
    assert shown == pytest.approx(whole + begun, rel=5e-3)
