"""Rows as text: CSV, or a JSON object a line. Amounts of money are written exactly, digit by digit."""

import csv
import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TextIO

from exporter.history.export.table import Cell, Row

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula; a text could have been given to make them run one."""


def write_csv(stream: TextIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a header and the rows; a text that a spreadsheet would run has a quotation mark before it."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_safe(cell) for cell in row] for row in rows)


def write_jsonl(stream: TextIO, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write an object a line; counts are numbers, and amounts are strings: a number could be read inexactly."""
    for row in rows:
        cells = dict(zip(columns, map(_plain, row), strict=True))
        stream.write(json.dumps(cells, ensure_ascii=False) + "\n")


FORMATS = {"csv": write_csv, "jsonl": write_jsonl}


def _safe(cell: Cell) -> str | int:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else _plain(cell)


def _plain(cell: Cell) -> str | int:
    return f"{cell:f}" if isinstance(cell, Decimal) else cell
