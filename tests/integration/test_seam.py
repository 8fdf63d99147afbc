"""40 days written into stores that have the live counters already: every day exact, and nothing lost at the seam."""

import os
import shutil
import subprocess
import sys
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from exporter.demo.api import AdminApi
from exporter.demo.population import populate
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from exporter.model import DAY, HOUR, MINUTE
from exporter.polling.windows import floor
from tests.history import Live, make_blocks, stamped
from tests.integration.conftest import ExporterProcess, PrometheusLeg, PrometheusServer, QueryServer, Result
from tests.integration.test_victoria_metrics import VictoriaMetrics
from tests.world import KEY

pytestmark = [pytest.mark.prometheus, pytest.mark.process]

DAYS = 40
LIVE = 5 * HOUR
"""Long enough that a running Prometheus takes what is before."""
SETTLE = 5 * MINUTE
QUIET = 90 * MINUTE
"""Nothing is used in the end, so that all of it has arrived and was released."""
TOKENS, KEY_TOKENS = "anthropic_usage_tokens_total", "anthropic_api_key_usage_tokens_total"
ESTIMATED, BILLED = "anthropic_estimated_cost_usd_total", "anthropic_cost_usd_total"
JOB = "exporter"
BILLED_AFTER = HOUR


class Story(NamedTuple):
    """An organisation, the time at which its exporter began, and that of the first day written (Unix seconds)."""

    organization: SimulatedOrganization
    now: int
    first: int

    @property
    def seam(self) -> int:
        return self.now - LIVE

    @property
    def days(self) -> range:
        """The days that are over."""
        return range(self.first, floor(self.now, DAY), DAY)

    def used(self, start: int, end: int) -> int:
        """Return the tokens of all types of some hours or minutes."""
        width = MINUTE if start % HOUR or end % HOUR else HOUR
        report = self.organization.usage(width, start, end, self.now)
        return sum(sum(tokens[:5]) for rows in report.values() for tokens in rows.values())

    @property
    def billed(self) -> float:
        """Return what has been billed of these days by now."""
        bills = [self.organization.cost(day, self.now) or () for day in self.days]
        return float(sum(line.amount_cents for lines in bills for line in lines)) / 100


class Side(NamedTuple):
    """An exporter by its instance label, with a configured anchor or without."""

    instance: str
    is_anchored: bool

    def flags(self, story: Story) -> tuple[str, ...]:
        anchor = ("--usage.anchor", day_of(story.first)) if self.is_anchored else ()
        return ("--state.path", f"{self.instance}.db", *anchor)

    @property
    def labels(self) -> Mapping[str, str]:
        return {"job": JOB, "instance": self.instance}


Lived = tuple[Path, Mapping[Side, Sequence[tuple[int, str]]]]
SIDES = (Side("default", is_anchored=False), Side("anchored", is_anchored=True))


@pytest.fixture(scope="module")
def story() -> Story:
    now = floor(clock.time(), MINUTE)
    started = now - 60 * DAY
    whole = populate(1, floor(started, HOUR))
    # Of a series that ends in a range PromQL adds a bit to the increase: these are used at any time.
    streams = tuple(stream for stream in whole.streams if stream.rhythm == "product")
    organization = SimulatedOrganization(
        seed=1,
        started=started,
        # Later than minutes are read again it would show in hours, and in the first hour only after some more.
        arrival=Arrival(late_max=25 * MINUTE),
        quiet_after=now - QUIET,
        bill_delay=BILLED_AFTER,
        population=replace(whole, streams=streams),
    )
    return Story(organization, now, floor(now, DAY) - DAYS * DAY)


@pytest.fixture
def api(story: Story) -> Iterator[str]:
    """Serve the organisation's API; return its address."""
    with serve(AdminApi(story.organization, key=KEY, clock=clock.time)) as server:
        yield server.url


def day_of(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()


@pytest.fixture(scope="module")
def lived(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Return a folder with the state files of both, and the samples of their live hours, a minute apart."""
    folder = tmp_path_factory.mktemp("lived")
    texts = {}
    for side in SIDES:
        world = Live(story.organization, story.seam, *side.flags(story)[2:], state=folder / f"{side.instance}.db")
        world.run(LIVE, scrape_every=MINUTE)
        world.stop()
        texts[side] = [(time, stamped(page, time, side.labels)) for time, page in world.pages]
    return folder, texts


def backfill(story: Story, side: Side, api: str, directory: Path, *given: str, status: int = 0) -> str:
    """Run the command beside the exporter's state file; return what it says."""
    labels = [word for name, value in side.labels.items() for word in ("--label", f"{name}={value}")]
    command = [sys.executable, "-m", "exporter", "backfill", "--api.base-url", api, *side.flags(story), *labels]
    done = subprocess.run(
        [*command, "--from", day_of(story.first), *given],
        cwd=directory,
        env={**os.environ, "ANTHROPIC_ADMIN_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stderr


def check(store: QueryServer, story: Story, side: Side) -> None:
    """Compare a store, at the end of the live hours, with what the organisation has used and paid."""
    for family in (TOKENS, KEY_TOKENS):
        counter = f'{family}{{instance="{side.instance}"}}'
        check_days(store, story, counter)
        check_resets(store, story, counter, 0 if side.is_anchored else 1)
        start, end = story.days[-1] + SETTLE, int(store.scalar(f"max(timestamp({counter}))", story.now))
        # Prometheus looks at what is inside of a range only, VictoriaMetrics at the sample before it as well.
        span = end - start + (0 if isinstance(store, VictoriaMetrics) else 1)
        increase = store.scalar(f"sum(increase({counter}[{span}s]))", end)
        assert increase == pytest.approx(story.used(start - SETTLE, story.now - QUIET), rel=1e-4), counter
    check_resets(store, story, f'{ESTIMATED}{{instance="{side.instance}"}}', 1)
    billed = f'{BILLED}{{instance="{side.instance}"}}'
    check_resets(store, story, billed, 0 if side.is_anchored else 1)
    increase = store.scalar(f"sum(increase({billed}[{story.now - story.first}s]))", story.now)
    assert increase == pytest.approx(story.billed, rel=1e-3)


def check_days(store: QueryServer, story: Story, counter: str) -> None:
    for day in story.days:
        if day + DAY < story.seam - 2 * HOUR:
            grown = store.scalar(f"sum({counter} - {counter} offset 1d)", day + DAY + SETTLE)
            assert grown == story.used(day, day + DAY), f"{counter} on {day_of(day)}"


def check_resets(store: QueryServer, story: Story, counter: str, at_seam: int) -> None:
    """See to it that a counter falls ``at_seam`` times at the seam, and never before or after it."""
    before, after = story.seam - SETTLE, story.seam + 10 * MINUTE
    assert store.scalar(f"max(resets({counter}[{before - story.first}s]))", before) == 0, counter
    assert store.scalar(f"max(resets({counter}[{story.now - after}s])) or vector(0)", story.now) == 0, counter
    assert store.scalar(f"max(resets({counter}[{story.now - story.first}s]))", story.now) == at_seam, counter


def by_instance(result: Result) -> Mapping[str, str]:
    return {row["metric"]["instance"]: row["value"][1] for row in result}


def test_a_running_prometheus_takes_the_days_before_and_scrapes_on(
    exporter_process: Callable[..., ExporterProcess],
    prometheus: Callable[..., PrometheusServer],
    prometheus_leg: PrometheusLeg,
    story: Story,
    lived: Lived,
    api: str,
    tmp_path: Path,
) -> None:
    folder, texts = lived
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    for side in SIDES:
        make_blocks(tmp_path / "data", prometheus_leg.promtool, texts[side])
    env = {"ANTHROPIC_ADMIN_API_KEY": KEY}
    exporters = {side.instance: exporter_process("--api.base-url", api, *side.flags(story), env=env) for side in SIDES}
    server = prometheus({name: exporter.url for name, exporter in exporters.items()}, tmp_path)
    for side in SIDES:
        backfill(story, side, api, tmp_path, "--into", "data")
    early = f"count({TOKENS} @ {story.first + HOUR}) by (instance)"
    server.wait_for(early, lambda found: len(found) == len(SIDES), 180)
    for side in SIDES:
        check(server, story, side)
    whole = server.query(f"sum by (instance) ({TOKENS} @ {story.now})")
    scraped = server.wait_for(f"sum by (instance) ({TOKENS})", lambda found: len(found) == len(SIDES))
    assert by_instance(scraped) == by_instance(whole), "nothing has been used since"


def test_victoria_metrics_takes_them_too(story: Story, lived: Lived, api: str, tmp_path: Path) -> None:
    folder, texts = lived
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "store").mkdir()
    with VictoriaMetrics(tmp_path / "store", "-retentionPeriod=60d") as store:
        for side in SIDES:
            body = "".join(text for _, text in texts[side])
            milliseconds = "".join(f"{line}000\n" for line in body.splitlines())
            httpx.post(f"{store.url}/api/v1/import/prometheus", content=milliseconds, timeout=60).raise_for_status()
            backfill(story, side, api, tmp_path, "--url", store.url)
            told = backfill(story, side, api, tmp_path, "--url", store.url, status=1)
            assert "already, and written again they would count twice; delete them first, or give other labels" in told
        httpx.get(f"{store.url}/internal/force_flush").raise_for_status()
        for side in SIDES:
            check(store, story, side)
