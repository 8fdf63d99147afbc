"""The ledger alone, against random histories: reads may be stale, repeated, shuffled; figures may be lowered."""

from dataclasses import dataclass, replace
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.families import TOKENS
from exporter.ledger.ledger import Ledger
from exporter.ledger.registers import Registers
from exporter.model import DAY, HOUR, MINUTE, Bucket, Reading, Series, Window
from exporter.polling.windows import Tiers, floor
from tests.world import at

ANCHOR = int(at("2026-03-08T21:40:00"))
EDGES = [ANCHOR, *(int(at(f"2026-03-{edge}")) for edge in ("08T22:00", "09T00:00", "09T01:00", "10T00:00"))]
SERIES = [Series(TOKENS, (name,)) for name in ("a", "b", "c")]


@dataclass(frozen=True)
class Use:
    """Tokens of a series, known from ``time + delay`` on, and corrected to ``then`` at ``corrected``."""

    time: int
    series: Series
    tokens: int
    delay: float
    corrected: float = inf
    then: int = 0

    def known(self, now: float) -> int:
        if now < self.time + self.delay:
            return 0
        return self.tokens if now < self.corrected else self.then


def view(uses: list[Use], window: Window, as_of: float) -> list[Bucket[int]]:
    """Return what an API answers: every bucket, the empty ones too."""
    buckets: dict[int, dict[Series, tuple[int]]]
    buckets = {start: {} for start in range(window.start, window.end, window.width)}
    for use in uses:
        if window.start <= use.time < window.end and (tokens := use.known(as_of)):
            row = buckets[floor(use.time, window.width)]
            row[use.series] = (row.get(use.series, (0,))[0] + tokens,)
    return [Bucket(start, counts) for start, counts in buckets.items()]


def ledger(*, reaches_back: bool = False, hold: float = 150) -> Ledger[int]:
    return Ledger(
        Registers(ANCHOR, TOKENS, 0),
        settle=300,
        grace=90,
        hold=hold,
        reaches_back=reaches_back,
        revision=7 * DAY,
        most_series=1000,
    )


def shown(reading: Reading[int], now: float) -> dict[Series, int]:
    counts = reading.at(now)
    return {series: counts(line)[0] for series, line in reading.lines.items()}


class Run:
    """A ledger that is polled and scraped; no value may ever fall, and every series begins at 0."""

    def __init__(self, uses: list[Use], now: float) -> None:
        self.uses, self.now = uses, now
        self.ledger, self.tiers = ledger(), Tiers(ANCHOR)
        self.reading: Reading[int] | None = None
        self.served_at: float | None = None
        self.last: dict[Series, int] = {}

    def poll(self, *, stale: float = 0, repeat: int = 1, backwards: bool = False) -> None:
        windows = self.tiers.due(self.now) * repeat
        for window in reversed(windows) if backwards else windows:
            self.ledger.observe(window, view(self.uses, window, self.now - stale), self.now)
            self.tiers.done(window)
        self.tiers.complete(self.now)
        self.ledger.complete(self.now, self.now)
        self.reading, self.served_at = self.ledger.reading(self.now, self.now, self.reading, self.served_at), None

    def scrape(self) -> dict[Series, int]:
        assert self.reading
        self.served_at = self.served_at or self.now
        values = shown(self.reading, self.now)
        for series, value in values.items():
            assert value >= self.last.get(series, 0), (series, self.last, value)
            assert series in self.last or value == 0, f"{series} begins at {value}"
        assert values.keys() >= self.last.keys()
        self.last = values
        return values

    def boundary(self) -> int:
        assert self.reading
        return floor(self.reading.watermark.at(self.now), MINUTE)

    def settle(self) -> dict[Series, int]:
        """Read everything again after the last change, twice, and show it at a full minute."""
        for wait in (7 * HOUR, 7 * HOUR, 60, 60, 60):
            self.now += wait
            self.poll()
            self.scrape()
        self.now = floor(self.now, MINUTE) + MINUTE
        self.poll()
        return self.scrape()


def sums(uses: list[Use], until: int, as_of: float) -> dict[Series, int]:
    """Return the API's own totals since the anchor."""
    found = dict.fromkeys((use.series for use in uses if use.time >= ANCHOR), 0)
    for use in uses:
        if ANCHOR <= use.time < until:
            found[use.series] += use.known(as_of)
    return found


uses = st.builds(
    Use,
    st.integers(ANCHOR - HOUR, ANCHOR + 30 * HOUR)
    | st.builds(int.__add__, st.sampled_from(EDGES), st.integers(-61, 61)),
    st.sampled_from(SERIES),
    st.integers(1, 10**9),
    st.one_of(st.floats(0, 280), st.floats(300, 6000), st.floats(6000, 2 * DAY)),
)
steps = st.tuples(
    st.sampled_from([15, 60, 60, 60, 240, 1000, 5000, 4 * HOUR, 30 * HOUR]),
    st.sampled_from([0, 0, 0, 20, 200]),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(uses, max_size=25), st.lists(steps, max_size=40))
def test_any_reads_in_any_order_end_at_the_sums_of_the_api(
    happened: list[Use], plan: list[tuple[int, int, int, bool, bool]]
) -> None:
    run = Run(happened, ANCHOR + 300)
    for wait, stale, repeat, backwards, scraped in plan:
        run.poll(stale=stale, repeat=repeat, backwards=backwards)
        if scraped:
            run.scrape()
        run.now += wait
    run.now = max(run.now, ANCHOR + 30 * HOUR + 2 * DAY)

    values = run.settle()

    assert run.reading
    expected = sums(happened, run.boundary(), run.now)
    assert {series: value for series, value in values.items() if value} == expected
    assert run.reading.overcounted == 0


corrected = st.builds(
    lambda use, wait, share: replace(use, corrected=use.time + use.delay + wait, then=int(use.tokens * share)),
    uses,
    st.floats(0, 20 * HOUR),
    st.floats(0, 1),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(uses | corrected, max_size=25), st.lists(st.sampled_from([60, 60, 300, 2000, 3 * HOUR]), max_size=40))
def test_a_lowered_figure_lowers_no_counter_and_shows_as_overcounted(happened: list[Use], waits: list[int]) -> None:
    run = Run(happened, ANCHOR + 300)
    for wait in waits:
        run.poll()
        run.scrape()
        run.now += wait
    run.now = max(run.now, ANCHOR + 30 * HOUR + 3 * DAY)

    values = run.settle()

    assert run.reading
    expected = sums(happened, run.boundary(), run.now)
    assert all(values.get(series, 0) >= api for series, api in expected.items())
    assert sum(values.values()) - sum(expected.values()) == run.reading.overcounted


def test_a_clock_that_was_set_back_lowers_neither_watermark_nor_counters() -> None:
    run = Run([Use(ANCHOR + 60 * n, SERIES[0], 100, 0) for n in range(60)], ANCHOR + 300)
    for _ in range(40):
        run.poll()
        run.scrape()
        run.now += 60
    assert run.reading
    reached = run.reading.watermark.at(run.now)
    run.ledger.complete(run.now - HOUR, run.now)
    run.reading = run.ledger.reading(run.now, run.now, run.reading, run.now)
    assert run.reading
    assert run.reading.watermark.at(run.now) == reached
    run.scrape()
