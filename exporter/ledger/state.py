"""The state file: what the counters need to go on after a restart or a crash, in one SQLite database.

A record is committed, through to the disk, before the snapshot that it covers is served. Only the process that holds
the lock file writes; others may read meanwhile.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from exporter.errors import SettingsError, StateError
from exporter.ledger.codec import (
    LEDGER,
    Kind,
    LedgerNote,
    counts_of,
    counts_text,
    facts_of,
    key_of,
    labels_text,
    ledger_note,
    note_text,
    series_of,
)
from exporter.ledger.place import MEMORY, Place, primary_code
from exporter.ledger.record import Key, Record, SeriesRecord, Standstill
from exporter.ledger.schema import BUSY_SECONDS, CorruptError, check, migrate, notes_of

if TYPE_CHECKING:
    from exporter.model import Counts, Series

CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNREADABLE = {*CORRUPT, sqlite3.SQLITE_ERROR, 0}
"""In our own schema also a table or column that is not there, and (0, from the sqlite3 module) text that is none."""


def check_scope(path: str, known: Mapping[str, str], scope: Mapping[str, str]) -> None:
    """Raise SettingsError if a state file counts something else than the settings want."""
    for name in sorted(known.keys() | scope.keys()):
        was, wanted = known.get(name, ""), scope.get(name, "")
        if was != wanted:
            raise SettingsError(
                f"the state file {path} was begun with {name} = {was or 'unset'}, and now it is "
                f"{wanted or 'unset'}; set it back, or choose another --state.path"
            )


class StateFile:
    """The state at a path, ``:memory:`` for none; what it held is in ``records``, to be taken out, and ``notes``.

    ``loaded`` says whether counters were found. ``kinds`` are the reports that are kept, with the numbers that they
    count in. A corrupt file is renamed, ``set_aside`` says to what, and a new one begun; ``now`` is Unix seconds, for
    the new name. Anything else that keeps the state from being read or written raises SettingsError or StartError.
    """

    def __init__(self, path: str, kinds: Mapping[str, Kind], now: float) -> None:
        self._place = Place(path)
        self._place.lock()
        self.path = self._place.path
        self.set_aside: str | None = None
        try:
            try:
                self._open(kinds)
            except CorruptError:
                # In this order: SQLite merges the log into a file that it closes, unless that was moved.
                self.set_aside = self._place.move("corrupt", now)
                self._connection.close()
                self._place.create()
                self._open(kinds)
        except BaseException as error:
            self._place.unlock()
            if isinstance(error, sqlite3.Error | OSError | CorruptError):
                raise self._place.refusal(error) from None
            raise

    def claim(self, scope: Mapping[str, str]) -> None:
        """Keep what the counters count, by the settings' names; refuse a file that was begun with something else."""
        known: Mapping[str, str] = self.notes.get("scope", scope) if self.loaded else scope
        check_scope(self.path, known, scope)
        try:
            with self._transaction():
                self._note({"scope": dict(scope)})
        except sqlite3.Error as error:
            raise self._place.refusal(error) from None

    def commit(self, records: Mapping[str, Record[Any]], notes: Mapping[str, Any]) -> None:
        """Keep what changed, all or nothing; raise StateError and keep nothing if it cannot be written."""
        with self._told(), self._transaction():
            for report, record in records.items():
                self._write(report, record)
            self._note(notes)

    def close(self, stood: Mapping[str, Standstill[Any]]) -> None:
        """Keep what was really served, and let go of the file; raise StateError if that cannot be written."""
        try:
            with self._told(), self._transaction():
                for report, still in stood.items():
                    self._stand(report, still)
        finally:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._place.unlock()

    def _open(self, kinds: Mapping[str, Kind]) -> None:
        """Look before anything is written: even closing a file that is broken would change it."""
        corrupt = CORRUPT
        try:
            if self.path != MEMORY:
                # What a crash has left half written can only be rolled back by who may write.
                mode = "rw" if Path(f"{self.path}-journal").exists() else "ro"
                with closing(self._connect(f"{Path(self.path).as_uri()}?mode={mode}")) as self._connection:
                    if self._place.beheaded:
                        raise CorruptError
                    check(self._connection, self.path)
            self._connection = self._connect(self.path)
            migrate(self._connection)
            corrupt = UNREADABLE
            self._load(kinds)
        except sqlite3.DatabaseError as error:
            if primary_code(error) in corrupt:
                raise CorruptError from None
            raise
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            raise CorruptError from None

    @staticmethod
    def _connect(address: str) -> sqlite3.Connection:
        """Connect without the transactions that Python would begin, for the thread that closes, too."""
        uri = address.startswith("file:")
        return sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri)

    def _load(self, kinds: Mapping[str, Kind]) -> None:
        self._ids: dict[tuple[str, Series], int] = {}
        self._newest: int = self._connection.execute("SELECT coalesce(max(id), 0) FROM series").fetchone()[0]
        self.notes, ledgers = notes_of(self._connection)
        self.records = {
            report: self._record(report, kind, ledgers[report]) for report, kind in kinds.items() if report in ledgers
        }
        self.loaded = bool(self.records)

    def _record(self, report: str, kind: Any, note: LedgerNote) -> Record[Any]:
        series: dict[Series, SeriesRecord[Any]] = {}
        names: dict[int, Series] = {}
        rows = self._rows("SELECT id, family, labels, base, held, grown FROM series WHERE report = ?", report)
        for number, family, labels, base, held, grown in rows:
            name = names[number] = series_of(family, labels)
            stands = None if held is None else counts_of(held, family, kind)
            series[name] = SeriesRecord(counts_of(base, family, kind), stands, int(grown))
        self._ids |= {(report, name): number for number, name in names.items()}
        rows = self._rows(
            "SELECT series, width, start, counts FROM register JOIN series ON id = series WHERE report = ?", report
        )
        registers: dict[Key, Counts[Any] | None] = {
            key_of(width, start, names[number]): counts_of(counts, names[number].family, kind)
            for number, width, start, counts in rows
        }
        folded = {series_of(*row) for row in self._rows("SELECT family, labels FROM folded WHERE report = ?", report)}
        return Record(facts_of(note, kind), note.reach, note.reaches_back, series, registers, folded)

    def _rows(self, query: str, report: str) -> sqlite3.Cursor:
        return self._connection.execute(query, (report,))

    def _write(self, report: str, record: Record[Any]) -> None:
        """Write what changed; a register that is None is deleted."""
        write, ids = self._connection.executemany, self._ids
        for series in record.series:
            if (report, series) not in ids:
                ids[report, series] = self._newest = self._newest + 1
        write(
            "INSERT INTO series VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
            "base = excluded.base, held = excluded.held, grown = excluded.grown",
            (
                (
                    ids[report, series],
                    report,
                    series.family,
                    labels_text(series),
                    counts_text(kept.base),
                    None if kept.held is None else counts_text(kept.held),
                    kept.grown,
                )
                for series, kept in record.series.items()
            ),
        )
        write(
            "INSERT OR REPLACE INTO register VALUES (?, ?, ?, ?)",
            (
                (ids[report, series], width, start, counts_text(counts))
                for (width, start, series), counts in record.registers.items()
                if counts is not None
            ),
        )
        write(
            "DELETE FROM register WHERE series = ? AND width = ? AND start = ?",
            (
                (ids[report, series], width, start)
                for (width, start, series), counts in record.registers.items()
                if counts is None
            ),
        )
        write(
            "INSERT OR IGNORE INTO folded VALUES (?, ?, ?)",
            ((report, series.family, labels_text(series)) for series in record.folded),
        )
        self._note({LEDGER + report: ledger_note(record)})

    def _stand(self, report: str, still: Standstill[Any]) -> None:
        """Let the series stand at what was served; the facts are those of the last commit but for the reach."""
        self._connection.executemany(
            "UPDATE series SET held = ? WHERE id = ?",
            ((counts_text(counts), self._ids[report, series]) for series, counts in still.values.items()),
        )
        note: LedgerNote = self.notes[LEDGER + report]
        self._note({LEDGER + report: msgspec.structs.replace(note, reach=still.watermark)})

    def _note(self, notes: Mapping[str, Any]) -> None:
        changed = {key: value for key, value in notes.items() if self.notes.get(key) != value}
        rows = [(key, note_text(value)) for key, value in changed.items()]
        self._connection.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", rows)
        self._unsure |= changed

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(f"the state file {self.path} cannot be written: {error}") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit what is written inside; whatever goes wrong, nothing of it stays."""
        self._unsure: dict[str, Any] = {}
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
            self.notes |= self._unsure
        except BaseException:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise
