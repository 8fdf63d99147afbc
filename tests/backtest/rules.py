"""The rules as their files say them: what is recorded, level by level, and what alerts when."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.model import MINUTE
from tests import rules as files
from tests.dashboards import seconds

_FAMILY = re.compile(r"(?<![:\w])anthropic_\w+(?![:\w])")


class Recording(NamedTuple):
    """A recording rule."""

    record: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule; ``hold`` is its ``for`` and ``keep`` its ``keep_firing_for``, in seconds."""

    name: str
    expr: str
    hold: int = 0
    keep: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


class Firing(NamedTuple):
    """An alert that fires from ``start`` up to ``end`` (Unix seconds)."""

    name: str
    severity: str
    labels: Mapping[str, str]
    start: int
    end: int


def levels() -> list[list[Recording]]:
    """Return the recording rules in the order in which they can be evaluated: a level reads those before it only."""
    rules = {rule["record"]: Recording(rule["record"], rule["expr"]) for rule in files.rules() if "record" in rule}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            read = rules.keys() & set(re.findall(r"[\w:]+", rules[name].expr))
            depths[name] = 1 + max(map(depth, read), default=-1)
        return depths[name]

    deepest = max(map(depth, rules))
    return [[rule for name, rule in rules.items() if depths[name] == level] for level in range(deepest + 1)]


def alerts() -> list[Alert]:
    """Return the alerting rules."""
    return [
        Alert(
            rule["alert"],
            rule["expr"],
            seconds(rule.get("for", "0m")),
            seconds(rule.get("keep_firing_for", "0m")),
            rule["labels"],
        )
        for rule in files.rules()
        if "alert" in rule
    ]


def families() -> set[str]:
    """Return the exporter's families that the rules read."""
    return {family for rule in files.rules() for family in _FAMILY.findall(rule["expr"])}


def firings(alert: Alert, labels: Mapping[str, str], true: Iterable[int]) -> list[Firing]:
    """Return when an alert fires of which the expression is true at these evaluations, one a minute.

    As in Prometheus it fires once it was true for ``hold``, and after it is false it goes on for ``keep``.
    """
    found: list[Firing] = []
    for first, last in _runs(true):
        if found and first <= found[-1].end:
            found[-1] = found[-1]._replace(end=last + MINUTE + alert.keep)
        elif last - first >= alert.hold:
            severity = alert.labels.get("severity", "")
            found.append(Firing(alert.name, severity, labels, first + alert.hold, last + MINUTE + alert.keep))
    return found


def _runs(times: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and last of each run of consecutive minutes."""
    runs: list[tuple[int, int]] = []
    for time in times:
        if runs and time == runs[-1][1] + MINUTE:
            runs[-1] = runs[-1][0], time
        else:
            runs.append((time, time))
    return runs
