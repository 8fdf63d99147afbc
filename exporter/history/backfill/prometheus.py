"""For a Prometheus: a file that promtool makes blocks of, or new blocks in its data folder."""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from exporter.dates import moment
from exporter.errors import SettingsError, StartError
from exporter.history.backfill import files
from exporter.history.backfill.destinations import check_retention, days_kept, refuse_second, writing
from exporter.history.backfill.files import BLOCK, NewSheet, Timed
from exporter.model import DAY, HOUR, MINUTE

HEAD = 3 * HOUR
"""Seconds that a running Prometheus keeps for itself: it may still be writing blocks of them."""

DEFAULT_RETENTION = 15 * DAY
LARGE_BLOCK = 486 * HOUR
"""Seconds that a block made of a file for all blocks covers: promtool reads the whole file for each."""

PROMTOOL = "promtool"
META = "meta.json"
WRITTEN = "anthropic-history"
"""The file that says what was put into a folder: twice the same time, with other values, would count twice."""
DATA = "data/"
"""The folder that a Prometheus has if it is not told another one, and promtool, too."""
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": HOUR, "d": DAY, "w": 7 * DAY, "y": 365 * DAY}
_RETENTION = "--storage.tsdb.retention"


class OpenMetricsFile:
    """A file for promtool; raises SettingsError if there can be none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = ""
        if not path.parent.is_dir():
            raise SettingsError(f"--output {path}: there is no folder {path.parent}; create it")
        if path.is_dir():
            raise SettingsError(f"--output {path}: that is a folder; name a file")

    def check(self, start: int, end: int, now: float, series: str) -> None:  # noqa: ARG002 - it has no samples
        """Note what there is to say of these times; a file takes them all."""
        kept = f"It has to keep samples: {_RETENTION}.time={days_kept(start, now)}d or more."
        # A Prometheus forgets at its start what its log has from before the newest block.
        wait = f"Do that at {moment(end + HEAD)} or later (or use --into): else it loses samples at its next start."
        self._next = f"{kept}\n{wait}" if end + HEAD > now else kept

    def write(self, snapshots: Iterable[Timed], new_sheet: NewSheet) -> str:
        """Write the file; return how to make blocks of it."""
        with writing(self._path):
            size = files.write(self._path, snapshots, new_sheet).stat().st_size
        return (
            f"wrote {self._path} ({size / 1e6:,.1f} MB); make blocks of it in the data folder of your Prometheus:\n\n"
            f"    {shlex.join(command(self._path, DATA))}\n\n{self._next}"
        )


class DataFolder:
    """The folder that a Prometheus has as --storage.tsdb.path; raises SettingsError if there is none.

    Raises StartError without promtool.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = path / WRITTEN
        self._row = ""
        if not path.is_dir():
            raise SettingsError(f"--into {path}: there is no such folder; give that of --storage.tsdb.path")
        if not shutil.which(PROMTOOL):
            raise StartError("--into needs promtool, which comes with Prometheus; put it on the PATH, or use --output")

    def check(self, start: int, end: int, now: float, series: str) -> None:
        """Refuse what is there already, what a running Prometheus drops, and what it is still writing itself."""
        if self._has(series, start, end):
            raise refuse_second(series, start, end, f"delete its blocks, and {self._written}, first")
        self._row = f"{series} {start} {end}\n"
        owner = next(self._owners(), None)
        if owner is None and not self._is_locked():
            return
        kept = retention(owner) if owner else None
        check_retention("this Prometheus", kept, start, now, f"{_RETENTION}.time=")
        if (wait := end + HEAD - now) > 0:
            raise StartError(
                f"this Prometheus is running, and takes only what is older than three hours, but the newest sample is "
                f"of {moment(end)}: come back in {-(-wait // MINUTE):.0f} minutes, or stop it first"
            )

    def write(self, snapshots: Iterable[Timed], new_sheet: NewSheet) -> str:
        """Make blocks, and put all of them into the folder at once, or none."""
        with writing(self._path), TemporaryDirectory(dir=self._path, prefix="anthropic-history-") as name:
            scratch = Path(name)
            made = scratch / "blocks"
            made.mkdir()
            for file in files.blocks(scratch, snapshots, new_sheet):
                _run(command(file, str(made), BLOCK), scratch)
                file.unlink()
            blocks = [block for block in made.iterdir() if (block / META).exists()]
            for block in blocks:
                _mark(block / META)
                _hand_over(block, self._path.stat())
                block.rename(self._path / block.name)
            with self._written.open("a", encoding="utf-8") as rows:
                rows.write(self._row)
        return f"put {len(blocks)} blocks into {self._path}; a running Prometheus shows them within minutes"

    def _has(self, series: str, start: int, end: int) -> bool:
        """Tell whether samples of a selector were put there before."""
        try:
            rows = [line.rsplit(" ", 2) for line in self._written.read_text().splitlines()]
        except OSError:
            return False
        return any(name == series and int(first) <= end and start <= int(last) for name, first, last in rows)

    def _is_locked(self) -> bool:
        try:
            with (self._path / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _owners(self) -> Iterator[Sequence[str]]:
        """Yield the command lines of the processes that have its log open, where the system tells them.

        Not every Prometheus takes the lock: Debian's does not, unless it is told to.
        """
        log = {_identity(file) for file in (self._path / "wal").glob("[0-9]*")} - {None}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(_identity(file) in log for file in (process / "fd").iterdir()):
                    yield (process / "cmdline").read_text().split("\0")


def command(file: Path, data: str, block: int = LARGE_BLOCK) -> list[str]:
    """Return the command that makes blocks of a file in a data folder."""
    longest = f"--max-block-duration={block // HOUR}h"
    return [PROMTOOL, "tsdb", "create-blocks-from", "openmetrics", "--quiet", longest, str(file), data]


def retention(arguments: Sequence[str]) -> float | None:
    """Return the seconds that a Prometheus with these arguments keeps samples for; None if only by their size."""
    words = " ".join(arguments).replace("=", " ").split()
    flags = {name: value for name, value in pairwise(words) if name.startswith(_RETENTION)}
    text = flags.get(f"{_RETENTION}.time") or flags.get(_RETENTION)
    if text is None:
        return None if f"{_RETENTION}.size" in flags else DEFAULT_RETENTION
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text)) or None


def _identity(file: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = file.stat()
        return found.st_dev, found.st_ino
    return None


def _mark(meta: Path) -> None:
    """Let a block pass for one of late samples.

    At its start a Prometheus forgets all of its log that is older than its newest block, other jobs' samples included,
    unless that is such a block.
    """
    told = json.loads(meta.read_text())
    told["compaction"]["hints"] = ["from-out-of-order"]
    meta.write_text(json.dumps(told))


def _hand_over(block: Path, owner: os.stat_result) -> None:
    """Let a block be that of whom the folder belongs to, whatever the umask: one that cannot be read stops them all."""
    for path in (block, *block.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o755 if path.is_dir() else 0o644)


def _run(words: Sequence[str], scratch: Path) -> None:
    # Its own scratch files are as large as the blocks: they belong where there is room for those.
    environment = {"PATH": os.environ.get("PATH", ""), "TMPDIR": str(scratch)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - promtool
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise StartError(f"promtool could not make a block: {''.join(last)[:300]}; nothing was added")
