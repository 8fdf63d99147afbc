"""The rules, their tests and their runbooks as files: that every name in them exists, and what an alert has to say."""

import re
from collections.abc import Iterator

import promql_parser as promql
import pytest
import yaml

from tests.dashboards import boards, seconds
from tests.promql import metrics_of, nodes, selectors
from tests.rules import (
    FOLDER,
    TESTS,
    THRESHOLD,
    Rule,
    alerts,
    carried,
    cases,
    expected,
    groups,
    known,
    labels_of,
    name_of,
    queries_of,
    records,
    rules,
    unknown_labels,
)

ORDER = (
    "anthropic-thresholds", "anthropic-usage-rates", "anthropic-usual-spend", "anthropic-bill", "anthropic-budget",
    "anthropic-spend", "anthropic-budget-alerts", "anthropic-exporter",
)  # fmt: skip
"""What is computed from what; a server evaluates each group in its own time, a test one after the other."""
LEVELS = {
    "organization": {"job"},
    "workspace": {"job", "workspace_id"},
    "api_key": {"job", "workspace_id", "api_key_id"},
    "model": {"job", "model"},
    "inference_geo": {"job", "inference_geo"},
    "budget": {"job", "workspace_id"},
    "anthropic": set[str](),
}
"""The labels of what is recorded, by its level; a budget is an organisation's or a workspace's."""
PROMISED = re.compile(r".*:usage_rate(15m|1h|6h|1d|7d)|.*:anthropic_cost_usd:forecast_month|.*_cache_read:ratio6h")
"""What is recorded for whoever asks, not for an alert."""
UNITS = {0, 1, 3600, 21600, 86400}
"""Numbers that decide nothing: none, one or more, and seconds."""
RUNBOOKS = FOLDER.parent / "runbooks.md"
RUNBOOK = "https://github.com/anthropic-exporter/anthropic-exporter/blob/main/deploy/runbooks.md#"
DASHBOARD = "http://localhost:3000/d/"

every_rule = pytest.mark.parametrize("rule", rules(), ids=name_of)
every_alert = pytest.mark.parametrize("alert", alerts(), ids=name_of)


def unknown(expr: str) -> set[str]:
    """Return the metrics of an expression that nobody has."""
    return {metric for selector, _ in selectors(expr) for metric in metrics_of(selector) if not known(metric)}


def used(*exprs: str) -> set[str]:
    return {metric for expr in exprs for selector, _ in selectors(expr) for metric in metrics_of(selector)}


def asked_by_tests() -> Iterator[str]:
    """Yield the input series and the expressions of the rule tests."""
    for case in cases():
        yield from (series["series"] for series in case["input_series"])
        yield from (check["expr"] for check in case.get("promql_expr_test", []))


def asked_by_runbooks() -> list[str]:
    blocks = re.findall(r"^```promql\n(.*?)^```", RUNBOOKS.read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@every_rule
def test_a_rule_names_only_metrics_and_labels_that_exist(rule: Rule) -> None:
    for expr in (rule["expr"], *queries_of(rule.get("annotations", {}).get("description", ""))):
        assert unknown(expr) == set()
        assert unknown_labels(expr) == set()


def test_the_rule_tests_name_only_metrics_and_labels_that_exist() -> None:
    for expr in asked_by_tests():
        assert unknown(expr) == set(), expr
        assert unknown_labels(expr) == set(), expr


def test_the_runbooks_ask_only_for_metrics_and_labels_that_exist() -> None:
    assert asked_by_runbooks()
    for expr in asked_by_runbooks():
        assert unknown(expr) == set(), expr
        assert unknown_labels(expr) == set(), expr


@pytest.mark.parametrize("name", records())
def test_a_recorded_name_says_level_metric_and_operation(name: str) -> None:
    found = re.fullmatch(r"([a-z_]+):([a-z][a-z0-9_]*):([a-z][a-z0-9_]*)", name)
    assert found
    assert (carried(promql.parse(records()[name])) or set()) == LEVELS[found[1]]


def test_what_is_recorded_is_used_or_promised() -> None:
    asked = [rule["expr"] for rule in rules()]
    asked += [query for alert in alerts() for query in queries_of(alert["annotations"]["description"])]
    unused = records().keys() - used(*asked)
    assert {name for name in unused if not PROMISED.fullmatch(name)} == set()


def test_a_name_is_recorded_once() -> None:
    names = [rule["record"] for rule in rules() if "record" in rule]
    assert len(names) == len(set(names))


def test_thresholds_are_series_and_each_is_used_by_an_alert() -> None:
    thresholds = {name for name in records() if name.startswith(THRESHOLD)}
    assert thresholds == {name for name in used(*(alert["expr"] for alert in alerts())) if name.startswith(THRESHOLD)}
    for name in thresholds:
        assert re.fullmatch(r"vector\([\d.]+\)", records()[name]), name
        assert re.fullmatch(r"anthropic:\w+:(critical|warning|info)", name)


@every_alert
def test_an_alert_has_no_number_of_its_own(alert: Rule) -> None:
    found = list(nodes(promql.parse(alert["expr"])))
    compared = {
        node.rhs.val
        for node, _ in found
        if isinstance(node, promql.BinaryExpr)
        if str(node.op) in {">", "<", ">=", "<=", "==", "!="}
        if isinstance(node.rhs, promql.NumberLiteral)
    }
    assert compared <= {0, 1}
    quantiles = {node.args[0].val for node, _ in found if getattr(node, "func", None) and "quantile" in node.func.name}
    assert {node.val for node, _ in found if isinstance(node, promql.NumberLiteral)} <= UNITS | quantiles


@every_alert
def test_a_threshold_is_of_the_severity_that_it_decides_on(alert: Rule) -> None:
    severities = {name.split(":")[2] for name in used(alert["expr"]) if name.startswith(THRESHOLD)}
    assert severities <= {alert["labels"]["severity"]} or alert["alert"] == "AnthropicRulesIncomplete"


@every_alert
def test_an_alert_says_who_what_and_how_much(alert: Rule) -> None:
    assert re.fullmatch(r"Anthropic([A-Z][a-z]+)+", alert["alert"])
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["labels"]["component"] in {"spend", "budget", "exporter"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{" not in alert["annotations"]["summary"]
    assert re.search(r"\$(value|labels)\b", alert["annotations"]["description"]) or "absent(" in alert["expr"]


@every_alert
def test_an_alert_names_labels_that_it_has(alert: Rule) -> None:
    has = (carried(promql.parse(alert["expr"])) or frozenset()) | alert["labels"].keys()
    text = " ".join(alert["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= has
    answers = {label for query in queries_of(text) for metric in used(query) for label in labels_of(metric)}
    asked = re.findall(r'\blabel "(\w+)"', text) + re.findall(r"\.Labels\.(\w+)", text)
    assert set(asked) <= answers


@every_alert
def test_an_alert_links_to_its_runbook_and_to_a_dashboard(alert: Rule) -> None:
    assert alert["annotations"]["runbook_url"] == RUNBOOK + alert["alert"].lower()
    uid, _, given = alert["annotations"]["dashboard_url"].removeprefix(DASHBOARD).partition("?")
    assert uid in boards()
    variables = {variable["name"] for variable in boards()[uid]["templating"]["list"]}
    filled = dict(re.findall(r"var-(\w+)=([^&]*)", given))
    assert filled.keys() <= variables
    for variable, value in filled.items():
        assert re.fullmatch(rf"{{{{ \$labels\.{variable}(_id)? \| urlquery }}}}", value)
    assert re.search(r"(^|&)from=now(-\d+[hd]|/M)&to=now$", given)


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert headings == list(dict.fromkeys(headings))
    assert set(headings) == {alert["alert"] for alert in alerts()}


def test_groups_run_before_what_they_recorded_is_out_of_sight() -> None:
    assert {group["name"] for group in groups()} == set(ORDER)
    assert all(seconds(group["interval"]) <= 120 for group in groups())


def test_the_rule_tests_name_alerts_and_groups_that_exist() -> None:
    assert {name for name, _ in expected()} <= {alert["alert"] for alert in alerts()}
    for path in TESTS:
        content = yaml.safe_load(path.read_text())
        order = content.get("group_eval_order", [])
        assert order == [name for name in ORDER if name in order], path.name
        loaded = [
            group["name"]
            for file in content["rule_files"]
            for group in yaml.safe_load((path.parent / file).read_text())["groups"]
        ]
        assert sorted(order or loaded) == sorted(loaded), path.name
