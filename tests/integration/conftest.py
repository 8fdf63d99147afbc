"""The real Prometheus and Alertmanager, old and new, and the real program, for tests that look at them from outside."""

import fcntl
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self, TypeAlias, TypeVar

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.demo.server import serve
from tests import history, tools

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 20.0
T = TypeVar("T")
Result: TypeAlias = list[dict[str, Any]]
Samples: TypeAlias = dict[tuple[str, frozenset[tuple[str, str]]], float]


class PrometheusLeg(NamedTuple):
    """One generation of Prometheus: the server and its promtool."""

    prometheus: Path
    promtool: Path
    version: tuple[int, int]


class AlertmanagerLeg(NamedTuple):
    """One generation of Alertmanager: the server and its amtool."""

    alertmanager: Path
    amtool: Path
    version: tuple[int, int]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(attempt: Callable[[], T | None], timeout: float, complaint: Callable[[], str]) -> T:
    """Repeat the attempt until it gives something; fail with the complaint at the deadline."""
    deadline = clock.monotonic() + timeout
    while (found := attempt()) is None:
        if clock.monotonic() > deadline:
            pytest.fail(f"after {timeout:g} s: {complaint()}")
        clock.sleep(0.05)
    return found


def version_of(program: Path) -> tuple[int, int]:
    told = program.is_file() and subprocess.check_output([program, "--version"], stderr=subprocess.STDOUT, text=True)
    found = re.search(r"version (\d+)\.(\d+)", told or "")
    return (int(found[1]), int(found[2])) if found else (0, 0)


@functools.cache
def prometheus_binaries() -> Mapping[str, PrometheusLeg]:
    """Find the legs "2" (2.x) and "3" (3.5 or newer); a leg that is not installed is left out."""
    on_path = shutil.which("prometheus") or "/usr/bin/prometheus"
    legs: dict[str, PrometheusLeg] = {}
    for server in (ROOT / ".cache/prometheus-3/usr/bin/prometheus", Path(on_path), Path("/usr/bin/prometheus")):
        tool, version = server.with_name("promtool"), version_of(server)
        if version[0] == version_of(tool)[0] and (version[0] == 2 or version >= (3, 5)):
            legs.setdefault(str(version[0]), PrometheusLeg(server, tool, version))
    return legs


@functools.cache
def alertmanager_binaries() -> Mapping[str, AlertmanagerLeg]:
    """Find the legs "new" (0.27 or newer) and "old"; a leg that is not installed is left out."""
    on_path = filter(None, map(shutil.which, ("alertmanager", "prometheus-alertmanager")))
    legs: dict[str, AlertmanagerLeg] = {}
    for server in (ROOT / ".cache/alertmanager/usr/bin/prometheus-alertmanager", *map(Path, on_path)):
        tool, version = server.with_name("amtool"), version_of(server)
        if version > (0, 0) and version_of(tool) == version:
            legs.setdefault("new" if version >= (0, 27) else "old", AlertmanagerLeg(server, tool, version))
    return legs


def lacking(what: str) -> NoReturn:
    tools.lacking(f"no {what}; .ci/servers installs it on Debian 12")


class Program:
    """A process of ours: its log is collected, and it alone is stopped."""

    def __init__(self, command: Sequence[str | Path], directory: Path, environment: Mapping[str, str]) -> None:
        quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
        self.process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=quiet, stdout=quiet, stderr=pipe, text=True
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        # No connection may outlive its answer: it would hold up the program's own shutdown.
        self._client = httpx.Client(trust_env=False, timeout=10, limits=httpx.Limits(max_keepalive_connections=0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it if it still runs; pytest shows the log where the test has failed."""
        self._client.close()
        try:
            if self.process.poll() is None:
                self.terminate()
        finally:
            self._reader.join(5)
            sys.stdout.write(f"--- log of {self.process.args!r}\n{self.log()}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self._lines.append(line)

    def log(self) -> str:
        return "".join(self._lines)

    def up(self, attempt: Callable[[], T | None], timeout: float = 20) -> T:
        """Repeat the attempt until it gives something; fail with the log at the deadline or when the process ends."""

        def look() -> T | None:
            ended = self.process.poll() is not None
            if (found := attempt()) is None and ended:
                self._reader.join(5)
                pytest.fail(f"{self.process.args!r} ended with {self.process.returncode}\n{self.log()}")
            return found

        return until(look, timeout, lambda: f"{self.process.args!r} is not up\n{self.log()}")

    def terminate(self) -> tuple[int, float]:
        """Ask it to stop; return its exit code and the seconds it took."""
        begun = clock.monotonic()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"still running {STOP_SECONDS:g} s after SIGTERM\n{self.log()}")
        seconds = clock.monotonic() - begun
        self._reader.join(5)
        return code, seconds

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(5)


class Server(Program):
    """A process of ours that says over HTTP when it is ready."""

    url: str

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self)
            self.up(self._ready)
            stack.pop_all()
        return self

    def _ready(self) -> bool | None:
        try:
            return self._client.get(f"{self.url}/-/ready").is_success or None
        except httpx.TransportError:
            return None


class QueryServer(Server):
    """A server that answers Prometheus' HTTP API."""

    def data(self, path: str, **parameters: str | float | None) -> dict[str, Any]:
        """Return what a part of the API tells."""
        given = {name: value for name, value in parameters.items() if value is not None}
        answer = self._client.get(f"{self.url}/api/v1/{path}", params=given).json()
        assert answer["status"] == "success", f"{given}: {answer.get('error')}"
        return dict(answer["data"])

    def query(self, promql: str, time: float | None = None) -> Result:
        data = self.data("query", query=promql, time=time)
        return [{"metric": {}, "value": data["result"]}] if data["resultType"] == "scalar" else list(data["result"])

    def query_range(self, promql: str, start: float, end: float, step: float) -> Result:
        return list(self.data("query_range", query=promql, start=start, end=end, step=step)["result"])

    def scalar(self, promql: str, time: float | None = None) -> float:
        """Return the value of a query that gives exactly one series."""
        result = self.query(promql, time)
        assert len(result) == 1, f"{promql} gave {len(result)} series: {result}"
        return float(result[0]["value"][1])

    def wait_for(self, promql: str, predicate: Callable[[Result], bool], timeout: float = 30) -> Result:
        def look() -> Result | None:
            return result if predicate(result := self.query(promql)) else None

        return until(look, timeout, lambda: f"{promql} gives {self.query(promql)}; targets: {self.targets()}")

    def targets(self) -> Result:
        return list(self.data("targets")["activeTargets"])


class PrometheusServer(QueryServer):
    """A Prometheus that scrapes ``targets``: the instance label to the address of the metrics page."""

    def __init__(
        self, leg: PrometheusLeg, directory: Path, targets: Mapping[str, str], scrape_interval: str = "1s",
        scrape: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.leg = leg
        self.url = f"http://127.0.0.1:{free_port()}"
        job = {"job_name": "exporter", "honor_labels": False, "static_configs": [
            {"targets": [page.netloc.decode()],
             "labels": {"instance": instance, "__scheme__": page.scheme, "__metrics_path__": page.path}}
            for instance, page in ((name, httpx.URL(url)) for name, url in targets.items())
        ]}  # fmt: skip
        every = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), scrape_interval)
        whole = {"global": every, "scrape_configs": [job | dict(scrape or {})]} | dict(config or {})
        (directory / "prometheus.yml").write_text(json.dumps(whole))  # JSON is YAML
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        storage = (f"--storage.tsdb.path={directory / 'data'}", "--storage.tsdb.retention.time=10y")
        super().__init__([leg.prometheus, "--config.file=prometheus.yml", listen, *storage], directory, os.environ)


class AlertmanagerServer(Server):
    """An Alertmanager with this configuration (YAML); the newest that is installed, if no leg is given."""

    def __init__(self, directory: Path, config: str, leg: AlertmanagerLeg | None = None) -> None:
        legs = alertmanager_binaries()
        leg = leg or legs.get("new") or legs.get("old") or lacking("Alertmanager with its amtool")
        self.url = f"http://127.0.0.1:{free_port()}"
        (directory / "alertmanager.yml").write_text(config)
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        options = ("--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address=", listen)
        super().__init__([leg.alertmanager, *options], directory, os.environ)

    def post(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Tell it of alerts that fire: each with labels, and annotations if need be."""
        self._client.post(f"{self.url}/api/v2/alerts", json=alerts).raise_for_status()

    def alerts(self) -> Result:
        """Return the alerts it knows, each with its status."""
        return list(self._client.get(f"{self.url}/api/v2/alerts").raise_for_status().json())


class Inbox:
    """A receiver on loopback; ``messages`` are the paths and bodies that were posted to it."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._server = serve(self)
        self.url = self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        self.messages.append((environ["PATH_INFO"], body))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    def groups(self, **labels: str) -> list[tuple[str, list[str]]]:
        """Return receiver and names of the alerts of each message on the groups with these labels."""
        return sorted(
            (path, sorted(alert["labels"]["alertname"] for alert in body["alerts"]))
            for path, body in list(self.messages)
            if labels == body.get("groupLabels")
        )


def impatient(config: str, inbox: Inbox) -> str:
    """Return an Alertmanager's configuration without its patience, telling this inbox."""
    return re.sub(r"http://127\.0\.0\.1:\d+", inbox.url, re.sub(r"group_wait: \w+", "group_wait: 1s", config))


class ExporterProcess(Program):
    """The program, run as users run it; ``url`` is the address of its metrics page."""

    @functools.cached_property
    def url(self) -> str:
        return self.up(self._listening)

    def _listening(self) -> str | None:
        for line in list(self._lines):
            found = re.search(r'\burl="?(https?://[^\s"]+)', line)
            if found and re.search(r'\bmsg="?listening\b', line):
                return found[1]
        return None

    def metrics(self) -> str:
        return self._client.get(self.url).raise_for_status().text

    def samples(self) -> Samples:
        families = text_string_to_metric_families(self.metrics())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}

    def wait_for(self, predicate: Callable[[Samples], bool], timeout: float = 30) -> Samples:
        def look() -> Samples | None:
            return samples if predicate(samples := self.samples()) else None

        return until(look, timeout, lambda: f"the metrics are not as expected:\n{self.metrics()}")


@pytest.fixture(scope="session", params=["2", "3"], ids=["prometheus-2", "prometheus-3"])
def prometheus_leg(request: pytest.FixtureRequest) -> PrometheusLeg:
    leg = prometheus_binaries().get(request.param)
    if leg is None:
        lacking(f"Prometheus {request.param}.x (3.x: 3.5 or newer) with its promtool")
    return leg


@pytest.fixture(scope="session", params=["old", "new"], ids=["alertmanager-old", "alertmanager-new"])
def alertmanager_leg(request: pytest.FixtureRequest) -> AlertmanagerLeg:
    versions = {"old": "below 0.27", "new": "0.27 or newer"}
    return alertmanager_binaries().get(request.param) or lacking(f"Alertmanager {versions[request.param]}, with amtool")


@pytest.fixture(scope="session")
def prometheus(
    prometheus_leg: PrometheusLeg, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., PrometheusServer]]:
    """Start servers: ``prometheus(targets, directory=None, **options)``; each is a context manager, too."""
    with ExitStack() as running:

        def start(targets: Mapping[str, str], directory: Path | None = None, **options: Any) -> PrometheusServer:
            folder = directory or tmp_path_factory.mktemp("prometheus")
            return running.enter_context(PrometheusServer(prometheus_leg, folder, targets, **options))

        yield start


@pytest.fixture(scope="session")
def history_blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demo organisation's past, see ``tests.history``; one worker builds it for all."""
    base = tmp_path_factory.getbasetemp()
    blocks = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "history"
    oldest = min(prometheus_binaries().values(), key=lambda leg: leg.version)
    with blocks.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not blocks.exists():
            unfinished = tmp_path_factory.mktemp("history")
            history.build(unfinished, oldest.promtool)
            unfinished.rename(blocks)
    return blocks


@pytest.fixture(scope="session")
def history_prometheus(
    prometheus: Callable[..., PrometheusServer], history_blocks: Path, tmp_path_factory: pytest.TempPathFactory
) -> PrometheusServer:
    """Start a server that has the demo organisation's past, up to ``tests.history.NOW``, and scrapes nothing."""
    directory = tmp_path_factory.mktemp("history-prometheus")
    shutil.copytree(history_blocks, directory / "data")
    return prometheus({}, directory)


@pytest.fixture
def exporter_process(tmp_path: Path) -> Iterator[Callable[..., ExporterProcess]]:
    """Run the program: ``exporter_process(*args, env=None, wait=True)``, all in ``tmp_path``, so with one state file.

    ``env`` adds to the little that is passed on and, with None, takes away; ``wait=False`` is for starts that fail.
    """
    with ExitStack() as running:

        def start(*args: str, env: Mapping[str, str | None] | None = None, wait: bool = True) -> ExporterProcess:
            given = {name: os.environ.get(name) for name in ("PATH", "HOME", "LANG")}
            given |= {"ANTHROPIC_ADMIN_API_KEY": "sk-ant-admin01-test"} | dict(env or {})
            listen = [] if "--web.listen-address" in " ".join(args) else ["--web.listen-address", "127.0.0.1:0"]
            command = [sys.executable, "-m", "exporter", *args, *listen]
            clean = {name: value for name, value in given.items() if value is not None}
            program = running.enter_context(ExporterProcess(command, tmp_path, clean))
            assert not wait or program.url
            return program

        yield start
