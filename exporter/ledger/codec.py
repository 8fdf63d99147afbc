"""How records are written in the state file: exact, readable with any SQLite shell, and strict when read back.

Every reader here raises ValueError, KeyError or ArithmeticError for what no version of this program has written.
"""

from decimal import Decimal
from typing import Any

import msgspec

from exporter.families import ODOMETERS
from exporter.ledger.record import Facts, Key, Record
from exporter.model import DAY, LOOKBACK, Counts, Number, Series

Kind = type[int] | type[Decimal]

LEDGER = "ledger."
"""Before the report's name: the note with the facts of its ledger."""

PROGRESS = "progress."
"""Before the report's name: the note that says what was read."""

MONEY = "money."
"""Before the names of notes about prices and estimates."""

Tariffs = dict[str, list[tuple[tuple[str, ...], int, list[tuple[int, Decimal | None]]]]]
"""Prices in force: for each key the last usage time that was priced, and the prices by when they begin."""

WORDS = {"token": 5, "request": 1, "effective": 5}
"""How many words the keys of prices have."""

FARTHEST_REACH = 732 * DAY
"""Seconds of usage time between what is settled and what was served: no poll interval makes it longer."""


class LedgerNote(msgspec.Struct, frozen=True):
    """What there is once for each ledger; numbers that may be Decimal are text."""

    anchor: int
    boundary: int
    open_from: int
    late: str
    frozen_excess: str
    excess: tuple[tuple[int, int, str], ...]
    final: tuple[int, ...]
    reach: float | None
    reaches_back: bool


KINDS: dict[str, Any] = {
    "organization": str,
    "scope": dict[str, str],
    f"{MONEY}models": dict[str, str],
    f"{MONEY}prices": Tariffs,
    f"{MONEY}estimates": list[tuple[int, list[tuple[str, str, Decimal]]]],
    f"{MONEY}verdict": tuple[int, Decimal, tuple[str, str], Decimal] | None,
    LEDGER: LedgerNote,
    PROGRESS: dict[str, float],
}
"""The shapes of notes, by key or by how it begins; others are from nobody knows whom."""


def note_text(value: Any) -> str:
    """Return a note as JSON."""
    return msgspec.json.encode(value).decode()


def note_of(key: str, text: str) -> Any:
    """Return the note that was kept under ``key``."""
    kind = KINDS.get(key) or next((kind for prefix, kind in KINDS.items() if key.startswith(prefix)), Any)
    try:
        note: Any = msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{key}: {error}") from None
    if key == f"{MONEY}prices":
        _check_prices(note)
    _check_finite(note)
    return note


def _check_prices(tariffs: Tariffs) -> None:
    for name, rows in tariffs.items():
        for words, _, entries in rows:
            times = [time for time, _ in entries]
            if len(words) != WORDS[name] or not times or times != sorted(times):
                raise ValueError(f"{words} are not prices of a {name}")


def _check_finite(note: Any) -> None:
    if isinstance(note, Decimal) and not note.is_finite():
        raise ValueError(f"{note} is no amount")
    for part in note.values() if isinstance(note, dict) else note if isinstance(note, list | tuple) else ():
        _check_finite(part)


def counts_text(counts: Counts[Any]) -> str:
    """Return ``1,2,3``."""
    return ",".join(map(str, counts))


def counts_of(text: str, family: str, kind: type[Number]) -> Counts[Number]:
    """Return the numbers in ``1,2,3``, as many as the family has."""
    counts = tuple(map(kind, text.split(",")))
    if len(counts) != ODOMETERS[family].samples:
        raise ValueError(f"{text} are not the counts of {family}")
    if any(count - count != 0 for count in counts):
        raise ValueError(f"{text} is no amount")
    return counts


def labels_text(series: Series) -> str:
    """Return the label values as a JSON array."""
    return note_text(series.labels)


def series_of(family: str, labels: str) -> Series:
    """Return the series that a row names."""
    try:
        names = msgspec.json.decode(labels, type=tuple[str, ...])
    except msgspec.MsgspecError as error:
        raise ValueError(f"labels: {error}") from None
    if len(names) != len(ODOMETERS[family].labels):
        raise ValueError(f"{labels} are not the labels of {family}")
    return Series(family, names)


def key_of(width: Any, start: Any, series: Series) -> Key:
    """Return the key of a register's row."""
    if width not in LOOKBACK or not isinstance(start, int):
        raise ValueError(f"{start} is not the start of a bucket of {width} seconds")
    return width, start, series


def ledger_note(record: Record[Any]) -> LedgerNote:
    """Return what there is once for each ledger."""
    facts = record.facts
    return LedgerNote(
        anchor=facts.anchor,
        boundary=facts.boundary,
        open_from=facts.open_from,
        late=str(facts.late),
        frozen_excess=str(facts.frozen_excess),
        excess=tuple((width, start, str(excess)) for (width, start), excess in sorted(facts.excess.items())),
        final=tuple(sorted(facts.final)),
        reach=record.reach,
        reaches_back=record.reaches_back,
    )


def facts_of(note: LedgerNote, kind: type[Number]) -> Facts[Number]:
    """Return the facts in such a note."""
    if note.anchor > min(note.boundary, note.open_from) or (note.reach or 0) > note.boundary + FARTHEST_REACH:
        raise ValueError("the times of a ledger contradict each other")
    return Facts(
        anchor=note.anchor,
        boundary=note.boundary,
        open_from=note.open_from,
        late=kind(note.late),
        frozen_excess=kind(note.frozen_excess),
        excess={(width, start): kind(excess) for width, start, excess in note.excess},
        final=frozenset(note.final),
    )
