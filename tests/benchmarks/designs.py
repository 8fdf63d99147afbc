"""Counters as one writes them first: each design begins with a process, and its polls return what it shows then."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from exporter.demo.organization import DAY, HOUR, MINUTE
from exporter.polling.windows import ceil, floor
from tests.benchmarks.history import BEGIN, MODELS, OUTAGE, History, lives

POLL = 60
LOOKBACK = 2 * HOUR
"""Seconds that minutes are read again for; nothing arrives later."""

Shown = Mapping[str, float]
"""Tokens by model."""
Samples = Sequence[tuple[float, Shown]]
Poll = Callable[[int], Shown]
Design = Callable[[History, int], Poll]


def newest_minute(history: History, _begun: int) -> Poll:
    """Show the newest closed minute."""
    nothing = dict.fromkeys(MODELS, 0)
    return lambda now: nothing | _sum(history, MINUTE, floor(now, MINUTE) - MINUTE, floor(now, MINUTE), now)


def since_start(history: History, begun: int) -> Poll:
    """Show the sum of the most that was seen of each minute since the process began."""
    highest: Counter[tuple[int, str]] = Counter()
    sums: Counter[str] = Counter()

    def poll(now: int) -> Shown:
        start = floor(max(begun, now - LOOKBACK), MINUTE)
        for minute, rows in history.usage(MINUTE, start, ceil(now, MINUTE), now).items():
            for row, tokens in rows.items():
                growth = max(0, tokens.output - highest[minute, row.model])
                highest[minute, row.model] += growth
                sums[row.model] += growth
        return Counter(sums)

    return poll


def today(history: History, _begun: int) -> Poll:
    """Show what the API says of this UTC day."""
    return lambda now: _sum(history, DAY, floor(now, DAY), ceil(now, DAY), now)


def since_anchor(history: History, _begun: int) -> Poll:
    """Show what the API says of all days since a fixed one."""
    return lambda now: _sum(history, DAY, floor(BEGIN, DAY), ceil(now, DAY), now)


GAUGE = "gauge of the newest closed minute, sum_over_time"
NAIVE: Mapping[str, Design] = {
    GAUGE: newest_minute,
    "sum since process start, in memory": since_start,
    "counter of today, stateless": today,
    "anchored sum from the API, stateless": since_anchor,
}


def play(design: Design, history: History, times: Sequence[float]) -> Iterator[tuple[float, Shown]]:
    """Yield what scrapes at ``times`` see; a poll that fails leaves the last values."""
    for life in lives():
        poll, due = design(history, life.start), life.start
        shown: Shown = {}
        for time in (time for time in times if life.start <= time <= life.stop):
            while due <= time:
                shown = shown if OUTAGE.concerns("usage", due, 0) else poll(due)
                due += POLL
            yield time, shown


def _sum(history: History, width: int, start: int, end: int, now: int) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for rows in history.usage(width, start, end, now).values():
        for row, tokens in rows.items():
            sums[row.model] += tokens.output
    return dict(sums)
