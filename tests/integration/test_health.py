"""``health``, by the real program: it needs the state file's path, and neither key, password nor certificate."""

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
from exporter.heartbeat import LIMIT
from tests.events import WrittenOrganization
from tests.world import KEY

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess

pytestmark = pytest.mark.process

USERS = "basic_auth_users: {prometheus: $2b$04$tlZfyhogXueSx4h3uxjXpuNUP5YZW3nLYiOION9ryKtSmi8cGFvHe}"


@pytest.fixture
def start(exporter_process: Callable[..., "ExporterProcess"]) -> Iterator[Callable[..., "ExporterProcess"]]:
    """Serve an organisation without usage."""
    with serve(AdminApi(WrittenOrganization(), key=KEY, clock=time.time)) as server:
        yield lambda *flags: exporter_process(
            "--api.base-url", server.url, "--state.path", "counters.db", *flags, env={"ANTHROPIC_ADMIN_API_KEY": KEY}
        )


def health(folder: Path, path: str = "counters.db") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter", "health", "--state.path", path]
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_is_alive_while_it_serves_even_where_all_pages_ask_for_a_password(
    start: Callable[..., "ExporterProcess"], tmp_path: Path
) -> None:
    (tmp_path / "web.yml").write_text(USERS)
    program = start("--web.config.file", "web.yml")
    done = health(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("alive, ")

    assert program.terminate()[0] == 0
    done = health(tmp_path)
    assert done.returncode == 1
    assert "no exporter runs with this state.path" in complaint(done)


def test_a_heartbeat_that_is_too_old_is_none(start: Callable[..., "ExporterProcess"], tmp_path: Path) -> None:
    program = start()
    assert health(tmp_path).returncode == 0
    program.kill()
    assert health(tmp_path).returncode == 0
    for age in (LIMIT + 2, -LIMIT - 2):
        os.utime(tmp_path / "counters.db.heartbeat", times=(time.time() - age,) * 2)
        done = health(tmp_path)
        assert done.returncode == 1
        assert "the exporter has stopped, or its polls have" in complaint(done)


def test_without_a_state_file_there_is_no_heartbeat(tmp_path: Path) -> None:
    done = health(tmp_path, ":memory:")
    assert done.returncode == 2
    assert "/-/healthy" in complaint(done)
    done = health(tmp_path)
    assert done.returncode == 1
    assert "counters.db.heartbeat" in complaint(done)
