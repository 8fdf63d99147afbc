"""What a scrape takes, by number of series: ours beside exporters of the same series made with client libraries.

All in one run and in turns. ``--million`` adds a million series, which takes long; ``--sizes`` measures others.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.organization import TOKEN_TYPES, figures, label_sets, yesterday
from tests.benchmarks.processes import TEXT, Api, Client, Subject, admin_api, exporter, told_address

SIZES = (1_000, 10_000, 100_000)
MILLION = 1_000_000
OURS = "ours"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
GO, PACKAGE = "/usr/bin/go", Path("/usr/share/gocode/src/github.com/prometheus/client_golang")
PEERS = Path(__file__).parent / "peers"
ENCODINGS = ("gzip", "identity")


@dataclass
class Taken:
    """Milliseconds of scrapes: as the client sees them, and of processor time of the server; and the last body."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    size: int = 0

    def add(self, subject: Subject, client: Client) -> None:
        """Scrape once."""
        used, begun = subject.cpu, time.perf_counter()
        self.size = len(client.get())
        self.wall.append((time.perf_counter() - begun) * 1000)
        self.cpu.append((subject.cpu - used) * 1000)

    def add_all(self, other: "Taken") -> None:
        """Take over what another one has."""
        self.wall += other.wall
        self.cpu += other.cpu
        self.size = other.size


def go_peer(folder: Path) -> Path | None:
    """Return the Go program, built from Debian's packages, or say why there is none."""
    missing = [str(path) for path in (Path(GO), PACKAGE) if not path.exists()]
    if missing:
        packages = "golang-go and golang-github-prometheus-client-golang-dev"
        print(f"Go client left out: {', '.join(missing)} not found (Debian: {packages})\n")
        return None
    program = folder / "peer"
    settings = {"GO111MODULE": "off", "GOFLAGS": "-mod=mod", "GOPATH": "/usr/share/gocode"}
    caches = {"GOCACHE": str(folder / "cache"), "HOME": str(folder)}
    subprocess.run(
        [GO, "build", "-o", program, PEERS / "main.go"], check=True, env={**os.environ, **settings, **caches}
    )
    return program


def write_series(file: Path, count: int) -> None:
    """Write the series for the peers."""
    with file.open("w") as out:
        for number, labels in enumerate(label_sets(count)):
            for token_type, value in zip(TOKEN_TYPES, figures(number, 40), strict=True):
                out.write("\t".join([*labels, token_type, str(value)]) + "\n")


def peers(file: Path, go: Path | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the command of each."""
    yield "prometheus-client", [sys.executable, "-m", "tests.benchmarks.peers.collector", str(file)]
    if go:
        yield "Go, const metrics", [str(go), "const", str(file)]
        yield "Go, CounterVec", [str(go), "vec", str(file)]


def scrape(subjects: Mapping[str, Subject], api: Api, accept: str, rounds: int) -> dict[tuple[str, str], Taken]:
    """Scrape all in turns, none while a poll is under way: what a poll costs a scrape is another benchmark's."""
    clients = {
        (name, encoding): Client(subject.url, accept=accept, encoding=encoding)
        for name, subject in subjects.items()
        for encoding in ENCODINGS
    }
    taken = {key: Taken() for key in clients}
    for client in clients.values():
        client.get()
    while min(len(one.wall) for one in taken.values()) < rounds:
        for key, client in clients.items():
            subjects[OURS].wait_until_idle(0.2)
            before, one = api.told().last, Taken()
            one.add(subjects[key[0]], client)
            if api.told().last == before:
                taken[key].add_all(one)
    for client in clients.values():
        client.close()
    return taken


def show(row: str, subjects: Mapping[str, Subject], taken: Mapping[tuple[str, str], Taken]) -> None:
    """Print a line for each subject and encoding."""
    for (name, encoding), one in taken.items():
        subject = subjects[name]
        ratio = statistics.median(one.wall) / statistics.median(taken[OURS, encoding].wall)
        times = f"{statistics.median(one.wall):.1f} | {max(one.wall):.1f} | {statistics.median(one.cpu):.1f}"
        memories = f"{subject.memory('VmRSS'):.0f} | {subject.memory('VmHWM'):.0f}"
        line = f"| {row} | {name} | {encoding} | {times} | {one.size / 1e6:.2f} | {memories} | {ratio:.1f} |"
        print(line, flush=True)


def wait_for_series(subject: Subject) -> None:
    """Wait until usage was polled twice, so that all series are there and grow."""
    client = Client(subject.url, encoding="identity")
    while True:
        polls = re.search(rb'^anthropic_exporter_polls_total{report="usage"} (\S+)', client.get(), re.MULTILINE)
        if polls and float(polls[1]) >= 2:
            break
        time.sleep(1)
        subject.wait_until_idle()
    client.close()


def measure(series: int, folder: Path, go: Path | None, accept: str) -> None:
    """Print the rows of one size."""
    count = series // len(TOKEN_TYPES)
    file = folder / "series"
    write_series(file, count)
    rounds = 15 if series <= 10_000 else 7 if series < MILLION else 2
    interval = 30
    # A minute in which a million series grow is 110 MB of usage, each time that it is read: those stand still.
    active = count if series < MILLION else 0
    pace = ["--usage.poll-interval", str(interval), "--usage.settle", str(1.5 * interval), "--usage.hold", "1"]
    patience = ["--api.timeout", "300", "--api.poll-deadline", "600"]
    anchor = datetime.fromtimestamp(yesterday(time.time()), UTC).strftime("%Y-%m-%d")
    counted = ["--metrics.max-series", "10000000", "--usage.by-api-key", "false", "--usage.anchor", anchor]
    with ExitStack() as stack:
        api = stack.enter_context(admin_api(count, active, "--minutes", "1"))
        ours = stack.enter_context(exporter(api, *pace, *patience, *counted))
        wait_for_series(ours)
        others = {name: stack.enter_context(told_address(command)) for name, command in peers(file, go)}
        subjects = {OURS: ours, **others}
        kind = "growing" if active else "standing still"
        show(f"{series:,} {kind}", subjects, scrape(subjects, api, accept, rounds))
        if not active:
            return
        api.stop_usage()
        time.sleep(60 + 2.5 * interval)
        show(f"{series:,} standing still", {OURS: ours}, scrape({OURS: ours}, api, accept, rounds))


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--million", action="store_true", help="a million series as well")
    parser.add_argument("--openmetrics", action="store_true", help="ask for OpenMetrics instead of text")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        go = go_peer(folder)
        print("| series | server | encoding | median ms | max ms | CPU ms | MB | RSS MiB | peak MiB | by ours |")
        print("|---" * 10 + "|")
        for series in [*asked.sizes, *([MILLION] if asked.million else [])]:
            measure(series, folder, go, OPENMETRICS if asked.openmetrics else TEXT)


if __name__ == "__main__":
    main()
