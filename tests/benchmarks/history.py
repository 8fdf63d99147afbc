"""Four days of usage and all that goes wrong in them: what every design of a counter is measured on."""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from random import Random

from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, Dimensions, Tokens
from tests.events import Use, WrittenOrganization
from tests.world import at

SEED = 1
BEGIN = int(at("2026-03-09T06:00:00"))
END = BEGIN + 4 * DAY
QUIET = 90 * MINUTE
"""The end is without usage, so that all of it has arrived and was released."""
PHASE = 7
"""Seconds from full minutes to polls and scrapes: aligned ones would spare every query the extrapolation."""
STOPS = ((BEGIN + 37230, 45), (BEGIN + 109230, 3 * HOUR), (BEGIN + 199230, 60))
"""When processes are killed, amid an hour and half a minute after a poll; the seconds until they are started again."""
DOWN = 40 * MINUTE
OUTAGE = Fault(kind=503, since=BEGIN + 76 * HOUR, until=BEGIN + 76 * HOUR + DOWN)
STALEST = 20.0
LOWERED, LOWERED_FROM, LOWERED_AFTER = 5, BEGIN + 52 * HOUR, 2 * HOUR
"""The first minute of "bursty" from then on loses so many tokens, so many seconds later."""

MODELS = ("steady", "bursty", "newcomer")
STEADY, BURSTY, NEWCOMER = (
    Dimensions("apikey_1", "wrkspc_1", model, "standard", "0-200k", "global") for model in MODELS
)


class History(WrittenOrganization):
    """Looks the sums of its buckets up; each question meets a replica that is stale in its own way."""

    def __init__(self, seed: int) -> None:
        super().__init__(list(written(Random(seed))))  # noqa: S311 - no secret comes of it
        arrivals = sorted((use.time + use.delay, use) for use in self.uses)
        self._known: dict[int, dict[int, dict[Dimensions, tuple[list[float], list[int]]]]] = {}
        for width in (MINUTE, HOUR, DAY):
            buckets = self._known[width] = defaultdict(lambda: defaultdict(lambda: ([], [0])))
            for arrival, use in arrivals:
                times, sums = buckets[int(use.time // width) * width][use.dimensions]
                times.append(arrival)
                sums.append(sums[-1] + use.tokens.output)

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        """Return the sums by bucket of what the replica knows."""
        known = as_of - Random(f"{as_of} {width} {start}").uniform(0, STALEST)  # noqa: S311 - the same
        report: dict[int, dict[Dimensions, Tokens]] = {}
        for bucket in range(start, end, width):
            for row, (times, sums) in self._known[width].get(bucket, {}).items():
                if arrived := bisect_right(times, known):
                    report.setdefault(bucket, {})[row] = Tokens(output=sums[arrived])
        return report

    def used(self) -> Counter[str]:
        """Return the tokens of each model since the begin, as the API says in the end."""
        counts: Counter[str] = Counter()
        for use in self.uses:
            counts[use.dimensions.model] += use.tokens.output if use.time >= BEGIN else 0
        return counts


def lives() -> list[range]:
    """Return the times of each process of an exporter."""
    begins = [BEGIN, *(time + gone for time, gone in STOPS)]
    ends = [*(time for time, _ in STOPS), END - MINUTE]
    return [range(begin + PHASE, end + PHASE) for begin, end in zip(begins, ends, strict=True)]


def written(random: Random) -> Iterator[Use]:
    """Yield all usage; the hour before the begin is quiet, so that what came before it has arrived."""
    minutes = [minute for minute in range(BEGIN - 6 * HOUR, END - QUIET, MINUTE) if minute // HOUR != BEGIN // HOUR - 1]
    bursts = sorted(random.sample(minutes, 180))
    for minute in minutes:
        cycle = 1 + 0.6 * math.sin(2 * math.pi * (minute % DAY) / DAY)
        yield from chunks(random, minute, STEADY, 4, 1000 * cycle)
    for minute in bursts:
        yield from chunks(random, minute, BURSTY, 20, 5000)
    for minute in (minute for minute in minutes if minute >= BEGIN + 2.4 * DAY):
        yield from chunks(random, minute, NEWCOMER, 4, 500)
    lowered = next(minute for minute in bursts if minute >= LOWERED_FROM)
    yield Use(lowered, BURSTY, Tokens(output=-LOWERED), LOWERED_AFTER)


def chunks(random: Random, minute: int, row: Dimensions, count: int, mean: float) -> Iterator[Use]:
    """Yield the usage of one minute, most of it known within a few minutes."""
    for _ in range(count):
        late = random.random() < 0.004
        delay = random.uniform(600, 3600) if late else random.lognormvariate(math.log(80), 0.596)
        yield Use(minute + random.uniform(0, MINUTE), row, Tokens(output=int(mean * random.uniform(0.5, 1.5))), delay)
