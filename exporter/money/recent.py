"""What was spent lately: the growth of the estimated cost counters over the last hour of usage time."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from exporter.families import ESTIMATED
from exporter.model import HOUR, MINUTE, Line, Reading, Shown, Watermark, shown_at

Point = tuple[float, Decimal]
"""A usage time (Unix seconds), and the USD counted up to there."""


class Spent(NamedTuple):
    """What usage between two usage times (Unix seconds) cost in USD."""

    usd: Decimal
    start: float
    end: float


class Total(NamedTuple):
    """The sum of all estimated cost counters of one reading, as a line."""

    boundary: int
    watermark: Watermark
    line: Line[Decimal]

    @classmethod
    def of(cls, reading: Reading[Any]) -> "Total":
        """Return the sum of a reading's lines."""
        lines = [line for (family, _), line in reading.lines.items() if family == ESTIMATED]
        still = sum([line[0][0] for line in lines if len(line) == 1], Decimal(0))
        growing = [line for line in lines if len(line) > 1]
        length = max(map(len, growing), default=1)
        even = [line + line[-1:] * (length - len(line)) for line in growing] or [((Decimal(0),),)]
        sums = [(sum([usd for (usd,) in column], still),) for column in zip(*even, strict=True)]
        return cls(reading.boundary, reading.watermark, tuple(sums))

    def at(self, now: float) -> Point:
        """Return the usage time that is reached at ``now``, and what is counted there."""
        usage_time = self.watermark.at(now)
        return usage_time, self.by(usage_time)

    def by(self, usage_time: float) -> Decimal:
        """Return what is counted at a usage time."""
        shown: Shown[Decimal] = shown_at(self.boundary, usage_time)
        (usd,) = shown(self.line)
        return usd

    def knots(self, start: float, end: float) -> Iterator[Point]:
        """Yield the line's knots between two usage times."""
        for number, (usd,) in enumerate(self.line):
            usage_time = self.boundary + number * MINUTE
            if start < usage_time < end:
                yield usage_time, usd


@dataclass(frozen=True, slots=True)
class Recent:
    """What the counters have shown lately, as a line through ``points``, and ``total``, which they show now.

    What late data added at a usage time is a step there: two points of the same time. Where the counters took one great
    stride, after an outage, what was spent in its midst is read off a straight line.
    """

    points: tuple[Point, ...] = ()
    total: Total | None = None

    def followed_by(self, total: Total, now: float) -> "Recent":
        """Return what is recent when ``total`` is shown from ``now`` on."""
        points = list(self.points)
        if self.total:
            reached = self.total.at(now)
            for point in (*self.total.knots(points[-1][0], reached[0]), reached):
                _note(points, point)
        _note(points, total.at(now))
        return Recent(tuple(points[max(0, _place(points, points[-1][0] - HOUR)) :]), total)

    def spent(self, now: float) -> Spent | None:
        """Return what was spent in the last hour, or since the first point; None as long as nothing is counted."""
        if self.total is None:
            return None
        end, usd = self.total.at(now)
        start = max(end - HOUR, self.points[0][0])
        return Spent(usd - self._by(start, self.total), start, end)

    def _by(self, usage_time: float, total: Total) -> Decimal:
        place = _place(self.points, usage_time)
        if place == len(self.points) - 1:
            return total.by(usage_time)
        (start, before), (end, after) = self.points[place : place + 2]
        return before + (after - before) * Decimal(usage_time - start) / Decimal(end - start)


def _note(points: list[Point], point: Point) -> None:
    """Add a point; of those of the same usage time only the first and the last one count."""
    usage_time = max(point[0], points[-1][0]) if points else point[0]
    if len(points) > 1 and points[-2][0] == points[-1][0] == usage_time:
        points.pop()
    points.append((usage_time, point[1]))


def _place(points: list[Point] | tuple[Point, ...], usage_time: float) -> int:
    """Return where the last point up to a usage time is, or -1."""
    return bisect_right(points, usage_time, key=lambda point: point[0]) - 1
