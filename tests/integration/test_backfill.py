"""``backfill``, by the real program: what it leaves behind, however it ends, and what it tells of a store."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.server import serve
from exporter.model import DAY, HOUR, MINUTE
from exporter.polling.windows import floor
from tests.events import BilledOrganization
from tests.integration.conftest import (
    ExporterProcess,
    PrometheusLeg,
    PrometheusServer,
    QueryServer,
    free_port,
    prometheus_binaries,
    until,
)
from tests.tools import tool
from tests.unit.test_backfill import used
from tests.world import KEY, TOKENS, World

pytestmark = pytest.mark.process

TODAY = int(time.time() // DAY) * DAY
LABELS = ("--label", "job=anthropic", "--label", "instance=mine")
ERROR = "anthropic-exporter: error: "
NOWHERE = "http://127.0.0.1:1"


def day(back: int) -> str:
    return f"{datetime.fromtimestamp(TODAY - back * DAY, UTC):%Y-%m-%d}"


def kept_for(back: int) -> int:
    """Return for how many days a store must keep samples now: what is written begins five minutes after midnight."""
    return int((time.time() - (TODAY - back * DAY + 5 * MINUTE)) // DAY) + 1


class Desk:
    """The program as users run it, in ``folder``, the API that it reads, and a state file."""

    def __init__(self, folder: Path, organization: BilledOrganization) -> None:
        self.folder = folder
        self.organization = organization
        self.api = AdminApi(organization, key=KEY, clock=time.time)
        self.fault: Fault | None = None
        """What goes wrong as soon as minutes are asked for, which comes last."""
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Any:
        if self.fault and "bucket_width=1m" in environ["QUERY_STRING"]:
            self.api.faults.add(self.fault)
            self.fault = None
        return self.api(environ, start_response)

    def begin(self, ago: float) -> int:
        """Let an exporter have begun so many seconds ago, and have ended; return where its counters begin."""
        begun = time.time() - ago
        world = World(self.organization, begun, state=self.folder / "state")
        world.run(30)
        world.stop()
        return floor(begun - 5 * MINUTE, MINUTE)

    def start(self, *words: str, back: int = 3, before: str = "") -> subprocess.Popen[str]:
        """Start the program; ``before`` is what its shell does first."""
        settings = ("--api.base-url", self.url, "--state.path", "state")
        command = [sys.executable, "-m", "exporter", "backfill", "--from", day(back), *LABELS, *words, *settings]
        return subprocess.Popen(
            ["/bin/sh", "-c", f'{before}\nexec "$@"', "sh", *command],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def run(self, *words: str, back: int = 3, before: str = "") -> tuple[int, list[str]]:
        """Return the exit status and the lines on standard error that are not about progress; the other is empty."""
        with self.start(*words, back=back, before=before) as program:
            out, err = program.communicate(timeout=30)
        assert out == ""
        return program.returncode, [line for line in err.splitlines() if not line.startswith("backfill: ")]

    def refused(self, *words: str, back: int = 3, before: str = "") -> str:
        """Return why it fails, which is one line; nothing is left behind."""
        left = self.left()
        status, (told,) = self.run(*words, back=back, before=before)
        assert status in {1, 2}
        assert self.left() == left
        return told.removeprefix(ERROR)

    def left(self) -> list[str]:
        """Return what there is but for what servers are changing."""
        files = (str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
        return sorted(
            name for name in files if not name.startswith(("state", "data/wal", "data/chunks_head", "store/"))
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, BilledOrganization(used(TODAY - 7 * DAY, TODAY + DAY), posted=5 * HOUR))
    with serve(desk) as server:
        desk.url = server.url
        yield desk


@pytest.fixture
def promtool() -> str:
    """Return what puts a promtool on the PATH."""
    return f"PATH={prometheus_binaries()['2'].promtool.parent}"


def test_it_writes_beside_an_exporter_that_runs(desk: Desk, exporter_process: Callable[..., ExporterProcess]) -> None:
    exporter = exporter_process(
        "--api.base-url", desk.url, "--state.path", "state", env={"ANTHROPIC_ADMIN_API_KEY": KEY}
    )
    exporter.wait_for(lambda samples: samples.get(("anthropic_up", frozenset({("report", "usage")}))) == 1)
    with desk.start("--output", "out.om") as program:
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out) == (0, "")
    told = err.splitlines()
    assert [line for line in told if line.startswith("backfill: ")][-1] in {
        f"backfill: {n} of {n} days" for n in (3, 4)
    }
    assert any(re.fullmatch(r"wrote out\.om \([\d.]+ MB\); make blocks of it .*:", line) for line in told)
    assert re.fullmatch(rf"usage from {day(3)} to .* UTC, where the live counters begin", told[-1])
    assert not set("".join(told)) & {"\x1b", "\r"}
    assert desk.left() == ["out.om"]
    written = (desk.folder / "out.om").read_text()
    assert written.endswith("# EOF\n")
    assert written.count("\nup{") > DAY / MINUTE
    assert exporter.terminate()[0] == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("place", [("--output", "out.om"), ("--into", "data")])
def test_who_ends_it_midway_finds_nothing_of_it(
    desk: Desk, promtool: str, how: signal.Signals, place: Sequence[str]
) -> None:
    desk.begin(4 * HOUR)
    (desk.folder / "data").mkdir()
    desk.fault = Fault(kind="slow", endpoint="usage", seconds=60)
    # More days than a block has: at least one is made by then.
    with desk.start(*place, back=8, before=promtool) as program:
        until(lambda: desk.fault is None or None, 20, lambda: "minutes were not asked for")
        begun = [name for name in desk.left() if "out.om" in name or "anthropic-history" in name]
        program.send_signal(how)
        out, err = program.communicate(timeout=10)
    assert begun
    assert (program.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert desk.left() == ["data"]


def test_a_key_that_expires_midway_is_one_line_and_the_old_file_stays(desk: Desk) -> None:
    desk.begin(4 * HOUR)
    (desk.folder / "out.om").write_text("before")
    desk.fault = Fault(kind=401, endpoint="usage")
    told = desk.refused("--output", "out.om")
    assert told.startswith("usage: the API answered 401")
    assert told.endswith("is this an Admin API key, and has it not expired?")
    assert (desk.folder / "out.om").read_text() == "before"


def test_a_full_disk_is_one_line(desk: Desk, promtool: str) -> None:
    desk.begin(4 * HOUR)
    (desk.folder / "data").mkdir()
    told = desk.refused("--output", "out.om", before="ulimit -f 80")
    assert re.match(r"'?out\.om'?: File too large; .*room|out\.om: File too large; .*space", told)
    told = desk.refused("--into", "data", before=f"{promtool}\nulimit -f 80")
    assert "File too large" in told
    told = desk.refused("--url", desk.url, before="ulimit -f 80")
    assert "File too large" in told


def test_a_place_that_cannot_be_is_one_line(desk: Desk) -> None:
    desk.begin(4 * HOUR)
    (desk.folder / "data").mkdir()
    for words, told in {
        "--into none": "--into none: there is no such folder; give that of --storage.tsdb.path",
        "--output none/out.om": "--output none/out.om: there is no folder none; create it",
        "--url 127.0.0.1:8428": "--url is '127.0.0.1:8428': write it as http://host:8428",
    }.items():
        assert desk.refused(*words.split()) == told
    told = "--into needs promtool, which comes with Prometheus; put it on the PATH, or use --output"
    assert desk.refused("--into", "data", before="PATH=/nowhere") == told
    assert not desk.api.requests


def test_a_store_that_is_none_is_one_line(desk: Desk) -> None:
    desk.begin(4 * HOUR)
    told = desk.refused("--url", NOWHERE)
    assert re.fullmatch(rf"{NOWHERE} cannot be reached: .*; start it, or correct --url", told)
    assert not desk.api.requests["usage"]
    told = desk.refused("--url", desk.url)
    assert re.fullmatch(rf"{desk.url}/api/v1/import/prometheus answered 401; is that a VictoriaMetrics\?", told)


def test_a_server_that_agrees_to_everything_is_no_store(desk: Desk) -> None:
    def page(_: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("content-type", "text/html"), ("content-length", "2")])
        return [b"ok"]

    desk.begin(4 * HOUR)
    with serve(page) as server:
        assert desk.refused("--url", server.url).endswith("answered 200; is that a VictoriaMetrics?")


class Store(QueryServer):
    """A VictoriaMetrics that keeps samples for a time."""

    def __init__(self, folder: Path, kept: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        listen = f"-httpListenAddr={self.url.removeprefix('http://')}"
        storage = (f"-storageDataPath={folder / 'store'}", f"-retentionPeriod={kept}")
        command: list[str | Path] = [tool("victoria-metrics"), listen, *storage]
        super().__init__(command, folder, os.environ)


@pytest.mark.prometheus
def test_a_victoria_metrics_gets_what_it_keeps(desk: Desk) -> None:
    desk.begin(4 * HOUR)
    with Store(desk.folder, "2d") as store:
        told = desk.refused("--url", store.url)
        assert told.startswith(f"the VictoriaMetrics at {store.url} keeps samples for 2 days, and drops older ones at")
        assert told.endswith(f"begin with --from {day(1)}, or start it with -retentionPeriod={kept_for(3)}d")
        assert not desk.api.requests["usage"]
        assert desk.run("--url", store.url, back=1)[0] == 0
        httpx.get(f"{store.url}/internal/force_flush", trust_env=False).raise_for_status()
        imported = f"count(last_over_time({TOKENS}[1d])) by (job, instance)"
        (row,) = store.wait_for(imported, bool)
        assert row["metric"] == {"job": "anthropic", "instance": "mine"}


class Keeper(QueryServer):
    """A Prometheus on the folder ``data`` that scrapes nothing, with options for what it keeps."""

    def __init__(self, leg: PrometheusLeg, folder: Path, *options: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "prometheus.yml").write_text("{}")
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        command: list[str | Path] = [
            leg.prometheus,
            "--config.file=prometheus.yml",
            listen,
            "--storage.tsdb.path=data",
            *options,
        ]
        super().__init__(command, folder, os.environ)


@pytest.mark.prometheus
def test_a_prometheus_that_runs_is_not_given_what_it_drops(desk: Desk, prometheus_leg: PrometheusLeg) -> None:
    path = f"PATH={prometheus_leg.promtool.parent}"
    desk.begin(2 * MINUTE)
    with Keeper(prometheus_leg, desk.folder):
        told = desk.refused("--into", "data", back=20, before=path)
    assert told == (
        "this Prometheus keeps samples for 15 days, and drops older ones at once: begin with "
        f"--from {day(14)}, or start it with --storage.tsdb.retention.time={kept_for(20)}d"
    )
    with Keeper(prometheus_leg, desk.folder, "--storage.tsdb.retention.time=60d"):
        told = desk.refused("--into", "data", back=20, before=path)
    found = re.search(r"takes only what is older than three hours, .*: come back in (\d+) minutes, or stop it", told)
    assert found
    # Counters begin five minutes before the exporter.
    assert 180 - 7 <= int(found[1]) <= 180
    assert not desk.api.requests["usage"]


@pytest.mark.prometheus
def test_a_prometheus_has_what_was_put_into_its_folder(desk: Desk, prometheus_leg: PrometheusLeg) -> None:
    path = f"PATH={prometheus_leg.promtool.parent}"
    anchor = desk.begin(4 * HOUR)
    (desk.folder / "data").mkdir()
    with Keeper(prometheus_leg, desk.folder, "--storage.tsdb.retention.time=60d"):
        status, told = desk.run("--into", "data", before=path)
    assert status == 0
    assert re.fullmatch(r"put \d blocks into data; a running Prometheus shows them within minutes", told[0])
    assert not list(desk.folder.glob("data/anthropic-history-*"))
    again = desk.refused("--into", "data", back=5, before=path)
    assert "already, and written again they would count twice; delete its blocks, and data/anthropic-history," in again
    with PrometheusServer(prometheus_leg, desk.folder, {}) as server:
        shown = server.scalar(f"sum(max_over_time({TOKENS}[1d]))")
    tokens = sum(sum(use.tokens[:5]) for use in desk.organization.uses if TODAY - 3 * DAY <= use.time < anchor)
    assert shown == tokens > 0
