"""The five weeks before a demo, written once, for the Prometheus that scrapes it."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path

from exporter.api.credentials import Credentials
from exporter.history.backfill import files
from exporter.history.backfill.destinations import writing
from exporter.history.backfill.files import Timed
from exporter.history.backfill.past import Span
from exporter.model import DAY
from exporter.parts import new_money
from exporter.past import new_past, sheets
from exporter.reader import Reader
from exporter.settings import Settings

logger = logging.getLogger(__name__)

DAYS = 36
"""A month and what is usual before it."""

DONE = "done"
"""The file that says that all the others are there, or were."""


def write(
    settings: Settings,
    credentials: Credentials,
    directory: Path,
    *,
    anchor: int,
    labels: Mapping[str, str],
    stopped: Callable[[], bool],
) -> None:
    """Write five weeks up to ``anchor``, the usage time at which live counters begin, unless that was done before.

    Every series gets ``labels``, those of the job that scrapes it. Raises StartError.
    """
    begun = time.monotonic()
    with writing(directory):
        if (directory / DONE).exists():
            return
        _clear(directory)
        snapshots = takewhile(lambda _: not stopped(), _snapshots(settings, credentials, anchor))
        for _ in files.blocks(directory, snapshots, sheets(labels)):
            pass
        if stopped():
            return
        (directory / DONE).touch()
    seconds = round(time.monotonic() - begun)
    fields: dict[str, object] = {"directory": str(directory), "days": DAYS, "seconds": seconds}
    logger.info("history written", extra={"fields": fields})


def _snapshots(settings: Settings, credentials: Credentials, anchor: int) -> Iterator[Timed]:
    settled = int(settings.usage.settle)
    end = anchor + settled
    span = Span(end - DAYS * DAY, settled, billed_until=anchor - anchor % DAY)
    reader = Reader(settings, credentials, say=logger.info)
    past = new_past(settings, reader, new_money(settings), span, end=anchor, now=int(time.time()))
    return past.snapshots(end, fine=DAY)


def _clear(directory: Path) -> None:
    """Make the folder, or remove what an attempt that did not end has left there."""
    if not directory.exists():
        directory.mkdir(parents=True)
        # Who makes blocks of the files removes them, under the same group.
        directory.chmod(0o770)
    for file in files.written(directory):
        file.unlink()
