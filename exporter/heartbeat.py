"""A sign of life beside the state file: what ``health`` reads, so that it needs neither password nor certificate."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from exporter.errors import SettingsError, StartError
from exporter.ledger.place import MEMORY, Place
from exporter.settings import Settings

logger = logging.getLogger(__name__)

INTERVAL = 5.0
LIMIT = 30.0
"""Seconds without a sign after which nobody lives; several intervals, because a host may be busy."""


class Heartbeat:
    """Touches the file every ``interval`` seconds while ``alive``; with ``:memory:`` there is none."""

    def __init__(self, state_path: str, alive: Callable[[], bool], interval: float = INTERVAL) -> None:
        self._file = _file(state_path)
        self._alive = alive
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Give the first sign now."""
        if self._file:
            self._thread.start()

    def stop(self) -> None:
        """Give no more signs, and take away the last one."""
        self._stopped.set()
        if self._file and self._thread.is_alive():
            self._thread.join()
            self._file.unlink(missing_ok=True)

    def _run(self) -> None:
        works = True
        while True:
            if self._alive():
                works = self._beat(works)
            if self._stopped.wait(self._interval):
                return

    def _beat(self, worked: bool) -> bool:  # noqa: FBT001 - what the last one returned
        try:
            self._file.touch(mode=0o600)  # type: ignore[union-attr]
        except OSError as error:
            if worked:
                fields: dict[str, object] = {"file": str(self._file), "error": str(error)}
                logger.warning("no heartbeat can be written; health will fail", extra={"fields": fields})
            return False
        return True


def health(settings: Settings) -> int:
    """Say whether the exporter that keeps this state file is alive; StartError if it is not."""
    file = _file(settings.state.path)
    if file is None:
        raise SettingsError(f"state.path is {MEMORY}: there is no heartbeat beside it; ask /-/healthy instead")
    try:
        age = time.time() - file.stat().st_mtime
    except OSError:
        raise StartError(f"no heartbeat in {str(file)!r}: no exporter runs with this state.path") from None
    if abs(age) > LIMIT:
        raise StartError(f"the last heartbeat was {age:.0f} s ago: the exporter has stopped, or its polls have")
    print(f"alive, {max(0.0, age):.0f} s ago")
    return 0


def _file(state_path: str) -> Path | None:
    path = Place(state_path).path
    return None if path == MEMORY else Path(f"{path}.heartbeat")
