"""The demo organisation's last weeks as blocks of a Prometheus: 36 days made by ``history``, and three hours live.

Both count the same usage without a gap: the live counters begin, at 0, with the usage at which those before them end.
"""

import os
import shutil
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import httpx

from exporter.api import admin
from exporter.api.client import Listener, Timing
from exporter.api.credentials import Credentials
from exporter.backfill import FRESHEST, backfill
from exporter.demo.api import AdminApi
from exporter.demo.organization import Organization
from exporter.demo.simulation import SimulatedOrganization
from exporter.history.backfill.files import BLOCK, Timed
from exporter.history.backfill.openmetrics import END, Samples, series
from exporter.metrics.catalog import CATALOG
from exporter.metrics.samples import samples
from exporter.model import DAY, HOUR, MINUTE, Bucket, Number, Window
from exporter.money.money import Money
from exporter.parts import new_api, new_money
from exporter.polling.windows import split
from exporter.settings import Settings, load
from tests.world import KEY, World, at

NOW = int(at("2026-11-19T15:00:00"))
"""A Thursday."""
DAYS = 36
LIVE = 3 * HOUR
FIRST = NOW - NOW % DAY - DAYS * DAY
SETTLE = 5 * MINUTE
START, SEAM = FIRST + SETTLE, NOW - LIVE
ANCHOR = SEAM - SETTLE
"""The usage time at which history's counters end and the live ones begin."""
LAST = ANCHOR + FRESHEST
"""The time of history's last sample but for the zeros."""
LABELS = {"job": "anthropic", "instance": "demo"}
FLAGS = ("--budget.monthly-usd", "30000", "--budget.workspaces", "default=1500")


def organization() -> SimulatedOrganization:
    """Return the organisation whose past it is."""
    return SimulatedOrganization(seed=1, started=NOW - 366 * DAY)


class Live(World):
    """A world whose every scrape, of ``only`` these metrics if there are any, is kept, with its time, in ``pages``."""

    def __init__(
        self, organization: Organization, seam: int, *flags: str, only: Iterable[str] = (), state: Path | None = None
    ) -> None:
        super().__init__(organization, seam, *flags, state=state)
        self._seam = seam
        self._only = tuple(only)
        self.pages: list[tuple[int, str]] = []

    def watch(self) -> None:
        """Scrape, once at each time after the seam; what has a time before is history's."""
        if self.now > max([self._seam, *(time for time, _ in self.pages[-1:])]):
            self.pages.append((int(self.now), self.scrape(*self._only)))


def live(state: Path) -> Live:
    """Return the world of the last three hours, with a page a minute; it has ended, and left the file ``state``."""
    world = Live(organization(), SEAM, *FLAGS, state=state)
    world.run(LIVE, scrape_every=MINUTE)
    world.stop()
    return world


def build(directory: Path, promtool: Path) -> None:
    """Fill ``directory`` with the blocks of all 36 days: of the live pages, and of what ``backfill`` writes then."""
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        state = Path(folder) / "state.db"
        pages = live(state).pages
        make_blocks(directory, promtool, ((time, stamped(page, time)) for time, page in pages))
        write_past(organization(), NOW, FIRST, LABELS, directory, ("--state.path", str(state), *FLAGS), promtool)


def write_past(
    organization: Organization,
    now: int,
    first: int,
    labels: Mapping[str, str],
    directory: Path,
    flags: Sequence[str],
    promtool: Path,
) -> None:
    """Write the past from the day ``first`` on as ``backfill`` does at the time ``now`` (both in Unix seconds)."""
    day = datetime.fromtimestamp(first, UTC).date().isoformat()
    given = {
        "--from": [day],
        "--into": [str(directory)],
        "--label": [f"{name}={text}" for name, text in labels.items()],
    }
    with patch.dict(os.environ, {"PATH": f"{promtool.parent}{os.pathsep}{os.environ['PATH']}"}):
        backfill(settings(now, *flags), given, timing=still(now), transport=transport(organization, now))


def make_blocks(directory: Path, promtool: Path, texts: Iterable[tuple[int, str]], cuts: Sequence[int] = ()) -> None:
    """Fill ``directory`` with blocks of samples that come with their time; no block goes on after one of ``cuts``.

    promtool makes one while the next one's text is written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=1) as pool:
        made = pool.submit(lambda: None)
        for number, some in groupby(texts, key=lambda text: (text[0] // BLOCK, bisect_left(cuts, text[0]))):
            path = directory / f"{number[0]}-{number[1]}.om"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(map(itemgetter(1), some))
                file.write(END)
            made.result()
            made = pool.submit(_make_block, promtool, path)
    made.result()


def _make_block(promtool: Path, path: Path) -> None:
    command = ("tsdb", "create-blocks-from", "openmetrics", f"--max-block-duration={BLOCK // HOUR}h", path, path.parent)
    subprocess.run([promtool, *command], check=True, stdout=subprocess.DEVNULL)
    path.unlink()


def past_texts(snapshots: Iterable[Timed], shown: Samples = samples) -> Iterator[tuple[int, str]]:
    """Yield the samples of each scrape with its time, as ``shown`` tells them."""
    labels = {metric.name: metric.labels for metric in CATALOG}
    for time, snapshot in snapshots:
        lines = (
            f"{series(name, {**dict(zip(labels[name], values, strict=True)), **LABELS})} {float(value)} {time}\n"
            for name, found in shown(snapshot, time).items()
            for values, value in found
        )
        yield time, "".join([_up(time), *lines])


def _up(time: int, constant: Mapping[str, str] = LABELS) -> str:
    return f"{series('up', constant)} 1 {time}\n"


def parts(organization: Organization, now: int) -> tuple[admin.AdminApi, Money]:
    """Return the organisation's API, where the time stands still, and money that knows nothing yet."""
    given = settings(now)
    key, world = Credentials(KEY, None), transport(organization, now)
    return new_api(given, key, still(now), Listener(), lambda _field, _rows: None, world), new_money(given)


def settings(now: int, *flags: str) -> Settings:
    """Return settings as of ``now``."""
    today = datetime.fromtimestamp(now, UTC).date()
    return load(["--api.base-url", "http://127.0.0.1", *flags], {"ANTHROPIC_ADMIN_API_KEY": KEY}, today=today)


def still(now: int) -> Timing:
    """Return a time that stands still."""
    return Timing(clock=lambda: now, timer=lambda: now, sleep=lambda _seconds: None)


def transport(organization: Organization, now: int) -> httpx.WSGITransport:
    """Return the way to the organisation's API as it is at ``now``."""
    return httpx.WSGITransport(app=AdminApi(organization, key=KEY, clock=lambda: now))


def read(report: Callable[[Window], list[Bucket[Number]]], window: Window) -> list[Bucket[Number]]:
    """Read page by page."""
    return [bucket for part in split(window.width, window.start, window.end) for bucket in report(part)]


def stamped(page: str, time: int, constant: Mapping[str, str] = LABELS) -> str:
    """Return the samples of a page with their time, as the Prometheus that scraped it keeps them."""
    lines = (f"{_labelled(line, constant)} {time}\n" for line in page.splitlines() if not line.startswith("#"))
    return "".join([_up(time, constant), *lines])


def _labelled(line: str, constant: Mapping[str, str]) -> str:
    sample, value = line.rsplit(" ", 1)
    name, _, labels = sample.partition("{")
    more = series("", constant)[1:-1]
    return f"{name}{{{more},{labels} {value}" if labels else f"{name}{{{more}}} {value}"


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(shutil.which("promtool") or "/usr/bin/promtool"))
