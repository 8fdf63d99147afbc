"""The rules on the demo organisation's past: a quiet month is silent, and incidents are found."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from exporter.model import DAY, MINUTE
from tests.backtest import rules
from tests.backtest.incidents import INCIDENTS, SPIKE, SPIKY, Incident
from tests.backtest.measure import QUIET, Measured, measure
from tests.backtest.past import NOON, START
from tests.backtest.rules import Alert, Firing
from tests.backtest.table import ROLLOVER, drawn, is_about, table
from tests.integration.conftest import ROOT, lacking, prometheus_binaries

pytestmark = pytest.mark.prometheus

FIRST, *_ = INCIDENTS
FOUND = [incident for incident in INCIDENTS if incident.api_key_ids and incident.finds]
(NEW,) = (incident for incident in INCIDENTS if incident.api_key_ids and not incident.finds)
(OUTAGE,) = (incident for incident in INCIDENTS if incident.faults)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    leg = prometheus_binaries().get("3") or lacking("Prometheus 3.x (3.5 or newer) with its promtool")
    return measure(leg, tmp_path_factory.mktemp("backtest"))


def by_name(incident: Incident) -> str:
    return incident.name


def spend_spikes(thresholds: dict[str, float]) -> list[Alert]:
    """Return the alerts on spikes with other thresholds."""
    alerts = [alert for alert in rules.alerts() if alert.name in SPIKE]
    for name, value in thresholds.items():
        assert any(f"scalar({name})" in alert.expr for alert in alerts), name
        alerts = [replace(alert, expr=alert.expr.replace(f"scalar({name})", str(value))) for alert in alerts]
    return alerts


def names(fired: Iterable[Firing]) -> set[str]:
    return {firing.name for firing in fired}


def test_a_quiet_month_is_silent(measured: Measured) -> None:
    assert NOON - QUIET >= 28 * DAY
    assert QUIET < ROLLOVER < NOON
    assert not measured.quiet.ours


def test_the_rivals_are_not_silent(measured: Measured) -> None:
    assert measured.quiet.by("R1")
    assert measured.quiet.by("R2")


def test_the_budgets_of_the_quiet_month_are_live(measured: Measured) -> None:
    assert measured.quiet.by("AnthropicBudgetUsed")


@pytest.mark.parametrize("incident", FOUND, ids=by_name)
def test_an_incident_is_found_in_time(measured: Measured, incident: Incident) -> None:
    fired = measured.incidents[incident.name].by(*incident.finds)
    assert fired
    assert fired[0].start - incident.visible() <= incident.within


@pytest.mark.parametrize("incident", FOUND, ids=by_name)
def test_an_alert_on_a_key_names_the_right_one(measured: Measured, incident: Incident) -> None:
    told = {firing.labels.get("api_key_id") for firing in measured.incidents[incident.name].ours}
    assert told <= {None, *incident.api_key_ids}


def test_a_creep_is_no_spike(measured: Measured) -> None:
    (creep,) = (incident for incident in FOUND if not incident.is_live)
    assert not measured.incidents[creep.name].by(*SPIKE)


def test_what_is_new_and_modest_alerts_nobody(measured: Measured) -> None:
    assert all(firing.severity == "info" for firing in measured.incidents[NEW.name].ours)


def test_an_outage_is_told_as_one(measured: Measured) -> None:
    told = measured.incidents[OUTAGE.name]
    assert names(told.ours) == set(OUTAGE.finds)
    assert told.by("R2"), "which takes the catch-up for a spike"


def test_no_random_spike_no_alert(measured: Measured) -> None:
    fired, spikes = measured.incidents[SPIKY.name].ours, drawn()
    assert names(fired) == set(SPIKE)
    assert [firing for firing in fired if not any(is_about(firing, spike) for spike in spikes)] == []


def test_low_thresholds_make_false_alarms(measured: Measured) -> None:
    low = spend_spikes({"anthropic:spend_spike_ratio:warning": 1.2, "anthropic:spend_spike_usd:warning": 2})
    assert measured.quiet.replay.fire(low)


def test_a_high_threshold_misses_the_spike(measured: Measured) -> None:
    high = spend_spikes({"anthropic:spend_spike_ratio:warning": 100})
    fired = measured.incidents[FIRST.name].replay.fire(high)
    assert not [firing for firing in fired if firing.name == "AnthropicSpendSpike"]


def test_the_readme_has_the_table(measured: Measured) -> None:
    readme = (ROOT / "README.md").read_text()
    assert readme.partition("<!-- backtest -->\n")[2].partition("\n<!-- end -->")[0] == table(measured)


FIRINGS = {
    "too short": ([0, 1], []),
    "long enough": ([0, 1, 2], [(2, 6)]),
    "with a pause that is kept": ([0, 1, 2, 5], [(2, 9)]),
    "with one that is not": ([0, 1, 2, 7, 8, 9], [(2, 6), (9, 13)]),
    "a moment after the end": ([0, 1, 2, 8], [(2, 6)]),
}
"""Minutes at which it is true, and from when to when an alert fires, for two minutes and kept for three."""


@pytest.mark.parametrize("case", FIRINGS)
def test_alerts_fire_as_in_prometheus(case: str) -> None:
    true, expected = FIRINGS[case]
    found = rules.firings(Alert("A", "", 2 * MINUTE, 3 * MINUTE), {}, [START + minute * MINUTE for minute in true])
    assert [((one.start - START) / MINUTE, (one.end - START) / MINUTE) for one in found] == expected
