from decimal import Decimal

from exporter.families import API_KEY_ESTIMATED, ESTIMATED, UNPRICED
from exporter.model import DAY, Amounts, Series
from exporter.money.reconciliation import Reconciliation, Verdict
from tests.world import at

TODAY = int(at("2026-03-09"))
OPUS, SONNET = "claude-opus-5", "claude-sonnet-4-5-20250929"
SAME: dict[str, str] = {}
"""All models have one name."""


def made(*costs: tuple[str, str, str], cost_type: str = "tokens") -> dict[Series, tuple[Decimal, ...]]:
    """Return estimates in USD by model and token type, of a workspace each."""
    return {
        Series(ESTIMATED, (f"wrkspc_{number}", model, "standard", cost_type, kind)): (Decimal(usd),)
        for number, (model, kind, usd) in enumerate(costs)
    }


def bill(*costs: tuple[str, str, str], cost_type: str = "tokens") -> dict[tuple[str, ...], Decimal]:
    """Return amounts in USD by model and token type, of a workspace each."""
    return {
        (model, f"wrkspc_{number}", "standard", "none", "none", cost_type, kind): Decimal(usd)
        for number, (model, kind, usd) in enumerate(costs)
    }


def compare(known: Reconciliation, bills: dict[int, Amounts], models: dict[str, str] = SAME) -> Verdict | None:
    known.compare(lambda day: bills.get(day, {}), models)
    return known.verdict


def estimated(*days: int, usd: str = "3") -> Reconciliation:
    known = Reconciliation()
    for day in days:
        known.estimated(day, made((OPUS, "output", usd)))
    return known


def test_there_is_no_verdict_before_a_day_was_both_estimated_and_billed() -> None:
    known = Reconciliation()
    assert compare(known, {TODAY: bill((OPUS, "output", "4"))}) is None
    known.estimated(TODAY + DAY, made((OPUS, "output", "3")))
    assert compare(known, {TODAY: bill((OPUS, "output", "4"))}) is None


def test_the_ratio_is_the_estimate_by_the_bill() -> None:
    known = Reconciliation()
    known.estimated(TODAY, made((OPUS, "output", "2"), (OPUS, "output", "1"), (SONNET, "cache_read", "0.5")))
    verdict = compare(known, {TODAY: bill((OPUS, "output", "3.5"), (SONNET, "cache_read", "0.5"))})
    assert verdict == Verdict(TODAY, Decimal("0.875"), (OPUS, "output"), Decimal("-0.5"))


def test_the_worst_part_is_the_one_that_is_farthest_from_the_bill_in_dollars() -> None:
    known = Reconciliation()
    known.estimated(TODAY, made((OPUS, "output", "100"), (OPUS, "cache_read", "5"), (SONNET, "output", "8")))
    bills = bill((OPUS, "output", "101"), (OPUS, "cache_read", "1"), (SONNET, "output", "10"))
    verdict = compare(known, {TODAY: bills})
    assert verdict
    assert (verdict.worst, verdict.worst_usd) == ((OPUS, "cache_read"), Decimal(4))
    assert str(verdict.ratio) == "1.00892857142857143"


def test_what_was_not_estimated_or_not_billed_at_all_may_be_the_worst_part() -> None:
    known = Reconciliation()
    known.estimated(TODAY, made((OPUS, "output", "9"), (SONNET, "output", "2")))
    verdict = compare(known, {TODAY: bill((OPUS, "output", "9"), (OPUS, "cache_read", "1"))})
    assert verdict == Verdict(TODAY, Decimal("1.1"), (SONNET, "output"), Decimal(2))
    verdict = compare(known, {TODAY: bill((OPUS, "output", "9"), (SONNET, "output", "2"), (OPUS, "cache_read", "5"))})
    assert verdict == Verdict(TODAY, Decimal("0.6875"), (OPUS, "cache_read"), Decimal(-5))


def test_parts_go_by_the_usage_report_s_names_of_models() -> None:
    known = Reconciliation()
    known.estimated(TODAY, made((SONNET, "output", "3"), (OPUS, "output", "1")))
    bills: dict[int, Amounts] = {TODAY: bill(("claude-sonnet-4-5", "output", "3"), (OPUS, "output", "2"))}
    verdict = compare(known, bills, {"claude-sonnet-4-5": SONNET})
    assert verdict == Verdict(TODAY, Decimal("0.8"), (OPUS, "output"), Decimal(-1))


def test_only_what_is_estimated_at_all_is_compared() -> None:
    known = Reconciliation()
    known.estimated(
        TODAY,
        {
            **made((OPUS, "output", "3")),
            **made((OPUS, "none", "0.25"), cost_type="web_search"),
            Series(UNPRICED, ("claude-new-1",)): (Decimal(5000),),
            Series(API_KEY_ESTIMATED, ("apikey_1", "default", OPUS)): (Decimal(3),),
        },
    )
    bills = {
        **bill((OPUS, "output", "4"), (OPUS, "thoughts", "70")),
        **bill(("none", "none", "1"), cost_type="web_search"),
        **bill(("none", "none", "200"), cost_type="code_execution"),
        **bill((OPUS, "none", "300"), cost_type="session_usage"),
    }
    assert compare(known, {TODAY: bills}) == Verdict(TODAY, Decimal("0.65"), (OPUS, "output"), Decimal(-1))


def test_web_searches_are_one_part_whatever_the_model() -> None:
    known = Reconciliation()
    known.estimated(TODAY, made((OPUS, "none", "1"), (SONNET, "none", "2"), cost_type="web_search"))
    verdict = compare(known, {TODAY: bill(("none", "none", "4"), cost_type="web_search")})
    assert verdict == Verdict(TODAY, Decimal("0.75"), ("none", "web_search"), Decimal(-1))


def test_corrections_count_as_they_are() -> None:
    known = estimated(TODAY)
    verdict = compare(known, {TODAY: bill((OPUS, "output", "5"), (OPUS, "output", "-1"))})
    assert verdict
    assert verdict.ratio == Decimal("0.75")


def test_the_newest_day_that_was_estimated_and_billed_is_judged() -> None:
    known = estimated(TODAY - 2 * DAY, TODAY - DAY, TODAY)
    bills: dict[int, Amounts] = {TODAY - 2 * DAY: bill((OPUS, "output", "6")), TODAY - DAY: bill((OPUS, "output", "4"))}
    verdict = compare(known, bills)
    assert verdict
    assert (verdict.day, verdict.ratio) == (TODAY - DAY, Decimal("0.75"))


def test_a_verdict_stays_until_a_newer_day_is_billed() -> None:
    known = estimated(TODAY)
    first = compare(known, {TODAY: bill((OPUS, "output", "4"))})
    known.estimated(TODAY + DAY, made((OPUS, "output", "3")))
    assert compare(known, {TODAY: bill((OPUS, "output", "4"))}) == first
    newer = compare(known, {TODAY + DAY: bill((OPUS, "output", "2"))})
    assert newer
    assert (newer.day, newer.ratio) == (TODAY + DAY, Decimal("1.5"))


def test_an_older_day_that_is_billed_late_does_not_take_the_place_of_a_newer_one() -> None:
    known = estimated(TODAY - DAY, TODAY)
    verdict = compare(known, {TODAY: bill((OPUS, "output", "4"))})
    assert compare(known, {TODAY - DAY: bill((OPUS, "output", "5"))}) == verdict


def test_a_bill_that_is_corrected_is_compared_anew() -> None:
    known = estimated(TODAY)
    ratios = [compare(known, {TODAY: bill((OPUS, "output", usd))}) for usd in ("4", "2.5")]
    assert [str(verdict.ratio) for verdict in ratios if verdict] == ["0.75", "1.2"]


def test_an_estimate_is_the_last_one_that_was_made_in_time() -> None:
    known = estimated(TODAY)
    known.estimated(TODAY, made((OPUS, "output", "4"), (SONNET, "output", "0")))
    verdict = compare(known, {TODAY: bill((OPUS, "output", "4"))})
    assert verdict == Verdict(TODAY, Decimal(1), (OPUS, "output"), Decimal(0))


def test_a_day_with_nothing_to_compare_leaves_the_verdict_as_it_is() -> None:
    known = estimated(TODAY)
    verdict = compare(known, {TODAY: bill((OPUS, "output", "4"))})
    known.estimated(TODAY + DAY, made((OPUS, "output", "3")))
    for bills in (
        bill((OPUS, "none", "300"), cost_type="session_usage"),
        bill((OPUS, "output", "0")),
        bill((OPUS, "output", "-1")),
    ):
        assert compare(known, {TODAY + DAY: bills}) == verdict


def test_a_day_that_was_estimated_at_nothing_has_a_ratio_of_0() -> None:
    known = Reconciliation()
    known.estimated(TODAY, {})
    verdict = compare(known, {TODAY: bill((OPUS, "output", "4"))})
    assert verdict == Verdict(TODAY, Decimal(0), (OPUS, "output"), Decimal(-4))


def test_it_knows_which_days_were_estimated_in_time() -> None:
    known = estimated(TODAY, TODAY + 8 * DAY)
    assert [known.has(TODAY + days * DAY) for days in (0, 1, 8)] == [False, False, True]


def test_what_is_kept_are_the_parts_of_each_day() -> None:
    known = Reconciliation()
    known.estimated(TODAY, made((OPUS, "output", "2"), (OPUS, "output", "1"), (SONNET, "cache_read", "0.5")))
    assert known.rows() == [(TODAY, [(OPUS, "output", Decimal(3)), (SONNET, "cache_read", Decimal("0.5"))])]


def test_a_restart_forgets_neither_estimates_nor_the_verdict() -> None:
    known, resumed = estimated(TODAY - DAY, TODAY), Reconciliation()
    verdict = compare(known, {TODAY - DAY: bill((OPUS, "output", "4"))})
    assert verdict
    resumed.restore(known.rows(), known.verdict)
    assert resumed.verdict == verdict
    assert resumed.rows() == known.rows()
    assert compare(resumed, {}) == verdict
    assert compare(resumed, {TODAY: bill((OPUS, "output", "2"))}) == Verdict(
        TODAY, Decimal("1.5"), (OPUS, "output"), Decimal(1)
    )


def test_an_estimate_waits_8_days_for_its_bill() -> None:
    known = Reconciliation()
    for day in range(60):
        known.estimated(TODAY + day * DAY, made((OPUS, "output", "3")))
    last = TODAY + 59 * DAY
    assert [day for day, _ in known.rows()] == list(range(last - 7 * DAY, last + 1, DAY))
    assert compare(known, {last - 8 * DAY: bill((OPUS, "output", "4"))}) is None
    assert compare(known, {last - 7 * DAY: bill((OPUS, "output", "4"))}) is not None


def test_a_verdict_is_kept_when_its_estimate_is_forgotten() -> None:
    known = estimated(TODAY)
    verdict = compare(known, {TODAY: bill((OPUS, "output", "4"))})
    known.estimated(TODAY + 8 * DAY, made((OPUS, "output", "3")))
    assert [day for day, _ in known.rows()] == [TODAY + 8 * DAY]
    assert compare(known, {TODAY: bill((OPUS, "output", "9"))}) == verdict
