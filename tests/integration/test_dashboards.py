"""Every query of every dashboard, asked of a real Prometheus that has the demo organisation's past."""

import json
import re
import subprocess
import time as clock
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from exporter.demo import bill
from exporter.demo.organization import DAY, HOUR, MINUTE, NO_TOKENS, CostLine, Dimensions, Tokens
from exporter.money.bill import month_of, month_start
from exporter.polling.windows import floor
from grafana.queries import ANY, named, per_day, usual
from tests.dashboards import Query, boards, filled, queries
from tests.history import NOW, SETTLE, START, organization

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.integration.conftest import PrometheusLeg, PrometheusServer, Result

T = TypeVar("T")

pytestmark = pytest.mark.prometheus

BOARDS = boards()
SLOW = 2.0
MAY_BE_EMPTY = {
    ("anthropic-anomalies", "Firing alerts", "A"): "as below",
    ("anthropic-anomalies", "Alerts that fire", "A"): "no rules run here, and no alert is what everybody hopes for",
    ("anthropic-cost", "Estimate by bill", "A"): "needs a whole day that was estimated before its bill came",
    ("anthropic-exporter", "Failed polls and retried requests per hour", "A"): "what did not happen has no line",
    ("anthropic-exporter", "Failed polls and retried requests per hour", "B"): "what did not happen has no line",
    ("anthropic-overview", "Can these figures be trusted?", "F"): "the ratio of estimate to bill, as above",
}
TODAY, MONTH = floor(NOW, DAY), month_start(month_of(NOW))
ORGANIZATION = organization()


def ask(server: "PrometheusServer", query: Query) -> "Result":
    if query.step is None:
        return server.query(query.expr, query.end)
    return server.query_range(query.expr, query.start, query.end, query.step)


def numbers(result: "Result") -> list[float]:
    return [float(value) for row in result for _, value in row.get("values", [row.get("value")])]


def timed(asked: "Callable[[], T]") -> "tuple[T, float]":
    """Ask, and say how many seconds it took; a slow answer has two more tries, for other work on the machine."""
    fastest = float("inf")
    for _ in range(3):
        begun = clock.monotonic()
        answer = asked()
        fastest = min(fastest, clock.monotonic() - begun)
        if fastest < SLOW:
            break
    return answer, fastest


def panel(uid: str, title: str) -> list[Query]:
    return [query for query in queries(BOARDS[uid], NOW) if query.title == title]


def figure(server: "PrometheusServer", uid: str, title: str) -> float:
    """Return the one figure of a stat panel."""
    (query,) = panel(uid, title)
    assert query.step is None
    return server.scalar(query.expr, query.end)


def used(start: int, end: int) -> dict[Dimensions, Tokens]:
    """Return what the organisation used between two full minutes."""
    rows: dict[Dimensions, Tokens] = {}
    for width, begin, stop in ((HOUR, start, floor(end, HOUR)), (MINUTE, floor(end, HOUR), end)):
        for found in ORGANIZATION.usage(width, begin, stop, NOW).values():
            for dimensions, tokens in found.items():
                rows[dimensions] = rows.get(dimensions, NO_TOKENS).plus(tokens)
    return rows


def by_workspace(lines: "Iterable[CostLine]") -> dict[str, float]:
    """Return the lines of a bill, summed, in USD."""
    sums: dict[str, float] = {}
    for line in lines:
        workspace = line.workspace_id or "default"
        sums[workspace] = sums.get(workspace, 0) + float(line.amount_cents) / 100
    return sums


def cost(rows: "Mapping[Dimensions, Tokens]") -> dict[str, float]:
    """Return what rows of usage will be billed, in USD by workspace."""
    random = Random(0)  # noqa: S311 - it decides on the other cost types
    return by_workspace(line for line in bill.lines(rows, random) if line.cost_type in {"tokens", "web_search"})


def billed(day: int) -> dict[str, float]:
    """Return a day's bill, in USD by workspace."""
    return by_workspace(ORGANIZATION.cost(day, NOW) or ())


def month_by_workspace() -> dict[str, float]:
    """Return what the month has cost: bills of finished days, and today up to the watermark."""
    parts = [*(billed(day) for day in range(MONTH, TODAY, DAY)), cost(used(TODAY, NOW - SETTLE))]
    return {name: sum(part.get(name, 0) for part in parts) for name in set().union(*parts)}


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_has_data_within_two_seconds(history_prometheus: "PrometheusServer", uid: str) -> None:
    slowest = (0.0, "")
    for query in queries(BOARDS[uid], NOW):
        result, spent = timed(partial(ask, history_prometheus, query))
        slowest = max(slowest, (spent, query.name))
        assert result or (uid, query.title, query.letter) in MAY_BE_EMPTY, f"{query.name} has no data: {query.expr}"
        assert all(abs(value) < float("inf") for value in numbers(result)), f"{query.name} is not a number"
    print(f"{uid}: slowest {slowest[0]:.2f} s, {slowest[1]}")  # noqa: T201 - for the one who looks for slow panels
    assert slowest[0] < SLOW, slowest


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_has_data_for_one_choice_of_each_variable(history_prometheus: "PrometheusServer", uid: str) -> None:
    engineering = next(one.id for one in ORGANIZATION.workspaces if one.name == "Engineering")
    key = next(one.id for one in ORGANIZATION.api_keys if one.name == "coding-agent-pool")
    picked = {
        "job": "anthropic", "workspace": engineering, "model": "(claude-opus-5-5|claude-sonnet-5-5)",
        "service_tier": "standard", "api_key": key,
    }  # fmt: skip
    empty = {query.title for query in queries(BOARDS[uid], NOW, **picked) if not ask(history_prometheus, query)}
    # A key with a past is not new, and this workspace has no budget.
    assert empty <= {title for board, title, _ in MAY_BE_EMPTY if board == uid} | {
        "New and woken keys", "Budget used", "Budget used by workspace", "Chargeback by workspace",
        "API keys above their usual hour", "Batched",
    }  # fmt: skip


@pytest.mark.parametrize("uid", BOARDS)
def test_an_empty_prometheus_gives_no_error(prometheus: "Callable[..., PrometheusServer]", uid: str) -> None:
    server = prometheus({})
    for query in queries(BOARDS[uid], NOW):
        ask(server, query)
    for variable in BOARDS[uid]["templating"]["list"]:
        assert variable["type"] != "query" or options(server, variable) == set()
    server.terminate()


@pytest.mark.parametrize("minutes", [1, 20, 70])
@pytest.mark.parametrize("uid", BOARDS)
def test_the_first_minutes_show_no_nonsense(history_prometheus: "PrometheusServer", uid: str, minutes: int) -> None:
    for query in queries(BOARDS[uid], START + minutes * MINUTE):
        figures = numbers(ask(history_prometheus, query))
        assert all(abs(value) < float("inf") for value in figures), f"{query.name} is not a number"


def test_the_variables_offer_names_for_ids(history_prometheus: "PrometheusServer") -> None:
    offered: dict[str, set[str]] = {}
    for board in BOARDS.values():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found, spent = timed(partial(options, history_prometheus, variable))
                offered.setdefault(variable["name"], set()).update(found)
                assert spent < SLOW, variable["name"]
    assert offered["job"] == {"anthropic"}
    assert offered["workspace"] == {"Default", *(one.name for one in ORGANIZATION.workspaces)}
    assert offered["api_key"] >= {one.name for one in ORGANIZATION.api_keys}
    assert "claude-opus-5-5" in offered["model"]
    assert offered["service_tier"] == {"standard", "batch", "priority", "none"}


def options(server: "PrometheusServer", variable: "Mapping[str, Any]") -> set[str]:
    """Return what a variable shows, as Grafana makes it of the answer."""
    query = variable["query"]["query"]
    if found := re.fullmatch(r"label_values\((.*), (\w+)\)", query):
        once = f"count by ({found[2]}) (count_over_time({filled(found[1])}[7d]))"
        return {row["metric"][found[2]] for row in server.query(once, NOW)}
    inner = query.removeprefix("query_result(").removesuffix(")")
    name = re.search(r"(\w+_name)=", variable["regex"])
    assert name
    return {row["metric"][name[1]] for row in server.query(filled(inner), NOW)}


def test_spend_today_is_what_was_used_today(history_prometheus: "PrometheusServer") -> None:
    truth = sum(cost(used(TODAY, NOW - SETTLE)).values())
    assert figure(history_prometheus, "anthropic-overview", "Spend today") == pytest.approx(truth, rel=5e-3)


@pytest.mark.parametrize("uid", ["anthropic-overview", "anthropic-workspace"])
def test_the_month_is_its_bills_and_what_is_not_billed_yet(history_prometheus: "PrometheusServer", uid: str) -> None:
    truth = sum(month_by_workspace().values())
    assert figure(history_prometheus, uid, "Month so far") == pytest.approx(truth, rel=5e-3)


def test_last_month_is_its_bills(history_prometheus: "PrometheusServer") -> None:
    begin = month_start(month_of(MONTH - 1))
    truth = sum(sum(billed(day).values()) for day in range(begin, MONTH, DAY))
    assert figure(history_prometheus, "anthropic-cost", "Last month") == pytest.approx(truth, rel=1e-9)


def test_cache_hits_are_reads_by_input(history_prometheus: "PrometheusServer") -> None:
    reads = inputs = 0
    for tokens in used(NOW - 7 * DAY - NOW % HOUR, NOW - SETTLE).values():
        reads += tokens.cache_read
        inputs += sum(tokens[:4])
    shown = figure(history_prometheus, "anthropic-efficiency", "Cache hits")
    assert shown == pytest.approx(reads / inputs, rel=5e-3)


def test_the_chargeback_table_has_every_workspace_by_name_and_adds_up(history_prometheus: "PrometheusServer") -> None:
    names = {one.id: one.name for one in ORGANIZATION.workspaces} | {"default": "Default"}
    truth = {names[workspace]: usd for workspace, usd in month_by_workspace().items()}
    _, _, so_far, share, *_ = panel("anthropic-cost", "Chargeback by workspace")
    rows = {row["metric"]["workspace_name"]: float(row["value"][1]) for row in ask(history_prometheus, so_far)}
    assert rows == pytest.approx(truth, rel=5e-3)
    assert sum(float(row["value"][1]) for row in ask(history_prometheus, share)) == pytest.approx(1)


def test_savings_are_what_the_same_tokens_would_have_cost_as_input(history_prometheus: "PrometheusServer") -> None:
    rows = used(NOW - 7 * DAY - NOW % HOUR, NOW - SETTLE)
    cached = {key: tokens._replace(uncached_input=0, output=0, web_search=0) for key, tokens in rows.items()}
    as_input = {key: Tokens(uncached_input=sum(tokens)) for key, tokens in cached.items()}
    saved = sum(cost(as_input).values()) - sum(cost(cached).values())
    assert figure(history_prometheus, "anthropic-efficiency", "Saved by caching") == pytest.approx(saved, rel=5e-3)


def test_the_new_key_is_found_and_no_other(history_prometheus: "PrometheusServer") -> None:
    day, before = panel("anthropic-workspace", "New and woken keys")
    assert [row["metric"]["api_key_name"] for row in ask(history_prometheus, day)] == ["evaluation-runs"]
    assert [float(row["value"][1]) for row in ask(history_prometheus, before)] == [0]


NAMED = {
    "a name": (['id="a", {name}="Alpha", job="1"'], "Alpha"),
    "none: the id stands in": ([], "a"),
    "two, in the moment of a change": (['id="a", {name}="Alpha", job="1"', 'id="a", {name}="Beta", job="1"'], ""),
    "told by two exporters": (['id="a", {name}="Alpha", job="1"', 'id="a", {name}="Alpha", job="2"'], "Alpha"),
    "one that others share": (['id="a", {name}="Alpha", job="1"', 'id="b", {name}="Alpha", job="1"'], "Alpha"),
}
"""Info series of an id, and the name by which its money is shown; either of two."""


@pytest.mark.parametrize("kind", ["workspace", "api_key"])
@pytest.mark.parametrize("known", NAMED)
def test_a_name_never_hides_money(prometheus_leg: "PrometheusLeg", tmp_path: Path, kind: str, known: str) -> None:
    infos, shown = NAMED[known]
    name = f"{kind}_name"
    series = [{"series": f'usd{{{kind}_id="a"}}', "values": "7"}]
    for labels in infos:
        given = labels.replace("{name}", name).replace("id=", f"{kind}_id=", 1)
        series.append({"series": f"anthropic_{kind}_info{{{given}}}", "values": "1"})
    by = f"by ({name}) " if shown else ""
    expr = f"sum {by}({filled(named('usd', kind))})"
    samples = [{"labels": f'{{{name}="{shown}"}}' if shown else "{}", "value": 7}]
    asked = {"expr": expr, "eval_time": "0m", "exp_samples": samples}
    tests = {"rule_files": [], "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}]}
    promtool_agrees(prometheus_leg, tmp_path, tests)


def promtool_agrees(leg: "PrometheusLeg", folder: Path, tests: dict[str, Any]) -> None:
    (folder / "tests.yml").write_text(json.dumps(tests))  # JSON is YAML
    done = subprocess.run(
        [leg.promtool, "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


MOVED = {
    "per_day": (per_day(where=ANY), "3d", 288),
    "per_day by workspace": (f"sum({per_day('workspace_id', where=ANY)})", "3d", 288),
    "usual": (usual("", where=ANY), "6h", 12),
}
"""What is worked out, when, and what it is if 12 dollars an hour are spent all the time."""


@pytest.mark.parametrize("what", MOVED)
def test_a_young_or_renamed_exporter_does_not_bend_what_is_usual(
    prometheus_leg: "PrometheusLeg", tmp_path: Path, what: str
) -> None:
    """The exporter's instance label changes two hours before the third day is over."""
    expr, time, expected = MOVED[what]
    series = []
    for instance, values in (("old", "{}+{}x840 stale"), ("new", "_x840 {}+{}x24")):
        labels = f'instance="{instance}", job="anthropic"'
        begin = 0 if instance == "old" else 840 * 300
        for name, first, step in (
            (f'anthropic_estimated_cost_usd_total{{{labels}, workspace_id="default"}}', 0, 1),
            (f'anthropic_usage_watermark_timestamp_seconds{{{labels}, report="usage"}}', begin, 300),
        ):
            series.append({"series": name, "values": values.format(first, step)})
    near = f"({filled(expr)} > bool {0.8 * expected}) * ({filled(expr)} < bool {1.1 * expected})"
    asked = {"expr": near, "eval_time": time, "exp_samples": [{"labels": "{}", "value": 1}]}
    tests = {"rule_files": [], "tests": [{"interval": "5m", "input_series": series, "promql_expr_test": [asked]}]}
    promtool_agrees(prometheus_leg, tmp_path, tests)
