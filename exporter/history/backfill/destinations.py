"""What all places have in common that the past is written to."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from exporter.dates import day_of, moment
from exporter.errors import StartError
from exporter.history.backfill.files import NewSheet, Timed
from exporter.model import DAY


class Destination(Protocol):
    """A place for snapshots; times are Unix seconds."""

    def check(self, start: int, end: int, now: float, series: str) -> None:
        """Raise StartError if samples from ``start`` to ``end`` would be lost there, or do harm.

        ``series`` selects some that will be written: where there are any, a second run would count twice.
        """
        ...

    def write(self, snapshots: Iterable[Timed], new_sheet: NewSheet) -> str:
        """Write snapshots; return what was done, and what is left to do. Raises StartError."""
        ...


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a file or folder into a StartError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"{path}: {reason}; nothing is left of it: free some space, or choose another place") from None


def days_kept(start: int, now: float) -> int:
    """Return for how many days a store must keep samples so that those of ``start`` are not dropped."""
    return int((now - start) // DAY) + 1


def check_retention(store: str, kept: float | None, start: int, now: float, remedy: str) -> None:
    """Raise StartError if a store keeps samples for ``kept`` seconds only; None is not known."""
    if kept is not None and start < now - kept:
        raise StartError(
            f"{store} keeps samples for {kept / DAY:g} days, and drops older ones at once: begin with "
            f"--from {day_of(now - kept + DAY)}, or start it with {remedy}{days_kept(start, now)}d"
        )


def refuse_second(series: str, start: int, end: int, remedy: str) -> StartError:
    """Return what to raise where there are samples already."""
    return StartError(
        f"there are samples of {series} between {moment(start)} and {moment(end)} already, and written again "
        f"they would count twice; {remedy}"
    )
