"""Where the state file lies: its lock, its permissions, and what becomes of a file that cannot be used."""

import errno
import fcntl
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from exporter.errors import ExporterError, SettingsError, StartError

MEMORY = ":memory:"
COMPANIONS = ("", "-wal", "-shm", "-journal")
"""SQLite's logs and their index belong to the file."""

TEMPORARY = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
}
OWNER_ONLY = 0o600


class Place:
    """A path for the state, ``:memory:`` for none; symbolic links are followed first."""

    def __init__(self, path: str) -> None:
        try:
            self.path = path if path == MEMORY else str(Path(path).resolve())
            self._check()
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(f"state.path is {path!r}, which cannot be used: {reason}; choose another") from None
        self._lock: int | None = None

    def _check(self) -> None:
        found = Path(self.path)
        if self.path == MEMORY:
            return
        if not found.parent.is_dir():
            raise SettingsError(f"state.path is {self.path!r}: there is no directory {str(found.parent)!r}; create it")
        if found.exists() and not found.is_file():
            raise SettingsError(f"state.path is {self.path!r}: that is not a file; name one")
        if found.exists() and found.stat().st_nlink > 1:
            # Each name would have a lock of its own.
            raise SettingsError(f"state.path is {self.path!r}: that file has another name, too; give it only one")

    def lock(self) -> None:
        """Let no other process write here; raise StartError if one already does, SettingsError if nobody could."""
        if self.path == MEMORY:
            return
        try:
            self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            self.create()
        except BlockingIOError:
            holder = Path(f"{self.path}.lock").read_text(errors="replace").strip()
            self.unlock()
            raise StartError(
                f"the state file {self.path} is in use by process {holder or 'unknown'}; stop it, or choose another "
                "--state.path: two writers would count everything twice"
            ) from None
        except OSError as error:
            self.unlock()
            raise self.refusal(error) from None

    @property
    def beheaded(self) -> bool:
        """Whether the file is empty but its log is not: SQLite would begin anew, and delete the log."""
        log = Path(f"{self.path}-wal")
        return not Path(self.path).stat().st_size and log.exists() and log.stat().st_size > 0

    def create(self) -> None:
        """Make the file, for its owner only, if there is none."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY))

    def unlock(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def move(self, word: str, now: float) -> str:
        """Rename the file to a name with ``word`` and the UTC time that nothing else has, and return that name."""
        base = name = f"{self.path}.{word}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
        number = 1
        while any(Path(name + companion).exists() for companion in COMPANIONS):
            number += 1
            name = f"{base}-{number}"
        for companion in COMPANIONS:
            if (part := Path(self.path + companion)).exists():
                part.rename(name + companion)
        return name

    def refusal(self, error: Exception) -> ExporterError:
        """Return what to tell the operator when the file cannot be opened, read or written at the start."""
        if isinstance(error, OSError):
            reason, wrong = (
                error.strerror or str(error),
                error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO},
            )
        else:
            reason, wrong = str(error), primary_code(error) not in TEMPORARY
        if wrong:
            return SettingsError(
                f"the state file {self.path} cannot be used: {reason}; make it and its directory writable, or choose "
                "another --state.path"
            )
        return StartError(f"the state file {self.path} cannot be written: {reason}; see to the disk and start again")


def primary_code(error: Exception) -> int:
    """Return SQLite's result code, without the details that extended codes add."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
