"""Money's own table of recent usage: what the API says now of each day, hour and minute, before the anchor too.

It is no odometer: the newest reading of a bucket replaces the one before, and what the API lowers is lowered here.
"""

from collections.abc import Iterable, Mapping
from math import inf
from operator import add
from typing import NamedTuple

from exporter.families import TOKENS
from exporter.model import DAY, HOUR, MINUTE, Bucket, Series, Window

Counts = tuple[int, ...]
Rows = Mapping[Series, Counts]
Cell = tuple[str, str, str, str]
"""Model, workspace, tier and context window: what the views by geography and by API key have in common."""
Group = tuple[str, str, str, str]
Mixes = Mapping[Cell, Mapping[str, Counts]]

KEPT = {MINUTE: 3 * HOUR, HOUR: 3 * DAY, DAY: 40 * DAY}
"""Seconds behind the newest bucket of a width after which a bucket is forgotten."""

FINER = {DAY: HOUR, HOUR: MINUTE}


class _Reading(NamedTuple):
    """What was read of a bucket, or of its parts, and when last (Unix seconds): never, if a part is missing."""

    read_at: float
    rows: Rows


_UNREAD = _Reading(-inf, {})


class UsageTable:
    """The newest reading of each bucket; what is over counts by its own bucket or by its parts, whichever is newer.

    ``groups`` is what there was usage of: model, tier, context window and geography.
    """

    def __init__(self) -> None:
        self.groups: set[Group] = set()
        self._read: dict[int, dict[int, _Reading]] = {MINUTE: {}, HOUR: {}, DAY: {}}
        self._closed: dict[tuple[int, int], _Reading] = {}
        self._mixes: dict[tuple[int, int], Mixes] = {}

    @property
    def days(self) -> list[int]:
        """The days (Unix seconds) of which something was read, the newest first."""
        return sorted({start - start % DAY for cells in self._read.values() for start in cells}, reverse=True)

    def observe(self, window: Window, buckets: Iterable[Bucket[int]], read_at: float) -> None:
        """Take in a window that was read whole at ``read_at``, with a bucket for each of its intervals."""
        cells = self._read[window.width]
        for bucket in buckets:
            is_news = cells.get(bucket.start, _UNREAD).rows != bucket.counts
            cells[bucket.start] = _Reading(read_at, bucket.counts)
            for width in FINER:
                self._closed.pop((width, bucket.start - bucket.start % width), None)
            if is_news:
                self.groups |= {(labels[0], *labels[2:]) for _, labels in bucket.counts}  # type: ignore[misc]
        self._mixes.clear()
        oldest = max(cells, default=0) - KEPT[window.width]
        for start in [start for start in cells if start < oldest]:
            del cells[start]
        for key in [key for key in self._closed if key[0] == window.width and key[1] < oldest]:
            del self._closed[key]

    def day(self, day: int, until: float = inf) -> Rows:
        """Return what was used in the UTC day that begins at ``day``, in the minutes that end by ``until``."""
        return self._value(DAY, day, until).rows

    def is_whole(self, day: int) -> bool:
        """Tell whether all of a day was read after its end."""
        return self._value(DAY, day, inf).read_at >= day + DAY

    def mix(self, cell: Cell, hour: int) -> Mapping[str, Counts]:
        """Return the tokens of a cell by geography: those around an hour, else of its day, else of its newest day.

        It is empty for a cell without usage.
        """
        places = [(HOUR, hour), (DAY, hour - hour % DAY), *((DAY, day) for day in self.days)]
        found = (self._mix(width, start).get(cell) for width, start in places)
        return next((mix for mix in found if mix), {})

    def _mix(self, width: int, start: int) -> Mixes:
        key = width, start
        if key not in self._mixes:
            starts = [start - HOUR, start] if width == HOUR else [start]
            self._mixes[key] = _by_geography(_sum([self._value(width, each, inf).rows for each in starts]))
        return self._mixes[key]

    def _value(self, width: int, start: int, until: float) -> _Reading:
        if width == MINUTE:
            return self._read[MINUTE].get(start, _UNREAD)
        if start + width > until:
            return self._parts(width, start, until)
        key = width, start
        if key not in self._closed:
            own, parts = self._read[width].get(start, _UNREAD), self._parts(width, start, until)
            is_whole = own.read_at >= start + width
            self._closed[key] = own if is_whole and own.read_at > parts.read_at else parts
        return self._closed[key]

    def _parts(self, width: int, start: int, until: float) -> _Reading:
        end = min(start + width, until // MINUTE * MINUTE) if until < inf else start + width
        parts = [self._value(FINER[width], part, until) for part in range(start, int(end), FINER[width])]
        read = [part.read_at for part in parts]
        return _Reading(max(read) if read and -inf not in read else -inf, _sum([part.rows for part in parts]))


def _sum(parts: list[Rows]) -> Rows:
    """Add rows up; what has usage in one part only is that part."""
    used = [rows for rows in parts if rows]
    if len(used) < 2:
        return used[0] if used else {}
    sums = dict(used[0])
    for rows in used[1:]:
        for series, counts in rows.items():
            known = sums.get(series)
            sums[series] = counts if known is None else tuple(map(add, known, counts))
    return sums


def _by_geography(rows: Rows) -> Mixes:
    mixes: dict[Cell, dict[str, Counts]] = {}
    for series, counts in rows.items():
        if series.family == TOKENS:
            model, workspace_id, service_tier, context_window, inference_geo = series.labels
            mixes.setdefault((model, workspace_id, service_tier, context_window), {})[inference_geo] = counts
    return mixes
