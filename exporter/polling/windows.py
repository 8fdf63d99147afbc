"""Which ranges of buckets are due to be read; pure.

Three tiers look at the same usage: minutes at each poll, hours and days now and then, for what arrived later than the
finer tier looks back. After downtime each tier goes back to where it was last read.
"""

from collections.abc import Mapping
from math import inf

from exporter.model import DAY, HOUR, LOOKBACK, MINUTE, MOST_BUCKETS, Window

PACE = {DAY: 6 * HOUR, HOUR: 15 * MINUTE, MINUTE: 0}
"""Seconds between two reads of a tier; minutes are read at each poll."""

FARTHEST = {MINUTE: DAY, HOUR: 7 * DAY}
"""How far back a tier goes at most; what is older is left to the next coarser one."""

TABLE = {MINUTE: HOUR, HOUR: LOOKBACK[HOUR], DAY: 31 * DAY}
"""How far back money's table is filled at the start of the program; minutes before the full hour, days in one page."""

COLD = {MINUTE: DAY, HOUR: LOOKBACK[HOUR]}
"""How far back a tier goes at its first read."""


def floor(time: float, width: int) -> int:
    """Return the start of the bucket that ``time`` lies in."""
    return int(time // width) * width


def ceil(time: float, width: int) -> int:
    """Return ``time`` if a bucket begins there, else the end of the bucket that it lies in."""
    return -int(-time // width) * width


def split(width: int, start: int, end: int) -> list[Window]:
    """Cut a range into windows that the API can answer in one page, oldest first."""
    span = width * MOST_BUCKETS[width]
    return [Window(width, begin, min(begin + span, end)) for begin in range(start, end, span)]


class Tiers:
    """What of the usage is to be read next, since ``anchors`` (Unix seconds), those of all odometers that are fed.

    With ``table`` money's table is fed, too: at the start of the program it needs what lies before the anchors as well.
    A window that was read stays read if a later one fails, so that a long cold start makes progress; a round that is
    not through when the next one is due begins anew, because its ranges end too early by then.
    """

    def __init__(self, *anchors: int, table: bool = False) -> None:
        self.anchors = anchors
        self._table = table
        self._blank = set(TABLE) if table else set()
        self._read: dict[int, float] = {}
        self._begun: dict[int, float] = {}
        self._left: dict[int, list[Window]] = {DAY: [], HOUR: []}

    @property
    def progress(self) -> dict[str, float]:
        """When each tier was last read to its end, by bucket width."""
        return {str(width): read for width, read in self._read.items()}

    def resume(self, progress: Mapping[str, float]) -> None:
        """Go on from there."""
        self._read = {int(width): read for width, read in progress.items()}

    def due(self, now: float) -> list[Window]:
        """Return the windows to read now, the coarsest first: the freshest data comes last."""
        for width in (DAY, HOUR):
            left = self._left[width]
            waited = now - (self._begun if left else self._read).get(width, -inf)
            if not 0 <= waited < PACE[width] or (width in self._blank and not left):
                self._begun[width] = now
                self._left[width] = self._coarse(width, now)
                self._tick_off(width)
        return list(dict.fromkeys([*self._left[DAY], *self._left[HOUR], *self._minutes(now)]))

    def done(self, window: Window) -> None:
        """Note that ``window`` was read whole."""
        for width, left in self._left.items():
            if window in left:
                left.remove(window)
                self._tick_off(width)

    def complete(self, polled: float) -> None:
        """Note that all minutes up to ``polled`` were read."""
        self._read[MINUTE] = polled
        self._blank.discard(MINUTE)

    def _tick_off(self, width: int) -> None:
        """Note the end of a tier's round, if it is through."""
        if not self._left[width]:
            self._read[width] = self._begun[width]
            self._blank.discard(width)

    def _coarse(self, width: int, now: float) -> list[Window]:
        """Return the finished buckets of a tier; with the days come the parts of the anchors' days after them."""
        starts = [max(ceil(anchor, width), floor(self._since(width, now), width)) for anchor in self.anchors]
        if self._table:
            starts.append(floor(now, width) - (TABLE if width in self._blank else LOOKBACK)[width])
        windows = split(width, min(starts), floor(now, width))
        if width == DAY:
            windows += [part for anchor in self.anchors for part in self._anchor_day(anchor, now)]
        return list(dict.fromkeys(windows))

    def _since(self, width: int, now: float) -> float:
        first = min(self.anchors, default=now)
        last = self._read.get(width)
        if last is None:
            return now - COLD[width] if width in COLD else first
        farthest = now - FARTHEST[width] if width in FARTHEST else first
        return max(last - LOOKBACK[width], farthest)

    def _minutes(self, now: float) -> list[Window]:
        """Return the minutes to read, the open one at least; a catch-up begins at a full hour.

        Minutes are folded into hours once the regular reads have passed them, and an hour is only comparable when it
        is read again as a whole.
        """
        opened = floor(now, MINUTE)
        start = opened - LOOKBACK[MINUTE]
        if self._read.get(MINUTE, 0) < start:
            start = floor(self._since(MINUTE, now), HOUR)
        start = max(start, min(self.anchors, default=start))
        if MINUTE in self._blank:
            start = min(start, floor(now, HOUR) - TABLE[MINUTE])
        return split(MINUTE, min(start, opened), opened + MINUTE)

    def _anchor_day(self, anchor: int, now: float) -> list[Window]:
        """Return the rest of an anchor's hour in minutes and of its day in hours, until that day is frozen.

        The API's own buckets for them hold usage from before the anchor, so they never count.
        """
        hour, day = ceil(anchor, HOUR), ceil(anchor, DAY)
        if self._read.get(DAY, 0) > day + LOOKBACK[DAY]:
            return []
        minutes = split(MINUTE, anchor, hour) if now - LOOKBACK[MINUTE] > hour else []
        return minutes + split(HOUR, hour, min(day, floor(now, HOUR)))


class Days:
    """What of the cost is to be read next; days before ``unread`` (Unix seconds) were read when they were final.

    A day is final ``revision`` seconds after its end.
    """

    def __init__(self, anchor: float, revision: int) -> None:
        self._revision = revision
        self._unread = floor(anchor, DAY)

    @property
    def progress(self) -> dict[str, float]:
        """The first day that may still change."""
        return {"unread": self._unread}

    def resume(self, progress: Mapping[str, float]) -> None:
        """Go on from there."""
        self._unread = int(progress.get("unread", self._unread))

    def due(self, first: int, now: float) -> list[Window]:
        """Return the finished days from ``first`` on, or from the first that may have changed if that is earlier."""
        return split(DAY, min(first, self._unread), floor(now, DAY))

    def done(self, window: Window, now: float) -> None:
        """Note that ``window`` was read whole."""
        self._unread = max(self._unread, min(window.end, floor(now, DAY) - self._revision))
