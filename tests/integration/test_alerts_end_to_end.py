"""A spike on its whole way: API, real program, real Prometheus with the rules, real Alertmanager, receiver."""

import json
import re
import subprocess
import time as clock
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.organization import HOUR, MINUTE, Tokens
from exporter.demo.server import serve
from tests.events import SONNET, Use, WrittenOrganization
from tests.integration.conftest import ROOT, AlertmanagerServer, until
from tests.world import KEY, World

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess, PrometheusLeg, PrometheusServer

pytestmark = [pytest.mark.prometheus, pytest.mark.process]

RULES, CONFIG = ROOT / "deploy/prometheus/rules", ROOT / "deploy/alertmanager/alertmanager.yml"
DOLLAR = Tokens(output=100_000)
"""What the list asks a dollar for."""
QUICK = (
    *("--usage.poll-interval", "1", "--usage.api-key-poll-interval", "1"),
    *("--usage.settle", "2", "--usage.hold", "5"),
)
USUAL = {
    "organization:anthropic_estimated_cost_usd:usage_rate1h": {},
    "workspace:anthropic_estimated_cost_usd:usage_rate1h_peak": {"workspace_id": "wrkspc_1"},
}
"""What the rules recorded in the week before, with the labels that it has."""
PACE = 240
"""Seconds between two recorded samples."""


def test_a_spike_while_the_exporter_was_down_reaches_the_receiver(
    exporter_process: "Callable[..., ExporterProcess]",
    prometheus: "Callable[..., PrometheusServer]",
    prometheus_leg: "PrometheusLeg",
    tmp_path: Path,
) -> None:
    """A dollar an hour is usual; three hundred are spent in the hour before the exporter starts again."""
    down = int(clock.time()) // MINUTE * MINUTE - HOUR
    spent = [Use(down - 2 * MINUTE, SONNET, DOLLAR)]
    spent += [Use(down + n * MINUTE, SONNET, Tokens(output=500_000)) for n in range(1, 60)]
    organization = WrittenOrganization(spent)
    _count(organization, down, tmp_path / "state.db")
    _remember(prometheus_leg, tmp_path / "week", int(clock.time()))
    received: list[dict[str, Any]] = []
    with (
        serve(AdminApi(organization, key=KEY, clock=clock.time)) as api,
        serve(_inbox(received)) as inbox,
        AlertmanagerServer(_folder(tmp_path / "alertmanager"), _delivering_to(inbox.url)) as alertmanager,
    ):
        program = exporter_process(
            *("--api.base-url", api.url, "--state.path", str(tmp_path / "state.db"), *QUICK),
            env={"ANTHROPIC_ADMIN_API_KEY": KEY},
        )
        prometheus(
            {"me": program.url},
            tmp_path / "week",
            config={"rule_files": [str(path) for path in _hurried(tmp_path)], "alerting": _to(alertmanager.url)},
        )
        told = until(lambda: _found(received, "AnthropicSpendSpike"), 90, lambda: f"received: {received}")
    assert told["labels"].items() >= {"severity": "critical", "job": "exporter", "workspace_id": "wrkspc_1"}.items()
    spoken = re.fullmatch(
        r"Workspace Research spends \$(\S+) an hour, where \$1\.00 is usual at this hour\."
        r" The largest part is API key bot, at \$\S+ an hour\.",
        told["annotations"]["description"],
    )
    assert spoken, told
    assert 200 < float(spoken[1]) < 400
    assert told["annotations"]["runbook_url"].endswith("#anthropicspendspike")


def _count(organization: WrittenOrganization, until_then: int, state: Path) -> None:
    """Let an exporter count up to a time, and stop it."""
    world = World(organization, until_then - 10 * MINUTE, *QUICK[:4], "--usage.settle", "2", state=state)
    world.run(10 * MINUTE)
    world.stop()


def _remember(leg: "PrometheusLeg", folder: Path, now: int) -> None:
    """Give a Prometheus the recorded series of a week in which a dollar was spent in each hour."""
    folder.mkdir()
    lines = [
        f"{name}{{{','.join(f'{key}={json.dumps(word)}' for key, word in ({'job': 'exporter'} | labels).items())}}} "
        f"{1 / HOUR} {time}\n"
        for name, labels in USUAL.items()
        for time in range(now - 8 * 24 * HOUR, now - HOUR, PACE)
    ]
    (folder / "week.om").write_text("".join([*lines, "# EOF\n"]))
    command = [str(leg.promtool), "tsdb", "create-blocks-from", "openmetrics", "week.om", "data"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _hurried(folder: Path) -> Iterator[Path]:
    """Yield copies of the rules that are evaluated every second, and wait for seconds instead of minutes."""
    for path in RULES.glob("*.yml"):
        text = re.sub(r"(for|interval): (\d+)m\b", r"\1: \2s", path.read_text())
        copy = folder / path.name
        copy.write_text(text)
        yield copy


def _delivering_to(url: str) -> str:
    """Return the example configuration, with this receiver, and without its patience."""
    text = re.sub(r"http://127\.0\.0\.1:\d+\S*", f"{url}/", CONFIG.read_text())
    return re.sub(r"group_wait: \w+", "group_wait: 1s", text)


def _to(url: str) -> dict[str, Any]:
    return {"alertmanagers": [{"static_configs": [{"targets": [url.removeprefix("http://")]}]}]}


def _inbox(received: list[dict[str, Any]]) -> Callable[[dict[str, Any], Callable[..., object]], Iterable[bytes]]:
    """Return a web application that keeps the alerts which are posted to it."""

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        received.extend(json.loads(environ["wsgi.input"].read(length))["alerts"])
        start_response("200 OK", [("Content-Length", "0")])
        return []

    return app


def _found(received: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    alerts = [alert for alert in list(received) if alert["labels"]["alertname"] == name]
    return next((alert for alert in alerts if alert["labels"]["severity"] == "critical"), None)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
