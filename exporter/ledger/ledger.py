"""The odometer of one report: what its registers amount to at the watermark, released as straight lines.

Within a process the lines of one snapshot continue those of the one before: totals at a boundary only rise, and the
watermark only moves forward, so no served value ever falls. It is the same over a restart: the record that is kept
before a snapshot is served tells what that snapshot can have shown at most, and the counters go on from there.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Generic

from exporter.ledger.admission import Admission
from exporter.ledger.arrival import Arrival
from exporter.ledger.holds import Holds
from exporter.ledger.record import Record, SeriesRecord
from exporter.ledger.registers import Registers, added, zeros
from exporter.model import (
    DAY,
    MINUTE,
    Bucket,
    Counts,
    Line,
    Number,
    Reading,
    Series,
    Shown,
    Watermark,
    Window,
    shown_at,
)

IDLE_DAYS = 35
"""Days of usage time without growth after which a series is not shown any more."""


class Ledger(Generic[Number]):
    """The counters of one report since the anchor of ``registers``.

    All times are Unix seconds and all spans seconds. ``settle`` is at least ``grace``, so that the watermark never
    passes a minute that was not read. With ``reaches_back`` the series of the first complete poll appear at their full
    value; any other one is held at 0 first. Days older than ``revision`` are frozen. At most ``most_series`` samples of
    a family have a label set of their own.
    """

    def __init__(
        self,
        registers: Registers[Number],
        *,
        settle: float,
        grace: float,
        hold: float,
        reaches_back: bool,
        revision: int,
        most_series: int,
    ) -> None:
        self._registers: Registers[Number] = registers
        self._settle = settle
        self._grace = grace
        self._reaches_back = reaches_back
        self._revision = revision
        self._hold = hold
        self._holds: Holds[Number] = Holds(hold)
        self._admission: Admission[Number] = Admission(most_series)
        self._arrival = Arrival()
        self._shown: Watermark | None = None
        self._reached: Watermark | None = None
        self._resume_at = -inf
        self._grown: dict[Series, int] = {}
        self._idle: set[Series] = set()
        self._restored = False
        self._saved: dict[Series, SeriesRecord[Number]] = {}
        self._saved_folded: set[Series] = set()

    @property
    def anchor(self) -> int:
        """The usage time at which the counters are 0."""
        return self._registers.anchor

    @property
    def open_from(self) -> int:
        """The usage time before which nothing counts any more."""
        return self._registers.open_from

    @property
    def folded(self) -> Iterable[Series]:
        """The label sets that have no series of their own."""
        return self._admission.folded

    def begin(self, anchor: int) -> bool:
        """Count from ``anchor`` on instead, as long as nothing was observed or restored; return whether it does."""
        if self._restored or self._registers.totals:
            return False
        self._registers.begin(anchor)
        return True

    def restore(self, record: Record[Number]) -> None:
        """Go on from what was kept: everything stands still at what may have been served last."""
        self._restored, self._reaches_back = True, record.reaches_back
        bases = {series: kept.base for series, kept in record.series.items()}
        self._registers.restore(record.facts, bases, record.registers)
        self._grown = {series: kept.grown for series, kept in record.series.items()}
        self._admission.folded = set(record.folded)
        self._admission.count(record.series)
        self._saved, self._saved_folded = dict(record.series), set(record.folded)
        values = {series: kept.held for series, kept in record.series.items() if kept.held is not None}
        if record.reach is not None:
            self._shown = Watermark(-inf, self._grace, self._settle, floor=record.reach)
            self._resume_at = inf
            self._advance(record.reach)
            shown: Shown[Number] = shown_at(self._registers.boundary, record.reach)
            values = {series: shown(line) for series, line in self._knots(record.reach).items()} | values
        self._holds.hold(values)

    def day(self, day: int) -> dict[Series, Counts[Number]]:
        """Return what a UTC day (Unix seconds) counts so far, released or not; nothing once it is frozen."""
        return self._registers.day(day)

    def observe(self, window: Window, buckets: Iterable[Bucket[Number]], now: float) -> None:
        """Take in a window that was read whole at ``now``."""
        if self._shown:
            self._advance(self._shown.at(now))
        for bucket in buckets:
            if bucket.start >= self._registers.open_from:
                self._take(window.width, bucket, now)
        self._registers.confirm(window, now)

    def complete(self, polled: float, now: float) -> None:
        """Let the watermark follow a poll that began at ``polled`` and has read everything that was due.

        ``now`` is the time that readings are served by, which may be ahead of a clock that was set back.
        """
        floor = self._shown.at(now) if self._shown else -inf
        self._reached = Watermark(polled, self._grace, self._settle, floor)
        self._registers.compact(polled, self._revision)

    def reached(self, now: float) -> float | None:
        """Return the usage time that is known whole at ``now``, even if what is shown is held; None if none is."""
        return self._reached.at(now) if self._reached else None

    def reading(
        self, now: float, tick: float, last: Reading[Number] | None, served_at: float | None
    ) -> Reading[Number] | None:
        """Return the lines to serve from ``now`` on, or None before the first complete poll.

        ``last`` is the reading before this one, and ``served_at`` when it was first served: what stood still in it was
        seen so then. ``tick`` is now by the timer that tells ``served_at``.
        """
        if last and served_at is not None:
            self._holds.seen(last.lines, served_at)
            self._resume_at = min(self._resume_at, served_at + self._hold)
        if self._reached and self._resume_at <= tick:
            self._shown = self._reached
            self._holds.release(tick)
        if self._shown is None:
            return None
        lines = self._lines(self._shown, now)
        self._admission.count(lines)
        registers, arrival = self._registers, self._arrival.reading()
        return Reading(registers.boundary, self._shown, lines, registers.late, registers.overcounted, arrival)

    def changes(self) -> Record[Number]:
        """Return what is to be kept before the last reading may be served."""
        registers = self._registers
        return Record(
            registers.facts,
            self._shown.end if self._shown else None,
            self._reaches_back,
            dict(self._changed()),
            {key: registers.value(key) for key in registers.touched},
            self._admission.folded - self._saved_folded,
        )

    def kept(self, record: Record[Number]) -> None:
        """Note that these changes are safe."""
        self._saved |= record.series
        self._saved_folded |= set(record.folded)
        self._registers.touched -= record.registers.keys()

    def _take(self, width: int, bucket: Bucket[Number], now: float) -> None:
        registers, mark = self._registers, self._shown
        counts = self._admission.admit(bucket.counts, registers.totals)
        # Not by differences of keys: those walk through everything that is known, and not only this bucket.
        idle = {series: registers.totals[series] for series in counts if series in self._idle}
        grown: dict[Series, Counts[Number]]
        grown = registers.observe(width, bucket.start, counts, now - self._settle)
        self._holds.hold({series: old for series, old in idle.items() if series in grown})
        self._idle -= grown.keys()
        new: dict[Series, Counts[Number]]
        new = {series: zeros(found) for series, found in counts.items() if series not in self._grown}
        if not (self._reaches_back and self._shown is None):
            self._holds.hold(new)
        self._grown |= dict.fromkeys([*new, *grown], int(now // DAY))
        unknown = registers.measured(grown)
        if unknown and mark and now <= mark.polled + self._grace:
            self._arrival.add(max(0.0, now - bucket.start - width), int(unknown))

    def _changed(self) -> Iterator[tuple[Series, SeriesRecord[Number]]]:
        held = self._holds.values
        for series, grown in self._grown.items():
            now = self._registers.base[series], held.get(series), grown
            saved = self._saved.get(series)
            if saved is None or now != (saved.base, saved.held, saved.grown):
                yield series, SeriesRecord(*now)

    def _advance(self, usage_time: float) -> None:
        self._registers.advance(int(usage_time // MINUTE) * MINUTE)

    def _lines(self, mark: Watermark, now: float) -> dict[Series, Line[Number]]:
        self._advance(mark.at(now))
        oldest = mark.at(now) // DAY - IDLE_DAYS
        self._idle = {series for series, grown in self._grown.items() if grown < oldest}
        held, knots = self._holds.values, self._knots(mark.end)
        return {
            series: (held[series],) if series in held else line
            for series, line in knots.items()
            if series not in self._idle
        }

    def _knots(self, end: float) -> dict[Series, Line[Number]]:
        """Return the totals at the boundary and, for series that grow, at each minute after it up to ``end``."""
        totals = self._registers.totals
        steps = []
        boundary = self._registers.boundary
        while boundary < end:
            steps.append(self._registers.step(boundary))
            boundary += MINUTE
        growing: set[Series] = set().union(*steps)
        # Always in the same order: a page of neighbours is compressed better, and sooner.
        return {
            series: tuple(_line(counts, series, steps)) if series in growing else (counts,)
            for series, counts in totals.items()
        }


def _line(
    total: Counts[Number], series: Series, steps: Iterable[Mapping[Series, Counts[Number]]]
) -> Iterator[Counts[Number]]:
    yield total
    for step in steps:
        total = added(total, step[series]) if series in step else total
        yield total
