"""How much a stream uses in an hour and in its minutes: pure functions of a seed and a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple

from exporter.demo.organization import DAY, HOUR, MINUTE, NO_TOKENS, Tokens
from exporter.demo.population import Stream

WEEK = 7 * DAY
_NO_BOOST = (1,) * 60


class _Rhythm(NamedTuple):
    """Activity by UTC hour, 10 being ordinary; at weekends a share of it; some hours pass idle."""

    by_hour: tuple[int, ...]
    weekend: float
    idle: float = 0.0
    in_bursts: bool = False


_RHYTHMS = {
    "product": _Rhythm((4, 3, 3, 3, 4, 6, 8, 10, 12, 13, 13, 13, 14, 14, 14, 15, 16, 16, 15, 14, 12, 9, 7, 5), 0.8),
    "office": _Rhythm((1, 1, 1, 1, 1, 2, 6, 14, 20, 22, 22, 19, 16, 20, 22, 22, 19, 14, 9, 6, 4, 3, 2, 1), 0.2),
    "steady": _Rhythm((10,) * 24, 1.0),
    "night": _Rhythm((8, 34, 44, 40, 28, 12) + (0,) * 17 + (4,), 0.7, idle=0.35, in_bursts=True),
    "sparse": _Rhythm((1, 1, 0, 0, 0, 2, 6, 12, 18, 20, 20, 16, 14, 18, 20, 20, 18, 12, 8, 6, 4, 3, 2, 1), 0.3, 0.5),
}


@dataclass(frozen=True, slots=True)
class Spike:
    """A key that uses ``factor`` times its usual amount from ``start`` to ``end``."""

    api_key_id: str | None
    start: int
    end: int
    factor: float


def spikes(seed: int, week: int, streams: Sequence[Stream]) -> tuple[Spike, ...]:
    """Return the few spikes of the week that begins at ``week``."""
    random = Random(f"{seed}/spikes/{week}")
    keys = [stream.dimensions.api_key_id for stream in streams if stream.rhythm in {"office", "product"}]
    return tuple(_spike(random, week, random.choice(keys)) for _ in range(random.randint(2, 5)))


def _spike(random: Random, week: int, api_key_id: str | None) -> Spike:
    minutes = random.randint(20, 90)
    day, hour = random.randrange(7), random.randrange(7, 21)
    start = week + day * DAY + hour * HOUR + random.randrange(60) * MINUTE
    return Spike(api_key_id, start, start + minutes * MINUTE, random.randint(3, 8))


def boosts(stream: Stream, hour: int, weekly: Sequence[Spike]) -> Sequence[float]:
    """Return by how much spikes multiply each minute of the hour."""
    mine = [
        spike
        for spike in weekly
        if spike.start < hour + HOUR and spike.end > hour and spike.api_key_id == stream.dimensions.api_key_id
    ]
    if not mine:
        return _NO_BOOST
    return [
        max([1, *(spike.factor for spike in mine if spike.start <= minute < spike.end)])
        for minute in range(hour, hour + HOUR, MINUTE)
    ]


def hour_tokens(seed: int, stream: Stream, hour: int, boost: Sequence[float]) -> Tokens:
    """Return everything that the stream uses in the hour."""
    rhythm = _RHYTHMS[stream.rhythm]
    activity = rhythm.by_hour[hour % DAY // HOUR] / 10
    random = Random(f"{seed}/{stream.name}/{hour}")
    if not activity or random.random() < rhythm.idle:
        return NO_TOKENS
    volume = stream.hourly * activity * (0.6 + 0.8 * random.random()) * sum(boost) / 60
    if _is_weekend(hour):
        volume *= rhythm.weekend
    scales = (1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-6)
    return Tokens(
        *(
            int(volume * share * scale * (0.85 + 0.3 * random.random()))
            for share, scale in zip(stream.mix, scales, strict=True)
        )
    )


def _is_weekend(time: int) -> bool:
    # The epoch was a Thursday.
    return (time // DAY + 3) % 7 >= 5


def minute_tokens(seed: int, stream: Stream, hour: int, boost: Sequence[float], tokens: Tokens) -> tuple[Tokens, ...]:
    """Split an hour's tokens over its 60 minutes, to the last token."""
    random = Random(f"{seed}/{stream.name}/{hour}/minutes")
    in_bursts = _RHYTHMS[stream.rhythm].in_bursts
    shares = (random.random() ** 6 + 0.001 if in_bursts else random.random() + 0.3 for _ in range(60))
    weights = [int(1000 * share * factor) for share, factor in zip(shares, boost, strict=True)]
    reached = list(accumulate(weights, initial=0))
    columns = [[_part(count, low, high, reached[-1]) for low, high in pairwise(reached)] for count in tokens]
    return tuple(map(Tokens, *columns))


def _part(count: int, low: int, high: int, whole: int) -> int:
    return count * high // whole - count * low // whole
