"""The way past one machine: an agent that writes to a VictoriaMetrics, as ``deploy/prometheus/agent.yml`` has it."""

import os
import time as clock
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests import rules
from tests.dashboards import boards, queries
from tests.integration.conftest import (
    ExporterProcess,
    Program,
    QueryServer,
    free_port,
    lacking,
    prometheus_binaries,
)
from tests.tools import ROOT, tool
from tests.world import TOKENS, total

pytestmark = pytest.mark.prometheus

FOLDER = ROOT / "deploy" / "prometheus"


class VictoriaMetrics(QueryServer):
    """A store that answers what a Prometheus answers."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        listen = f"-httpListenAddr={self.url.removeprefix('http://')}"
        command: list[str | Path] = [
            tool("victoria-metrics"),
            listen,
            f"-storageDataPath={directory}",
            "-search.latencyOffset=0s",
            *flags,
        ]
        super().__init__(command, directory, os.environ)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VictoriaMetrics]:
    directory = tmp_path / "store"
    directory.mkdir()
    with VictoriaMetrics(directory) as server:
        yield server


def test_what_the_agent_writes_is_what_the_exporter_shows(
    exporter_process: Callable[..., ExporterProcess], store: VictoriaMetrics, tmp_path: Path
) -> None:
    leg = prometheus_binaries().get("3") or lacking("Prometheus 3.x")
    exporter = exporter_process("demo")
    config = (FOLDER / "agent.yml").read_text().replace("127.0.0.1:10017", exporter.url.split("/")[2])
    (tmp_path / "agent.yml").write_text(
        config.replace("http://127.0.0.1:8428", store.url).replace("scrape_interval: 1m", "scrape_interval: 1s")
    )
    listen = f"--web.listen-address=127.0.0.1:{free_port()}"
    storage = f"--storage.agent.path={tmp_path / 'agent'}"
    with Program([leg.prometheus, "--agent", "--config.file=agent.yml", listen, storage], tmp_path, os.environ):
        store.wait_for(f"sum({TOKENS}) > 0", bool, 60)
        exporter.wait_for(lambda samples: total(samples, TOKENS) > 0)
        written = store.wait_for(f"count({TOKENS}) by (job, instance)", bool)
        assert [row["metric"] for row in written] == [{"job": "anthropic", "instance": "my-organisation"}]
        before = total(exporter.samples(), TOKENS)
        [there] = store.wait_for(f"sum({TOKENS}) >= {before}", bool)
        assert before <= float(there["value"][1]) <= total(exporter.samples(), TOKENS)
        assert store.scalar(f"count({TOKENS})") == len([key for key in exporter.samples() if key[0] == TOKENS])


def test_every_expression_of_rules_and_dashboards_runs_there(store: VictoriaMetrics) -> None:
    now = clock.time()
    asked = [rule["expr"] for rule in rules.rules()]
    asked += [query.expr for board in boards().values() for query in queries(board, now)]
    for expr in asked:
        store.query(expr, now)


def test_an_agent_scrapes_as_the_server_does() -> None:
    agent, server = (yaml.safe_load((FOLDER / name).read_text()) for name in ("agent.yml", "prometheus.yml"))
    assert agent["scrape_configs"] == server["scrape_configs"]
    assert agent["global"]["scrape_interval"] == server["global"]["scrape_interval"]
