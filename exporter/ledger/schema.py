"""The tables of the state file, and whether a file has them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from exporter.errors import SettingsError
from exporter.ledger.codec import LEDGER, LedgerNote, note_of

APPLICATION_ID = 0x616E7478
"""``antx`` in ASCII: tells our files from other SQLite databases."""

MIGRATIONS = (
    """
    CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, report TEXT NOT NULL, family TEXT NOT NULL, labels TEXT NOT NULL,
        base TEXT NOT NULL, held TEXT, grown INTEGER NOT NULL, UNIQUE (report, family, labels)
    );
    CREATE TABLE register (
        series INTEGER NOT NULL REFERENCES series, width INTEGER NOT NULL, start INTEGER NOT NULL, counts TEXT NOT NULL,
        PRIMARY KEY (series, width, start)
    ) WITHOUT ROWID;
    CREATE TABLE folded (
        report TEXT NOT NULL, family TEXT NOT NULL, labels TEXT NOT NULL, PRIMARY KEY (report, family, labels)
    ) WITHOUT ROWID;
    """,
)
"""Each brings a file from one schema version (``user_version``) to the next."""

BUSY_SECONDS = 5.0
Notes = dict[str, Any]


class CorruptError(Exception):
    """The file is not what it should be."""

    def __str__(self) -> str:
        return "it is corrupt"


def check(connection: sqlite3.Connection, path: str) -> None:
    """Refuse what is not ours or from the future (SettingsError), find out what is broken (CorruptError)."""
    application, version = (pragma(connection, name) for name in ("application_id", "user_version"))
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise SettingsError(f"state.path is {path!r}: that is a database of another program; choose another")
    if version > len(MIGRATIONS):
        raise SettingsError(
            f"the state file {path} was written by a newer version (schema {version}, this one knows "
            f"{len(MIGRATIONS)}); run that version, or choose another --state.path"
        )
    if (tables and not version) or pragma(connection, "quick_check") != "ok":
        raise CorruptError


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest schema, durable at each commit."""
    pragma(connection, "journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    done = pragma(connection, "user_version")
    for number, script in enumerate(MIGRATIONS[done:], done + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION_ID};PRAGMA user_version = {number}; COMMIT"
        )


def notes_of(connection: sqlite3.Connection) -> tuple[Notes, dict[str, LedgerNote]]:
    """Return all notes, and those about ledgers by report; every row has to belong to one of these."""
    notes = {key: note_of(key, value) for key, value in connection.execute("SELECT key, value FROM note")}
    ledgers = {key.removeprefix(LEDGER): note for key, note in notes.items() if key.startswith(LEDGER)}
    owners = {report for (report,) in connection.execute("SELECT DISTINCT report FROM series")}
    if not owners <= ledgers.keys() or connection.execute("PRAGMA foreign_key_check").fetchone():
        raise CorruptError
    return notes, ledgers


def look(path: str) -> tuple[Notes, dict[str, LedgerNote], dict[str, int]]:
    """Return the notes, those about ledgers and the label sets of each report, whoever may be writing meanwhile."""
    try:
        address = f"{Path(path).as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
            check(connection, path)
            series = dict(connection.execute("SELECT report, count(*) FROM series GROUP BY report"))
            return *notes_of(connection), series
    except (sqlite3.Error, ValueError, CorruptError) as error:
        raise SettingsError(f"the state file {path} cannot be read: {error}") from None


def pragma(connection: sqlite3.Connection, name: str) -> Any:
    """Return what a PRAGMA answers."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
