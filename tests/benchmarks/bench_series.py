"""What a poll (the simulated API and the commit included), the commit in it, and a scrape take, by number of series.

All in one process, with the state file in the folder for temporary files; then the file's size and a restart from it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from exporter.demo.organization import Dimensions, Tokens
from exporter.ledger.state import StateFile
from tests.events import Use, WrittenOrganization
from tests.world import World, at

NOW = at("2026-03-09T12:00:30")
ROUNDS = 5


class TimedState(StateFile):
    """Notes what each commit takes, in milliseconds."""

    took: ClassVar[list[float]] = []

    def commit(self, *arguments: Any) -> None:
        begun = time.perf_counter()
        super().commit(*arguments)
        self.took.append((time.perf_counter() - begun) * 1000)


def median(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median milliseconds of some runs."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


def next_minute(world: World) -> None:
    """Poll what a minute has brought: every label set has grown."""
    world.now += 60
    world.poll("usage")


def measure(label_sets: int) -> None:
    """Print one row: all label sets are used in each of the minutes that a poll reads."""
    dimensions = [
        Dimensions("key", f"wrkspc_{n % 97}", f"claude-model-{n}", "standard", "0-200k", "global")
        for n in range(label_sets)
    ]
    uses = [Use(NOW + 60 * n, row, Tokens(1, 2, 3, 4, 5)) for row in dimensions for n in range(-5, 2 * ROUNDS)]
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        world = World(WrittenOrganization(uses), NOW, "--metrics.max-series", "1000000", state=state, keep=TimedState)
        for _ in range(5):
            world.poll("usage")
            world.scrape()
            world.now += 60
        body = len(world.scrape())
        poll = median(lambda: next_minute(world))
        commit = statistics.median(TimedState.took[-ROUNDS:])
        scrape = median(world.scrape)
        world.stop()
        size = state.stat().st_size
        restart = median(world.start, rounds=1)
        world.stop()
    print(
        f"{label_sets * 5:7d} series   poll {poll:8.1f} ms   commit {commit:7.1f} ms   scrape {scrape:7.1f} ms   "
        f"page {body / 1e6:6.2f} MB   file {size / 1e6:6.2f} MB   restart {restart:7.1f} ms"
    )


if __name__ == "__main__":
    for size in (200, 2_000, 20_000):
        measure(size)
