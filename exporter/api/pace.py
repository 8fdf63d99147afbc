"""How many buckets to ask for at once, so that no page grows too large; pure."""

from dataclasses import dataclass, field

from exporter.model import DAY, HOUR, MINUTE, MOST_BUCKETS, Window

PAGE_ROWS = 65_000
"""Rows that a page should have at most, some 27 MB: half an hour in which 2000 label sets are used in each minute."""

FIRST = {MINUTE: 60, HOUR: 24, DAY: 7}
"""Buckets to ask for while nothing is known: a day of hours and a week of days hold quiet and busy ones."""

GROWTH = 4
"""How many times more buckets than the largest read so far are dared: what follows may be busier."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Remembers by report and bucket width how many buckets fill a page of ``page_rows``."""

    page_rows: int = PAGE_ROWS
    _fit: dict[tuple[str, int], int] = field(default_factory=dict, init=False)

    def part(self, report: str, rest: Window) -> Window:
        """Return what to read next: a part of ``rest`` from its start on, one of equal parts that are not too large."""
        most = self.most(report, rest.width, FIRST[rest.width])
        parts = -(-rest.buckets // most)
        return Window(rest.width, rest.start, rest.start + -(-rest.buckets // parts) * rest.width)

    def most(self, report: str, width: int, unknown: int) -> int:
        """Return how many buckets to ask for at most; ``unknown`` of them as long as none were seen."""
        return min(self._fit.get((report, width), unknown), MOST_BUCKETS[width])

    def saw(self, report: str, window: Window, rows: int) -> None:
        """Note how many rows ``window`` had."""
        known = self._fit.get((report, window.width), 0)
        fit = self.page_rows * window.buckets // rows if rows else MOST_BUCKETS[window.width]
        self._fit[report, window.width] = max(1, min(fit, max(known, GROWTH * window.buckets)))
