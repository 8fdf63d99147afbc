"""The admin key: from a variable, or from a file that may be rotated while we run."""

import logging
import re
from pathlib import Path

logger = logging.getLogger(__name__)


class Credentials:
    """The key to send; a key file is read again when it changes, and after the API refused the key.

    A file that cannot be read any more leaves the last key in place.
    """

    def __init__(self, key: str | None, path: Path | None) -> None:
        self._key = key or ""
        self._path = path
        self._version: tuple[int, int, int] | None = None
        if path:
            self._read(path)

    def key(self) -> str:
        """Return the key of this moment."""
        if self._path:
            self._refresh(self._path)
        return self._key

    @property
    def current(self) -> str:
        """The key that was last given out, for those who must keep it out of what they write."""
        return self._key

    def refused(self) -> None:
        """Read the file again before the next request, even if it looks unchanged."""
        self._version = None

    def _refresh(self, path: Path) -> None:
        try:
            stat = path.stat()
            if (stat.st_mtime_ns, stat.st_size, stat.st_ino) != self._version:
                self._read(path)
        except OSError as error:
            logger.warning("key file cannot be read, keeping the last key", extra={"fields": {"error": str(error)}})

    def _read(self, path: Path) -> None:
        stat = path.stat()
        key = path.read_bytes().decode("utf-8", "replace").strip()
        self._version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if re.fullmatch(r"[!-~]+", key):
            self._key = key
        else:
            logger.warning("key file does not hold a key, keeping the last one", extra={"fields": {"file": str(path)}})
