"""``export``, by the real program, against the simulated API: what it leaves behind, however it ends."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, Tokens, Workspace
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization
from tests.events import SONNET, Use, WrittenOrganization
from tests.world import KEY

pytestmark = pytest.mark.process

TODAY = int(time.time() // DAY) * DAY
TWO_PAGES = ("--days", "40")
"""More days than one page holds; the first of them is asked for in two requests."""

ERROR = "anthropic-exporter: error: "


class Desk:
    """The program as users run it, in ``folder``, and the API that it reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.organization: Any = SimulatedOrganization(seed=7, started=TODAY - 45 * DAY)
        self.fault: Fault | None = None
        """What goes wrong from the third request for usage on."""
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Any:
        if self.fault and self.api.requests["usage"] == 2:
            self.api.faults.add(self.fault)
            self.fault = None
        return self.api(environ, start_response)

    def serve(self) -> Iterator["Desk"]:
        self.api = AdminApi(self.organization, key=KEY, clock=time.time)
        with serve(self) as server:
            self.url = server.url
            yield self

    def start(self, *words: str, before: str = "", stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start the program; ``before`` is what its shell does first."""
        command = [sys.executable, "-m", "exporter", "export", *words, "--api.base-url", self.url]
        environment = {"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": KEY, "PYTHONIOENCODING": "latin-1"}
        shell = ("sh", "-c", f'{before}\nexec "$@"', "sh")
        return subprocess.Popen(
            [*shell, *command],
            cwd=self.folder,
            env=environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, *words: str, before: str = "", stdout: int | IO[str] = subprocess.PIPE) -> tuple[int, str, list[str]]:
        """Return the exit status, what came out, and the lines on standard error that are not about progress."""
        with self.start(*words, before=before, stdout=stdout) as program:
            out, err = program.communicate(timeout=30)
        return program.returncode, out, [line for line in err.splitlines() if " of " not in line]

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from Desk(tmp_path).serve()


def test_it_writes_utf_8_and_unix_lines_whatever_the_terminal_speaks(desk: Desk) -> None:
    used = WrittenOrganization([Use(TODAY - DAY, SONNET, Tokens(uncached_input=1))])
    desk.api = AdminApi(
        replace(used, workspaces=[Workspace("wrkspc_1", "Bücher, 本", archived=False)]), key=KEY, clock=time.time
    )
    status, out, err = desk.run("usage", "--group-by", "workspace_id", "--output", "a.csv")
    assert (status, out, err, desk.left()) == (0, "", [], ["a.csv"])
    written = (desk.folder / "a.csv").read_bytes()
    assert written.splitlines()[1].decode().partition(",")[2] == 'wrkspc_1,"Bücher, 本",1,0,0,0,0,0,0'
    status, out, err = desk.run("usage", "--group-by", "workspace_id")
    assert (status, out.encode(), err) == (0, written, [])
    assert b"\r" not in written


def test_who_ends_it_midway_finds_nothing_of_it_and_the_old_file_as_it_was(desk: Desk) -> None:
    (desk.folder / "usage.csv").write_text("before")
    desk.fault = Fault(kind="slow", endpoint="usage", seconds=60)
    with desk.start("usage", *TWO_PAGES, "--output", "usage.csv") as program:
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size for path in desk.folder.glob(".usage.csv.*")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        program.terminate()
        out, err = program.communicate(timeout=10)
    assert (program.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert desk.left() == ["usage.csv"]
    assert (desk.folder / "usage.csv").read_text() == "before"


def test_a_key_that_expires_midway_is_one_line_and_no_file(desk: Desk) -> None:
    desk.fault = Fault(kind=401, endpoint="usage")
    status, out, (told,) = desk.run("usage", *TWO_PAGES, "--output", "usage.csv")
    assert (status, out, desk.left()) == (1, "", [])
    assert told.startswith(f"{ERROR}usage: the API answered 401")
    assert told.endswith("is this an Admin API key, and has it not expired?")


def test_a_full_disk_is_one_line_and_no_file(desk: Desk) -> None:
    status, out, (told,) = desk.run("usage", *TWO_PAGES, "--output", "usage.csv", before="ulimit -f 8")
    assert (status, out, desk.left()) == (1, "", [])
    assert told == f"{ERROR}'usage.csv': File too large; make room there, or give a file elsewhere"


def test_standard_output_that_is_full_is_one_line(desk: Desk) -> None:
    with (desk.folder / "out.csv").open("w", encoding="utf-8") as file:
        status, _, err = desk.run("usage", *TWO_PAGES, before="ulimit -f 8", stdout=file)
    assert (status, err) == (1, [f"{ERROR}standard output: File too large; send it where there is room"])


def test_who_has_seen_enough_ends_it_quietly(desk: Desk) -> None:
    with desk.start("usage", *TWO_PAGES) as program:
        assert program.stdout
        assert program.stdout.readline().startswith("date,model,")
        program.stdout.close()
        assert program.stderr
        err = program.stderr.read()
    assert program.returncode == 0
    assert [line for line in err.splitlines() if " of " not in line] == []


def test_what_there_is_none_of_is_one_line(desk: Desk) -> None:
    asked = ("--from", "2020-01-01", "--to", "2020-01-07")
    for what, more in {"usage": "", "cost": ": a day's bill is out some hours after its end"}.items():
        told = f"{ERROR}no {what} in 2020-01-01 to 2020-01-07; try a wider range{more}"
        assert desk.run(what, *asked, "--output", "out.csv") == (1, "", [told])
        assert desk.run(what, *asked) == (1, "", [told])
    assert desk.left() == []


def test_what_is_asked_wrongly_is_one_line(desk: Desk) -> None:
    for words, told in {
        "usage --group-by modle": "--group-by: unknown dimension 'modle'; did you mean model?",
        "cost --width 1h": "--width is '1h': cost is known by the day only; leave it out",
        "usage --output .": "'.': that is a folder; give a file",
    }.items():
        assert desk.run(*words.split()) == (2, "", [ERROR + told])
    assert not desk.api.requests
