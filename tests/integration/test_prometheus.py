"""Both generations of Prometheus scrape the real program: what they store is what the API reported."""

import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY, MINUTE
from exporter.demo.server import serve
from exporter.demo.simulation import Arrival, SimulatedOrganization
from tests.integration.conftest import ExporterProcess, PrometheusLeg, PrometheusServer, Result
from tests.world import KEY, TOKEN_TYPES, TOKENS, USAGE_LABELS, parse

pytestmark = [pytest.mark.process, pytest.mark.prometheus]

LABELS = (*USAGE_LABELS, "token_type")
COST_LABELS = (*USAGE_LABELS, "cost_type", "token_type")
SEARCHES = "anthropic_usage_server_tool_requests_total"
BILLED = "anthropic_cost_usd_total"
ESTIMATED, PRICES = "anthropic_estimated_cost_usd_total", "anthropic_price_usd_per_token"
WATERMARK = "anthropic_usage_watermark_timestamp_seconds"
BILL_WORDS = {
    "uncached_input_tokens": "uncached_input",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_creation_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_creation_1h",
    "output_tokens": "output",
}
QUICK = (
    *("--usage.poll-interval", "1", "--usage.api-key-poll-interval", "1", "--usage.hold", "3"),
    *("--cost.poll-interval", "1", "--names.poll-interval", "1", "--limits.poll-interval", "1"),
)
INSTANCES = ("fresh", "anchored")
"""One program that counts from its start on, and one from a day before."""


class Relay:
    """A target that notes what Prometheus accepts, and passes on a page as plain text, which it would not ask for."""

    def __init__(self, page: str) -> None:
        self.accepted = ""
        self._page = page

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        self.accepted = environ["HTTP_ACCEPT"]
        page = get(self._page)
        start_response("200 OK", [("Content-Type", page.headers["content-type"])])
        return [page.content]


@dataclass(frozen=True, slots=True)
class Scene:
    """A Prometheus that has scraped until the organisation's usage ended, and the truth."""

    leg: PrometheusLeg
    server: PrometheusServer
    relay: Relay
    programs: Mapping[str, ExporterProcess]
    anchors: Mapping[str, int]
    used: Mapping[str, Counter[tuple[str, ...]]]
    organization: SimulatedOrganization

    def ask(self, promql: str, instance: str) -> Result:
        return self.server.query(promql.replace("$", f'instance="{instance}"'))

    def number(self, promql: str, instance: str) -> float:
        return self.server.scalar(promql.replace("$", f'instance="{instance}"'))

    def series(self, name: str, labels: Iterable[str], instance: str) -> dict[tuple[str, ...], float]:
        """Return what Prometheus has of a family, without its zeros."""
        found = by_labels(self.ask(f"{name}{{$}}", instance), labels)
        return {key: value for key, value in found.items() if value}

    def billed(self, first: int, end: int) -> dict[tuple[str, ...], float]:
        """Return the bills of the days from ``first`` to ``end``, in USD by cost labels, by the usage's model names."""
        sums: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        names = {re.sub(r"-20\d{6}$", "", labels[0]): labels[0] for labels in self.used["anchored"]}
        for day in range(first, end, DAY):
            for line in self.organization.cost(day, time.time()) or ():
                word = line.token_type or "none"
                model = names.get(line.model or "", line.model)
                usage = (model, line.workspace_id or "default", line.service_tier, line.context_window)
                labels = (*usage, line.inference_geo, line.cost_type, BILL_WORDS.get(word, word))
                sums[tuple(label or "none" for label in labels)] += line.amount_cents / 100
        return {labels: float(amount) for labels, amount in sums.items() if amount}


def usage(organization: SimulatedOrganization, start: int, end: int) -> Counter[tuple[str, ...]]:
    """Return what was used, by the labels of the counters; the last is the token type or the tool."""
    counts: Counter[tuple[str, ...]] = Counter()
    for rows in organization.usage(MINUTE, start, end, time.time()).values():
        for row, figures in rows.items():
            labels = (row.model, row.workspace_id or "default", row.service_tier, row.context_window, row.inference_geo)
            for word in (*TOKEN_TYPES, "web_search"):
                counts[*labels, word] += getattr(figures, word)
    return +counts


def get(url: str, accept: str = "text/plain") -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(url, headers={"accept": accept}).raise_for_status()


def by_labels(result: Result, labels: Iterable[str]) -> dict[tuple[str, ...], float]:
    return {tuple(found["metric"][label] for label in labels): float(found["value"][1]) for found in result}


@pytest.fixture(scope="module")
def scene(
    prometheus_leg: PrometheusLeg,
    prometheus: Callable[..., PrometheusServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    """Scrape both programs from their start on until the watermark has passed the end of all usage.

    The minute that the fresh one begins with is the last one with usage, and ``settle`` is such that the watermark
    leaves it 20 seconds from now.
    """
    now = time.time()
    begin = int(now // MINUTE) * MINUTE - 2 * MINUTE
    quiet, day = begin + MINUTE, int(begin // DAY - 1) * DAY
    arrival = Arrival(median=0, late_share=0)
    organization = SimulatedOrganization(
        seed=5, started=day - 70 * DAY, arrival=arrival, bill_delay=0, quiet_after=quiet
    )
    with ExitStack() as running:
        api = running.enter_context(serve(AdminApi(organization, key=KEY, clock=time.time)))
        environment = {"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": KEY}
        command = [sys.executable, "-m", "exporter", "--api.base-url", api.url, *QUICK]
        command += ["--web.listen-address", "127.0.0.1:0", "--usage.settle", f"{now - quiet + 20:.0f}"]
        anchored = ["--usage.anchor", f"{datetime.fromtimestamp(day, UTC):%Y-%m-%d}"]
        programs = {
            name: running.enter_context(ExporterProcess([*command, *flags], tmp_path_factory.mktemp(name), environment))
            for name, flags in zip(INSTANCES, ([], anchored), strict=True)
        }
        relay = Relay(programs["fresh"].url)
        through = running.enter_context(serve(relay))
        targets = {name: program.url for name, program in programs.items()} | {"as-text": f"{through.url}/metrics"}
        server = running.enter_context(prometheus(targets))
        passed = f"min(min_over_time({WATERMARK}[3s])) > {quiet} and count({WATERMARK}) == {2 * len(targets)}"
        server.wait_for(passed, lambda found: len(found) == 1, 60)
        anchors = dict(zip(INSTANCES, (begin, day), strict=True))
        used = {name: usage(organization, anchor, quiet) for name, anchor in anchors.items()}
        yield Scene(prometheus_leg, server, relay, programs, anchors, used, organization)


@pytest.mark.parametrize("instance", [*INSTANCES, "as-text"])
def test_every_scrape_succeeds(scene: Scene, instance: str) -> None:
    assert scene.number("min_over_time(up{$}[5m])", instance) == 1
    assert scene.number("min_over_time(scrape_samples_scraped{$}[5m])", instance) > 0
    assert scene.number("sum(anthropic_up{$})", instance) == 5
    assert [target["lastError"] for target in scene.server.targets()] == [""] * 3


@pytest.mark.parametrize("instance", INSTANCES)
def test_promtool_has_nothing_to_say_about_the_page(scene: Scene, instance: str) -> None:
    page = get(scene.programs[instance].url).content
    command = (scene.leg.promtool, "check", "metrics")
    checked = subprocess.run(command, input=page, capture_output=True, check=False, env=os.environ)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("instance", INSTANCES)
def test_the_counters_are_the_usage_since_the_anchor_to_the_token(scene: Scene, instance: str) -> None:
    used = scene.used[instance]
    assert len(used) > 50
    found = scene.series(TOKENS, LABELS, instance)
    assert found | scene.series(SEARCHES, (*USAGE_LABELS, "tool"), instance) == used
    assert scene.number(f"sum({TOKENS}{{$}})", instance) == sum(found.values())
    page = parse(get(scene.programs[instance].url).text)
    assert {tuple(dict(key)[x] for x in LABELS): n for (name, key), n in page.items() if name == TOKENS and n} == found


@pytest.mark.parametrize("instance", INSTANCES)
def test_sums_by_each_label_are_the_usage(scene: Scene, instance: str) -> None:
    for place, label in enumerate(LABELS):
        sums: Counter[str] = Counter()
        for labels, count in scene.used[instance].items():
            if labels[-1] in TOKEN_TYPES:
                sums[labels[place]] += count
        found = scene.ask(f"sum by ({label}) ({TOKENS}{{$}}) > 0", instance)
        assert by_labels(found, [label]) == {(value,): count for value, count in sums.items()}


def test_what_a_fresh_exporter_counts_is_growth_that_prometheus_has_seen(scene: Scene) -> None:
    """Each series begins at 0, so that nothing is lost to ``increase`` and ``rate``."""
    growth = scene.ask(f"max_over_time({TOKENS}{{$}}[5m]) - min_over_time({TOKENS}{{$}}[5m])", "fresh")
    tokens = {labels: count for labels, count in scene.used["fresh"].items() if labels[-1] in TOKEN_TYPES}
    assert {labels: value for labels, value in by_labels(growth, LABELS).items() if value} == tokens


@pytest.mark.parametrize("instance", INSTANCES)
def test_the_keys_have_used_what_was_used(scene: Scene, instance: str) -> None:
    by_view = "sum by (model, workspace_id, service_tier, context_window, token_type)"
    keys = f"{by_view} (anthropic_api_key_usage_tokens_total{{$}})"
    assert scene.ask(f"{keys} != {by_view} ({TOKENS}{{$}})", instance) == []
    assert len(scene.ask(f"{keys} > 0", instance)) > 50


def test_estimates_are_the_usage_since_the_first_start_at_the_prices_shown(scene: Scene) -> None:
    labels = ("workspace_id", "model", "service_tier", "token_type")
    join = "* on (model, service_tier, context_window, inference_geo, token_type) group_left"
    costs = f"{TOKENS}{{$}} {join} {PRICES}{{$}}"
    priced = by_labels(scene.ask(f"sum by ({', '.join(labels)}) ({costs}) > 0", "fresh"), labels)
    estimated = by_labels(scene.ask(f'{ESTIMATED}{{cost_type="tokens",$}} > 0', "fresh"), labels)
    assert estimated == pytest.approx(priced, rel=1e-9)
    assert len(priced) > 20
    assert scene.number(f'count({PRICES}{{basis="billed",$}})', "fresh") > 50


@pytest.mark.parametrize("instance", INSTANCES)
def test_no_counter_is_ever_reset(scene: Scene, instance: str) -> None:
    families = scene.ask('count by (__name__) ({__name__=~".+_(total|count|bucket)",$})', instance)
    assert len(families) > 10
    for (name,), series in by_labels(families, ["__name__"]).items():
        assert scene.number(f"count(resets({name}{{$}}[5m]) == 0)", instance) == series, name


@pytest.mark.parametrize("instance", INSTANCES)
def test_the_bill_is_exact_to_the_fraction_of_a_cent(scene: Scene, instance: str) -> None:
    today = int(time.time() // DAY) * DAY
    month = int(datetime.fromtimestamp(today, UTC).replace(day=1).timestamp())
    before = int(datetime.fromtimestamp(month - DAY, UTC).replace(day=1).timestamp())
    spans = {
        "anthropic_cost_last_day_usd": (today - DAY, today),
        "anthropic_cost_month_to_date_usd": (month, today),
        "anthropic_cost_previous_month_usd": (before, month),
        BILLED: (int(scene.anchors[instance] // DAY) * DAY, today),
    }
    for name, (first, end) in spans.items():
        assert scene.series(name, COST_LABELS, instance) == scene.billed(first, end), name
    assert scene.number("anthropic_cost_last_day_start_timestamp_seconds{$}", instance) == today - DAY
    assert scene.billed(before, today)


@pytest.mark.parametrize("name", [TOKENS, "anthropic_cost_month_to_date_usd", "anthropic_cost_previous_month_usd"])
@pytest.mark.parametrize("instance", INSTANCES)
def test_the_join_to_workspace_names_loses_no_series(scene: Scene, instance: str, name: str) -> None:
    names = "* on (workspace_id) group_left (workspace_name) anthropic_workspace_info{$}"
    joined = scene.ask(f"{name}{{$}} {names}", instance)
    assert len(joined) == scene.number(f"count({name}{{$}})", instance)
    assert {"Default", "Production"} <= {series["metric"]["workspace_name"] for series in joined}


def test_openmetrics_is_what_prometheus_asks_for_and_gets(scene: Scene) -> None:
    page = get(scene.programs["fresh"].url, scene.relay.accepted)
    assert page.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert page.text.endswith("# EOF\n")
    families = {family.name for family in parse_openmetrics(page.text)}  # type: ignore[no-untyped-call]
    assert {TOKENS.removesuffix("_total"), WATERMARK, "anthropic_up"} <= families


def test_plain_text_and_openmetrics_are_stored_alike(scene: Scene) -> None:
    assert get(scene.programs["fresh"].url).headers["content-type"].startswith("text/plain; version=0.0.4")
    for name, labels in ((TOKENS, LABELS), ("anthropic_cost_last_day_usd", COST_LABELS)):
        as_text = scene.series(name, labels, "as-text")
        assert as_text == scene.series(name, labels, "fresh")
        assert as_text
