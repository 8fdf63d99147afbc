"""The demo, as somebody with a real key in the environment tries it."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.demo.server import serve
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
        assert not list(tmp_path.glob("*.db*"))
        assert answer(simulated[1], REAL_KEY) == 401
        more = program.wait_for(lambda later: total(later, TOKENS) > total(samples, TOKENS), 20)
        assert all(more[key] >= samples[key] for key in samples if key[0] == TOKENS)
        code, seconds = program.terminate()
    assert (code, seconds < 2) == (0, True)
    assert trap.caught == []
    assert REAL_KEY not in program.log() + str(samples)


def test_the_demo_needs_no_key(exporter_process: Callable[..., "ExporterProcess"]) -> None:
    program = exporter_process("demo", env={"ANTHROPIC_ADMIN_API_KEY": None})
    program.wait_for(lambda samples: total(samples, "anthropic_up") == 5)
    assert program.terminate()[0] == 0
