"""The dashboards as files: how they are laid out, what they may ask, and that every name in them exists."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as promql
import pytest
import yaml

from exporter.metrics.catalog import BY_NAME
from grafana.__main__ import FOLDER, files
from grafana.builder import COLUMNS, SCHEMA_VERSION, line, text
from tests.dashboards import boards, filled, panels, queries, seconds
from tests.promql import family, metrics_of, nodes, selectors
from tests.world import at

BOARDS = boards()
TYPES = {"bargauge", "stat", "table", "text", "timeseries"}
UNITS = {"currencyUSD", "currency:financial:$", "dateTimeFromNow", "suffix: days", "none", "percentunit", "s", "short"}
SCRAPED = {"ALERTS": {"alertname", "alertstate", "severity"}, "process_start_time_seconds": set[str]()}
"""What Prometheus or its client library names, not the exporter."""
FROM_PROMETHEUS = {"instance", "job", "le", "__name__"}
MADE_HERE = {"of"}
"""Labels that queries give by ``label_replace`` and take away again."""

every_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def asked(board: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every expression of a dashboard with where it stands, as Prometheus gets it."""
    for query in queries(dict(board), at("2026-11-19T15:00")):
        yield query.name, query.expr
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield f"{board['uid']} ${variable['name']}", filled(inner(variable["query"]["query"]))
    for annotation in board["annotations"]["list"]:
        yield f"{board['uid']} {annotation['name']}", annotation["expr"]


def inner(query: str) -> str:
    """Return the PromQL of a variable's query."""
    found = re.fullmatch(r"(?:label_values\((.*), \w+\)|query_result\((.*)\))", query)
    assert found, query
    return found[1] or found[2]


def test_the_committed_files_are_what_the_builder_writes() -> None:
    assert files() == {path.name: path.read_text() for path in FOLDER.iterdir()}, "run: make dashboards"


def test_the_six_dashboards_are_there() -> None:
    assert BOARDS.keys() == {
        f"anthropic-{name}" for name in ("overview", "cost", "efficiency", "workspace", "anomalies", "exporter")
    }


@every_board
def test_a_dashboard_can_be_provisioned_anywhere(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] == SCHEMA_VERSION == 39
    assert board["editable"] is False
    assert (board["timezone"], board["weekStart"], board["refresh"]) == ("utc", "monday", "5m")
    assert not {"id", "version", "__inputs", "__requires", "__elements"} & board.keys()
    assert re.fullmatch(r"anthropic-[a-z]{4,20}", board["uid"])
    assert board["title"].startswith("Anthropic / ")
    assert board["description"]
    assert "prometheus" not in re.findall(r'"uid": "(\w+)"', str(board))


@every_board
def test_every_source_is_the_variable(board: dict[str, Any]) -> None:
    first = board["templating"]["list"][0]
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert first["label"] == "Data source"
    sources = [holder["datasource"] for holder in [*panels(board), *board["annotations"]["list"]]]
    sources += [target["datasource"] for panel in panels(board) for target in panel["targets"]]
    sources += [variable["datasource"] for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


@every_board
def test_the_panels_fill_a_grid_without_gaps(board: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    height = max(y for _, y in cells) + 1
    assert sorted(cells) == sorted((x, y) for x in range(COLUMNS) for y in range(height))
    ids = [panel["id"] for panel in board["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) <= 15


def test_a_line_that_leaves_a_gap_is_refused() -> None:
    one = text(1, "one", "")
    for uneven in ([(20, one)], [(20, one), one, one, one], [(20, one), (8, one)]):
        with pytest.raises(ValueError, match="24 columns"):
            line(4, *uneven)


@every_board
def test_each_panel_says_what_it_shows_by_which_clock_and_in_which_unit(board: dict[str, Any]) -> None:
    assert {panel["type"] for panel in board["panels"]} <= TYPES
    for panel in panels(board):
        assert re.search(r"[.?] Clock: .+\.$", panel["description"]), panel["title"]
        assert len(panel["description"]) > 60, panel["title"]
        fields = panel["fieldConfig"]
        units = [one["value"] for rule in fields["overrides"] for one in rule["properties"] if one["id"] == "unit"]
        units += [fields["defaults"]["unit"]] if panel["type"] != "table" else []
        assert set(units) <= UNITS, panel["title"]
        assert units or panel["title"] == "Alerts that fire"
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHIJ"[: len(panel["targets"])])
    titles = [panel["title"] for panel in board["panels"]]
    assert all(titles)
    assert len(titles) == len(set(titles))


@every_board
def test_no_colour_depends_on_an_amount_of_dollars(board: dict[str, Any]) -> None:
    for panel in panels(board):
        money = panel["fieldConfig"]["defaults"].get("unit", "").startswith("currency")
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
        assert not money or {step["value"] for step in steps} <= {None, 0}, panel["title"]
        for rule in panel["fieldConfig"]["overrides"]:
            properties = {one["id"]: one["value"] for one in rule["properties"]}
            if "thresholds" in properties:
                assert not properties.get("unit", "").startswith("currency"), panel["title"]


@every_board
def test_the_variables_are_asked_for_when_the_range_changes(board: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert {"datasource", "job"} <= variables.keys()
    assert board["uid"] == "anthropic-exporter" or {"workspace", "model", "service_tier"} <= variables.keys()
    assert ("api_key" in variables) == (board["uid"] in {"anthropic-workspace", "anthropic-anomalies"})
    asked_for = " ".join(target["expr"] for panel in panels(board) for target in panel["targets"])
    used = set(re.findall(r"\$([a-z_]\w*)", asked_for))
    assert used <= variables.keys() | {"__range", "__rate_interval"}
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            assert (variable["refresh"], variable["multi"], variable["allValue"]) == (2, True, ".+")
            assert variable["query"]["query"] == variable["definition"]
            assert variable["label"]


def test_ids_are_chosen_by_their_names() -> None:
    variables = {one["name"]: one for one in BOARDS["anthropic-workspace"]["templating"]["list"]}
    for name, kind in (("workspace", "workspace"), ("api_key", "api_key")):
        series = f'{{{kind}_id="id-1", {kind}_name="Some name"}} 1 1700000000000'
        # As Grafana reads it: every match may bring the text or the value.
        pattern = variables[name]["regex"].strip("/g").replace("(?<", "(?P<").lstrip("/")
        groups = [found.groupdict() for found in re.finditer(pattern, series)]
        assert {key: value for found in groups for key, value in found.items() if value} == {
            "text": "Some name",
            "value": "id-1",
        }


@every_board
def test_every_metric_and_label_exists(board: dict[str, Any]) -> None:
    for where, expr in asked(board):
        labels: set[str] = set()
        for selector, _ in selectors(expr):
            names = metrics_of(selector)
            assert names, where
            assert {family(name) for name in names} <= BY_NAME.keys() | SCRAPED.keys(), where
            for name in names:
                known = set(BY_NAME[family(name)].labels) if family(name) in BY_NAME else SCRAPED[name]
                wanted = {match.name for match in selector.matchers.matchers}
                assert wanted <= known | FROM_PROMETHEUS, f"{where}: {name} has no {wanted - known}"
                labels |= known
        grouped = {
            label
            for node, _ in nodes(promql.parse(expr))
            if isinstance(node, promql.AggregateExpr) and node.modifier
            for label in node.modifier.labels
        }
        assert grouped <= labels | FROM_PROMETHEUS | MADE_HERE, f"{where}: {grouped - labels}"


@every_board
def test_every_selector_keeps_to_the_job(board: dict[str, Any]) -> None:
    """Not to the instance: an organisation has one writer, and an instance would cut its counters at restarts."""
    for panel in panels(board):
        for target in panel["targets"]:
            expr = filled(target["expr"], job="JOB")
            for selector, _ in selectors(expr):
                jobs = [match.value for match in selector.matchers.matchers if match.name == "job"]
                # Alerts have the labels of their rules, not those of a job.
                assert jobs == ["JOB"] or selector.name == "ALERTS", f"{board['uid']}: {panel['title']}"


@every_board
def test_counters_are_never_shown_raw(board: dict[str, Any]) -> None:
    for where, expr in asked(board):
        for selector, around in selectors(expr):
            counters = {name for name in metrics_of(selector) if name.endswith(("_total", "_bucket"))}
            functions = {node.func.name for node in around if isinstance(node, promql.Call)}
            if counters and "label_values" not in where and "$" not in where:
                assert functions & {"increase", "rate"}, where


@every_board
def test_a_rate_is_over_the_interval_that_grafana_knows(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            assert set(re.findall(r"\brate\([^[]*\[([^]]+)\]", target["expr"])) <= {"$__rate_interval"}, panel["title"]
            if "$__rate_interval" in target["expr"]:
                assert target["range"], panel["title"]
                assert seconds(target["interval"]) >= 60, panel["title"]


@every_board
def test_no_query_needs_a_recording_rule(board: dict[str, Any]) -> None:
    assert not [where for where, expr in asked(board) for one, _ in selectors(expr) if ":" in (one.name or "")]


@every_board
def test_legends_name_labels_that_the_query_keeps(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for target in panel["targets"]:
            names = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"(?:by|group_left) \(([\w, ]*)\)", target["expr"]))))
            assert names <= kept, panel["title"]


def test_links_lead_to_dashboards_that_exist_and_carry_what_was_chosen() -> None:
    found = []
    for board in BOARDS.values():
        (menu,) = board["links"]
        assert (menu["type"], menu["includeVars"], menu["keepTime"]) == ("dashboards", True, True)
        assert set(menu["tags"]) <= set.intersection(*(set(other["tags"]) for other in BOARDS.values()))
        for panel in panels(board):
            for rule in panel["fieldConfig"]["overrides"]:
                links = [link for one in rule["properties"] if one["id"] == "links" for link in one["value"]]
                for link in links:
                    found.append(link)
                    uid, given = re.fullmatch(r"/d/([a-z-]+)\?(.*)", link["url"]).groups()  # type: ignore[union-attr]
                    variables = {one["name"] for one in BOARDS[uid]["templating"]["list"]}
                    named = set(re.findall(r"var-(\w+)=", given)) | set(re.findall(r"\$\{(\w+):queryparam\}", given))
                    assert named <= variables
                    assert {"datasource", "job", "model", "service_tier"} <= named
                    assert "${__url_time_range}" in given
                    fields = set(re.findall(r"__data\.fields\.(\w+)", given))
                    assert fields <= set(panel["transformations"][1]["options"]["indexByName"]), panel["title"]
    assert len(found) >= 4


def test_every_column_of_a_table_comes_from_its_queries() -> None:
    for board in BOARDS.values():
        for panel in panels(board):
            if panel["type"] == "table":
                rename = panel["transformations"][1]["options"]["renameByName"]
                letters = {target["refId"] for target in panel["targets"]}
                values = {name for name in rename if name.startswith("Value")}
                assert values == ({f"Value #{one}" for one in letters} if len(letters) > 1 else {"Value"})
                styled = {rule["matcher"]["options"] for rule in panel["fieldConfig"]["overrides"]}
                assert styled <= set(rename.values()) | set(panel["transformations"][1]["options"]["indexByName"])


def test_the_readme_lists_and_shows_every_dashboard() -> None:
    readme = (FOLDER.parents[1] / "README.md").read_text()
    for uid, board in BOARDS.items():
        assert f"| {board['title'].removeprefix('Anthropic / ')} |" in readme
        assert f"(grafana/pictures/{uid}.png)" in readme
        assert (FOLDER.parent / f"pictures/{uid}.png").read_bytes().startswith(b"\x89PNG")


def test_the_provisioning_files_are_what_grafana_reads() -> None:
    (source,) = yaml.safe_load((FOLDER.parent / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["uid"], source["jsonData"]["timeInterval"]) == ("prometheus", "prometheus", "60s")
    provider = yaml.safe_load((FOLDER.parent / "provisioning/dashboards/anthropic.yaml").read_text())
    assert provider["apiVersion"] == 1
    (folder,) = provider["providers"]
    assert (folder["folder"], folder["allowUiUpdates"], folder["type"]) == ("Anthropic", False, "file")
