"""The past in files, each the text of one block of a Prometheus."""

from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path

from exporter.history.openmetrics import END
from exporter.model import HOUR

BLOCK = 162 * HOUR
"""Seconds that a block covers: a length that Prometheus itself has; ``promtool`` takes it as --max-block-duration."""


def write(directory: Path, texts: Iterable[tuple[int, str]]) -> None:
    """Write samples that come with their time (Unix seconds), in order, a file for each block.

    A file has its name once it is whole. Raises OSError.
    """
    for number, some in groupby(texts, key=lambda text: text[0] // BLOCK):
        partial = directory / f"{number}.partial"
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(text for _, text in some)
            file.write(END)
        partial.rename(directory / f"{number}.om")


def written(directory: Path) -> Iterator[Path]:
    """Yield what ``write`` has left in a folder, whole or not."""
    return chain(directory.glob("[0-9]*.om"), directory.glob("[0-9]*.partial"))
