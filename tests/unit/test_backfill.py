"""``backfill``, in this process, against a simulated API: what it writes, next to what the live counters count."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.api.client import Timing
from exporter.backfill import backfill
from exporter.demo.organization import ApiKey, Dimensions, Organization, Tokens
from exporter.metrics.catalog import CATALOG
from exporter.model import DAY, HOUR, MINUTE
from exporter.settings import load
from exporter.settings.commands import OPTIONS
from exporter.settings.options import take
from tests import dashboards, promql
from tests.events import OPUS, SONNET, BilledOrganization, Use
from tests.world import KEY, TOKEN_TYPES, TOKENS, Page, World, at, by, tokens, total, watermark

TODAY = int(at("2026-11-19"))
NOW = TODAY + 7 * HOUR + 30
"""When the exporter starts: bills are out at five."""
ANCHOR = TODAY + 6 * HOUR + 55 * MINUTE
"""The usage time at which its counters begin."""
FIRST = TODAY - 3 * DAY
LABELS = ("--label", "job=anthropic", "--label", "instance=mine", "--label", "team=a b")
REACHED = int(at("2026-11-15"))
ANCHORED = ("--usage.anchor", "2026-11-15")
REACHING_BACK = (TOKENS, "anthropic_api_key_usage_tokens_total", "anthropic_cost_usd_total")
ESTIMATES = ("anthropic_estimated_cost_usd_total", "anthropic_api_key_estimated_cost_usd_total")
CONSOLE = Dimensions(None, None, "claude-haiku-4-5", "standard", "0-200k", "global")

Lines = dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[int, float]]]
"""Times and values by family and labels, without those that all series have."""


def used(since: int = FIRST - 4 * DAY, until: int = TODAY + 10 * HOUR) -> list[Use]:
    """Return uses at odd times: each 47 minutes and one second, the web searched with some of them."""
    times = range(since, until, 47 * MINUTE + 1)
    kinds = (SONNET, OPUS, SONNET._replace(api_key_id=None), CONSOLE)
    return [
        Use(
            time,
            kinds[n % 3 if time < TODAY - 2 * DAY else n % 4],
            Tokens(9000 + n, 200 + n, 0, 200 + n, 333 + n % 5, n % 2),
        )
        for n, time in enumerate(times)
    ]


def billed(uses: Iterable[Use] = ()) -> BilledOrganization:
    """Return an organisation that has used these, or what is usual, and something in the month before."""
    before = Use(TODAY - 30 * DAY, SONNET, Tokens(10**6))
    key = ApiKey("apikey_1", "bot", "wrkspc_1", "active", NOW + 90 * DAY, 0)
    return BilledOrganization([before, *(uses or used())], posted=5 * HOUR, api_keys=[key])


class Desk:
    """The command beside the exporter, which is running on its state file since ten minutes."""

    def __init__(self, folder: Path, organization: Organization, *flags: str, now: float = NOW) -> None:
        self.folder = folder
        self.flags = flags
        self.world = World(organization, now, *flags, state=folder / "state")
        self.first: Page = {}
        """The first page that has figures; no scrape was before ``begun``."""
        while not total(self.first, "anthropic_up"):
            self.first = self.world.run(15)
        self.begun = self.world.now - 15
        self.world.run(10 * MINUTE, scrape_every=5 * MINUTE)
        self.said: list[str] = []

    def run(self, *words: str, flags: Sequence[str] | None = None, key: str = KEY) -> int:
        """Run the command; return its exit status."""
        given, _ = take(words, OPTIONS["backfill"])
        world, state = self.world, ("--state.path", str(self.world.state))
        settings = load(
            ["--api.base-url", "http://127.0.0.1", *state, *(self.flags if flags is None else flags)],
            {"ANTHROPIC_ADMIN_API_KEY": key},
            today=datetime.fromtimestamp(world.now, UTC).date(),
        )
        timing = Timing(clock=world.time, timer=world.time, sleep=world.sleep, spread=lambda: 0.5)
        transport = httpx.WSGITransport(app=world.api)
        return backfill(settings, given, say=self.said.append, timing=timing, transport=transport)

    def text(self, since: str = "2026-11-16", *, flags: Sequence[str] | None = None) -> str:
        """Return what it writes from a day on."""
        file = self.folder / "out.om"
        assert self.run("--from", since, *LABELS, "--output", str(file), flags=flags) == 0
        return file.read_text()

    def lines(self, since: str = "2026-11-16", *, flags: Sequence[str] | None = None) -> Lines:
        return read(self.text(since, flags=flags))


def read(text: str) -> Lines:
    """Return the samples of a text; each has the labels that were asked for."""
    found: Lines = {}
    series, samples = "", list[tuple[int, float]]()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, value, time = line.rsplit(" ", 2)
        if name != series:
            series, samples = name, []
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            assert (labels.pop("job"), labels.pop("instance"), labels.pop("team")) == ("anthropic", "mine", "a b"), line
            key = name.partition("{")[0], frozenset(labels.items())
            assert key not in found, key
            found[key] = samples
        samples.append((int(time), float(value)))
    return found


def reached(lines: Lines, used: float) -> Page:
    """Return the samples of the moment at which usage counts up to a time; less than a minute more may be in it."""
    mark = "anthropic_usage_watermark_timestamp_seconds", frozenset({("report", "usage")})
    times = {time for time, _ in lines[mark]}
    # A second after the last samples are the zeros with which the live counters begin.
    moment = max(time for time, reached in lines[mark] if reached < used + MINUTE and time - 1 not in times)
    return {key: value for key, samples in lines.items() for time, value in samples if time == moment}


def used_by(uses: Iterable[Use], start: float, end: float) -> Counter[tuple[str, ...]]:
    """Return what was used by API key, workspace, model and type of token."""
    counts: Counter[tuple[str, ...]] = Counter()
    for use in uses:
        if start <= use.time < end:
            key, workspace, model, *_ = use.dimensions
            for token_type in TOKEN_TYPES:
                counts[key or "console", workspace or "default", model, token_type] += getattr(use.tokens, token_type)
    return +counts


def by_key(shown: Page) -> Counter[tuple[str, ...]]:
    labels = ("api_key_id", "workspace_id", "model", "token_type")
    return +Counter(by(shown, "anthropic_api_key_usage_tokens_total", labels))


def grown(lines: Lines, family: str, start: float, end: float) -> float:
    return total(reached(lines, end), family) - total(reached(lines, start), family)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), billed())


@pytest.fixture(scope="module")
def lines(desk: Desk) -> Lines:
    return desk.lines()


@pytest.fixture(scope="module")
def anchored(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), billed(), *ANCHORED)


@pytest.fixture(scope="module")
def continued(anchored: Desk) -> Lines:
    return anchored.lines()


def test_a_file_is_openmetrics_in_order_with_the_labels_of_the_target(tmp_path: Path) -> None:
    text = Desk(tmp_path, billed(), now=TODAY + HOUR).text("2026-11-19")
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    names = [family.name for family in families]
    types = {metric.name.removesuffix("_total"): metric.type for metric in CATALOG} | {"up": "gauge"}
    assert names == sorted(set(names))
    assert {family.name: family.type for family in families} == {name: types[name] for name in names}
    assert text.endswith("\n# EOF\n")
    written = {(sample.name, *sample.labels.items()) for family in families for sample in family.samples}
    assert len(written) == len(read(text))
    for samples in read(text).values():
        assert all(before[0] < after[0] for before, after in pairwise(samples))


def test_it_lasts_from_the_first_midnight_to_where_the_live_counters_begin(desk: Desk, lines: Lines) -> None:
    times = [time for time, value in lines["up", frozenset()] if value == 1]
    marks = lines["anthropic_usage_watermark_timestamp_seconds", frozenset({("report", "usage")})]
    assert [time for time, _ in marks] == times
    assert (marks[0][1], marks[-1][1]) == (FIRST, ANCHOR)
    assert times[-1] < ANCHOR + 5 * MINUTE <= desk.begun
    assert all(mark[1] < mark[0] for mark in marks)
    gaps = {before: after - before for before, after in pairwise(times)}
    assert {gap for time, gap in gaps.items() if time < times[-1] - DAY - 5 * MINUTE} == {5 * MINUTE}
    assert max(gap for time, gap in gaps.items() if time >= times[-1] - DAY) == MINUTE


def test_it_has_what_dashboards_ask_for_but_for_the_exporter_itself(lines: Lines) -> None:
    asked = {
        promql.family(name)
        for board in dashboards.boards().values()
        for query in dashboards.queries(board, NOW)
        for selector, _ in promql.selectors(query.expr)
        for name in promql.metrics_of(selector)
    }
    missing = asked & {metric.name for metric in CATALOG} - {family for family, _ in lines}
    assert {name for name in missing if not name.startswith("anthropic_exporter_")} == {
        "anthropic_up",
        "anthropic_usage_arrival_delay_seconds",
        "anthropic_estimate_to_bill_ratio",  # what was estimated in time is not known
        "anthropic_unpriced_tokens_total",  # all is priced
        "anthropic_budget_usd",  # none is set
        "anthropic_workspace_budget_usd",
    }


def test_every_counter_begins_at_zero_and_falls_to_zero_where_live_ones_begin(lines: Lines) -> None:
    counters = {key: samples for key, samples in lines.items() if key[0].endswith("_total")}
    assert len(counters) == 80
    for key, samples in counters.items():
        assert samples[0][1] == 0, key
        assert all(before[1] <= after[1] for before, after in pairwise(samples[:-1])), key
        assert samples[-1] == (samples[-2][0] + 1, 0), key


def test_tokens_are_those_of_the_organisation_by_day_and_in_all(desk: Desk, lines: Lines) -> None:
    assert len(tokens(reached(lines, ANCHOR))) == 12
    assert tokens(reached(lines, ANCHOR)) == desk.world.truth(FIRST, ANCHOR)
    assert by_key(reached(lines, ANCHOR)) == used_by(used(), FIRST, ANCHOR)
    for day in range(FIRST, TODAY, DAY):
        before, after = (reached(lines, midnight) for midnight in (day, day + DAY))
        assert tokens(after) - tokens(before) == desk.world.truth(day, day + DAY)
        assert by_key(after) - by_key(before) == used_by(used(), day, day + DAY)
    searches = sum(use.tokens.web_search for use in used() if FIRST <= use.time < ANCHOR)
    for family in ("anthropic_usage_server_tool_requests_total", "anthropic_api_key_usage_server_tool_requests_total"):
        assert total(reached(lines, ANCHOR), family) == searches > 30


def test_nothing_is_lost_or_counted_twice_where_the_live_counters_begin(desk: Desk, lines: Lines) -> None:
    live = desk.world.page()
    assert tokens(reached(lines, ANCHOR)) + tokens(live) == desk.world.truth(FIRST, watermark(live))


def test_counters_that_reach_back_go_on_where_the_file_ends(anchored: Desk, continued: Lines) -> None:
    last = reached(continued, ANCHOR)
    ended = {key: value for key, value in last.items() if key[0] in REACHING_BACK}
    assert len(ended) == 45
    assert {key: value for key, value in ended.items() if value > anchored.first[key]} == {}
    live = anchored.world.page()
    assert tokens(live) - tokens(last) == anchored.world.truth(ANCHOR - HOUR, watermark(live))
    assert tokens(last) == anchored.world.truth(REACHED, ANCHOR - HOUR)
    assert by_key(last) == used_by(used(), REACHED, ANCHOR - HOUR)
    assert total(last, "anthropic_cost_usd_total") == pytest.approx(billed().dollars(REACHED, TODAY - 2 * DAY))
    assert total(live, "anthropic_cost_usd_total") == pytest.approx(billed().dollars(REACHED, TODAY))


def test_counters_that_reach_back_are_what_they_were_on_the_first_day(anchored: Desk, continued: Lines) -> None:
    begun = reached(continued, FIRST)
    assert tokens(begun) == anchored.world.truth(REACHED, FIRST)
    assert by_key(begun) == used_by(used(), REACHED, FIRST)
    # The bill of the day before is out at six.
    assert total(begun, "anthropic_cost_usd_total") == 0
    assert total(reached(continued, FIRST + 6 * HOUR), "anthropic_cost_usd_total") == pytest.approx(
        billed().dollars(REACHED, FIRST)
    )
    for family in ESTIMATES:
        assert total(begun, family) == 0
