"""The example configuration in the real Alertmanager, old and new: who gets what, and what silences what."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from tests import rules
from tests.integration.conftest import ROOT, AlertmanagerLeg, AlertmanagerServer, Inbox, Result, impatient, until

pytestmark = pytest.mark.prometheus

CONFIG = ROOT / "deploy/alertmanager/alertmanager.yml"
Labels: TypeAlias = dict[str, str]
RULES: list[Labels] = [{"alertname": rule["alert"]} | rule["labels"] for rule in rules.alerts()]
"""The labels that the rules themselves give to their alerts."""
TOLD = {"critical": ["pager", "team"], "warning": ["team"], "info": ["quiet"]}


def fired(name: str, severity: str, **labels: str) -> Labels:
    """Return the labels of an alert of the rules that fires."""
    given = {"alertname": name, "severity": severity} | {key: labels[key] for key in labels.keys() & {"window"}}
    found = [rule for rule in RULES if given.items() <= rule.items()]
    assert found, f"the rules have no {given}"
    return found[0] | labels


RESEARCH, SUPPORT = {"workspace_id": "wrkspc_1"}, {"workspace_id": "wrkspc_2"}
ME, OTHER = {"instance": "me"}, {"instance": "other"}
SPIKE = fired("AnthropicSpendSpike", "critical", **RESEARCH)
SMALL_SPIKE = fired("AnthropicSpendSpike", "warning", **RESEARCH)
KEY_SPIKE = fired("AnthropicApiKeySpendSpike", "warning", api_key_id="apikey_1", **RESEARCH)
BURN = fired("AnthropicBudgetBurn", "critical", window="1h", **RESEARCH)
SLOW_BURN, SLOWER_BURN, SLOWEST_BURN = (
    fired("AnthropicBudgetBurn", severity, window=window, **RESEARCH)
    for severity, window in (("warning", "6h"), ("warning", "1d"), ("info", "7d"))
)
SPENT, MOSTLY_SPENT, HALF_SPENT = (
    fired("AnthropicBudgetUsed", severity, **RESEARCH) for severity in ("critical", "warning", "info")
)
FORECAST = fired("AnthropicBudgetForecastExceeded", "warning", **RESEARCH)
JUMP = fired("AnthropicDailyCostJump", "warning", **RESEARCH)
DOWN = fired("AnthropicExporterDown", "critical", **ME)
STALE = fired("AnthropicUsageStale", "critical", report="usage", **ME)
STALE_SOON = fired("AnthropicUsageStale", "warning", report="usage", **ME)
STALE_KEYS = fired("AnthropicUsageStale", "warning", report="api_key_usage", **ME)
REFUSED = fired("AnthropicAuthRefused", "critical", report="usage", reason="auth", **ME)
REFUSED_COST = fired("AnthropicAuthRefused", "critical", report="cost", reason="permission", **ME)
UNWRITTEN = fired("AnthropicStateNotPersisted", "critical", **ME)
RESETS = fired("AnthropicCounterResets", "warning", **ME)
TWO = fired("AnthropicTwoWriters", "warning", organization_id="org_1")


class Case(NamedTuple):
    """Alerts that fire together, and those of them that are to be silent."""

    alerts: Sequence[Labels]
    silent: Sequence[Labels] = ()


CASES = {
    "nobody_is_told_of_money_by_an_exporter_that_is_down": Case(
        [DOWN, SPIKE, BURN, KEY_SPIKE], [SPIKE, BURN, KEY_SPIKE]
    ),
    "nor_by_counters_that_stand_still": Case([STALE, SPIKE, BURN], [SPIKE, BURN]),
    "nor_by_those_that_have_just_come_to_stand": Case([STALE_SOON, SPIKE], [SPIKE]),
    "nor_with_a_key_that_is_refused": Case([REFUSED, SPIKE, BURN], [SPIKE, BURN]),
    "nor_by_an_exporter_that_keeps_nothing": Case([UNWRITTEN, SPIKE, BURN], [SPIKE, BURN]),
    "nor_by_counters_that_begin_anew": Case([RESETS, SPIKE, BURN], [SPIKE, BURN]),
    "the_bill_needs_no_meter": Case([DOWN, SPENT, JUMP]),
    "the_view_by_key_does_not_stop_the_others": Case([STALE_KEYS, SPIKE, KEY_SPIKE, BURN]),
    "a_refused_cost_report_stops_no_estimate": Case([REFUSED_COST, SPIKE, BURN]),
    "two_writers_silence_nothing": Case([TWO, SPIKE, BURN]),
    "another_job's_meter_is_another_matter": Case([DOWN | {"job": "-another"}, SPIKE, BURN]),
    "a_page_replaces_the_warning_of_the_same_workspace": Case([SPIKE, SMALL_SPIKE], [SMALL_SPIKE]),
    "but_not_of_another_workspace": Case([SPIKE, SMALL_SPIKE | SUPPORT]),
    "nor_of_another_job": Case([SPIKE, SMALL_SPIKE | {"job": "-another"}]),
    "nor_another_alert": Case([SPIKE, KEY_SPIKE]),
    "the_organisation's_budget_is_not_its_workspaces'": Case(
        [{name: word for name, word in BURN.items() if name != "workspace_id"}, SLOW_BURN]
    ),
    "counters_that_stand_still_for_long_are_told_once": Case([STALE, STALE_SOON], [STALE_SOON]),
    "each_report_stands_still_by_itself": Case([STALE, STALE_KEYS]),
    "an_exporter_that_is_down_is_all_there_is_to_tell_of_it": Case(
        [DOWN, STALE, UNWRITTEN, RESETS], [STALE, UNWRITTEN, RESETS]
    ),
    "but_not_of_another_instance": Case([DOWN, UNWRITTEN | OTHER, TWO]),
    "a_refused_key_is_why_counters_stand_still": Case([REFUSED, STALE, STALE_KEYS], [STALE, STALE_KEYS]),
    "a_full_disk_is_why_counters_stand_still": Case([UNWRITTEN, STALE], [STALE]),
    "a_refused_cost_report_is_not_why": Case([REFUSED_COST, STALE]),
    "the_fastest_burn_is_told": Case(
        [BURN, SLOW_BURN, SLOWER_BURN, SLOWEST_BURN], [SLOW_BURN, SLOWER_BURN, SLOWEST_BURN]
    ),
    "a_burn_of_hours_comes_before_one_of_days": Case(
        [SLOW_BURN, SLOWER_BURN, SLOWEST_BURN], [SLOWER_BURN, SLOWEST_BURN]
    ),
    "a_burn_of_a_day_comes_before_one_of_a_week": Case([SLOWER_BURN, SLOWEST_BURN], [SLOWEST_BURN]),
    "a_spent_budget_needs_no_forecast": Case(
        [SPENT, MOSTLY_SPENT, HALF_SPENT, FORECAST], [MOSTLY_SPENT, HALF_SPENT, FORECAST]
    ),
    "a_half_spent_budget_does": Case([HALF_SPENT, FORECAST]),
}


@pytest.fixture(scope="module")
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        yield inbox


@pytest.fixture(scope="module")
def alertmanager(
    alertmanager_leg: AlertmanagerLeg, inbox: Inbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AlertmanagerServer]:
    config = impatient(CONFIG.read_text(), inbox)
    with AlertmanagerServer(tmp_path_factory.mktemp("alertmanager"), config, alertmanager_leg) as server:
        yield server


@pytest.fixture
def job(jobs: Iterator[int]) -> str:
    """Return the name of a job that no other test has."""
    return f"job-{next(jobs)}"


@pytest.fixture(scope="module")
def jobs() -> Iterator[int]:
    return count()


def _examples() -> str:
    """Return the configuration with its commented receivers in place of the others."""
    routes, receivers = CONFIG.read_text().split("\nreceivers:\n")
    named = re.sub(r"^    (?!# ).*\n", "", receivers, flags=re.MULTILINE)
    return f"{routes}\nreceivers:\n{re.sub('^    # ', '    ', named, flags=re.MULTILINE)}"


def _in_job(job: str, labels: Labels) -> Labels:
    return labels | {"job": job + labels.get("job", "")}


def _post(server: AlertmanagerServer, *alerts: Labels) -> None:
    server.post([{"labels": labels, "annotations": {"summary": labels["alertname"]}} for labels in alerts])


def _silent(server: AlertmanagerServer, alerts: Sequence[Labels]) -> list[Labels]:
    """Return those of the alerts that are inhibited."""
    inhibited: Result = [alert["labels"] for alert in server.alerts() if alert["status"]["inhibitedBy"]]
    return [labels for labels in alerts if labels in inhibited]


def _checked(leg: AlertmanagerLeg, path: Path) -> str:
    ran = subprocess.run([leg.amtool, "check-config", path], capture_output=True, check=False, text=True)
    return ran.stderr if ran.returncode else ""


def test_the_configuration_is_valid(alertmanager_leg: AlertmanagerLeg) -> None:
    assert _checked(alertmanager_leg, CONFIG) == ""


def test_so_it_is_with_the_commented_receivers(alertmanager_leg: AlertmanagerLeg, tmp_path: Path) -> None:
    path = tmp_path / "alertmanager.yml"
    path.write_text(_examples())
    kinds = [sorted(receiver) for receiver in yaml.safe_load(path.read_text())["receivers"]]
    assert kinds == [["name"], ["name", "slack_configs"], ["email_configs", "name"]]
    assert _checked(alertmanager_leg, path) == ""


def test_each_alert_that_it_names_is_one_of_the_rules() -> None:
    assert set(re.findall(r"Anthropic\w+", CONFIG.read_text())) <= {labels["alertname"] for labels in RULES}


def test_each_alert_goes_to_the_receiver_of_its_severity(alertmanager_leg: AlertmanagerLeg) -> None:
    for labels in RULES:
        assert _receivers(alertmanager_leg, labels | {"job": "anthropic"}) == TOLD[labels["severity"]], labels


def test_an_alert_without_a_severity_goes_to_the_team(alertmanager_leg: AlertmanagerLeg) -> None:
    assert _receivers(alertmanager_leg, {"alertname": "SomethingElse"}) == ["team"]


def _receivers(leg: AlertmanagerLeg, labels: Labels) -> list[str]:
    words = [f"{name}={word}" for name, word in labels.items()]
    command = [str(leg.amtool), "config", "routes", "test", f"--config.file={CONFIG}", *words]
    told: str = subprocess.check_output(command, text=True)
    return told.strip().split(",")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_of_alerts_that_fire_together(case: Case, alertmanager: AlertmanagerServer, job: str) -> None:
    alerts = [_in_job(job, labels) for labels in case.alerts]
    _post(alertmanager, *alerts)
    # Alerts are taken in order: when the last pair has had its effect, all have.
    last = [_in_job(f"{job}-last", labels) for labels in (DOWN, SPIKE)]
    _post(alertmanager, *last)
    until(lambda: _silent(alertmanager, last) or None, 10, lambda: f"not inhibited: {alertmanager.alerts()}")
    assert _silent(alertmanager, alerts) == [_in_job(job, labels) for labels in case.silent]


def test_a_spike_and_the_key_that_made_it_are_one_message(
    alertmanager: AlertmanagerServer, inbox: Inbox, job: str
) -> None:
    """And the workspace's budget is in it; another workspace and the exporter are not."""
    resting = fired("AnthropicSpendSpike", "warning", **SUPPORT)
    slow = fired("AnthropicLateTokens", "info", **ME)
    skewed = fired("AnthropicClockSkew", "warning", **ME)
    alerts = (SPIKE, SMALL_SPIKE, KEY_SPIKE, SLOW_BURN, resting, slow, skewed)
    _post(alertmanager, *(_in_job(job, labels) for labels in alerts))
    expected = {
        (job, "wrkspc_1"): [
            ("/pager", ["AnthropicSpendSpike"]),
            ("/team", ["AnthropicApiKeySpendSpike", "AnthropicBudgetBurn", "AnthropicSpendSpike"]),
        ],
        (job, "wrkspc_2"): [("/team", ["AnthropicSpendSpike"])],
        (job, ""): [("/quiet", ["AnthropicLateTokens"]), ("/team", ["AnthropicClockSkew"])],
    }

    def told() -> dict[tuple[str, str], list[tuple[str, list[str]]]]:
        return {
            (name, workspace): inbox.groups(job=name, **({"workspace_id": workspace} if workspace else {}))
            for name, workspace in expected
        }

    until(lambda: True if told() == expected else None, 15, lambda: f"received: {told()}")


def test_the_commented_slack_message_says_it_all(
    alertmanager_leg: AlertmanagerLeg, inbox: Inbox, tmp_path: Path, job: str
) -> None:
    config = impatient(_examples(), inbox).replace(
        "api_url_file: /etc/alertmanager/slack-url", f"api_url: {inbox.url}/slack"
    )
    said = {"description": "It spends.", "dashboard_url": "http://grafana/d", "runbook_url": "http://runbook/r"}
    alerts = [
        {"labels": _in_job(job, labels), "annotations": {"summary": summary} | said}
        for labels, summary in ((SMALL_SPIKE, "A workspace spends."), (KEY_SPIKE, "A key spends."))
    ]
    with AlertmanagerServer(tmp_path, config, alertmanager_leg) as server:
        server.post(alerts)
        body = until(lambda: _slack(inbox), 15, lambda: f"received: {inbox.messages}\n{server.log()}")
    assert body["title"] == f"FIRING: Several alerts ({job})"
    spoken = r"\*(.*)\* \(warning\)\nIt spends\.\n<http://grafana/d\|Dashboard> <http://runbook/r\|Runbook>"
    assert sorted(re.findall(spoken, body["text"])) == ["A key spends.", "A workspace spends."]


def _slack(inbox: Inbox) -> dict[str, Any] | None:
    """Return the newest message, and forget it."""
    found = [message for message in list(inbox.messages) if message[0] == "/slack"]
    for message in found:
        inbox.messages.remove(message)
    return dict(found[-1][1]["attachments"][0]) if found else None
