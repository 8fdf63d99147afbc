"""``state show`` and ``state reset``, by the real program, while it serves and while it does not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.server import serve
from tests.events import SONNET, WrittenOrganization
from tests.world import KEY, value

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess

pytestmark = pytest.mark.process

LOADED = "anthropic_exporter_state_loaded"


@pytest.fixture
def start(exporter_process: Callable[..., "ExporterProcess"]) -> Iterator[Callable[[], "ExporterProcess"]]:
    """Serve an organisation without usage from one state file."""
    with serve(AdminApi(WrittenOrganization(), key=KEY, clock=time.time)) as server:
        flags = ("--api.base-url", server.url, "--state.path", "counters.db", "--usage.models", SONNET.model)

        def begin() -> "ExporterProcess":
            program = exporter_process(*flags, env={"ANTHROPIC_ADMIN_API_KEY": KEY})
            program.wait_for(lambda samples: ("anthropic_up", frozenset({("report", "cost")})) in samples)
            return program

        yield begin


def state(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter", "state", *arguments, "--state.path", "counters.db"]
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_it_is_shown_while_it_is_written_and_reset_only_when_it_is_not(
    start: Callable[[], "ExporterProcess"], tmp_path: Path
) -> None:
    program = start()
    shown = state(tmp_path, "show")
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert lines["organization"] == WrittenOrganization().id
    assert lines["usage.models"] == SONNET.model
    assert lines["file"].startswith(str(tmp_path / "counters.db"))
    for counted in ("usage", "estimate", "api_key_usage", "api_key_estimate"):
        assert "counts from" in lines[counted]
    assert "0 label sets" in lines["cost"]
    code, said = refused(state(tmp_path, "reset"))
    assert code == 1
    assert f"in use by process {program.process.pid}" in said

    program.terminate()
    assert state(tmp_path, "show").stdout.splitlines()[1:] != []
    assert state(tmp_path, "reset").returncode == 0
    assert not (tmp_path / "counters.db").exists()
    assert len(list(tmp_path.glob("counters.db.reset-*Z"))) == 1
    assert value(start().samples(), LOADED) == 0


def test_what_is_asked_wrongly_is_one_line(tmp_path: Path) -> None:
    assert refused(state(tmp_path, "show")) == (
        2,
        "anthropic-exporter: error: state.path is 'counters.db': there is no such file\n",
    )
    assert refused(state(tmp_path, "reset"))[0] == 2
    assert "show or reset" in refused(state(tmp_path))[1]
    assert "did you mean reset?" in refused(state(tmp_path, "rest"))[1]
    (tmp_path / "counters.db").write_text("nonsense")
    for command in ("show", "reset"):
        code, said = refused(state(tmp_path, command))
        assert (code, "cannot be read" in said) == (2, True)
    assert (tmp_path / "counters.db").read_text() == "nonsense"
