"""The cap on series: what comes after a family is full is counted together, so that sums stay exact."""

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from operator import add
from typing import Generic

from exporter.families import ODOMETERS
from exporter.model import OTHER, Counts, Number, Series


class Admission(Generic[Number]):
    """Decides which label sets become series of their own: at most ``most`` samples a family, and the folded ones.

    A set that was folded once stays folded, because its past is in their sum.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._shown: Counter[str] = Counter()
        self.folded: set[Series] = set()

    def count(self, shown: Iterable[Series]) -> None:
        """Take note of the label sets that are shown now; each later admission is added to them."""
        self._shown = Counter(series.family for series in shown)

    def admit(self, counts: Mapping[Series, Counts[Number]], known: Container[Series]) -> dict[Series, Counts[Number]]:
        """Return ``counts`` with the sets that get no series of their own summed up."""
        admitted: dict[Series, Counts[Number]] = {}
        for series, figures in counts.items():
            target = series if series in known or self._fits(series, len(figures)) else _folded(series)
            admitted[target] = tuple(map(add, admitted[target], figures)) if target in admitted else figures
        return admitted

    def _fits(self, series: Series, samples: int) -> bool:
        if series in self.folded:
            return False
        if (self._shown[series.family] + 1) * samples > self._most:
            self.folded.add(series)
            return False
        self._shown[series.family] += 1
        return True


def _folded(series: Series) -> Series:
    kept = ODOMETERS[series.family].kept
    folded = len(series.labels) - kept
    return Series(series.family, (OTHER,) * folded + series.labels[folded:])
