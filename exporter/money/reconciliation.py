"""How well the estimate meets the bill: of each whole day, what was estimated before its bill came, by the bill."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from exporter.families import ESTIMATED, SERVER_TOOLS, TOKEN_COST, TOKEN_TYPES
from exporter.model import DAY, NOT_APPLICABLE, Amounts, Series
from exporter.money.learning import DIGITS

KEPT = 8 * DAY
"""Seconds that a day's estimate waits for its bill."""

Part = tuple[str, str]
"""A model and a token type; ``none`` and the cost type for what is not tokens."""
Row = tuple[int, list[tuple[str, str, Decimal]]]
"""A day and the parts of its estimate: what is kept."""


class Verdict(NamedTuple):
    """A day (Unix seconds), its estimate by its bill, and the part of the bill that is farthest from it in USD."""

    day: int
    ratio: Decimal
    worst: Part
    worst_usd: Decimal


class Reconciliation:
    """Remembers estimates until their bill comes; ``verdict`` is the newest day that has both."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self._made: dict[int, Mapping[Part, Decimal]] = {}

    def has(self, day: int) -> bool:
        """Tell whether a day was estimated in time."""
        return day in self._made

    def estimated(self, day: int, costs: Mapping[Series, tuple[Decimal, ...]]) -> None:
        """Take note of what a day is estimated at; whoever says so has seen that this is in time."""
        parts: defaultdict[Part, Decimal] = defaultdict(Decimal)
        for (family, labels), (usd,) in costs.items():
            if family == ESTIMATED:
                _workspace_id, model, _tier, *what = labels
                if part := _part(model, *what):
                    parts[part] += usd
        self._made[day] = dict(parts)
        newest = max(self._made)
        self._made = {start: made for start, made in self._made.items() if start > newest - KEPT}

    def compare(self, billed_on: Callable[[int], Amounts], models: Mapping[str, str]) -> None:
        """Judge the newest day that was estimated in time and has a bill; ``models`` are the usage report's names."""
        for day in sorted(self._made, reverse=True):
            if (amounts := billed_on(day)) and not (self.verdict and day < self.verdict.day):
                self._judge(day, amounts, models)
                return

    def _judge(self, day: int, amounts: Amounts, models: Mapping[str, str]) -> None:
        billed: defaultdict[Part, Decimal] = defaultdict(Decimal)
        for (model, _workspace_id, _tier, _window, _geo, *what), usd in amounts.items():
            if part := _part(models.get(model, model), *what):
                billed[part] += usd
        made, whole = self._made[day], sum(billed.values(), Decimal(0))
        if whole > 0:
            drift = {part: made.get(part, 0) - billed.get(part, Decimal(0)) for part in made.keys() | billed.keys()}
            worst = max(sorted(drift), key=lambda part: abs(drift[part]))
            self.verdict = Verdict(day, DIGITS.divide(sum(made.values(), Decimal(0)), whole), worst, drift[worst])

    def rows(self) -> list[Row]:
        """Return the estimates that are to be kept."""
        return [(day, [(*part, usd) for part, usd in made.items()]) for day, made in self._made.items()]

    def restore(self, rows: Iterable[Row], verdict: Verdict | None) -> None:
        """Go on with what was kept."""
        self._made = {day: {(model, word): usd for model, word, usd in parts} for day, parts in rows}
        self.verdict = verdict


def _part(model: str, cost_type: str, token_type: str) -> Part | None:
    """Return which part of the bill a line belongs to, or None if nothing of the kind is estimated."""
    if cost_type == TOKEN_COST:
        return (model, token_type) if token_type in TOKEN_TYPES else None
    return (NOT_APPLICABLE, cost_type) if cost_type in SERVER_TOOLS else None
