"""The odometer of one report: what its registers amount to at the watermark, released as straight lines.

Within a process the lines of one snapshot continue those of the one before: totals at a boundary only rise, and the
watermark only moves forward, so no served value ever falls.
"""

from collections.abc import Iterable
from math import inf
from typing import Generic

from exporter.ledger.arrival import Arrival
from exporter.ledger.registers import Counts, Registers, added
from exporter.model import MINUTE, Bucket, Line, Number, Reading, Series, Watermark, Window


class Ledger(Generic[Number]):
    """The counters of one report since ``anchor`` (Unix seconds, a full minute).

    All times are Unix seconds and all spans seconds. ``settle`` is at least ``grace``, so that the watermark never
    passes a minute that was not read. With ``reaches_back`` the series of the first complete poll appear at their full
    value; any other series is shown as 0 for ``hold``. Days older than ``revision`` are frozen.
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
    ) -> None:
        self._registers: Registers[Number] = registers
        self._settle = settle
        self._grace = grace
        self._hold = hold
        self._reaches_back = reaches_back
        self._revision = revision
        self._watermark: Watermark | None = None
        self._served_since: dict[Series, float] = {}
        self._offered: list[Series] = []
        self._arrival = Arrival()

    def begin(self, anchor: int) -> bool:
        """Count from ``anchor`` on instead, as long as nothing was observed; return whether it does."""
        return self._registers.begin(anchor)

    def observe(self, window: Window, buckets: Iterable[Bucket[Number]], now: float) -> None:
        """Take in a window that was read whole at ``now``."""
        mark = self._watermark
        if mark:
            self._advance(mark.at(now))
        for bucket in buckets:
            unknown = self._registers.observe(window.width, bucket.start, bucket.counts, now - self._settle)
            if unknown and mark and now <= mark.polled + self._grace:
                self._arrival.add(max(0.0, now - bucket.start - window.width), int(unknown))
        self._registers.confirm(window, now)
        unborn = -inf if self._reaches_back and not mark else inf
        for series in self._registers.totals.keys() - self._served_since.keys():
            self._served_since[series] = unborn

    def complete(self, polled: float, now: float) -> None:
        """Let the watermark follow a poll that began at ``polled`` and has read everything that was due.

        ``now`` is the time that readings are served by, which may be ahead of a clock that was set back.
        """
        floor = self._watermark.at(now) if self._watermark else -inf
        self._watermark = Watermark(polled, self._grace, self._settle, floor)
        self._registers.compact(polled, self._revision)

    def reading(self, now: float, served_at: float | None) -> Reading[Number] | None:
        """Return the lines to serve from ``now`` on, or None before the first complete poll.

        ``served_at`` is when the reading before this one was first served: its new series were seen as 0 then.
        """
        if self._watermark is None:
            return None
        self._advance(self._watermark.at(now))
        knots = self._knots(self._watermark.end)
        if served_at is not None:
            self._served_since.update(dict.fromkeys(self._offered, served_at))
        self._offered = [series for series, since in self._served_since.items() if since == inf]
        lines = {series: Line(since + self._hold, knots[series]) for series, since in self._served_since.items()}
        registers = self._registers
        return Reading(
            registers.boundary,
            self._watermark,
            lines,
            registers.late,
            registers.overcounted,
            self._arrival.reading(),
        )

    def _advance(self, usage_time: float) -> None:
        self._registers.advance(int(usage_time // MINUTE) * MINUTE)

    def _knots(self, end: float) -> dict[Series, tuple[Counts[Number], ...]]:
        """Return the totals at the boundary and, for series that grow, at each minute after it up to ``end``."""
        totals = self._registers.totals
        steps = []
        boundary = self._registers.boundary
        while boundary < end:
            steps.append(self._registers.step(boundary))
            boundary += MINUTE
        growing: set[Series] = set().union(*steps)
        knots: dict[Series, tuple[Counts[Number], ...]] = {
            series: (counts,) for series, counts in totals.items() if series not in growing
        }
        for series in growing:
            line: list[Counts[Number]] = [totals[series]]
            for step in steps:
                line.append(added(line[-1], step[series]) if series in step else line[-1])
            knots[series] = tuple(line)
        return knots
