"""The demo, as somebody with a real key in the environment tries it."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.demo.server import serve
from tests.integration.conftest import until
from tests.integration.test_health import health
from tests.world import total

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess

pytestmark = pytest.mark.process

REAL_KEY = "sk-ant-admin01-looks-like-a-real-one"
TOKENS = "anthropic_usage_tokens_total"
INFO = ("anthropic_organization_info", "anthropic_workspace_info", "anthropic_api_key_info")


class Trap:
    """An API of somebody's own; whoever asks it is noted."""

    def __init__(self) -> None:
        self.caught: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        self.caught.append(environ["PATH_INFO"])
        start_response("401 Unauthorized", [])
        return [b"{}"]


def answer(url: str, key: str) -> int:
    """Return what the simulated API says to the holder of a key."""
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    with httpx.Client(trust_env=False, headers=headers) as client:
        return client.get(f"{url}/v1/organizations/me").status_code


def test_the_demo_moves_its_counters_and_leaves_the_real_key_and_counters_alone(
    exporter_process: Callable[..., "ExporterProcess"], tmp_path: Path
) -> None:
    trap = Trap()
    with serve(trap) as real:
        env = {
            "ANTHROPIC_ADMIN_API_KEY": REAL_KEY,
            "ANTHROPIC_EXPORTER_API_BASE_URL": real.url,
            "ANTHROPIC_EXPORTER_STATE_PATH": "real.db",
            "HTTP_PROXY": real.url,
            "HTTPS_PROXY": real.url,
        }
        program = exporter_process("demo", env=env)
        samples = program.wait_for(lambda samples: total(samples, TOKENS) > 0, 20)
        assert total(samples, "anthropic_up") == 5
        assert total(samples, "anthropic_cost_month_to_date_usd") + total(samples, "anthropic_cost_previous_month_usd")
        assert all(total(samples, name) > 0 for name in INFO)
        simulated = re.search(r'level=info msg="SIMULATED DATA: .*" api=(http://127\.0\.0\.1:[0-9]+)\n', program.log())
        assert simulated, program.log()
        assert simulated[1] != real.url
        assert [path.name for path in tmp_path.glob("*.db*")] == ["real.db.heartbeat"]
        assert answer(simulated[1], REAL_KEY) == 401
        more = program.wait_for(lambda later: total(later, TOKENS) > total(samples, TOKENS), 20)
        assert all(more[key] >= samples[key] for key in samples if key[0] == TOKENS)
        code, seconds = program.terminate()
    assert (code, seconds < 2) == (0, True)
    assert not list(tmp_path.glob("*.db*"))
    assert trap.caught == []
    assert REAL_KEY not in program.log() + str(samples)


def test_the_demo_needs_no_key(exporter_process: Callable[..., "ExporterProcess"]) -> None:
    program = exporter_process("demo", env={"ANTHROPIC_ADMIN_API_KEY": None})
    program.wait_for(lambda samples: total(samples, "anthropic_up") == 5)
    assert program.terminate()[0] == 0


def test_the_demo_is_told_to_be_alive(exporter_process: Callable[..., "ExporterProcess"], tmp_path: Path) -> None:
    program = exporter_process("demo", "--state.path", "demo.db", env={"ANTHROPIC_ADMIN_API_KEY": None})
    program.wait_for(lambda samples: total(samples, "anthropic_up") == 5)
    assert health(tmp_path, "demo.db").returncode == 0
    assert program.terminate()[0] == 0
    assert health(tmp_path, "demo.db").returncode == 1


def test_the_history_is_written_once(exporter_process: Callable[..., "ExporterProcess"], tmp_path: Path) -> None:
    past, flags = tmp_path / "past", ("demo", "--demo.history", str(tmp_path / "past"))
    past.mkdir()
    (past / "1.om").write_text("left by an attempt that did not end")
    (past / "mine.om").write_text("somebody's own")
    program = exporter_process(*flags, wait=False)
    until(lambda: (past / "done").exists() or None, 200, program.log)
    samples = program.wait_for(lambda samples: total(samples, "anthropic_up") == 5)
    texts = sorted(past.glob("[0-9]*.om"))
    assert {path.name for path in past.iterdir() if path not in texts} == {"done", "mine.om"}
    assert all(path.read_text().endswith("\n# EOF\n") for path in texts)
    assert total(samples, TOKENS) == 0, "counters go on from where the history ends, at 0"
    written = [(path.name, path.stat().st_mtime_ns) for path in texts]
    assert program.terminate()[0] == 0
    program = exporter_process(*flags)
    program.wait_for(lambda samples: total(samples, "anthropic_up") == 5, 20)
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(past.glob("[0-9]*.om"))] == written


def test_a_history_that_is_interrupted_ends_at_once_and_is_not_done(
    exporter_process: Callable[..., "ExporterProcess"], tmp_path: Path
) -> None:
    past = tmp_path / "past"
    program = exporter_process("demo", "--demo.history", str(past), wait=False)
    until(lambda: any(past.glob("*.partial")) or None, 60, program.log)
    code, seconds = program.terminate()
    assert (code, seconds < 5) == (0, True)
    assert not (past / "done").exists()
    assert past.stat().st_mode & 0o777 == 0o770, "who takes it in removes it, under the same group"


def test_a_history_without_a_place_is_an_error(
    exporter_process: Callable[..., "ExporterProcess"], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    program = exporter_process("demo", "--demo.history", str(tmp_path / "file" / "past"), wait=False)
    assert program.process.wait(60) == 1
    assert "choose another place" in program.log()
    assert "Traceback" not in program.log()
