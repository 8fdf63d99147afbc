"""The ``state`` commands: what the state file holds, in words, and beginning anew."""

import time
from collections.abc import Iterator
from pathlib import Path

from exporter.dates import moment
from exporter.errors import SettingsError
from exporter.ledger.codec import LedgerNote
from exporter.ledger.place import MEMORY, Place
from exporter.ledger.schema import look
from exporter.settings import Settings


def show(settings: Settings) -> int:
    """Print what the state file holds, while ``serve`` runs or not; return the exit status."""
    path = _path(settings)
    notes, ledgers, series = look(path)
    print(f"file           {path} ({Path(path).stat().st_size} bytes)")
    print(f"organization   {notes.get('organization', 'not known yet')}")
    for name, value in notes.get("scope", {}).items():
        if value and "." in name:
            print(f"{name:<14} {value}")
    for report, ledger in ledgers.items():
        print(f"{report:<14} {', '.join(_ledger(ledger, series.get(report, 0)))}")
    return 0


def reset(settings: Settings) -> int:
    """Move the state file aside, so that the counters begin anew; return the exit status.

    Only what is a state file is moved; ``serve`` does that with a broken one by itself.
    """
    path = _path(settings)
    look(path)
    place = Place(path)
    place.lock()
    try:
        moved = place.move("reset", time.time())
    except OSError as error:
        raise place.refusal(error) from None
    finally:
        place.unlock()
    print(f"moved {path} to {moved}; at the next start the counters begin anew")
    return 0


def _path(settings: Settings) -> str:
    path = Place(settings.state.path).path
    if path == MEMORY or not Path(path).is_file():
        raise SettingsError(f"state.path is {settings.state.path!r}: there is no such file")
    return path


def _ledger(ledger: LedgerNote, series: int) -> Iterator[str]:
    yield f"counts from {moment(ledger.anchor)}"
    yield "nothing served yet" if ledger.reach is None else f"served up to {moment(ledger.reach)}"
    if ledger.open_from > ledger.anchor:
        yield f"frozen up to {moment(ledger.open_from)}"
    yield f"{series} label sets"
