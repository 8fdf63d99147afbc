"""The past in files of OpenMetrics text."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from exporter.history.backfill.openmetrics import END, Sheet
from exporter.history.output import whole
from exporter.model import HOUR, Snapshot

BLOCK = 162 * HOUR
"""Seconds that a block covers: a length that Prometheus itself has; ``promtool`` takes it as --max-block-duration."""

NewSheet = Callable[[BinaryIO], Sheet]
"""Makes an empty sheet with this scratch file."""
Timed = tuple[int, Snapshot]


def blocks(directory: Path, snapshots: Iterable[Timed], new_sheet: NewSheet) -> Iterator[Path]:
    """Write snapshots that come with their time (Unix seconds), in order; yield a file for each block of a Prometheus.

    A file has its name once it is whole. Raises OSError for what is written in between, and what ``whole`` raises.
    """
    for number, some in groupby(snapshots, key=lambda timed: timed[0] // BLOCK):
        yield write(directory / f"{number}.om", some, new_sheet)


def write(path: Path, snapshots: Iterable[Timed], new_sheet: NewSheet) -> Path:
    """Write all snapshots to one file, which has its name once it is whole; return it."""
    with TemporaryFile(dir=path.parent) as scratch, whole(str(path)) as file:
        sheet = new_sheet(scratch)
        for time, snapshot in snapshots:
            sheet.add(snapshot, time)
        file.writelines(sheet.text())
        file.write(END)
    return path


def written(directory: Path) -> Iterator[Path]:
    """Yield what ``blocks`` has left in a folder, whole or not."""
    return chain(directory.glob("[0-9]*.om"), directory.glob(".[0-9]*.partial"))
