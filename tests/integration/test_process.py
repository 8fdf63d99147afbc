"""The real program, seen from outside: what it answers, how it ends, and what it never tells."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter import __version__
from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, MINUTE
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from tests.world import total, value

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess, Samples

pytestmark = pytest.mark.process

KEY = "sk-ant-admin01-canary-of-the-process-tests"
KEY_FILE = {"ANTHROPIC_ADMIN_API_KEY": None, "ANTHROPIC_ADMIN_API_KEY_FILE": "key"}
QUICK = (
    *("--usage.poll-interval", "1", "--usage.settle", "70", "--usage.hold", "1"),
    *("--cost.poll-interval", "1", "--names.poll-interval", "1", "--api.timeout", "1"),
    *("--usage.api-key-poll-interval", "1", "--limits.poll-interval", "1"),
)
"""A minute is complete when it begins to be counted, so that the counters move from the first second on."""
UP, FAILURES = "anthropic_up", "anthropic_exporter_poll_failures_total"

Start = Callable[..., "ExporterProcess"]


def organization() -> SimulatedOrganization:
    """Return a small organisation that has no late data; each call the same one."""
    started, arrival = int(time.time()) - 3 * DAY, Arrival(median=0, late_share=0)
    return SimulatedOrganization(seed=7, started=started, arrival=arrival, bill_delay=0)


@pytest.fixture
def api() -> AdminApi:
    return AdminApi(organization(), key=KEY, clock=time.time)


@pytest.fixture
def api_url(api: AdminApi) -> Iterator[str]:
    with serve(api) as server:
        yield server.url


@pytest.fixture
def refusing() -> Iterator[socket.socket]:
    """Take a port without listening there, so that connections are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken


@pytest.fixture
def run(exporter_process: Start) -> Start:
    """Serve what an API at a URL says, as quickly as can be."""

    def start(url: str, *flags: str, env: dict[str, str | None] | None = None) -> "ExporterProcess":
        given = {"ANTHROPIC_ADMIN_API_KEY": KEY} | (env or {})
        return exporter_process("--api.base-url", url, *QUICK, *flags, env=given)

    return start


def address(taken: socket.socket) -> str:
    host, port = taken.getsockname()[:2]
    return f"{host}:{port}"


def ask(url: str, method: str = "GET") -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.request(method, url)


def call(*argv: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    given = {"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": KEY} | env
    return subprocess.run(argv, env=given, capture_output=True, text=True, timeout=30, check=False)


def check(url: str, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = call(sys.executable, "-m", "exporter", "check", "--api.base-url", url, *flags, **env)
    assert done.stderr == ""
    return done


def data(samples: "Samples") -> set[str]:
    """Return the families that tell of the organisation, not of the exporter."""
    return {name for name, _ in samples if name.startswith("anthropic_") and not name.startswith("anthropic_exporter_")}


def is_up(samples: "Samples", *reports: str) -> bool:
    return all(samples.get((UP, frozenset({("report", report)}))) == 1 for report in reports)


def test_every_page_answers_get_and_head_and_nothing_else(run: Start, api_url: str) -> None:
    program = run(api_url)
    program.wait_for(lambda samples: is_up(samples, "usage", "cost", "names"))
    base = program.url.removesuffix("/metrics")
    pages = {"/metrics": 200, "/": 200, "/-/healthy": 200, "/-/ready": 200, "/nowhere": 404, "/metrics/": 404}
    for path, status in pages.items():
        got, head = ask(base + path), ask(base + path, "HEAD")
        assert (got.status_code, head.status_code) == (status, status), path
        assert got.content, path
        assert (head.content, head.headers["content-type"]) == (b"", got.headers["content-type"]), path
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            refused = ask(base + path, method)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD"), (path, method)
    assert 'href="/metrics"' in ask(f"{base}/").text
    assert "traceback" not in program.log().lower()


def test_the_program_and_its_metrics_agree_on_the_version(run: Start, api_url: str) -> None:
    script = Path(sys.executable).with_name("anthropic-exporter")
    for command in ([sys.executable, "-m", "exporter"], [script]):
        told = call(*command, "--version")
        assert (told.returncode, told.stdout) == (0, f"anthropic-exporter {__version__}\n")
    assert value(run(api_url).samples(), "anthropic_exporter_build_info", version=__version__) == 1


def assert_nothing_is_invented(program: "ExporterProcess", reason: str, heal: Callable[[], object]) -> None:
    """All about ourselves is there at once, nothing about the organisation before it was read."""
    begun = time.monotonic()
    samples = program.samples()
    assert time.monotonic() - begun < 1
    assert {value(samples, "anthropic_exporter_polls_total", report=r) for r in ("usage", "cost", "names")} == {0}
    assert value(samples, FAILURES, report="usage", reason=reason) == 0
    assert value(samples, "anthropic_exporter_api_retries_total", endpoint="cost", reason="server") == 0
    assert not data(samples)
    base = program.url.removesuffix("/metrics")
    assert [ask(base + path).status_code for path in ("/", "/-/healthy", "/-/ready")] == [200] * 3
    samples = program.wait_for(lambda samples: value(samples, FAILURES, report="usage", reason=reason) > 0)
    assert data(samples) == {UP}
    assert value(samples, UP, report="usage") == 0
    heal()
    samples = program.wait_for(lambda samples: is_up(samples, "usage", "cost", "names"))
    assert {"anthropic_usage_tokens_total", "anthropic_cost_last_day_usd", "anthropic_api_key_info"} <= data(samples)


def test_an_api_that_hangs_at_the_start(run: Start, api: AdminApi, api_url: str) -> None:
    api.faults.add(Fault(kind="slow", seconds=60))
    assert_nothing_is_invented(run(api_url), "timeout", api.faults.clear)


def test_an_api_that_refuses_connections_at_the_start(run: Start, api: AdminApi, refusing: socket.socket) -> None:
    host, port = refusing.getsockname()
    with ExitStack() as running:

        def heal() -> None:
            refusing.close()
            running.enter_context(serve(api, host, port))

        assert_nothing_is_invented(run(f"http://{host}:{port}"), "connection", heal)


SITUATIONS: dict[str, tuple[Fault | None, Sequence[str], str]] = {
    "at rest": (None, (), 'anthropic_up{report="usage"} 1.0'),
    "while a request hangs": (Fault(kind="slow", seconds=60), ("--api.timeout", "60"), ""),
    "in the pause before a retry": (
        Fault(kind=503, retry_after="4"),
        (),
        'anthropic_exporter_api_retries_total{endpoint="usage",reason="server"} 1.0',
    ),
    "while a poll waits to go on": (
        Fault(kind=503, retry_after="60"),
        ("--usage.poll-interval", "100", "--usage.by-api-key", "false"),
        'anthropic_exporter_api_requests_total{code="503",endpoint="usage"} 1.0',
    ),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_signal_ends_it_at_once(
    run: Start, api: AdminApi, api_url: str, number: signal.Signals, situation: str
) -> None:
    fault, flags, sign = SITUATIONS[situation]
    if fault:
        api.faults.add(fault)
    program = run(api_url, *flags)
    program.up(lambda: (api.requests["usage"] and sign in program.metrics()) or None)
    begun = time.monotonic()
    program.process.send_signal(number)
    assert (program.process.wait(10), time.monotonic() - begun < 5) == (0, True)
    program.terminate()
    assert "msg=stopping" in program.log()
    assert "traceback" not in program.log().lower()


def test_a_port_in_use_is_one_line_with_a_remedy(refusing: socket.socket, api_url: str) -> None:
    refusing.listen()
    begun = time.monotonic()
    taken = address(refusing)
    serve_there = ("--api.base-url", api_url, "--web.listen-address", taken, "--state.path", ":memory:")
    done = call(sys.executable, "-m", "exporter", *serve_there)
    assert time.monotonic() - begun < 3
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert taken in done.stderr
    assert "--web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_it_found(api: AdminApi, api_url: str) -> None:
    before, known = time.time(), organization()
    done = check(api_url)
    assert done.returncode == 0, done.stdout
    lines = {name: said for name, _, said in (line.partition(" ") for line in done.stdout.splitlines())}
    assert f"{known.name} ({known.id})" in lines["organization"]
    assert f"{len(known.workspaces) + 1} with the default one, 1 of them archived" in lines["workspaces"]
    assert f"{len(known.api_keys)} (" in lines["api_keys"]
    minutes = known.usage(MINUTE, int(before // 60 - 60) * 60, int(before // 60 + 2) * 60, time.time())
    newest = [f"{datetime.fromtimestamp(minute, UTC):%Y-%m-%d %H:%M} UTC" for minute in sorted(minutes)[-3:]]
    assert any(minute in lines["usage"] for minute in newest), newest
    day = int(before // DAY - 1) * DAY
    amount = sum(line.amount_cents for line in known.cost(day, before) or ()) / 100
    assert f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}, {amount:.2f} USD" in lines["cost"]
    assert "all is well" in lines["result"]


def test_check_of_a_wrong_key_asks_for_an_admin_key(api_url: str) -> None:
    done = check(api_url, ANTHROPIC_ADMIN_API_KEY="sk-ant-api03-something-else")
    assert done.returncode == 1
    assert "does not begin with sk-ant-admin" in done.stdout
    assert done.stdout.count("answered 401") == 7
    assert "is this an Admin API key" in done.stdout
    assert "7 of 7 checks failed" in done.stdout
    assert "something-else" not in done.stdout


def test_check_names_the_missing_permission(api: AdminApi, api_url: str) -> None:
    api.faults.add(Fault(kind=403, endpoint="api_keys"))
    done = check(api_url)
    assert done.returncode == 1
    assert "MISSING PERMISSION: api_keys: the API answered 403" in done.stdout
    assert "give the key the right to read api_keys" in done.stdout
    assert "1 of 7 checks failed: api_keys" in done.stdout


def test_check_of_a_dead_port_says_so_soon(refusing: socket.socket) -> None:
    begun = time.monotonic()
    done = check(f"http://{address(refusing)}")
    assert (done.returncode, time.monotonic() - begun < 5) == (1, True)
    assert f"http://{address(refusing)}" in done.stdout
    assert done.stdout.count("FAILED (connection)") == 7
    assert "Traceback" not in done.stdout


def tell_tale(api: AdminApi) -> Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]:
    """Return an API that writes the key it was given into every kind of failure."""
    kinds = {
        "/v1/organizations/cost_report": ("500 Oops", '{"error": {"message": "no %s"}}'),
        "/v1/organizations/me": ("401 No", '{"error": {"message": "unknown key %s"}}'),
        "/v1/organizations/workspaces": ("302 Elsewhere", "%s"),
        "/v1/organizations/api_keys": ("200 OK", "<p>%s</p>"),
    }

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        if environ["PATH_INFO"] not in kinds:
            return api(environ, start_response)
        status, body = kinds[environ["PATH_INFO"]]
        key = environ["HTTP_X_API_KEY"]
        start_response(status, [("Location", f"http://127.0.0.1/{key}"), ("Request-Id", key)])
        return [(body % key).encode()]

    return app


@pytest.mark.parametrize("env", [{}, KEY_FILE], ids=["from a variable", "from a file"])
def test_the_key_is_told_to_nobody_even_by_an_api_that_repeats_it(
    run: Start, api: AdminApi, env: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    with serve(tell_tale(api)) as server:
        program = run(server.url, "--log.level", "debug", env=env)
        program.wait_for(lambda samples: value(samples, FAILURES, report="cost", reason="server") > 0)
        base = program.url.removesuffix("/metrics")
        answers = [ask(base + path) for path in ("/metrics", "/", "/-/healthy", "/-/ready", "/nowhere")]
        told = [f"{answer.headers} {answer.text}" for answer in answers]
        told.append(Path(f"/proc/{program.process.pid}/cmdline").read_text())
        told += [file.read_text(errors="replace") for file in tmp_path.iterdir() if file.name != "key"]
        told.append(check(server.url, "--log.level", "debug").stdout)
        assert program.terminate()[0] == 0
        told += [file.read_text(errors="replace") for file in tmp_path.iterdir() if file.name != "key"]
    assert 'the API answered 500 (no [redacted])"' in program.log()
    assert "level=debug" in program.log()
    assert KEY not in "\n".join([*told, program.log()])


def test_a_key_file_that_is_rotated_heals_without_a_restart(
    run: Start, api: AdminApi, api_url: str, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    program = run(api_url, env=KEY_FILE)
    program.wait_for(lambda samples: is_up(samples, "usage", "cost", "names"))
    api.key = f"{KEY}-the-second"
    samples = program.wait_for(lambda samples: total(samples, UP) == 0)
    assert all(value(samples, FAILURES, report=r, reason="auth") > 0 for r in ("usage", "cost", "names"))
    (tmp_path / "new").write_text(f"{api.key}\n")
    (tmp_path / "new").replace(tmp_path / "key")
    program.wait_for(lambda samples: is_up(samples, "usage", "cost", "names"))
    program.wait_for(lambda samples: total(samples, "anthropic_usage_tokens_total") > 0)
    assert program.process.poll() is None
    assert api.key not in program.log()


def test_a_telemetry_path_of_ones_own(run: Start, api_url: str) -> None:
    program = run(api_url, "--web.telemetry-path", "/probe/anthropic")
    base = program.url.removesuffix("/probe/anthropic")
    assert base.count("/") == 2
    assert "anthropic_exporter_build_info" in program.metrics()
    assert ask(f"{base}/metrics").status_code == 404
    assert 'href="/probe/anthropic"' in ask(base).text


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_on_ipv6(run: Start, api_url: str) -> None:
    program = run(api_url, "--web.listen-address", "[::1]:0")
    assert program.url.startswith("http://[::1]:")
    assert "anthropic_exporter_build_info" in program.metrics()
    assert program.terminate()[0] == 0


def test_a_signal_right_after_the_start_is_never_lost(run: Start, api_url: str) -> None:
    for _ in range(10):
        code, seconds = run(api_url).terminate()
        assert (code, seconds < 5) == (0, True)
