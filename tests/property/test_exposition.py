"""The page: any label text and any count arrive at Prometheus as they are, in every format."""

from collections.abc import Callable, Iterable
from decimal import Decimal

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.families import BILLED, COST_LABELS, TOKEN_TYPES, TOKENS, USAGE_DIMENSIONS
from exporter.ledger.publication import Publication
from exporter.metrics.page import Page
from exporter.model import BillReading, Histogram, Reading, Series, Snapshot, Watermark
from tests.world import at

NOW = at("2026-03-09T21:00:00")
WATERMARK = Watermark(polled=NOW, grace=90, settle=300, floor=0)
NO_ARRIVALS = Histogram(((float("inf"), 0),), 0.0)
PARSERS: dict[str, Callable[[str], Iterable[Metric]]] = {
    "text/plain": parse_text,
    "application/openmetrics-text; version=1.0.0": parse_openmetrics,
}

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
tokens = st.dictionaries(st.tuples(*[words] * 5), st.tuples(*[st.integers(0, 2**53)] * 5), max_size=6)
dollars = st.dictionaries(st.tuples(*[words] * 7), st.decimals(0, 10**9, places=6), max_size=6)


def snapshot(used: dict[tuple[str, ...], tuple[int, ...]], billed: dict[tuple[str, ...], Decimal]) -> Snapshot:
    usage = {Series(TOKENS, labels): (counts,) for labels, counts in used.items()}
    bill = {Series(BILLED, labels): ((amount,),) for labels, amount in billed.items()}
    return Snapshot(
        {
            "usage": Reading(0, WATERMARK, usage, 0, 0, NO_ARRIVALS),
            "cost": Reading(0, WATERMARK, bill, Decimal(0), Decimal(0), NO_ARRIVALS),
        },
        BillReading(0, billed, {(2026, 3): billed}),
    )


@settings(deadline=None)
@given(tokens, dollars, st.sampled_from(sorted(PARSERS)))
def test_every_sample_survives(
    used: dict[tuple[str, ...], tuple[int, ...]], billed: dict[tuple[str, ...], Decimal], accept: str
) -> None:
    shown = snapshot(used, billed)
    publication = Publication(lambda: NOW, lambda: 0.0)
    publication.put(shown)
    page = Page(publication, version="1", reports=["usage"])
    with httpx.Client(transport=httpx.WSGITransport(app=page.app), base_url="http://here") as client:
        body = client.get("/metrics", headers={"accept": accept}).text

    samples = [sample for family in PARSERS[accept](body) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    expected = {
        (TOKENS, frozenset(zip((*USAGE_DIMENSIONS, "token_type"), (*labels, token_type), strict=True))): float(count)
        for labels, counts in used.items()
        for token_type, count in zip(TOKEN_TYPES, counts, strict=True)
    }
    for name in (BILLED, "anthropic_cost_last_day_usd", "anthropic_cost_month_to_date_usd"):
        for labels, amount in billed.items():
            expected[name, frozenset(zip(COST_LABELS, labels, strict=True))] = float(amount)
    assert {
        key: value for key, value in found.items() if "workspace_id" in dict(key[1]) and "model" in dict(key[1])
    } == expected
