"""The rules and their tests as files, and the labels that the series of an expression can carry."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

from exporter.metrics.catalog import BY_NAME
from tests.promql import family, metrics_of, nodes

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy/prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
BY_PROMETHEUS = {
    "up": frozenset({"job", "instance"}),
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "component", "window"}),
}
"""What Prometheus records itself; firing alerts have the labels of their expression, too."""
THRESHOLD = "anthropic:"

Labels = frozenset[str]
Rule = Mapping[str, Any]


@cache
def groups() -> tuple[Mapping[str, Any], ...]:
    """Return the groups of all rule files."""
    return tuple(group for path in RULES for group in yaml.safe_load(path.read_text())["groups"])


def rules() -> list[Rule]:
    return [rule for group in groups() for rule in group["rules"]]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if "alert" in rule]


@cache
def records() -> Mapping[str, str]:
    """Return the expressions of the recording rules by what they record."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def name_of(rule: Rule) -> str:
    return str(rule.get("record") or f"{rule['alert']} {' '.join(rule['labels'].values())}")


@cache
def cases() -> tuple[Mapping[str, Any], ...]:
    """Return every test of every test file."""
    return tuple(case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"])


def expected() -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield the alerts that the tests name, each time with what is expected to fire."""
    for case in cases():
        for check in case.get("alert_rule_test", []):
            yield check["alertname"], check["exp_alerts"]


def queries_of(template: str) -> list[str]:
    """Return the PromQL that an annotation asks, each value filled in."""
    return [found.replace("%q", '"x"') for found in re.findall(r'printf "([^"]*)"[^|}]*\| query', template)]


def known(metric: str) -> list[str]:
    """Return the metrics that a name or a pattern of names stands for; none if nobody has such a one."""
    if family(metric) in BY_NAME:
        return [metric]
    return [name for name in (*records(), *BY_PROMETHEUS, *BY_NAME) if re.fullmatch(metric, name)]


@cache
def labels_of(metric: str) -> Labels:
    """Return the labels that a metric has, be it the exporter's, recorded here, or Prometheus's own."""
    if metric in records():
        return carried(promql.parse(records()[metric])) or frozenset()
    if metric in BY_PROMETHEUS:
        return BY_PROMETHEUS[metric]
    buckets = {"le"} if metric.endswith("_bucket") else set()
    return frozenset(BY_NAME[family(metric)].labels) | {"job", "instance"} | buckets


def carried(node: Any) -> Labels | None:
    """Return the labels that the series of a parsed expression can carry, or None if it is a number."""
    inner = getattr(node, "vector_selector", None) or getattr(node, "expr", None)
    return CARRIED.get(type(node), lambda _: carried(inner))(node)


def _selector(node: Any) -> Labels:
    return frozenset().union(*(labels_of(metric) for name in metrics_of(node) for metric in known(name)))


def _call(node: Any) -> Labels | None:
    if node.func.return_type == promql.ValueType.Scalar:
        return None
    if node.func.name in {"absent", "absent_over_time"}:
        (selector,) = (found for found, _ in nodes(node) if isinstance(found, promql.VectorSelector))
        return frozenset(match.name for match in selector.matchers.matchers)
    made = {node.args[1].val} if node.func.name == "label_replace" else set()
    return frozenset(made).union(*(carried(each) or () for each in node.args))


def _aggregate(node: Any) -> Labels:
    inner = carried(node.expr) or frozenset()
    if node.modifier is None:
        return inner if str(node.op) in {"topk", "bottomk"} else frozenset()
    by = node.modifier.type == promql.AggModifierType.By
    return inner & set(node.modifier.labels) if by else inner - set(node.modifier.labels)


def _binary(node: Any) -> Labels | None:
    left, right = carried(node.lhs), carried(node.rhs)
    if left is None or right is None:
        return right if left is None else left
    operator = str(node.op)
    if operator == "or":
        return left | right
    if operator in {"and", "unless"}:
        return left
    on = matched(node)
    if on is None:
        return left & right
    if node.modifier.card == promql.VectorMatchCardinality.ManyToOne:
        return left | set(node.modifier.group_labels or ())
    return left & on


def matched(node: Any) -> Labels | None:
    """Return the labels that ``on`` names, or None without ``on``; ``ignoring`` is not used here."""
    matching = node.modifier and node.modifier.matching
    if not matching:
        return None
    assert matching.type == promql.LabelModifierType.Include, node.prettify()
    return frozenset(matching.labels)


CARRIED: Mapping[type, Callable[[Any], Labels | None]] = {
    promql.NumberLiteral: lambda _: None,
    promql.StringLiteral: lambda _: None,
    promql.VectorSelector: _selector,
    promql.Call: _call,
    promql.AggregateExpr: _aggregate,
    promql.BinaryExpr: _binary,
}
"""How each kind of expression makes its labels; all others only wrap one."""


def unknown_labels(expr: str) -> set[str]:
    """Return the labels that an expression names, and that the series there cannot carry."""
    return {label for node, _ in nodes(promql.parse(expr)) for label in _named(node)}


def _named(node: Any) -> set[str]:
    """Return what a part of an expression names beyond the labels of its series."""
    if isinstance(node, promql.VectorSelector) and "ALERTS" not in metrics_of(node):
        matchers = {match.name for match in node.matchers.matchers}
        return matchers - (carried(node) or frozenset()) - {"__name__"}
    if isinstance(node, promql.AggregateExpr) and node.modifier:
        alerting = any(isinstance(one, promql.VectorSelector) and one.name == "ALERTS" for one, _ in nodes(node))
        return set() if alerting else set(node.modifier.labels) - (carried(node.expr) or frozenset())
    if isinstance(node, promql.BinaryExpr):
        sides = (carried(node.lhs) or frozenset()) & (carried(node.rhs) or frozenset())
        return set(matched(node) or ()) - sides
    return set()
