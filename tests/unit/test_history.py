from collections.abc import Iterable
from decimal import Decimal
from io import BytesIO
from itertools import groupby, pairwise
from operator import itemgetter

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter import pricefiles
from exporter.families import API_KEY_ESTIMATED, API_KEY_TOKENS, BILLED, TOKENS
from exporter.history.backfill.openmetrics import END, series
from exporter.history.backfill.past import Chunk, Past, Present, Span
from exporter.metrics.catalog import CATALOG
from exporter.metrics.samples import samples
from exporter.model import DAY, HOUR, MINUTE, Bucket, Series, Snapshot, Window
from exporter.money.money import Filters, Money
from exporter.past import sheets
from tests.world import at

MIDNIGHT = int(at("2026-03-31"))
START = MIDNIGHT + HOUR + 5 * MINUTE
"""The first moment at which nothing of the second hour counts."""
EARLY = Series(TOKENS, ("claude-sonnet-4-5", "default", "standard", "0-200k", "global"))
LATE = Series(TOKENS, ("claude-haiku-4-5", "default", "standard", "0-200k", "global"))
BY_KEY = Series(API_KEY_TOKENS, ("apikey_1", "default", "claude-sonnet-4-5", "standard", "0-200k"))
LINE = Series(BILLED, (*EARLY.labels, "tokens", "output"))
USD = Decimal("15e-6")
"""The price of an output token of the early one."""
GROWN = {1: {EARLY: (0, 0, 0, 0, 100)}, 2: {EARLY: (0, 0, 0, 0, 7)}, 30: {LATE: (12, 0, 0, 0, 0)}}
"""Usage by the hour of the day before the month's end and the day after it."""


def shown(until: int) -> dict[int, Snapshot]:
    """Return the snapshots up to a time; the hours before the last bucket are whole."""
    hours = [Bucket(MIDNIGHT + n * HOUR, GROWN.get(n, {})) for n in range(31)]
    keys = [Bucket(hour.start, {BY_KEY: hour.counts[EARLY]} if EARLY in hour.counts else {}) for hour in hours]
    bills = [Bucket(MIDNIGHT + n * DAY, {LINE: (Decimal(n + 2),)}) for n in (-1, 0)]
    money = Money(pricefiles.shipped(), None, Filters())
    money.take_usage(Window(HOUR, MIDNIGHT, MIDNIGHT + 31 * HOUR), hours, MIDNIGHT + 31 * HOUR)
    money.take_bill(())
    part = Chunk(hours, keys, MIDNIGHT + 31 * HOUR, bills)
    return dict(Past([part], money, Span(START), Present()).snapshots(until))


def counts(snapshot: Snapshot, name: str, wanted: Series) -> tuple[int | Decimal, ...]:
    reading = snapshot.counters[name]
    return reading.lines[wanted][0]


def test_every_series_is_there_from_the_first_snapshot_on_at_zero() -> None:
    first = shown(START)[START]
    assert first.counters["usage"].lines == {EARLY: ((0,) * 5,), LATE: ((0,) * 5,)}
    assert {line for reading in first.counters.values() for line in reading.lines.values() if any(line[0])} == set()
    assert {len(first.counters[name].lines) for name in ("estimate", "api_key_estimate", "cost")} == {10, 1}


def test_tokens_grow_in_a_straight_line_within_an_hour_rounded_down() -> None:
    found = shown(START + 3 * HOUR)
    grown = [counts(found[START + n * 5 * MINUTE], "usage", EARLY)[-1] for n in (0, 1, 11, 12, 13, 14, 24, 36)]
    assert grown == [0, 8, 91, 100, 100, 101, 107, 107]


def test_a_watermark_is_settle_behind() -> None:
    reading = shown(START)[START].counters["api_key_usage"]
    assert reading.watermark.at(START) == START - 5 * MINUTE


def test_a_key_costs_what_its_workspace_costs() -> None:
    counters = shown(START + 3 * HOUR)[START + 3 * HOUR].counters
    assert counters["api_key_estimate"].lines == {Series(API_KEY_ESTIMATED, BY_KEY.labels[:3]): ((107 * USD,),)}
    assert sum(line[0][0] for line in counters["estimate"].lines.values()) == 107 * USD


def test_a_day_is_billed_six_hours_after_its_end() -> None:
    out = MIDNIGHT + DAY + 6 * HOUR
    found = shown(out)
    assert [counts(found[time], "cost", LINE) for time in (out - 5 * MINUTE, out)] == [(0,), (2,)]
    readings = [found[time].bill for time in (out - 5 * MINUTE, out)]
    assert [reading.last_day for reading in readings if reading] == [MIDNIGHT - DAY, MIDNIGHT]
    assert [sum(reading.months[2026, 3].values()) for reading in readings if reading] == [1, 3]


def test_the_month_turns_by_the_clock() -> None:
    found = shown(MIDNIGHT + DAY)
    before, after = found[MIDNIGHT + DAY - 5 * MINUTE].money, found[MIDNIGHT + DAY].money
    assert before
    assert before.unbilled
    assert after
    assert after.unbilled
    assert (before.month, after.month) == ((2026, 3), (2026, 4))
    assert sum(before.unbilled.values()) == 107 * USD
    assert sum(after.unbilled.values()) == 0


def text(found: Iterable[tuple[int, Snapshot]]) -> str:
    """Return snapshots as OpenMetrics text."""
    sheet = sheets({"job": "a"})(BytesIO())
    for time, snapshot in found:
        sheet.add(snapshot, time)
    return "".join(sheet.text()) + END


def test_a_text_is_openmetrics_with_every_sample_of_every_snapshot() -> None:
    found = shown(START + 26 * HOUR)
    families = {family.name: family for family in text_string_to_metric_families(text(found.items()))}  # type: ignore[no-untyped-call]
    written = {
        (sample.name, tuple(sample.labels.items()), int(str(sample.timestamp).split(".")[0])): sample.value
        for family in families.values()
        for sample in family.samples
    }
    labels = {metric.name: metric.labels for metric in CATALOG}
    wanted = {
        (name, (*zip(labels[name], values, strict=True), ("job", "a")), time): float(value)
        for time, snapshot in found.items()
        for name, rows in samples(snapshot, time).items()
        for values, value in rows
    }
    assert written == wanted | {("up", (("job", "a"),), time): 1 for time in found}
    assert families[TOKENS.removesuffix("_total")].type == "counter"


def test_a_text_is_in_order_of_series_and_time_and_has_each_family_once() -> None:
    lines = text(shown(START + 2 * DAY).items()).splitlines()
    heads = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert heads == sorted(set(heads))
    rows = [line.rsplit(" ", 2) for line in lines if not line.startswith("#")]
    assert len(rows) > 1000
    assert all(before[0] != after[0] or int(before[2]) < int(after[2]) for before, after in pairwise(rows)), (
        "times of a series rise"
    )
    assert len([name for name, _ in groupby(rows, key=itemgetter(0))]) == len({row[0] for row in rows})


def test_labels_are_escaped() -> None:
    assert series("up", {"name": 'a\\b"c\nd'}) == r'up{name="a\\b\"c\nd"}'
