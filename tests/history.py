"""The demo organisation's last weeks as blocks of a Prometheus: 36 days made by ``history``, and three hours live.

Both count the same usage without a gap: the live counters begin, at 0, with the usage at which those before them end.
"""

import shutil
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import httpx

from exporter.api import admin
from exporter.api.client import Listener, Timing
from exporter.api.credentials import Credentials
from exporter.backfill import sheets
from exporter.demo.api import AdminApi
from exporter.demo.organization import Organization
from exporter.demo.simulation import SimulatedOrganization
from exporter.history.backfill import files
from exporter.history.backfill.files import BLOCK, Timed
from exporter.history.backfill.openmetrics import END, Samples, series
from exporter.history.backfill.past import Past, Present, Span
from exporter.history.backfill.reading import Archive
from exporter.metrics.catalog import CATALOG
from exporter.metrics.samples import samples
from exporter.model import DAY, HOUR, MINUTE, Bucket, Budget, Names, Number, Window
from exporter.money.money import Money
from exporter.parts import new_api, new_money
from exporter.polling.windows import split
from exporter.settings import load
from tests.world import KEY, World, at

NOW = int(at("2026-11-19T15:00:00"))
"""A Thursday."""
DAYS = 36
LIVE = 3 * HOUR
START, SEAM = NOW - DAYS * DAY, NOW - LIVE
SETTLE = 5 * MINUTE
ANCHOR = SEAM - SETTLE
"""The usage time at which history's counters end and the live ones begin."""
LABELS = {"job": "anthropic", "instance": "demo"}
BUDGET = Budget(Decimal(30000), {"default": Decimal(1500)})
FLAGS = ("--budget.monthly-usd", "30000", "--budget.workspaces", "default=1500")


def organization() -> SimulatedOrganization:
    """Return the organisation whose past it is."""
    return SimulatedOrganization(seed=1, started=NOW - 366 * DAY)


class Live(World):
    """A world whose every scrape, of ``only`` these metrics if there are any, is kept, with its time, in ``pages``."""

    def __init__(self, organization: Organization, seam: int, *flags: str, only: Iterable[str] = ()) -> None:
        super().__init__(organization, seam, *flags)
        self._seam = seam
        self._only = tuple(only)
        self.pages: list[tuple[int, str]] = []

    def watch(self) -> None:
        """Scrape, once at each time after the seam; what has a time before is history's."""
        if self.now > max([self._seam, *(time for time, _ in self.pages[-1:])]):
            self.pages.append((int(self.now), self.scrape(*self._only)))


def live() -> Live:
    """Return the world of the last three hours, with a page a minute."""
    world = Live(organization(), SEAM, *FLAGS)
    world.run(LIVE, scrape_every=MINUTE)
    return world


def build(directory: Path, promtool: Path) -> None:
    """Fill ``directory`` with the blocks of all 36 days."""
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=1) as pool:
        made = [
            pool.submit(_make_block, promtool, file)
            for file in files.blocks(directory, past().snapshots(SEAM), sheets(LABELS))
        ]
    for one in made:
        one.result()
    make_blocks(directory, promtool, ((time, stamped(page, time)) for time, page in live().pages))


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


def _up(time: int) -> str:
    return f"{series('up', LABELS)} 1 {time}\n"


def past() -> Past:
    """Return the past up to the seam, read through the API as it is known now."""
    api, money = parts(organization(), NOW)
    span = Span(START, SETTLE, billed_until=SEAM - SEAM % DAY)
    archive = Archive(api, money, span, end=ANCHOR, now=NOW, get=lambda read: read())
    workspaces, default_id = api.workspaces()
    names = Names(api.organization(), workspaces, api.api_keys(workspaces, default_id))
    return Past(archive, money, span, Present(names, api.rate_limits(), BUDGET))


def parts(organization: Organization, now: int) -> tuple[admin.AdminApi, Money]:
    """Return the organisation's API, where the time stands still, and money that knows nothing yet."""

    def clock() -> float:
        return now

    settings = load(
        ["--api.base-url", "http://127.0.0.1"],
        {"ANTHROPIC_ADMIN_API_KEY": KEY},
        today=datetime.fromtimestamp(now, UTC).date(),
    )
    transport = httpx.WSGITransport(app=AdminApi(organization, key=KEY, clock=clock))
    timing = Timing(clock=clock, timer=clock, sleep=lambda _seconds: None)
    api = new_api(settings, Credentials(KEY, None), timing, Listener(), lambda _field, _rows: None, transport)
    return api, new_money(settings)


def read(report: Callable[[Window], list[Bucket[Number]]], window: Window) -> list[Bucket[Number]]:
    """Read page by page."""
    return [bucket for part in split(window.width, window.start, window.end) for bucket in report(part)]


def stamped(page: str, time: int) -> str:
    """Return the samples of a page with their time, as the Prometheus that scraped it keeps them."""
    lines = (f"{_labelled(line)} {time}\n" for line in page.splitlines() if not line.startswith("#"))
    return "".join([_up(time), *lines])


def _labelled(line: str) -> str:
    sample, value = line.rsplit(" ", 1)
    name, _, labels = sample.partition("{")
    more = series("", LABELS)[1:-1]
    return f"{name}{{{more},{labels} {value}" if labels else f"{name}{{{more}}} {value}"


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(shutil.which("promtool") or "/usr/bin/promtool"))
