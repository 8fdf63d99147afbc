"""The page: any label text and any count arrive at Prometheus as they are, in every format."""

import gzip
from collections.abc import Callable, Iterable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.families import BILLED, COST_LABELS, ODOMETERS, TOKEN_TYPES, TOKENS, USAGE_DIMENSIONS
from exporter.ledger.publication import Publication
from exporter.metrics import catalog
from exporter.metrics.deflate import deflated
from exporter.metrics.exposition import FORMATS, Only, Writer, negotiated
from exporter.metrics.page import Page
from exporter.metrics.samples import Table
from exporter.model import BillReading, Histogram, Reading, Series, Snapshot, Watermark
from tests.world import at, text

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
    body = text(page.scrape(accept).result())

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


values = st.one_of(
    st.integers(0, 2**64),
    st.sampled_from([0, 1, 999_999, 1_000_000, 1_234_567, 10**15, 10**16, 2**53 - 1, 2**53, 2**53 + 1]),
    st.floats(),
    st.decimals(-(10**12), 10**12, places=15),
)
any_words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["%", "%s", "%%", "\\", '"', "\n", "\\n", "{", "}", "\x00", "\x000\x00", ",", "a=b", "é", "\U0001f40d"]
)
FAMILIES = [metric for metric in catalog.SNAPSHOT if metric.type != "histogram"]
ACCEPTS = [
    "",
    "*/*",
    *(f"text/plain;version={version}" for version in ("0.0.4", "1.0.0")),
    *(
        f"{kind};version=1.0.0;escaping={scheme}"
        for kind in ("text/plain", "application/openmetrics-text")
        for scheme in ("underscores", "allow-utf-8", "dots", "values")
    ),
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;q=0.5",
]


Rows = list[tuple[tuple[str, ...], tuple[float | Decimal, ...]]]


@st.composite
def tables(draw: st.DrawFn, family: catalog.Metric) -> Rows:
    lanes = len(ODOMETERS[family.name].lanes) if family.name in ODOMETERS else 0
    labels = st.tuples(*[any_words] * (len(family.labels) - bool(lanes)))
    return list(draw(st.dictionaries(labels, st.tuples(*[values] * max(1, lanes)), max_size=5)).items())


def oracle(family: catalog.Metric, table: Rows, accept: str) -> bytes:
    """Return what prometheus-client itself writes."""
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    lanes = ODOMETERS[family.name].lanes if family.name in ODOMETERS else ()
    for labels, row in table:
        for place, value in enumerate(row):
            metric.add_metric([*labels, *lanes[place : place + 1]], float(value))
    return choose_encoder(accept)[0](Only([metric] if table else []))


@settings(deadline=None, max_examples=400)
@given(st.data(), st.sampled_from(FAMILIES), st.lists(st.sampled_from(ACCEPTS), min_size=1, max_size=3))
def test_bytes_are_those_of_prometheus_client(data: st.DataObject, family: catalog.Metric, accepts: list[str]) -> None:
    writer = Writer(FAMILIES)
    for accept in accepts:
        table = data.draw(tables(family))
        wanted = negotiated(accept)
        assert b"".join(writer.write(family.name, Table(table, tuple), wanted)) + wanted.end == oracle(
            family, table, accept
        )


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.integers(1, 300_000).map("x".__mul__)))
def test_what_is_compressed_comes_out_as_it_was(texts: list[str]) -> None:
    chunks, size = deflated(text.encode() for text in texts)
    plain = "".join(texts).encode()
    assert gzip.decompress(b"".join(chunks)) == plain
    assert size == len(plain)


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["a", "1.a", "1", "..", ""]))
def test_there_are_few_formats_whatever_is_asked_for(version: str) -> None:
    assert len(FORMATS) <= 10
    for kind in ("text/plain", "application/openmetrics-text"):
        answer = negotiated(f"{kind};version={version}")
        assert FORMATS[answer.content_type] is answer


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0;escaping=dots", "text/plain; version=1.0.0; charset=utf-8; escaping=dots"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=2.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=x", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_what_is_asked_for_is_answered(accept: str, content_type: str) -> None:
    assert negotiated(accept).content_type.removesuffix("; escaping=underscores") == content_type
