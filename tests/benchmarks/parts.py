"""The meter without schedule and server, in this process, on a clock of our own: what a poll is made of."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from email.utils import formatdate
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import httpx

from exporter.api.client import Listener, Timing
from exporter.api.credentials import Credentials
from exporter.demo.organization import DAY, MINUTE
from exporter.families import COUNTED
from exporter.ledger.state import StateFile
from exporter.meter import Meter
from exporter.model import Window
from exporter.parts import new_api
from exporter.polling.windows import floor
from exporter.settings import load
from tests.benchmarks.organization import PRICED, BenchOrganization
from tests.world import KEY, at

NOW = at("2026-03-09T12:00:30")
COUNTED_FROM = ("--usage.anchor", "2026-03-08", "--usage.by-api-key", "false", "--metrics.max-series", "10000000")
ROUNDS = 5
TODAY = date(2026, 3, 9)


class Costs(NamedTuple):
    """Milliseconds of processor time of a poll and its parts, seconds of a restart, MB of the state file."""

    poll: float
    decode: float
    fold: float
    commit: float
    publish: float
    restart: float
    file: float


class Stopwatch:
    """Adds up processor time, in milliseconds; what is measured may pause it."""

    def __init__(self) -> None:
        self.spent = 0.0

    @contextmanager
    def running(self, sign: int = 1) -> Iterator[None]:
        """Add the time of the block, or subtract it."""
        begun = time.process_time()
        try:
            yield
        finally:
            self.spent += sign * (time.process_time() - begun) * 1000

    def lap(self) -> float:
        """Return what was spent, and begin anew."""
        spent, self.spent = self.spent, 0.0
        return spent


class TimedState(StateFile):
    """Measures its commits."""

    watch: ClassVar[Stopwatch] = Stopwatch()

    def commit(self, *arguments: Any) -> None:
        with self.watch.running():
            super().commit(*arguments)


class World(httpx.BaseTransport):
    """An organisation, a clock, and a meter; what the organisation's answers take is not measured."""

    def __init__(self, organization: BenchOrganization, state: Path) -> None:
        self.now = NOW
        self.watch = Stopwatch()
        self._organization = organization
        self._state = state
        self._settings = load(
            ["--api.base-url", "http://127.0.0.1", *COUNTED_FROM], {"ANTHROPIC_ADMIN_API_KEY": KEY}, today=TODAY
        )
        self._timing = Timing(clock=lambda: self.now, timer=lambda: self.now, sleep=lambda _seconds: None)
        self.start()

    def start(self) -> None:
        """Start the exporter, on the state file if there is one."""
        state = TimedState(str(self._state), COUNTED, self.now)
        self.meter = Meter(self._settings, Credentials(KEY, None), self._timing, state, transport=self)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self.watch.running(-1):
            body = b"".join(self._organization.answer(request.url.path, request.url.query.decode(), self.now))
        headers = {"date": formatdate(self.now, usegmt=True), "anthropic-organization-id": self._organization.id}
        return httpx.Response(200, headers=headers, content=body)

    def poll(self) -> float:
        """Poll what the next minute has brought; return what it takes."""
        self.now += MINUTE
        with self.watch.running():
            self.meter.polls["usage"].run()
        return self.watch.lap()

    def decode(self) -> float:
        """Read what a poll reads, and do nothing with it; return what it takes."""
        api = new_api(
            self._settings, Credentials(KEY, None), self._timing, Listener(), lambda _field, _rows: None, self
        )
        opened = floor(self.now, MINUTE)
        with self.watch.running():
            api.usage(Window(MINUTE, opened - 30 * MINUTE, opened + MINUTE))
        return self.watch.lap()

    def publish(self) -> float:
        """Poll what is tiny and changes nothing: what that takes is a snapshot and an empty commit."""
        with self.watch.running():
            self.meter.polls["limits"].run()
        return self.watch.lap()


def costs(label_sets: int, active: int, folder: Path) -> Costs:
    """Measure an organisation that uses ``active`` of its label sets in each minute."""
    begin = floor(NOW, MINUTE) - 40 * MINUTE
    organization = BenchOrganization(label_sets, active, begin, floor(NOW, DAY) - DAY, PRICED)
    world = World(organization, folder / f"state-{label_sets}-{active}")
    for report in ("cost", "names", "limits", "usage"):
        world.meter.polls[report].run()
    for _ in range(2):
        world.poll()
    decode = statistics.median(world.decode() for _ in range(ROUNDS))
    TimedState.watch.lap()
    polls, commits = zip(*((world.poll(), TimedState.watch.lap()) for _ in range(ROUNDS)), strict=True)
    publish = statistics.median(world.publish() for _ in range(ROUNDS))
    world.meter.close()
    begun = time.perf_counter()
    world.start()
    restart = time.perf_counter() - begun
    world.meter.close()
    poll, commit = statistics.median(polls), statistics.median(commits)
    file = (folder / f"state-{label_sets}-{active}").stat().st_size / 1e6
    return Costs(poll, decode, poll - decode - commit - publish, commit, publish, restart, file)
