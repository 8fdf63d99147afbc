"""The rules as promtool checks them, and their tests as promtool runs them."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.helm import CHART, case, only
from tests.rules import RULES, TESTS, Rule, alerts, expected, name_of

if TYPE_CHECKING:
    from tests.integration.conftest import PrometheusLeg


def promtool(leg: "PrometheusLeg", *arguments: str | Path) -> None:
    done = subprocess.run([leg.promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
def test_promtool_finds_no_fault_in_the_rules(prometheus_leg: "PrometheusLeg") -> None:
    promtool(prometheus_leg, "check", "rules", "--lint=all", "--lint-fatal", *RULES)


@pytest.mark.prometheus
def test_promtool_takes_the_charts_rules(prometheus_leg: "PrometheusLeg", tmp_path: Path) -> None:
    objects = case(CHART / "ci" / "everything-values.yaml")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(only(objects, "PrometheusRule")["spec"]))
    promtool(prometheus_leg, "check", "rules", tmp_path / "rules.yml")


@pytest.mark.prometheus
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(prometheus_leg: "PrometheusLeg", path: Path) -> None:
    promtool(prometheus_leg, "test", "rules", path)


@pytest.mark.parametrize("alert", alerts(), ids=name_of)
def test_each_alert_is_tested_to_fire_and_to_be_quiet(alert: Rule) -> None:
    checks = [firing for name, firing in expected() if name == alert["alert"]]
    fires = [one["exp_labels"] for firing in checks for one in firing]
    assert [] in checks
    assert any(alert["labels"].items() <= labels.items() for labels in fires)
