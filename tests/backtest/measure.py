"""The quiet month and the incidents, measured with our rules and with those that one would write first."""

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from exporter.model import DAY, MINUTE
from tests.backtest import rules
from tests.backtest.incidents import INCIDENTS, SPIKY, Incident
from tests.backtest.past import NIGHT, NOON, START, STEP, Story, past, shown
from tests.backtest.replay import Replay, branch
from tests.backtest.rules import Alert, Firing
from tests.history import make_blocks, past_texts
from tests.integration.conftest import PrometheusLeg

QUIET = START + 7 * DAY
"""From here on false alarms count: before it nobody knows what is usual."""
_USD, _TOKENS = "anthropic_estimated_cost_usd_total", "anthropic_usage_tokens_total"
RIVALS = (
    Alert("R1", f"sum(increase({_USD}[1d])) > 1.5 * sum(increase({_USD}[1d] offset 1d))", 5 * MINUTE),
    Alert("R2", f"sum(rate({_TOKENS}[1h])) > 3 * sum(rate({_TOKENS}[7d]))", 5 * MINUTE),
)


class Told(NamedTuple):
    """What fired from some time on, and where more can be asked."""

    replay: Replay
    fired: Sequence[Firing]

    def by(self, *names: str) -> list[Firing]:
        """Return what fired of these alerts."""
        return [firing for firing in self.fired if firing.name in names]

    @property
    def ours(self) -> list[Firing]:
        """What fired of our rules, but for a budget that is spent: in the end that is as planned."""
        without = {"AnthropicBudgetUsed", *(rival.name for rival in RIVALS)}
        return [firing for firing in self.fired if firing.name not in without]


class Measured(NamedTuple):
    """The quiet month, and the incidents by name."""

    quiet: Told
    incidents: Mapping[str, Told]


def measure(leg: PrometheusLeg, directory: Path) -> Measured:
    """Build and evaluate the quiet past and what branches off it; ``directory`` keeps it all."""
    told = sorted((*INCIDENTS, SPIKY), key=lambda incident: incident.seam - incident.end)
    base = Replay(leg, directory / "quiet", START, NOON, STEP)
    spawn = multiprocessing.get_context("spawn")
    with (
        redirect_stdout(StringIO()),
        ProcessPoolExecutor(2, spawn, logging.disable) as processes,
        ThreadPoolExecutor(2) as threads,
    ):
        month, texts = processes.submit(_month, base), [processes.submit(incident.texts) for incident in told]
        quiet = month.result()
        branches = threads.map(lambda one, text: _branch(base, one, text.result()), told, texts)
        return Measured(quiet, {incident.name: found for incident, found in zip(told, branches, strict=True)})


def _month(replay: Replay) -> Told:
    """Make the quiet past, and tell what fires in it."""
    with redirect_stdout(StringIO()):
        texts = past_texts(past(Story(), START, NOON).snapshots(NOON), shown)
        make_blocks(replay.data, replay.leg.promtool, texts, (NIGHT,))
        replay.record((NIGHT,))
        return _told(replay, [alert for alert in rules.alerts() if not _is_on_exporter(alert)], QUIET)


def _branch(base: Replay, incident: Incident, texts: Sequence[tuple[int, str]]) -> Told:
    """Tell what fires after the incident has begun."""
    directory = base.directory.with_name(incident.name)
    replay = Replay(base.leg, directory, incident.seam + incident.step, incident.end, incident.step)
    branch(base.data, directory, incident.seam)
    make_blocks(replay.data, base.leg.promtool, texts)
    replay.record()
    alerts = [alert for alert in rules.alerts() if incident.is_live or not _is_on_exporter(alert)]
    return _told(replay, alerts, incident.begin)


def _is_on_exporter(alert: Alert) -> bool:
    """Tell whether an alert is on what ``exporter.history`` does not make up."""
    return alert.labels["component"] == "exporter"


def _told(replay: Replay, alerts: Sequence[Alert], since: int) -> Told:
    return Told(replay, [firing for firing in replay.fire([*alerts, *RIVALS]) if firing.start >= since])
