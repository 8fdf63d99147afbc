"""Memory, time and size of the ``backfill`` command: an organisation with about 1,000 series.

The organisation is the demo's with some of its streams of usage, simulated in this process. The program is started
once to make a state file, and then for the past: its text goes into a file on the disk or, with ``--url`` or where
there is no room for it, to a server here that counts and forgets. ``TMPDIR`` is where the file is.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from exporter.app import DEMO_AGE, DEMO_SEED
from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY
from exporter.demo.population import populate
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization
from exporter.model import REPORTS
from tests.benchmarks.processes import Api, Client, Subject, exporter, running
from tests.world import KEY

DAYS = 60
STREAMS = 35
"""Streams of usage with about 1,000 series in all; the demo has 50."""
LOOK = 0.05
ROOM = 100e6
"""Bytes that a day may take on the disk."""


@dataclass
class Text:
    """What text was written."""

    size: int = 0
    samples: int = 0
    series: set[bytes] = field(default_factory=set)

    def take(self, lines: Iterable[bytes]) -> None:
        """Count lines; those of a series follow each other."""
        name = b"#"
        for line in lines:
            self.size += len(line)
            if line.startswith(b"#"):
                continue
            self.samples += 1
            if not line.startswith(name):
                name = line[: line.rindex(b"} ") + 2]
                self.series.add(name)


class Sink(ThreadingHTTPServer):
    """Looks like a VictoriaMetrics, but counts what it gets and forgets it."""

    daemon_threads = True

    def __init__(self, text: Text) -> None:
        super().__init__(("127.0.0.1", 0), SinkHandler)
        self.text = text
        self.url = f"http://127.0.0.1:{self.server_port}"


class SinkHandler(BaseHTTPRequestHandler):
    server: Sink

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.text.take(gzip.decompress(body).splitlines(keepends=True))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is inherited
        pass


@contextmanager
def sink(text: Text) -> Iterator[str]:
    """Run a server that counts; give its address."""
    with Sink(text) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def start(api: Api, state: Path) -> None:
    """Run the exporter until it has polled everything once: its counters begin then, and history ends there."""
    with exporter(api, "--state.path", str(state)) as subject:
        client = Client(subject.url, encoding="identity")
        while len(re.findall(rb"^anthropic_up\{.*\} 1\b", client.get(), re.MULTILINE)) < len(REPORTS):
            time.sleep(0.1)
        client.close()


def backfill(api: Api, state: Path, days: int, *destination: str) -> tuple[float, float, float]:
    """Run the command; return the seconds that it took, its processor time, and its peak of memory in MiB."""
    first = time.strftime("%Y-%m-%d", time.gmtime(time.time() - days * DAY))
    labels = ["--label", "job=anthropic", "--label", "instance=bench"]
    settings = ["--api.base-url", api.url, "--state.path", str(state)]
    command = [sys.executable, "-m", "exporter", "backfill", "--from", first, *labels, *settings, *destination]
    used = peak = 0.0
    begun = time.monotonic()
    # The system's own figure for children that have ended would count this process, too: they begin as copies of it.
    with running(command, env=os.environ | {"ANTHROPIC_ADMIN_API_KEY": KEY}, stderr=subprocess.DEVNULL) as process:
        subject = Subject(process, "")
        ended = False
        while not ended:
            time.sleep(LOOK)
            used, peak = max(used, subject.cpu), max(peak, subject.memory("VmHWM"))
            ended = process.poll() is not None
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    return time.monotonic() - begun, used, peak


def measure(asked: argparse.Namespace, folder: Path) -> None:
    """Write the past, and print what that took."""
    started = int(time.time()) - DEMO_AGE
    population = populate(DEMO_SEED, started)
    population = replace(population, streams=population.streams[: asked.streams])
    organization = SimulatedOrganization(seed=DEMO_SEED, started=started, population=population)
    simulated = AdminApi(organization, key=KEY, clock=time.time)
    state, file, text = folder / "state", folder / "history.om", Text()
    into_file = not asked.url and shutil.disk_usage(folder).free > asked.days * ROOM
    with serve(simulated) as server:
        api = Api(server.url)
        start(api, state)
        before = simulated.requests.total()
        if into_file:
            seconds, used, peak = backfill(api, state, asked.days, "--output", str(file))
            with file.open("rb") as lines:
                text.take(lines)
        else:
            with sink(text) as url:
                seconds, used, peak = backfill(api, state, asked.days, "--url", url)
        requests = simulated.requests.total() - before
    where = "a file" if into_file else "a server that forgets it"
    print(f"{asked.days} days, {len(text.series):,} series, into {where}: {seconds:.0f} s (CPU {used:.0f} s),")
    print(f"  peak {peak:.1f} MiB, requests {requests}, samples {text.samples:,}, {text.size / 1e9:.2f} GB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS, help="days before today")
    parser.add_argument("--streams", type=int, default=STREAMS, help="streams of usage, 50 at most")
    parser.add_argument("--url", action="store_true", help="import into a server that forgets, in place of a file")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        measure(asked, Path(folder))


if __name__ == "__main__":
    main()
