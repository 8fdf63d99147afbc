"""Series that stand still for a while, because Prometheus counts no growth that it has not seen the beginning of."""

from collections.abc import Container, Iterable, Mapping
from math import inf
from typing import Generic

from exporter.model import Counts, Number, Series


class Holds(Generic[Number]):
    """The held series and the value that each shows, for at least ``span`` seconds from when it was first served.

    Moments are those of a timer that never steps: the clock may be put right meanwhile.
    """

    def __init__(self, span: float) -> None:
        self._span = span
        self._until: dict[Series, float] = {}
        self.values: dict[Series, Counts[Number]] = {}

    def hold(self, values: Mapping[Series, Counts[Number]]) -> None:
        """Let series stand still at ``values``."""
        self.values |= values
        self._until |= dict.fromkeys(values, inf)

    def seen(self, shown: Container[Series], served_at: float) -> None:
        """Note which series were served as they stand, first at ``served_at``."""
        new = [series for series, until in self._until.items() if until == inf and series in shown]
        self._until |= dict.fromkeys(new, served_at + self._span)

    def release(self, now: float) -> Iterable[Series]:
        """Let go, and return, the series that were held long enough by ``now``."""
        over = [series for series, until in self._until.items() if until <= now]
        for series in over:
            del self._until[series], self.values[series]
        return over
