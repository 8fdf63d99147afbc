"""``report`` by the real program: what is piped, and to whom."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY, total
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization
from tests.world import KEY

pytestmark = pytest.mark.process

TODAY = int(time.time()) // DAY * DAY


@pytest.fixture
def organization() -> SimulatedOrganization:
    return SimulatedOrganization(seed=5, started=TODAY - 9 * DAY, bill_delay=0)


@pytest.fixture
def url(organization: SimulatedOrganization) -> Iterator[str]:
    with serve(AdminApi(organization, key=KEY, clock=time.time)) as server:
        yield server.url


def command(url: str, *arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "exporter", "report", "--api.base-url", url, *arguments]


def environment(key: str = KEY) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": key, "FORCE_COLOR": "1"}


def run(folder: Path, url: str, *arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    words = command(url, *arguments)
    return subprocess.run(
        words, cwd=folder, env=environment(key), capture_output=True, text=True, timeout=60, check=False
    )


def test_what_is_piped_is_one_json_object_or_plain_text(
    organization: SimulatedOrganization, url: str, tmp_path: Path
) -> None:
    done = run(tmp_path, url, "--json", "--days", "5")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    truth = organization.usage(DAY, TODAY - 5 * DAY, TODAY, time.time())
    assert found["total"]["tokens"] == sum(sum(total(rows.values())[:5]) for rows in truth.values())
    assert found["organization"]["name"] == organization.name
    assert "Traceback" not in done.stderr

    done = run(tmp_path, url, "--days", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{organization.name}: usage and cost, ")
    assert "\nTop movers, estimated USD by API key\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


def test_a_reader_that_goes_away_is_no_error(url: str, tmp_path: Path) -> None:
    for more in ((), ("--json",)):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            command(url, *more), cwd=tmp_path, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        os.close(write)
        assert done.returncode == 0
        assert {line.partition(":")[0] for line in done.stderr.splitlines()} == {"reading"}


def test_what_cannot_be_told_is_one_line(url: str, tmp_path: Path) -> None:
    old = run(tmp_path, url, "--from", "2024-01-01", "--to", "2024-01-07", "--json")
    assert (old.returncode, old.stdout) == (1, "")
    assert old.stderr.splitlines()[-1] == (
        "anthropic-exporter: error: no usage in 2024-01-01 to 2024-01-07; try a wider range"
    )
    wrong = run(tmp_path, url, key="sk-ant-admin01-another")
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
    assert "is this an Admin API key" in wrong.stderr
