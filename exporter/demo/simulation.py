"""A simulated organisation: a history that a seed decides, and when each part of it becomes known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp
from random import Random
from statistics import NormalDist

from exporter.demo import bill, traffic
from exporter.demo.organization import DAY, HOUR, MINUTE, NO_TOKENS, CostLine, Dimensions, Tokens, total
from exporter.demo.population import Population, populate

_CHUNKS = 4
_FINER = {DAY: HOUR, HOUR: MINUTE}


@dataclass(frozen=True, slots=True)
class Arrival:
    """How long after its use a chunk of a minute's tokens becomes known, in seconds.

    The delay is log-normal; ``late_share`` of all chunks takes from ``late_min`` to ``late_max`` instead.
    """

    median: float = 90.0
    sigma: float = 0.48
    late_share: float = 0.004
    late_min: float = 600.0
    late_max: float = 3600.0

    def quantiles(self) -> tuple[float, ...]:
        """Return a thousand equally likely ordinary delays, in ascending order."""
        if not self.median:
            return (0.0,)
        normal = NormalDist(0, self.sigma)
        return tuple(self.median * exp(normal.inv_cdf((n + 0.5) / 1000)) for n in range(1000))


class SimulatedOrganization:
    """An organisation with usage from the full hour ``started`` for ever, or until ``quiet_after``.

    The same seed has the same history, whatever is asked in whatever order. ``population`` and ``spikes`` take the
    place of the seed's.
    """

    def __init__(
        self,
        *,
        seed: int,
        started: int,
        arrival: Arrival | None = None,
        bill_delay: float | None = None,
        quiet_after: float | None = None,
        population: Population | None = None,
        spikes: Sequence[traffic.Spike] | None = None,
    ) -> None:
        self.started = started - started % HOUR
        self.name = "Simulated Organisation"
        population = population or populate(seed, self.started)
        self.id = population.organization_id
        self.default_workspace_id = population.default_workspace_id
        self.workspaces = population.workspaces
        self.api_keys = population.api_keys
        self._streams = population.streams
        self._seed = seed
        self._arrival = arrival or Arrival()
        self._delays = self._arrival.quantiles()
        self._bill_delay = bill_delay
        self._quiet_after = quiet_after
        self._given = spikes
        self._spikes = lru_cache(maxsize=64)(self._draw_spikes)
        self._day = lru_cache(maxsize=1 << 13)(self._count_day)
        self._hour = lru_cache(maxsize=1 << 14)(self._count_hour)
        self._minutes = lru_cache(maxsize=512)(self._count_minutes)
        self._arrivals = lru_cache(maxsize=512)(self._draw_arrivals)
        self._bill = lru_cache(maxsize=64)(self._write_bill)

    @property
    def max_delay(self) -> float:
        """Seconds after its end at which a bucket is known for good."""
        return max(self._delays[-1], self._arrival.late_max if self._arrival.late_share else 0)

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        """Return what is known at ``as_of`` of the buckets from ``start`` to ``end``, both aligned."""
        report: dict[int, dict[Dimensions, Tokens]] = {}
        for bucket in range(max(start, self.started - self.started % width), end, width):
            if bucket >= as_of:
                break
            rows = self._rows(width, bucket, as_of)
            if rows:
                report[bucket] = rows
        return report

    def cost(self, day: int, as_of: float) -> Sequence[CostLine] | None:
        """Return the bill of the UTC day that begins at ``day``, or None while it is not out."""
        delay = self._bill_delay
        if delay is None:
            delay = Random(f"{self._seed}/bill/{day}").uniform(3 * HOUR, 9 * HOUR)
        return self._bill(day) if as_of >= day + DAY + delay else None

    def _rows(self, width: int, bucket: int, as_of: float) -> dict[Dimensions, Tokens]:
        rows = {}
        for number, stream in enumerate(self._streams):
            tokens = self._known(number, width, bucket, as_of)
            if any(tokens):
                rows[stream.dimensions] = tokens
        return rows

    def _known(self, number: int, width: int, start: int, as_of: float) -> Tokens:
        if start + width + self.max_delay <= as_of:
            return self._final(number, width, start)
        if width == MINUTE:
            return self._arrived(number, start, as_of)
        finer = _FINER[width]
        end = min(start + width, int(as_of) + 1)
        return total([NO_TOKENS, *(self._known(number, finer, part, as_of) for part in range(start, end, finer))])

    def _final(self, number: int, width: int, start: int) -> Tokens:
        if width == DAY:
            return self._day(number, start)
        if width == HOUR:
            return self._hour(number, start)
        hour = start - start % HOUR
        return self._minutes(number, hour)[(start - hour) // MINUTE]

    def _arrived(self, number: int, minute: int, as_of: float) -> Tokens:
        tokens = self._final(number, MINUTE, minute)
        if tokens == NO_TOKENS:
            return tokens
        hour = minute - minute % HOUR
        arrivals = self._arrivals(number, hour)[(minute - hour) // MINUTE]
        seen = sum(arrival <= as_of for arrival in arrivals)
        return tokens if seen == _CHUNKS else Tokens(*(count * seen // _CHUNKS for count in tokens))

    def _draw_spikes(self, week: int) -> Sequence[traffic.Spike]:
        return self._given if self._given is not None else traffic.spikes(self._seed, week, self._streams)

    def _count_day(self, number: int, day: int) -> Tokens:
        return total(self._hour(number, hour) for hour in range(day, day + DAY, HOUR))

    def _count_hour(self, number: int, hour: int) -> Tokens:
        if self._quiet_after is not None and hour < self._quiet_after < hour + HOUR:
            return total(self._minutes(number, hour))
        return self._planned_hour(number, hour)

    def _planned_hour(self, number: int, hour: int) -> Tokens:
        stream = self._streams[number]
        ends = [end for end in (stream.until, self._quiet_after) if end is not None]
        if hour < stream.since or (ends and hour >= min(ends)):
            return NO_TOKENS
        return traffic.hour_tokens(self._seed, stream, hour, self._boosts(number, hour))

    def _count_minutes(self, number: int, hour: int) -> tuple[Tokens, ...]:
        stream, boost, whole = self._streams[number], self._boosts(number, hour), self._planned_hour(number, hour)
        minutes = traffic.minute_tokens(self._seed, stream, hour, boost, whole)
        quiet = self._quiet_after
        if quiet is None:
            return minutes
        return tuple(tokens if hour + n * MINUTE < quiet else NO_TOKENS for n, tokens in enumerate(minutes))

    def _boosts(self, number: int, hour: int) -> Sequence[float]:
        return traffic.boosts(self._streams[number], hour, self._spikes(hour - hour % traffic.WEEK))

    def _draw_arrivals(self, number: int, hour: int) -> tuple[tuple[float, ...], ...]:
        random = Random(f"{self._seed}/{self._streams[number].name}/{hour}/arrivals")
        used = [MINUTE * (chunk + 1) / _CHUNKS for chunk in range(_CHUNKS)]
        return tuple(
            tuple(minute + offset + self._delay(random) for offset in used)
            for minute in range(hour, hour + HOUR, MINUTE)
        )

    def _delay(self, random: Random) -> float:
        arrival = self._arrival
        if random.random() < arrival.late_share:
            return random.uniform(arrival.late_min, arrival.late_max)
        return random.choice(self._delays)

    def _write_bill(self, day: int) -> tuple[CostLine, ...]:
        final = {stream.dimensions: self._day(number, day) for number, stream in enumerate(self._streams)}
        return tuple(bill.lines(final, Random(f"{self._seed}/bill-lines/{day}")))
