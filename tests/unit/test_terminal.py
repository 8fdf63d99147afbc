import io
from collections.abc import Sequence

import pytest

from exporter import terminal

ROWS = [("one", "1.00", "+1.5%"), ("a longer name, [bold] :smile:", "12,345.00", "-0.5%")]
COLUMNS = ("name", "USD", "change")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, rows: Sequence[Sequence[str]] = ROWS) -> str:
    terminal.table("Title", COLUMNS, rows, stream, total=("total", "12,346.00", ""), signed=("change",))
    return stream.getvalue()


def test_what_is_piped_is_plain_aligned_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(io.StringIO()).splitlines() == [
        "Title",
        "name                                 USD  change",
        "one                                 1.00   +1.5%",
        "a longer name, [bold] :smile:  12,345.00   -0.5%",
        "total                          12,346.00",
    ]


def test_nothing_that_is_piped_is_cut_or_wrapped() -> None:
    name = "long " * 500 + "name"
    assert shown(io.StringIO(), [(name, "1.00", "+1.5%")]).splitlines()[2] == f"{name}       1.00   +1.5%"
    stream = io.StringIO()
    terminal.line(name, stream)
    assert stream.getvalue() == f"{name}\n"


def test_a_terminal_shows_changes_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown(Tty())
    assert "\x1b[31m +1.5%\x1b[0m" in text
    assert "\x1b[32m -0.5%\x1b[0m" in text
    assert "─" in text


def test_a_narrow_terminal_loses_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = shown(Tty())
    assert "12,345.00" in text
    assert "…" not in text


def test_progress_is_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress("reading", 40, "pages") as advance:
        for _ in range(40):
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert (lines[0], lines[-1]) == ("reading: 4 of 40 pages", "reading: 40 of 40 pages")
