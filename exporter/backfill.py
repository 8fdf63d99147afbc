"""The past that the exporter did not see, written for ``promtool tsdb create-blocks-from openmetrics``."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path

from exporter.api.client import Listener, Timing
from exporter.api.credentials import Credentials
from exporter.errors import StartError
from exporter.history import files
from exporter.history.openmetrics import OpenMetrics, Samples, series
from exporter.history.past import Past
from exporter.history.reading import read_past
from exporter.metrics.catalog import CATALOG
from exporter.metrics.samples import samples
from exporter.model import DAY, Budget
from exporter.parts import new_api, new_money
from exporter.settings import Settings

logger = logging.getLogger(__name__)

DAYS = 36
"""A month and what is usual before it."""

DONE = "done"
"""The file that says that all the others are there, or were."""


def backfill(
    settings: Settings,
    credentials: Credentials,
    directory: Path,
    *,
    anchor: int,
    labels: Mapping[str, str],
    stopped: Callable[[], bool],
) -> None:
    """Write the weeks up to ``anchor``, the usage time at which the live counters begin, unless that was done before.

    Every series gets ``labels``, those of the job that scrapes it. Raises StartError.
    """
    try:
        if (directory / DONE).exists():
            return
        _clear(directory)
        begun = time.monotonic()
        files.write(directory, takewhile(lambda _: not stopped(), _read(settings, credentials, anchor, labels)))
        if stopped():
            return
        (directory / DONE).touch()
    except OSError as error:
        raise StartError(f"{str(directory)!r}: {error.strerror}; give a folder that can be written to") from None
    seconds = round(time.monotonic() - begun)
    logger.info("history written", extra={"fields": {"directory": str(directory), "days": DAYS, "seconds": seconds}})


def texts(
    past: Past, end: int, labels: Mapping[str, str], *, fine: int = 0, shown: Samples = samples
) -> Iterator[tuple[int, str]]:
    """Yield the samples of each scrape with its time, up to ``end`` (Unix seconds), as ``shown`` tells them.

    There is a scrape every five minutes, and every minute in the last ``fine`` seconds.
    """
    writer = OpenMetrics(shown, {metric.name: metric.labels for metric in CATALOG}, labels)
    up = series("up", labels)
    for time_, snapshot in past.snapshots(end, fine=fine):
        yield time_, f"{up} 1 {time_}\n{writer.text(snapshot, time_)}"


def _read(
    settings: Settings, credentials: Credentials, anchor: int, labels: Mapping[str, str]
) -> Iterator[tuple[int, str]]:
    api = new_api(settings, credentials, Timing(), Listener(), lambda _field, _rows: None)
    settle = int(settings.usage.settle)
    end = anchor + settle
    past = read_past(
        api,
        new_money(settings),
        start=end - DAYS * DAY,
        anchor=anchor,
        now=int(time.time()),
        settle=settle,
        budget=Budget(settings.budget.monthly_usd, settings.budget.workspaces),
    )
    return texts(past, end, labels, fine=DAY)


def _clear(directory: Path) -> None:
    """Make the folder, or remove what an attempt that did not end has left there."""
    if not directory.exists():
        directory.mkdir(parents=True)
        # Who makes blocks of the files removes them, under the same group.
        directory.chmod(0o770)
    for file in files.written(directory):
        file.unlink()
