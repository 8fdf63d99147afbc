"""The compose stack: the file itself, and its processes started by hand, from its configuration, as the demo.

This needs no container engine: commands, environment, mounted files and health checks are those of the file, with other
addresses and paths; isolation and images are not tried. Grafana's part is in test_dashboards and test_rendering.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time as clock
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from exporter.history.backfill.prometheus import LARGE_BLOCK
from exporter.model import HOUR
from tests import rules
from tests.dashboards import boards, queries
from tests.integration.conftest import (
    Program,
    QueryServer,
    alertmanager_binaries,
    free_port,
    lacking,
    prometheus_binaries,
)
from tests.integration.test_dashboards import ask
from tests.tools import ROOT, call, linter, tool
from tests.world import TOKENS

FOLDER = ROOT / "deploy" / "compose"
FILE = FOLDER / "compose.yaml"
KEY_FILE = {"ANTHROPIC_ADMIN_API_KEY_FILE": str(FILE)}
BIN = Path(sys.executable).parent
SERVICES = ("exporter", "prometheus", "alertmanager", "grafana")
OWN = "anthropic-exporter"
FIRST_SIGHT = {
    ("anthropic-anomalies", "Firing alerts"): "no alert is what everybody hopes for",
    ("anthropic-anomalies", "Alerts that fire"): "the same",
    ("anthropic-cost", "Estimate by bill"): "needs a whole day that was estimated before its bill came",
    ("anthropic-overview", "Can these figures be trusted?"): "one of its figures is the ratio of estimate to bill",
}
"""What has no figure in the demo's first minutes; the dashboard of the exporter itself is of the live one only."""


def composed(**env: str) -> dict[str, Any]:
    """Return what compose makes of the file; it needs no daemon for that."""
    command: list[str | Path] = [tool("docker-compose"), "-f", FILE, "config", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **env}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    return composed()


def test_the_file_is_one_of_the_compose_specification() -> None:
    done = call(linter("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILE)
    assert done.returncode == 0, done.stdout


def test_services_are_pinned_confined_and_on_loopback(demo: dict[str, Any]) -> None:
    assert set(demo["services"]) == set(SERVICES)
    for name, service in demo["services"].items():
        assert [port["host_ip"] for port in service["ports"]] == ["127.0.0.1"], name
        assert "build" in service or re.fullmatch(r"\S+/\S+:v?\d+\.\d+\.\d+", service["image"]), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "healthcheck" in service, name
        writable = [mount for mount in service["volumes"] if mount["type"] == "bind" and not mount.get("read_only")]
        assert not writable, name


def test_there_is_no_password(demo: dict[str, Any]) -> None:
    grafana = demo["services"]["grafana"]["environment"]
    assert not [name for name in grafana if "PASSWORD" in name or "ADMIN_USER" in name]
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_everything_that_is_mounted_is_there(demo: dict[str, Any]) -> None:
    mounts = [mount for service in demo["services"].values() for mount in service["volumes"]]
    assert [mount["source"] for mount in mounts if mount["type"] == "bind" and not Path(mount["source"]).exists()] == []


def test_a_key_goes_to_the_exporter_as_a_file_and_real_figures_into_volumes_of_their_own(demo: dict[str, Any]) -> None:
    real = composed(**KEY_FILE)
    assert real["secrets"]["admin-api-key"]["file"] == str(FILE)
    exporter = real["services"]["exporter"]
    assert exporter["environment"]["ANTHROPIC_ADMIN_API_KEY_FILE"] == "/run/secrets/admin-api-key"
    assert [name for name, service in real["services"].items() if service.get("secrets")] == ["exporter"]
    volumes = [{volume["name"] for volume in stack["volumes"].values()} for stack in (demo, real)]
    assert len(volumes[0] | volumes[1]) == 2 * len(demo["volumes"])


@pytest.mark.parametrize(("given", "command"), [("", "demo"), ("/run/secrets/admin-api-key", "serve")])
def test_a_key_decides_what_is_run(demo: dict[str, Any], tmp_path: Path, given: str, command: str) -> None:
    program = tmp_path / "anthropic-exporter"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    entrypoint = [word.replace("$$", "$") for word in demo["services"]["exporter"]["entrypoint"]]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ANTHROPIC_ADMIN_API_KEY_FILE": given}
    done = subprocess.run(entrypoint, env=environment, capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == f"{command}\n"


def test_months_are_kept_and_blocks_are_as_long_as_the_command_says(demo: dict[str, Any]) -> None:
    [days] = re.findall(r"--storage\.tsdb\.retention\.time=(\d+)d", str(demo["services"]["prometheus"]["command"]))
    assert int(days) > 366
    assert f"--max-block-duration={LARGE_BLOCK // HOUR}h " in (FOLDER / "start-prometheus.sh").read_text()


def test_prometheus_is_the_shipped_one_but_for_addresses() -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    local = text.replace("exporter:10017", "127.0.0.1:10017").replace("alertmanager:9093", "127.0.0.1:9093")
    assert yaml.safe_load(local) == yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())


IMAGE = {"ANTHROPIC_EXPORTER_STATE_PATH": "/data/anthropic-exporter.db"}
"""The environment that the exporter's image brings."""


class Stack:
    """The stack's processes, with what they mount in ``folder`` and free ports; everything else is the file's."""

    def __init__(self, config: Mapping[str, Any], folder: Path, path: str) -> None:
        self.services: Mapping[str, Any] = config["services"]
        self.folder = folder
        self._path = path
        self.ports = {name: free_port() for name in self.services}

    def here(self, service: str, text: str) -> str:
        """Return a text of the file with the addresses and paths that it means here."""
        for name, part in self.services.items():
            port = part["ports"][0]["target"]
            text = re.sub(rf"\b({name}|127\.0\.0\.1|localhost):{port}\b", f"127.0.0.1:{self.ports[name]}", text)
        for mount in self.services[service]["volumes"]:
            text = re.sub(rf"(?<![\w/]){mount['target']}(?=/|$)", str(self._place(service, mount)), text)
        return text

    def mount(self, service: str) -> None:
        """Copy the files that are mounted, and make the folders of the volumes."""
        for mount in self.services[service]["volumes"]:
            place, source = self._place(service, mount), Path(mount["source"])
            if mount["type"] == "volume":
                place.mkdir(parents=True, exist_ok=True)
            elif source.is_dir():
                shutil.copytree(source, place)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(self.here(service, source.read_text()))

    def command(self, service: str, *more: str) -> list[str]:
        part = self.services[service]
        words = [*(part["entrypoint"] or [f"prometheus-{service}"]), *(part["command"] or [])]
        return [*(self.here(service, word.replace("$$", "$")) for word in words), *more]

    def environment(self, service: str) -> dict[str, str]:
        given = self.services[service].get("environment", {})
        image = IMAGE if service == "exporter" else {}
        known = {name: self.here(service, value) for name, value in (image | given).items()}
        # None of them mounts a folder for temporary files, and what is not mounted cannot be written to.
        return {"PATH": self._path, "TMPDIR": "/nonexistent"} | known

    def listen(self, service: str) -> str:
        return f"127.0.0.1:{self.ports[service]}"

    def healthy(self, service: str) -> bool | None:
        """Run the service's health check once."""
        [kind, *words] = [self.here(service, word) for word in self.services[service]["healthcheck"]["test"]]
        assert kind == "CMD"
        done = subprocess.run(
            words, env=self.environment(service), capture_output=True, check=False, timeout=30, cwd=self.folder
        )
        return True if done.returncode == 0 else None

    def _place(self, service: str, mount: Mapping[str, str]) -> Path:
        if mount["type"] == "volume":
            return self.folder / "volumes" / mount["source"]
        return self.folder / service / mount["target"].lstrip("/")


class StackServer(QueryServer):
    """The stack's Prometheus, or its Alertmanager: up when its health check says so."""

    def __init__(self, stack: Stack, service: str) -> None:
        self.url = f"http://{stack.listen(service)}"
        stack.mount(service)
        command = stack.command(service, f"--web.listen-address={stack.listen(service)}")
        super().__init__(command, stack.folder, stack.environment(service))
        self._healthy = partial(stack.healthy, service)

    def __enter__(self) -> Self:
        self.up(self._healthy, 300)
        return self


@pytest.fixture(scope="module")
def stack(demo: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Program]]:
    """Start the demo as compose does, service after service."""
    leg = prometheus_binaries().get("3") or lacking("Prometheus 3.x with its promtool")
    alertmanager = alertmanager_binaries().get("new") or lacking("Alertmanager 0.27 or newer")
    path = os.pathsep.join(map(str, (leg.prometheus.parent, alertmanager.alertmanager.parent, BIN, os.environ["PATH"])))
    made = Stack(demo, tmp_path_factory.mktemp("stack"), path)
    made.mount("exporter")
    listening = {"ANTHROPIC_EXPORTER_WEB_LISTEN_ADDRESS": made.listen("exporter")}
    env = made.environment("exporter") | listening
    with Program(made.command("exporter"), made.folder, env) as exporter:
        exporter.up(lambda: made.healthy("exporter"), 300)
        with StackServer(made, "alertmanager") as alerts, StackServer(made, "prometheus") as prometheus:
            yield {"exporter": exporter, "prometheus": prometheus, "alertmanager": alerts}


@pytest.mark.prometheus
class TestTheDemo:
    """What is to be seen at first sight."""

    def test_all_dashboards_are_full(self, stack: Mapping[str, Any]) -> None:
        now = clock.time()
        asked = [query for uid, board in boards().items() if uid != OWN for query in queries(board, now)]
        empty = {(query.board, query.title) for query in asked if not ask(stack["prometheus"], query)}
        assert empty <= FIRST_SIGHT.keys()

    def test_live_counters_go_on_where_the_history_ends(self, stack: Mapping[str, Any]) -> None:
        server = stack["prometheus"]
        server.wait_for(f"sum(increase({TOKENS}[2m])) > 0", bool, 200)
        assert server.scalar(f"max(resets({TOKENS}[37d]))") == 1, "live counters begin at 0, where the history ends"
        ends = server.scalar("max(anthropic_usage_watermark_timestamp_seconds)")
        assert server.scalar(f"count(count_over_time({TOKENS}[37d]))") == server.scalar(f"count({TOKENS} offset 2d)")
        assert ends > clock.time() - HOUR

    def test_rules_run_and_alerts_have_somewhere_to_go(self, stack: Mapping[str, Any]) -> None:
        server = stack["prometheus"]
        server.wait_for("anthropic:spend_spike_ratio:warning", bool, 100)
        running = [rule for group in server.data("rules")["groups"] for rule in group["rules"]]
        assert len(running) == len(rules.rules())
        assert [rule["name"] for rule in running if rule["health"] == "err"] == []
        [found] = server.data("alertmanagers")["activeAlertmanagers"]
        assert found["url"].startswith(stack["alertmanager"].url)
