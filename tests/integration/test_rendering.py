"""Every dashboard is drawn from a live Prometheus, rendered with Grafana's front-end libraries."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.history import NOW
from tests.integration.conftest import ROOT, PrometheusServer
from tests.rendering.draw import Drawing, Renderer, faults, missing, renderer

DASHBOARDS = sorted((ROOT / "grafana/dashboards").glob("*.json"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
DATA_SOURCE = {"type": "datasource", "name": "datasource", "query": "prometheus"}
TOKENS = "anthropic_usage_tokens_total"

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(
        missing() is not None and not os.environ.get("CI"),
        reason=f"{missing()}; .ci/rendering installs it on Debian 12",
    ),
    pytest.mark.parametrize("prometheus_leg", ["3"], ids=["prometheus-3"], indirect=True),
]


@pytest.fixture(scope="module")
def drawer() -> Iterator[Renderer]:
    assert missing() is None
    with renderer() as running:
        yield running


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Say where the pictures go: set ``RENDERING_DIR`` to keep them."""
    given = os.environ.get("RENDERING_DIR")
    directory = Path(given) if given else tmp_path_factory.mktemp("pictures")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_is_drawn_without_a_fault(
    path: Path, drawer: Renderer, history_prometheus: PrometheusServer, pictures: Path
) -> None:
    dashboard = json.loads(path.read_text())
    drawing = drawer.draw(dashboard, history_prometheus.url, now=NOW, theme=os.environ.get("RENDERING_THEME", "dark"))
    (pictures / path.with_suffix(".png").name).write_bytes(drawing.png)
    assert drawing.report["settled"], drawing.report["waiting"]
    assert faults(drawing.report) == {}
    assert drawing.report["panels"] > 0


def query(expr: str, **more: Any) -> dict[str, Any]:
    return {"datasource": SOURCE, "expr": expr, "refId": "A", **more}


def panel(kind: str, *targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    named = [{**target, "refId": letter} for target, letter in zip(targets, "ABCDEFG", strict=False)]
    return {"type": kind, "title": kind, "datasource": SOURCE, "targets": named, **more}


def dashboard(*panels: dict[str, Any], variables: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """Return a dashboard of six hours, two panels in a row; the panels are numbered from 1."""
    placed = [
        {"id": number + 1, "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8}, **one}
        for number, one in enumerate(panels)
    ]
    return {
        "title": "Test",
        "panels": placed,
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [DATA_SOURCE, *variables]},
    }


def ids(drawing: Drawing, fault: str) -> set[int]:
    return {note["id"] for note in drawing.report[fault]}


def test_faults_are_found(drawer: Renderer, history_prometheus: PrometheusServer) -> None:
    long_text = {"fieldConfig": {"defaults": {"unit": "suffix: " + "tokens " * 30}, "overrides": []}}
    legend = {"showLegend": True, "placement": "right", "displayMode": "list", "width": 600}
    drawing = drawer.draw(
        dashboard(
            panel("stat", query("sum(")),
            panel("stat", query("no_such_metric", instant=True)),
            panel("bargauge", query("time()", instant=True), title="A title " * 40),
            panel("timeseries", query(TOKENS, legendFormat="{{model}}"), options={"legend": legend}),
            panel("stat", query("1"), datasource={"uid": "another"}),
            panel("timeseries", query("1"), fieldConfig={"defaults": {"custom": {"lineWitdh": 1}}, "overrides": []}),
            panel("heatmap", query("1")),
            panel("table", query("time()", instant=True, format="table"), **long_text),
            panel("stat", query("no_such_metric"), fieldConfig={"defaults": {"noValue": "none"}, "overrides": []}),
        ),
        history_prometheus.url,
        now=NOW,
    )
    assert ids(drawing, "failed") == {1, 5, 7}
    assert ids(drawing, "empty") == {2}
    assert ids(drawing, "emptyOnPurpose") == {9}
    assert ids(drawing, "clipped") == {3, 8}
    assert ids(drawing, "legends") == {4}
    assert drawing.report["errors"] == ["panel-6: fields of a timeseries have no option custom.lineWitdh"]
    assert {failure["of"] for failure in drawing.report["failedQueries"]} == {"panel-1"}


@pytest.mark.parametrize(
    ("target", "panel_options", "step", "window"),
    [
        ({}, {"maxDataPoints": 10_000}, 60, 240),
        ({}, {"maxDataPoints": 72}, 300, 360),
        ({"interval": "5m"}, {"maxDataPoints": 10_000}, 300, 1200),
        ({"interval": "5m"}, {"maxDataPoints": 12}, 1800, 2100),
        ({}, {"maxDataPoints": 10_000, "interval": "10m"}, 600, 660),
    ],
)
def test_steps_and_windows_are_grafanas(
    target: dict[str, Any], panel_options: dict[str, Any], step: int, window: int,
    drawer: Renderer, history_prometheus: PrometheusServer,
) -> None:  # fmt: skip
    asked = query(f"sum(rate({TOKENS}[$__rate_interval])) + $__interval_ms", **target)
    one = dashboard(panel("timeseries", asked, **panel_options))
    drawing = drawer.draw(one, history_prometheus.url, now=NOW)
    assert {(made["step"], made["expr"]) for made in drawing.report["queries"]} == {
        (step, f"sum(rate({TOKENS}[{window}s])) + {step * 1000}")
    }


def test_variables_ranges_and_tables(drawer: Renderer, history_prometheus: PrometheusServer) -> None:
    named = r'/workspace_name="(?<text>[^"]+)|workspace_id="(?<value>[^"]+)/g'
    found = "query_result(max by (workspace_id, workspace_name) (anthropic_workspace_info))"
    choice = {"multi": True, "includeAll": True, "allValue": ".+", "current": {"value": "$__all", "text": "All"}}
    source = {"datasource": SOURCE, "refresh": 2, "sort": 1}
    variables = (
        {"type": "query", "name": "workspace", "query": found, "regex": named, **choice, **source},
        {"type": "query", "name": "model", "query": f"label_values({TOKENS}, model)", **choice, **source},
        {"type": "custom", "name": "tier", "query": "a.b,standard", "multi": True},
        {"type": "custom", "name": "factor", "query": "2,3", "current": {"value": "3", "text": "3"}},
        {"type": "constant", "name": "metric", "query": TOKENS},
        {"type": "textbox", "name": "text", "query": "some text"},
        {"type": "interval", "name": "every", "query": "1h,1d", "current": {"value": "1d"}},
    )
    pick = '$metric{workspace_id=~"$workspace", model=~"$model", service_tier=~"$tier"}'
    instant = {"instant": True, "format": "table"}
    names = {"Value #A": "Amount", "Value #B": "Share", "model": "Model"}
    transformations = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": {}}},
    ]
    money = {"id": "unit", "value": "currency:financial:$"}, {"id": "decimals", "value": 2}
    hidden = {"id": "custom.hidden", "value": True}
    overrides = [
        {"matcher": {"id": "byName", "options": "Amount"}, "properties": list(money)},
        {"matcher": {"id": "byName", "options": "Share"}, "properties": [hidden]},
    ]
    drawing = drawer.draw(
        dashboard(
            panel(
                "table",
                query(f"sum by (model) ({pick}) * 0 + 1234.567", **instant),
                query("vector(0.5)", **instant),
                transformations=transformations,
                fieldConfig={"defaults": {}, "overrides": overrides},
                options={"footer": {"show": True, "reducer": ["sum"], "fields": ["Amount"]}},
            ),
            panel("stat", query("vector($factor) * $__range_s", instant=True), timeFrom="now/d"),
            panel("timeseries", query(f"sum(increase({pick}[$every]))"), timeShift="1d"),
            {"type": "text", "title": "", "options": {"mode": "markdown", "content": "**$text** of ${workspace:text}"}},
            variables=variables,
        ),
        history_prometheus.url,
        now=NOW,
        variables={"model": ["claude-haiku-5-5"], "tier": ["a.b", "standard"]},
    )
    assert faults(drawing.report) == {}
    asked = {made["of"]: made["expr"] for made in drawing.report["queries"]}
    picked = rf'{TOKENS}{{workspace_id=~".+", model=~"claude-haiku-5-5", service_tier=~"(a\\.b|standard)"}}'
    assert asked["panel-2"] == f"vector(3) * {15 * 3600}"
    assert asked["panel-3"] == f"sum(increase({picked}[1d]))"
    texts = drawing.text.split("\n")
    assert {"some text of All", "Model", "Amount"} < set(texts)
    assert texts.count("$1,234.57") == 2, "in its row and in the footer"
    assert "Share" not in texts
    assert "162000" in texts


def test_variables_take_ids_and_show_names(drawer: Renderer, history_prometheus: PrometheusServer) -> None:
    regex = r'/workspace_name="(?<text>[^"]+)|workspace_id="(?<value>[^"]+)/g'
    found = "query_result(max by (workspace_id, workspace_name) (anthropic_workspace_info))"
    variable = {"type": "query", "name": "workspace", "query": found, "regex": regex, "datasource": SOURCE, "sort": 1}
    series = 'anthropic_workspace_info{workspace_id="$workspace"}'
    text = {"type": "text", "title": "", "options": {"content": "Shown: ${workspace:text}"}}
    drawing = drawer.draw(
        dashboard(panel("stat", query(series, instant=True)), text, variables=(variable,)),
        history_prometheus.url,
        now=NOW,
    )
    [info] = history_prometheus.query('anthropic_workspace_info{workspace_name="Data Platform"}', NOW)
    asked = {made["expr"] for made in drawing.report["queries"] if made["of"] == "panel-1"}
    assert asked == {series.replace("$workspace", info["metric"]["workspace_id"])}
    assert "Shown: Data Platform" in drawing.text
