"""What a poll of usage takes, by number of series, and what the program does while it waits.

First the real program, polling each minute, by itself and with a scrape each 15 s; then the parts of a poll, with a
clock of our own. ``--sizes`` measures others, ``--parts`` the parts only.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.organization import TOKEN_TYPES, yesterday
from tests.benchmarks.parts import costs
from tests.benchmarks.processes import Api, Client, Subject, admin_api, exporter

SIZES = (1_000, 10_000, 100_000)
ACTIVE, BUSY = 50, 2_000
"""Label sets that are used in each minute: 31 minutes of them are a page of 0.7 or 25 MB."""
STRETCH = 120.0
SCRAPE = 15.0
LOOK = 0.25


@dataclass
class Observed:
    """A program, what it reads, and the processor time that it had used at some moments (Unix seconds)."""

    series: int
    api: Api
    subject: Subject
    used: list[tuple[float, float]] = field(default_factory=list)
    polls: set[float] = field(default_factory=set)

    def look(self) -> None:
        """Note what it has used, and when it has polled last."""
        self.used.append((time.time(), self.subject.cpu))
        self.polls.add(self.api.told().last)

    def percent(self) -> float:
        """Return the share of a processor that it has used."""
        (begin, before), (end, after) = self.used[0], self.used[-1]
        return (after - before) / (end - begin) * 100

    def per_poll(self) -> list[float]:
        """Return the milliseconds of processor time from just before each poll until three seconds after."""
        whole = [poll for poll in self.polls if self.used[0][0] < poll < self.used[-1][0] - 3]
        return [(self._at(poll + 3) - self._at(poll - 2 * LOOK)) * 1000 for poll in sorted(whole)]

    def _at(self, moment: float) -> float:
        return max((cpu for time_, cpu in self.used if time_ <= moment), default=self.used[0][1])


def polled(url: str) -> tuple[float, float]:
    """Return how many polls of usage there were, and how many seconds they took."""
    client = Client(url, encoding="identity")
    text = client.get().decode()
    client.close()
    name = r'^anthropic_exporter_poll_duration_seconds_{}{{report="usage"}} (\S+)'
    count, total = (re.search(name.format(word), text, re.MULTILINE) for word in ("count", "sum"))
    return (float(count[1]), float(total[1])) if count and total else (0.0, 0.0)


def watch(all_of_them: Sequence[Observed], scrape_every: float | None) -> None:
    """Look at them for a while, and scrape if asked to."""
    clients = [Client(one.subject.url) for one in all_of_them]
    for one in all_of_them:
        one.used.clear()
        one.polls.clear()
    begun = due = time.monotonic()
    while time.monotonic() < begun + STRETCH:
        if scrape_every and time.monotonic() >= due:
            due += scrape_every
            for client in clients:
                client.get()
        for one in all_of_them:
            one.look()
        time.sleep(LOOK)


def steady(sizes: Sequence[int]) -> None:
    """Print what the real program takes at each size; all run side by side, with polls at different times."""
    anchor = datetime.fromtimestamp(yesterday(time.time()), UTC).strftime("%Y-%m-%d")
    flags = ["--usage.by-api-key", "false", "--usage.anchor", anchor, "--metrics.max-series", "10000000"]
    with ExitStack() as stack:
        all_of_them = []
        for series in sizes:
            api = stack.enter_context(admin_api(series // len(TOKEN_TYPES), ACTIVE, "--priced"))
            all_of_them.append(Observed(series, api, stack.enter_context(exporter(api, *flags))))
            time.sleep(15)
        for one in all_of_them:
            while polled(one.subject.url)[0] < 2:
                time.sleep(1)
        before = [(polled(one.subject.url), one.api.told()) for one in all_of_them]
        begun = time.monotonic()
        watch(all_of_them, None)
        alone = [(one.percent(), one.per_poll()) for one in all_of_them]
        watch(all_of_them, SCRAPE)
        minutes = (time.monotonic() - begun) / 60
        print("| series | polls: CPU ms | wall ms | CPU % | scraped % | RSS MiB | peak MiB | usage reads/min |")
        print("|---" * 8 + "|")
        for one, (was, told), (percent, per_poll) in zip(all_of_them, before, alone, strict=True):
            count, took = (after - earlier for after, earlier in zip(polled(one.subject.url), was, strict=True))
            used = ", ".join(f"{ms:.0f}" for ms in per_poll)
            memories = f"{one.subject.memory('VmRSS'):.0f} | {one.subject.memory('VmHWM'):.0f}"
            rate = (one.api.told().usage - told.usage) / minutes
            print(
                f"| {one.series:,} | {used} | {took / count * 1000:.0f} | {percent:.2f} | {one.percent():.2f} | "
                f"{memories} | {rate:.2f} |"
            )


def parts(sizes: Sequence[int]) -> None:
    """Print what a poll is made of."""
    print("\n| series | used each minute | poll | decode | fold | commit | publish | restart | state file |")
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for series in sizes:
            label_sets = series // len(TOKEN_TYPES)
            for active in (min(ACTIVE, label_sets), min(BUSY, label_sets)):
                one = costs(label_sets, active, Path(folder))
                times = " | ".join(f"{ms:.1f} ms" for ms in one[:5])
                print(f"| {series:,} | {active:,} | {times} | {one.restart:.2f} s | {one.file:.1f} MB |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--parts", action="store_true", help="the parts of a poll only")
    asked = parser.parse_args()
    if not asked.parts:
        steady(asked.sizes)
    parts(asked.sizes)
