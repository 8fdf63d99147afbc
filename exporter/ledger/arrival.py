"""How old usage was when it was first seen: the figure that ``settle`` is chosen by."""

from math import inf

from exporter.model import Histogram

BOUNDS = (30, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1800, 3600, 7200, 21600, 86400, inf)


class Arrival:
    """A histogram of ages in seconds, weighted by tokens."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(BOUNDS, 0)
        self._sum = 0.0

    def add(self, age: float, tokens: int) -> None:
        """Count ``tokens`` that were ``age`` seconds old, from the end of their bucket, when first seen."""
        self._counts[next(bound for bound in BOUNDS if age <= bound)] += tokens
        self._sum += age * tokens

    def reading(self) -> Histogram:
        """Return what was counted so far, cumulative as Prometheus wants it."""
        total = 0
        return Histogram(tuple((bound, total := total + count) for bound, count in self._counts.items()), self._sum)
