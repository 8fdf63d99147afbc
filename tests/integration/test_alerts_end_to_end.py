"""A spike on its whole way: API, real program, real Prometheus with the rules, real Alertmanager, receiver."""

import re
import time as clock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY, HOUR, MINUTE, Tokens
from exporter.demo.server import serve
from exporter.history.backfill.openmetrics import series
from tests.events import SONNET, Use, WrittenOrganization
from tests.history import make_blocks
from tests.integration.conftest import ROOT, AlertmanagerServer, Inbox, impatient, until
from tests.world import KEY, World

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess, PrometheusLeg, PrometheusServer

pytestmark = [pytest.mark.prometheus, pytest.mark.process]

RULES, CONFIG = ROOT / "deploy/prometheus/rules", ROOT / "deploy/alertmanager/alertmanager.yml"
DOLLAR = Tokens(output=100_000)
"""What the list asks a dollar for."""
COUNTING = ("--usage.poll-interval", "1", "--usage.api-key-poll-interval", "1", "--usage.settle", "2")
QUICK = (*COUNTING, "--usage.hold", "5")
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
    _remember(prometheus_leg, tmp_path / "week/data", int(clock.time()))
    with (
        serve(AdminApi(organization, key=KEY, clock=clock.time)) as api,
        Inbox() as inbox,
        AlertmanagerServer(tmp_path, impatient(CONFIG.read_text(), inbox)) as alertmanager,
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
        told = until(lambda: _found(inbox, "AnthropicSpendSpike"), 90, lambda: f"received: {inbox.messages}")
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
    world = World(organization, until_then - 10 * MINUTE, *COUNTING, state=state)
    world.run(10 * MINUTE)
    world.stop()


def _remember(leg: "PrometheusLeg", data: Path, now: int) -> None:
    """Give a Prometheus the recorded series of a week in which a dollar was spent in each hour."""
    texts = (
        (time, f"{series(name, {'job': 'exporter'} | labels)} {1 / HOUR} {time}\n")
        for time in range(now - 8 * DAY, now - HOUR, PACE)
        for name, labels in USUAL.items()
    )
    make_blocks(data, leg.promtool, texts)


def _hurried(folder: Path) -> Iterator[Path]:
    """Yield copies of the rules that are evaluated every second, and wait for seconds instead of minutes."""
    for path in RULES.glob("*.yml"):
        text = re.sub(r"(for|interval): (\d+)m\b", r"\1: \2s", path.read_text())
        copy = folder / path.name
        copy.write_text(text)
        yield copy


def _to(url: str) -> dict[str, Any]:
    return {"alertmanagers": [{"static_configs": [{"targets": [url.removeprefix("http://")]}]}]}


def _found(inbox: Inbox, name: str) -> dict[str, Any] | None:
    alerts = [alert for _, body in list(inbox.messages) for alert in body["alerts"]]
    wanted = {"alertname": name, "severity": "critical"}.items()
    return next((alert for alert in alerts if wanted <= alert["labels"].items()), None)
