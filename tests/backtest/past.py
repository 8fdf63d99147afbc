"""Pasts of an organisation as the exporter would have shown them, every five minutes, for the rules only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from exporter.demo.organization import Dimensions, Tokens, total
from exporter.demo.population import Population, populate
from exporter.demo.simulation import SimulatedOrganization
from exporter.demo.traffic import Spike
from exporter.history.backfill.openmetrics import Sample
from exporter.history.backfill.past import Chunk, Past, Present, Span
from exporter.metrics.samples import samples
from exporter.model import DAY, MINUTE, Bucket, Budget, Names, Snapshot, Window
from exporter.money.bill import first_day_needed
from exporter.polling.windows import floor
from tests.backtest import rules
from tests.history import SETTLE, parts, read
from tests.world import at

STEP = 5 * MINUTE
START = int(at("2026-10-14T00:00:00"))
NIGHT, NOON = int(at("2026-11-18T01:00:00")), int(at("2026-11-18T13:00:00"))
"""A Wednesday: where what follows the quiet past may begin."""
STARTED = START - 60 * DAY
"""No key begins or ends after START within three months of it."""
POPULATION = populate(1, STARTED)
BUDGET = Budget(Decimal(30000), {"default": Decimal(850)})
FLAGS = ("--budget.monthly-usd", "30000", "--budget.workspaces", "default=850")


class Coarse(SimulatedOrganization):
    """An organisation of which every fifth minute has the usage of five."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._five = lru_cache(maxsize=64)(self._sum_up)

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        """Return what is known; windows of minutes are aligned to five."""
        return self._five(start, end, as_of) if width == MINUTE else super().usage(width, start, end, as_of)

    def _sum_up(self, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        five: dict[int, dict[Dimensions, list[Tokens]]] = {}
        for minute, rows in super().usage(MINUTE, start, end, as_of).items():
            for dimensions, tokens in rows.items():
                five.setdefault(floor(minute, STEP), {}).setdefault(dimensions, []).append(tokens)
        return {bucket: {key: total(each) for key, each in rows.items()} for bucket, rows in five.items()}


@dataclass(frozen=True, slots=True)
class Story:
    """What happens in the organisation: its only spikes (None: those that the seed draws), and who is in it."""

    spikes: Sequence[Spike] | None = ()
    population: Population = POPULATION

    def organization(self, kind: type[SimulatedOrganization] = SimulatedOrganization) -> SimulatedOrganization:
        """Return the organisation."""
        return kind(seed=1, started=STARTED, population=self.population, spikes=self.spikes)


def past(story: Story, start: int, end: int) -> Past:
    """Return the past from ``start`` to ``end`` (Unix seconds) as it is known a month later; counters begin at 0."""
    begun, until, midnight = floor(start - SETTLE, DAY), end - SETTLE, floor(end, DAY) + DAY
    api, money = parts(story.organization(Coarse), midnight + 30 * DAY)
    bills = read(api.cost, Window(DAY, first_day_needed(start, 0), midnight))
    money.take_bill(bills)
    days, minutes = Window(DAY, begun, midnight), Window(MINUTE, begun, until)
    money.take_usage(days, days.every(read(api.usage, days)), end)
    money.complete()
    usage, api_key_usage = _coarse(api.usage, minutes), _coarse(api.api_key_usage, minutes)
    part = Chunk(usage, api_key_usage, until, bills)
    return Past([part], money, Span(start, SETTLE), Present(True, Names(api.organization()), None, BUDGET))


def _coarse(report: Callable[[Window], list[Bucket[int]]], window: Window) -> list[Bucket[int]]:
    known = {bucket.start: bucket for bucket in read(report, window)}
    return [known.get(time, Bucket(time, {})) for time in range(window.start, window.end, STEP)]


def shown(snapshot: Snapshot, now: float) -> Mapping[str, Iterable[Sample]]:
    """Return the samples that the rules read."""
    return {name: found for name, found in samples(snapshot, now).items() if name in FAMILIES}


FAMILIES = rules.families()
