"""What a poll (the simulated API included) and a scrape take as the number of series grows, in one process."""

import statistics
import time
from collections.abc import Callable

from exporter.demo.organization import Dimensions, Tokens
from tests.events import Use, WrittenOrganization
from tests.world import World, at

NOW = at("2026-03-09T12:00:30")
ROUNDS = 5


def median(work: Callable[[], object]) -> float:
    """Return the median milliseconds of some runs."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def measure(label_sets: int) -> None:
    """Print one row: all label sets are used in each of the minutes that a poll reads."""
    dimensions = [
        Dimensions("key", f"wrkspc_{n % 97}", f"claude-model-{n}", "standard", "0-200k", "global")
        for n in range(label_sets)
    ]
    uses = [Use(NOW - 60 * n, row, Tokens(1, 2, 3, 4, 5)) for row in dimensions for n in range(6)]
    world = World(WrittenOrganization(uses), NOW)
    for _ in range(5):
        world.poll("usage")
        world.scrape()
        world.now += 60
    body = len(world.scrape())
    poll = median(lambda: world.poll("usage"))
    scrape = median(world.scrape)
    print(f"{label_sets * 5:7d} series   poll {poll:8.1f} ms   scrape {scrape:8.1f} ms   {body / 1e6:6.2f} MB")


if __name__ == "__main__":
    for size in (200, 2_000, 20_000):
        measure(size)
