"""What people see in a terminal: tables and progress; plain text where it is none."""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from itertools import zip_longest
from typing import Literal, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WIDE = 100_000
"""Columns of what is no terminal: nothing is cut or wrapped there."""

NARROWEST = 80
"""Columns that tables have at least: a narrower terminal wraps their lines, but no figure is cut."""

TENTHS = 10
Advance = Callable[[int], None]


def say(text: str) -> None:
    """Write a line to standard error."""
    if sys.stderr:
        with suppress(BrokenPipeError):
            print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show how much of ``total`` is done on standard error: a bar in a terminal, else a line for each tenth.

    What it gives is told how many more are done.
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield _tenths(what, total, unit)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)


def _tenths(what: str, total: int, unit: str) -> Advance:
    done = told = 0

    def advance(more: int) -> None:
        nonlocal done, told
        done += more
        tenth = done * TENTHS // total if total else TENTHS
        if tenth > told:
            told = tenth
            say(f"{what}: {done} of {total} {unit}")

    return advance


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    stream: TextIO,
    *,
    total: Sequence[str] = (),
    signed: Collection[str] = (),
) -> None:
    """Print a table, its first column to the left and the others, which hold figures, to the right.

    ``total`` is a last row; the figures of ``signed`` columns have their sign's colour. A stream that is no terminal
    gets plain text.
    """
    is_terminal = stream.isatty()
    shown = Table(
        box=SIMPLE if is_terminal else None,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
        padding=(0, 1) if is_terminal else (0, 2),
        show_footer=bool(total),
        footer_style="bold",
    )
    for place, (column, sum_) in enumerate(zip_longest(columns, total, fillvalue="")):
        justify: Literal["left", "right"] = "right" if place else "left"
        is_whole = bool(place) or not is_terminal
        shown.add_column(column, sum_, justify=justify, no_wrap=is_whole, overflow="fold")
    for row in rows:
        shown.add_row(
            *(_coloured(cell) if column in signed else cell for column, cell in zip(columns, row, strict=True))
        )
    line(title, stream, style="bold")
    _print(shown, stream)


def line(text: str, stream: TextIO, *, style: str = "") -> None:
    """Print a line, in a style where there is a terminal."""
    _print(Text(text, style), stream)


def _coloured(figure: str) -> Text:
    return Text(figure, {"+": "red", "-": "green"}.get(figure[:1], ""))


def _print(what: Table | Text, stream: TextIO) -> None:
    """Print by way of a text: where it is no terminal, without the blanks that fill up a table's lines."""
    # Rich itself would end the program where nobody reads the stream any more.
    is_terminal, text = stream.isatty(), StringIO()
    width = None if is_terminal else WIDE
    console = Console(file=text, force_terminal=is_terminal, width=width, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, NARROWEST)
    console.print(what)
    lines = text.getvalue()
    stream.write(lines if is_terminal else "".join(f"{line.rstrip()}\n" for line in lines.splitlines()))
