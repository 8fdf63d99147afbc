"""Maximum registers for minutes, hours and days, and the totals that they amount to at a boundary.

A register holds the most that was ever reported for one bucket of one series, so observing is idempotent, commutative
and monotone: duplicates, overlaps, stale reads and late data need no special care. A closed hour counts the greater of
its own register and the sum of its minutes, a closed day the greater of its own register and the sum of its hours.
"""

from collections.abc import Iterable, Mapping
from operator import add, sub
from typing import Generic

from exporter.ledger.record import Facts, Key
from exporter.model import DAY, HOUR, LOOKBACK, MINUTE, Counts, Number, Series, Window

Cells = dict[int, dict[Series, Counts[Number]]]

COARSER = {MINUTE: HOUR, HOUR: DAY}


def added(left: Counts[Number] | None, right: Counts[Number]) -> Counts[Number]:
    """Add two counts; None stands for nothing yet."""
    return right if left is None else tuple(map(add, left, right))


def zeros(counts: Counts[Number]) -> Counts[Number]:
    """Return as many zeros, of the same type."""
    return tuple(map(sub, counts, counts))


class Registers(Generic[Number]):
    """The registers of one report, from ``anchor`` (Unix seconds) on.

    ``totals`` is what each series amounts to at ``boundary``, which only moves forward; ``base`` is the part of it that
    frozen days hold. ``late`` and ``overcounted`` are sums over the series of the ``measured`` family. ``touched`` are
    the registers that were changed or forgotten since somebody cleared it. Everything but the registers themselves,
    the bases and ``facts`` follows from them.
    """

    def __init__(self, anchor: int, measured: str, zero: Number) -> None:
        self.anchor = self.boundary = self.open_from = anchor
        self.totals: dict[Series, Counts[Number]] = {}
        self.base: dict[Series, Counts[Number]] = {}
        self.late: Number = zero
        self.touched: set[Key] = set()
        self._measured = measured
        self._zero: Number = zero
        self._own: dict[int, Cells[Number]] = {MINUTE: {}, HOUR: {}, DAY: {}}
        self._finer: dict[int, Cells[Number]] = {MINUTE: {}, HOUR: {}, DAY: {}}
        self._excess: dict[tuple[int, int], Number] = {}
        self._frozen_excess: Number = zero
        self._final: set[int] = set()

    @property
    def overcounted(self) -> Number:
        """How much the totals exceed what the API says now."""
        return sum(self._excess.values(), self._frozen_excess)

    @property
    def facts(self) -> Facts[Number]:
        """What has to be known besides the registers and the bases, to go on from here."""
        return Facts(
            anchor=self.anchor,
            boundary=self.boundary,
            open_from=self.open_from,
            late=self.late,
            frozen_excess=self._frozen_excess,
            excess=dict(self._excess),
            final=frozenset(self._final),
        )

    def begin(self, anchor: int) -> None:
        """Count from ``anchor`` on; nothing was observed yet."""
        self.anchor = self.boundary = self.open_from = anchor

    def restore(
        self,
        facts: Facts[Number],
        bases: Mapping[Series, Counts[Number]],
        registers: Mapping[Key, Counts[Number] | None],
    ) -> None:
        """Be what was kept: ``bases`` has every series that was ever seen."""
        self.anchor, self.boundary, self.open_from = facts.anchor, facts.boundary, facts.open_from
        self.base, self.totals = dict(bases), dict(bases)
        for (width, start, series), counts in registers.items():
            if counts is not None:
                self._raise(width, start, series, counts)
        self.late, self._frozen_excess = facts.late, facts.frozen_excess
        self._excess, self._final = dict(facts.excess), set(facts.final)
        self.touched.clear()

    def value(self, key: Key) -> Counts[Number] | None:
        """Return what a register holds, or None when there is none."""
        width, start, series = key
        return self._own[width].get(start, {}).get(series)

    def day(self, day: int) -> dict[Series, Counts[Number]]:
        """Return what the UTC day that begins at ``day`` counts so far, released or not; nothing once it is frozen."""
        known = self._own[DAY].get(day, {}).keys() | self._finer[DAY].get(day, {}).keys()
        return {series: self._counted(DAY, day, series) for series in known}

    def observe(
        self, width: int, start: int, counts: Mapping[Series, Counts[Number]], settled: float
    ) -> dict[Series, Counts[Number]]:
        """Take in what the API says of one bucket; return by how much its day grew, of the series that did.

        Buckets that begin before the anchor, or in a frozen day, change nothing. What ended by ``settled`` is taken
        for complete: figures that are lowered from then on are overcounted.
        """
        grown: dict[Series, Counts[Number]] = {}
        if start < self.open_from:
            return grown
        own = self._own[width].get(start, {})
        for series, reported in counts.items():
            known = own.get(series)
            if known == reported:
                continue
            if known is None:
                known = zeros(reported)
                self.base.setdefault(series, known)
                self.totals.setdefault(series, known)
            if (highest := tuple(map(max, known, reported))) != known:
                growth = self._raise(width, start, series, highest)
                if any(growth):
                    grown[series] = growth
        if start + width <= settled and not self._is_judged_coarser(width, start):
            self._judge(width, start, counts)
        return grown

    def measured(self, grown: Mapping[Series, Counts[Number]]) -> Number:
        """Return the sum over the measured family."""
        sums = (sum(counts, self._zero) for series, counts in grown.items() if series.family == self._measured)
        return sum(sums, self._zero)

    def confirm(self, window: Window, now: float) -> None:
        """Note the days that ``window`` has read whole after their end: only those may freeze.

        What is left of the anchor's day is read in the coarsest buckets that begin after the anchor.
        """
        first = max(window.start, self.open_from)
        day = first - first % DAY
        while day < window.end:
            begin = max(day, self.anchor)
            coarsest = next(width for width in (DAY, HOUR, MINUTE) if -(-begin // width) * width < day + DAY)
            if window.width == coarsest and window.start < begin + coarsest and day + DAY <= min(window.end, now):
                self._final.add(day)
            day += DAY

    def step(self, boundary: int) -> dict[Series, Counts[Number]]:
        """Return what the totals grow by when the boundary moves from ``boundary`` to the next minute."""
        growth = dict(self._own[MINUTE].get(boundary, {}))
        end = boundary + MINUTE
        for width in (HOUR, DAY):
            if end % width == 0:
                for series in self._own[width].get(end - width, {}):
                    finer = self._finer[width].get(end - width, {}).get(series)
                    counted = self._counted(width, end - width, series)
                    if finer != counted:
                        missed = counted if finer is None else tuple(map(sub, counted, finer))
                        growth[series] = added(growth.get(series), missed)
        return growth

    def advance(self, boundary: int) -> None:
        """Move the boundary forward to ``boundary`` (a full minute); it never goes back."""
        while self.boundary < boundary:
            for series, growth in self.step(self.boundary).items():
                self.totals[series] = added(self.totals[series], growth)
            self.boundary += MINUTE

    def compact(self, now: float, revision: int) -> None:
        """Fold what no tier reads any more into its hour or day, and freeze days older than ``revision`` seconds."""
        self._fold(HOUR, now - LOOKBACK[MINUTE])
        self._fold(DAY, now - LOOKBACK[HOUR])
        day = self.open_from - self.open_from % DAY
        while day in self._final and day + DAY <= min(now - revision, self.boundary):
            self._freeze(day)
            day += DAY

    def _counted(self, width: int, start: int, series: Series) -> Counts[Number]:
        own = self._own[width].get(start, {}).get(series)
        finer = self._finer[width].get(start, {}).get(series)
        if own is None or finer is None:
            return own or finer or zeros(self.totals[series])
        return tuple(map(max, own, finer))

    def _raise(self, width: int, start: int, series: Series, counts: Counts[Number]) -> Counts[Number]:
        """Raise one register; return by how much its day grew."""
        before = self._counted(width, start, series)
        self._own[width].setdefault(start, {})[series] = counts
        self.touched.add((width, start, series))
        growth = tuple(map(sub, self._counted(width, start, series), before))
        settled = growth if start + width <= self.boundary else zeros(growth)
        while width in COARSER and any(growth):
            width = COARSER[width]
            start -= start % width
            growth = self._raise_finer(width, start, series, growth)
            if start + width <= self.boundary:
                settled = growth
        if any(settled):
            self.totals[series] = added(self.totals[series], settled)
            if series.family == self._measured:
                self.late += sum(settled)
        return growth

    def _raise_finer(self, width: int, start: int, series: Series, growth: Counts[Number]) -> Counts[Number]:
        before = self._counted(width, start, series)
        finer = self._finer[width].setdefault(start, {})
        finer[series] = added(finer.get(series), growth)
        return tuple(map(sub, self._counted(width, start, series), before))

    def _judge(self, width: int, start: int, counts: Mapping[Series, Counts[Number]]) -> None:
        """Compare what a bucket counts with what the API says now; the coarsest width that was read decides."""
        known = self._own[width].get(start, {}).keys() | self._finer[width].get(start, {}).keys() | counts.keys()
        excess = self._zero
        for series in known:
            if series.family == self._measured:
                counted = self._counted(width, start, series)
                if (reported := counts.get(series)) != counted:
                    excess += sum(max(c - r, c - c) for c, r in zip(counted, reported or zeros(counted), strict=True))
        if width == MINUTE and not excess:
            self._excess.pop((width, start), None)
            return
        self._excess[width, start] = excess
        for key in [key for key in self._excess if key[0] < width and start <= key[1] < start + width]:
            del self._excess[key]

    def _is_judged_coarser(self, width: int, start: int) -> bool:
        return any((coarse, start - start % coarse) in self._excess for coarse in (HOUR, DAY) if coarse > width)

    def _fold(self, width: int, horizon: float) -> None:
        """Keep what buckets that ended by ``horizon`` count, and forget the finer registers below them.

        The anchor's own hour and day stay as they are: no coarser bucket of theirs is ever read to compare with.
        """
        for start in [start for start in self._finer[width] if start + width <= min(horizon, self.boundary)]:
            if start < self.anchor:
                continue
            own = self._own[width].setdefault(start, {})
            for series in self._finer[width][start]:
                own[series] = self._counted(width, start, series)
                self.touched.add((width, start, series))
            self._forget(start, start + width, [w for w in (MINUTE, HOUR) if w < width])
            del self._finer[width][start]

    def _freeze(self, day: int) -> None:
        """Let the totals hold the day for ever; what the API says of it from now on changes nothing."""
        self.open_from = day + DAY
        for series in self._own[DAY].get(day, {}).keys() | self._finer[DAY].get(day, {}).keys():
            self.base[series] = added(self.base[series], self._counted(DAY, day, series))
        self._final.discard(day)
        self._forget(day, day + DAY, (MINUTE, HOUR, DAY))
        for key in [key for key in self._excess if day <= key[1] < day + DAY]:
            self._frozen_excess += self._excess.pop(key)

    def _forget(self, begin: int, end: int, widths: Iterable[int]) -> None:
        for width in widths:
            for cells in (self._own[width], self._finer[width]):
                for start in [start for start in cells if begin <= start < end]:
                    self.touched |= {(width, start, series) for series in cells.pop(start)}
