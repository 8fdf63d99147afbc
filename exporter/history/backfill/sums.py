"""Sums of buckets as they come, read at usage times that only go forward."""

from collections import deque
from collections.abc import Mapping, Sequence
from decimal import ROUND_FLOOR
from operator import add, sub
from typing import Generic, NamedTuple

from exporter.model import FINEST, Bucket, Counts, Number, Series

Sums = Mapping[Series, Counts[Number]]


class _Stretch(NamedTuple, Generic[Number]):
    start: int
    end: int
    counts: Mapping[Series, Counts[Number]]


class RunningSums(Generic[Number]):
    """The sums of a view's buckets, in a straight line within each; only what is ahead of the last look is kept.

    A series is there, at 0, as soon as a bucket that has it is known.
    """

    def __init__(self) -> None:
        self._sums: Sums[Number] = {}
        self._ahead: deque[_Stretch[Number]] = deque()

    def extend(self, buckets: Sequence[Bucket[Number]], until: int) -> None:
        """Take in buckets that follow those before; each lasts up to the next one, the last up to ``until``."""
        ends = [*(bucket.start for bucket in buckets[1:]), until]
        self._ahead += [_Stretch(bucket.start, end, bucket.counts) for bucket, end in zip(buckets, ends, strict=True)]
        zeros = {series: minus(counts, counts) for bucket in buckets for series, counts in bucket.counts.items()}
        self._sums = {**zeros, **self._sums}

    def at(self, time: float) -> Sums[Number]:
        """Return the sums up to a usage time (Unix seconds), not before the last one that was asked for."""
        while self._ahead and self._ahead[0].end <= time:
            self._sums = self._with(self._ahead.popleft().counts)
        if not self._ahead or time <= self._ahead[0].start:
            return self._sums
        start, end, counts = self._ahead[0]
        part, whole = int(time) - start, end - start
        return self._with({series: _share(grown, part, whole) for series, grown in counts.items()})

    def zero(self, time: float) -> None:
        """Let the sums be 0 at a usage time."""
        shown = self.at(time)
        self._sums = difference(self._sums, shown)

    def _with(self, grown: Mapping[Series, Counts[Number]]) -> Sums[Number]:
        sums = self._sums
        return {**sums, **{series: tuple(map(add, sums[series], counts)) for series, counts in grown.items()}}


def minus(counts: Counts[Number], less: Counts[Number]) -> Counts[Number]:
    """Subtract figure by figure."""
    return tuple(map(sub, counts, less))


def difference(sums: Sums[Number], less: Sums[Number]) -> Sums[Number]:
    """Subtract sums from later ones, which have every series of theirs."""
    return {series: minus(counts, less[series]) if series in less else counts for series, counts in sums.items()}


def _share(grown: Counts[Number], part: int, whole: int) -> Counts[Number]:
    """Return the part of a growth that is over, rounded down as counters are between two boundaries."""
    if isinstance(grown[0], int):
        return tuple([n * part // whole for n in grown])
    return tuple([(n * part / whole).quantize(FINEST, ROUND_FLOOR) for n in grown])
