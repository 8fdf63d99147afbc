"""Both generations of Prometheus scrape the program while it is killed again and again: they store what was used."""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise, product
from math import ceil, inf
from random import Random
from typing import NamedTuple, TypeAlias

import pytest

from exporter import pricefiles
from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, MINUTE, Dimensions, Tokens
from exporter.demo.server import serve
from exporter.model import PriceKey
from tests.events import Use, WrittenOrganization, line
from tests.integration.conftest import ExporterProcess, PrometheusServer, Result, free_port, prometheus_binaries, until
from tests.world import KEY, TOKEN_TYPES, TOKENS, USAGE_LABELS

pytestmark = [pytest.mark.process, pytest.mark.prometheus]

Labels: TypeAlias = tuple[str, ...]
Kind: TypeAlias = Sequence[Dimensions]
Note: TypeAlias = Callable[[str, object], None]

VIEWS = [("usage",), ("api_key_usage",)]

SEARCHES, BILLED = "anthropic_usage_server_tool_requests_total", "anthropic_cost_usd_total"
KEY_TOKENS, KEY_SEARCHES = "anthropic_api_key_usage_tokens_total", "anthropic_api_key_usage_server_tool_requests_total"
ESTIMATED, KEY_ESTIMATED = "anthropic_estimated_cost_usd_total", "anthropic_api_key_estimated_cost_usd_total"
LATE, WATERMARKS = "anthropic_usage_late_tokens_total", "anthropic_usage_watermark_timestamp_seconds"
WATERMARK = f'{WATERMARKS}{{report="usage"}}'
ODOMETERS = (TOKENS, SEARCHES, KEY_TOKENS, KEY_SEARCHES, ESTIMATED, KEY_ESTIMATED, BILLED, LATE)
KEY_LABELS = ("api_key_id", "model", "workspace_id", "service_tier", "context_window")
ESTIMATE_LABELS = ("workspace_id", "model", "service_tier", "cost_type", "token_type")
UP, LOADED = 'anthropic_up{report="usage"}', "anthropic_exporter_state_loaded"

HOLD = 3
QUICK = (
    *("--usage.poll-interval", "1", "--usage.api-key-poll-interval", "1", "--usage.hold", f"{HOLD}"),
    *("--cost.poll-interval", "1", "--names.poll-interval", "5", "--limits.poll-interval", "5"),
)
HEAD_START, LEAP = 25, 40
"""Seconds of the first minute that are over at the begin, and by which a lower ``settle`` moves the watermark later."""

DOWN = (0.5, 0.5, 0.5, 1.0, 1.5, 7.5)
"""Seconds between a SIGKILL and the next start, in an order that the seed decides."""

CALM = 4
"""Scrapes at least while nothing goes wrong and nothing new is told."""

WINDOW = 20
"""Seconds over which rates are taken; more than any downtime with the start after it."""

PATIENCE = 60.0
"""Seconds after which a wait fails; only what never comes takes them."""

MODELS = ("claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5")
PLACES = {"wrkspc_1": (("apikey_1", "global"), ("apikey_2", "us")), None: ((None, "us"),)}
"""The keys and geographies of each workspace."""
KINDS = tuple(
    [Dimensions(key, workspace, model, tier, "0-200k", geo) for key, geo in PLACES[workspace]]
    for model, tier, workspace in product(MODELS, ("standard", "priority", "batch"), PLACES)
)
"""What is used alike, and told together."""
BUSY, RARE, SUDDEN = KINDS[:8], KINDS[8:12], KINDS[12:]
"""What is used all the time, what begins within the ordeal, and what is used a single time."""


class PatientOrganization(WrittenOrganization):
    """Has used all that it uses in the two minutes from ``minute`` on, and some before, but tells of it bit by bit.

    ``told`` is all that it ever tells, before any of it is lowered; nothing is told before ``open``.
    """

    def __init__(self, minute: int, billed_day: int) -> None:
        super().__init__()
        self.minute = minute
        self.end = minute + 2 * MINUTE
        self.told: list[Use] = []
        self.lowered: Counter[Labels] = Counter()
        self._sudden = list(SUDDEN)
        self._day = billed_day
        self._random = Random(7)  # noqa: S311 - no secret

    def open(self) -> None:
        """Begin to tell: most of a minute before the watermark comes to it, some of it later than that."""
        now, earlier, first, second = int(time.time()), self.minute - 3 * MINUTE, self.minute, self.minute + MINUTE
        self.told = [
            *self._draw(now, second, SUDDEN[:1], [0], 10**5),
            *self._draw(now, earlier, BUSY[:4], [0], 10**6),
            *self._draw(now, first, BUSY, [0, 0, 0, 1], 10**6),
            *self._draw(now, second, BUSY, range(3, 15, 2), 10**6),
            *self._draw(now, second, RARE, range(10, 26, 4), 10**5),
            *self._draw(now, earlier, BUSY, [18, 28], 10**4),
            *self._draw(now, first, BUSY, [22, 32], 10**4),
            *self._draw(now, second, BUSY, [28, 38], 10**4),
        ]
        self.uses = list(self.told)
        self.bill(haiku="100.25", opus="2000.5")

    def is_done(self) -> bool | None:
        """Tell whether there is nothing left to tell."""
        return all(use.time + use.delay < time.time() for use in self.told) or None

    def surprise(self) -> None:
        """Tell of uses of a kind that was never heard of, all or some of which the watermark has passed."""
        now, kinds = time.time(), [self._sudden.pop()]
        uses = [use for minute in (-3, 0) for use in self._draw(now, self.minute + minute * MINUTE, kinds, [0], 10**5)]
        self.told += uses
        self.uses += uses

    def lower(self) -> None:
        """Take back half of what was told first."""
        use = self.uses[0]
        half = Tokens._make(count // 2 for count in use.tokens)
        self.uses[0] = replace(use, tokens=half)
        self.lowered = tally(use.dimensions, use.tokens) - tally(use.dimensions, half)

    def bill(self, **cents: str) -> None:
        """Say what the day cost, by model."""
        self.bills[self._day] = [line(amount, model=f"claude-{model}-5-5") for model, amount in cents.items()]

    def known(self, as_of: float, usage_time: float) -> Counter[Labels]:
        """Return what was told by ``as_of`` of the usage up to a time; within a minute usage is even."""
        minute = int(usage_time // MINUTE) * MINUTE
        part = int(usage_time * 1000) - minute * 1000
        told = [use for use in self.told if use.time + use.delay <= as_of]
        whole = total(use for use in told if use.time < minute)
        growing = total(use for use in told if minute <= use.time < minute + MINUTE)
        return whole + Counter({labels: count * part // (MINUTE * 1000) for labels, count in growing.items()})

    def rate(self) -> float:
        """Return the tokens per second of the minute that used the most."""
        ends = (self.minute, self.minute + MINUTE, self.end)
        sums = [tokens_of(self.known(inf, end)) for end in ends]
        return max(after - before for before, after in pairwise(sums)) / MINUTE

    def estimated(self) -> dict[Labels, float]:
        """Return what all that was told of since the first start costs by the list, by the labels of estimates."""
        listed, day = pricefiles.shipped(), self.minute // DAY * DAY
        costs: defaultdict[Labels, Decimal] = defaultdict(Decimal)
        for labels, count in total(use for use in self.told if use.time >= self.minute).items():
            model, workspace_id, tier, window, geo, lane = labels
            key = PriceKey(model, tier, window, geo, lane)
            usd = listed.usd_per_token(key, day) if lane in TOKEN_TYPES else listed.usd_per_request(lane, day)
            if usd is not None and tier != "priority":
                what = ("tokens", lane) if lane in TOKEN_TYPES else (lane, "none")
                costs[workspace_id, model, tier, *what] += count * usd
        return {labels: float(usd) for labels, usd in costs.items() if usd}

    def _draw(self, now: float, minute: int, kinds: Iterable[Kind], waits: Iterable[int], most: int) -> list[Use]:
        """Return uses of each kind within ``minute`` for each of ``waits``, told so many seconds from ``now``."""
        uses = []
        for kind, wait in product(kinds, waits):
            figures = [self._random.randrange(1, most) for _ in TOKEN_TYPES]
            moment = minute + self._random.randrange(MINUTE)
            tokens = Tokens._make([*figures, self._random.randrange(3)])
            uses += [Use(moment, dimensions, tokens, now + wait - moment) for dimensions in kind]
        return uses


def tally(dimensions: Dimensions, tokens: Tokens, names: Iterable[str] = USAGE_LABELS) -> Counter[Labels]:
    """Return figures by the labels of the counters; the last is the token type or the tool."""
    nameless = {"api_key_id": "console", "workspace_id": "default"}
    labels = tuple(getattr(dimensions, name) or nameless[name] for name in names)
    return Counter({(*labels, lane): count for lane, count in tokens._asdict().items()})


def total(uses: Iterable[Use], names: Iterable[str] = USAGE_LABELS) -> Counter[Labels]:
    """Return the sums, those that are 0 too."""
    sums: Counter[Labels] = Counter()
    for use in uses:
        sums.update(tally(use.dimensions, use.tokens, names))
    return sums


def tokens_of(counts: Mapping[Labels, float]) -> float:
    """Return the tokens among tokens and requests."""
    return sum(count for labels, count in counts.items() if labels[-1] in TOKEN_TYPES)


def by_labels(result: Result, labels: Iterable[str]) -> dict[Labels, float]:
    return {tuple(found["metric"][label] for label in labels): float(found["value"][1]) for found in result}


@dataclass(slots=True)
class Ordeal:
    """The program, started again and again where it was; an API that has bad moments; and who watches."""

    organization: PatientOrganization
    api: AdminApi
    start: Callable[[float], ExporterProcess]
    servers: Mapping[str, PrometheusServer]
    settle: float
    begun: float
    program: ExporterProcess
    ended: float = 0.0
    kills: int = 0
    outage: tuple[float, float] = (0.0, 0.0)

    def endure(self, random: Random) -> None:
        """Live through everything, up to where all that was used is counted."""
        downs = random.sample(DOWN, len(DOWN))
        self.sees(f'count({WATERMARKS}) == 2 and on () anthropic_up{{report="cost"}} == 1')
        self.organization.open()
        self.sees(f"sum({TOKENS}) > 0")
        time.sleep(random.uniform(0, 2))
        self.die_surprised(random.uniform(0, 0.2), downs[0])
        self.die(random.uniform(0, 4), downs[1])
        self.sees_progress()
        self.storm()
        self.die(random.uniform(0, 2), downs[2])
        self.die_surprised(random.uniform(0, 0.2), downs[3])
        self.fall_silent(random.uniform(0, 2), downs[4])
        self.mislead()
        self.die_surprised(random.uniform(0, 0.2), downs[5])
        until(self.organization.is_done, PATIENCE, self.program.log)
        for _ in range(CALM + 1):
            self.sees_progress()
        self.stop()
        self.sees(f"min(min_over_time({WATERMARKS}[{HOLD}s])) > {self.organization.end}")
        self.sees("count(anthropic_usage_overcounted_tokens > 0) == 2")
        self.ended = time.time()

    def die(self, life: float, down: float) -> None:
        """Live for some seconds more, and be started again some seconds after a SIGKILL."""
        time.sleep(life)
        self.program.kill()
        self.kills += 1
        time.sleep(down)
        self.program = self.start(self.settle)

    def die_surprised(self, life: float, down: float) -> None:
        """Die right after hearing of a new kind, which no Prometheus may have seen yet."""
        asked = self.api.requests["usage"]
        self.organization.surprise()
        until(lambda: self.api.requests["usage"] > asked or None, PATIENCE, self.program.log)
        self.die(life, down)

    def stop(self) -> None:
        """Be stopped with SIGTERM, and started with a lower ``settle``."""
        code, _ = self.program.terminate()
        assert code == 0
        self.settle -= LEAP
        self.program = self.start(self.settle)

    def storm(self) -> None:
        """Be asked by the API to come back later, each time."""
        self.api.faults.add(Fault(kind=429, retry_after="5"))
        self.sees(f"{UP} == 0")
        self.api.faults.clear()

    def fall_silent(self, life: float, down: float) -> None:
        """Hear nothing from the API for some seconds, die meanwhile, and find it well again."""
        self.sees(f"{UP} == 1")
        begun = time.time()
        self.api.faults.add(Fault(kind=503))
        self.sees(f"{UP} == 0")
        self.die(life, down)
        asked = self.api.requests.total()
        until(lambda: self.api.requests.total() > asked + 1 or None, PATIENCE, self.program.log)
        self.api.faults.clear()
        self.outage = begun, time.time()
        self.sees(f"{UP} == 1")

    def mislead(self) -> None:
        """Be told what was known before anything was, and then figures that were lowered."""
        asked = self.api.requests["usage"]
        self.api.faults.add(Fault(kind="stale", seconds=time.time() - self.begun, endpoint="usage"))
        until(lambda: self.api.requests["usage"] > asked + 4 or None, PATIENCE, self.program.log)
        self.api.faults.clear()
        self.organization.lower()
        self.organization.bill(haiku="150.75", opus="1900.25")
        self.sees("anthropic_cost_overcounted_usd > 0")

    def sees(self, promql: str) -> None:
        """Wait until each Prometheus has an answer."""
        for server in self.servers.values():
            server.wait_for(promql, bool, PATIENCE)

    def sees_progress(self) -> None:
        """Wait until the watermark is ahead of all that was stored before."""
        reached = {server.scalar(f"max_over_time({WATERMARK}[5m])") for server in self.servers.values()}
        self.sees(f"{WATERMARK} > {max(reached)!r}")


class Scrape(NamedTuple):
    """What Prometheus stored of one page: when it asked for it (Unix seconds), and what it got."""

    time: float
    watermark: float
    counts: Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class View:
    """What one Prometheus has to say about the whole ordeal, which is ``$`` in a query."""

    ordeal: Ordeal
    server: PrometheusServer

    @property
    def span(self) -> str:
        return f"{ceil(self.ordeal.ended - self.ordeal.begun) + 1}s"

    def ask(self, promql: str) -> Result:
        return self.server.query(promql.replace("$", self.span), self.ordeal.ended)

    def number(self, promql: str) -> float:
        return self.server.scalar(promql.replace("$", self.span), self.ordeal.ended)

    def counters(self, promql: str, *, by_key: bool = False) -> dict[Labels, float]:
        """Return the answers for tokens and for requests, without zeros; ``#`` is the family."""
        names = KEY_LABELS if by_key else USAGE_LABELS
        families = (KEY_TOKENS, KEY_SEARCHES) if by_key else (TOKENS, SEARCHES)
        found = {
            labels: value
            for family, label in zip(families, ("token_type", "tool"), strict=True)
            for labels, value in by_labels(self.ask(promql.replace("#", family)), (*names, label)).items()
        }
        return {labels: value for labels, value in found.items() if value}

    def dollars(self, family: str, names: Sequence[str]) -> dict[Labels, float]:
        """Return by how much a family of dollars has grown, by some of its labels, without zeros."""
        growth = self.ask(f"sum by ({', '.join(names)}) (max_over_time({family}[$]) - min_over_time({family}[$])) > 0")
        return by_labels(growth, names)

    def scrapes(self) -> list[Scrape]:
        """Return every scrape that was stored, the oldest first."""
        watermarks = {moment: float(reached) for moment, reached in self.ask(f"{WATERMARK}[$]")[0]["values"]}
        counts: dict[float, dict[Labels, float]] = {moment: {} for moment in watermarks}
        for family, label in ((TOKENS, "token_type"), (SEARCHES, "tool")):
            for series in self.ask(f"{family}[$]"):
                labels = tuple(series["metric"][name] for name in (*USAGE_LABELS, label))
                for moment, count in series["values"]:
                    counts[moment][labels] = float(count)
        return [Scrape(moment, watermarks[moment], counts[moment]) for moment in sorted(watermarks)]


@pytest.fixture(scope="module")
def ordeal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    """Let every Prometheus that there is watch the same ordeal."""
    now = time.time()
    minute = int((now - 90 - HEAD_START) // MINUTE) * MINUTE
    yesterday = int(now // DAY - 1) * DAY
    organization = PatientOrganization(minute, yesterday)
    api = AdminApi(organization, key=KEY, clock=time.time)
    folder, address = tmp_path_factory.mktemp("exporter"), f"127.0.0.1:{free_port()}"
    with ExitStack() as running:
        flags = ["--api.base-url", running.enter_context(serve(api)).url, "--web.listen-address", address]
        flags += ["--usage.anchor", f"{datetime.fromtimestamp(yesterday, UTC):%Y-%m-%d}", "--state.path", "counters.db"]

        def start(settle: float) -> ExporterProcess:
            environment = {"PATH": os.environ["PATH"], "ANTHROPIC_ADMIN_API_KEY": KEY}
            command = [sys.executable, "-m", "exporter", *flags, *QUICK, "--usage.settle", f"{settle:.3f}"]
            return running.enter_context(ExporterProcess(command, folder, environment))

        settle = now - minute - HEAD_START
        program = start(settle)
        targets = {"exporter": f"http://{address}/metrics"}
        servers = {
            name: PrometheusServer(leg, tmp_path_factory.mktemp("prometheus"), targets)
            for name, leg in prometheus_binaries().items()
        }
        for server in servers.values():
            running.enter_context(server)
        survived = Ordeal(organization, api, start, servers, settle, now, program)
        survived.endure(Random(3))  # noqa: S311 - no secret
        yield survived


@pytest.fixture(params=["2", "3"], ids=["prometheus-2", "prometheus-3"])
def view(request: pytest.FixtureRequest) -> View:
    if request.param not in prometheus_binaries():
        missing = f"no Prometheus {request.param}.x (3.x: 3.5 or newer) with its promtool"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{missing}; .ci/servers installs it on Debian 12")
    ordeal: Ordeal = request.getfixturevalue("ordeal")
    return View(ordeal, ordeal.servers[request.param])


@pytest.fixture
def note(record_property: Note, view: View) -> Note:
    """Write a figure down, for the report and for pytest -rP."""

    def write(name: str, figure: object) -> None:
        record_property(name, figure)
        sys.stdout.write(f"Prometheus {view.server.leg.version}: {name} {figure}\n")

    return write


@pytest.mark.parametrize("family", ODOMETERS)
def test_no_counter_falls(view: View, family: str) -> None:
    series = view.number(f"count(count_over_time({family}[$]))")
    assert view.number(f"count(resets({family}[$]) == 0)") == series > 0


def test_no_watermark_ever_falls(view: View) -> None:
    assert by_labels(view.ask(f"resets({WATERMARKS}[$])"), ["report"]) == dict.fromkeys(VIEWS, 0)


@pytest.mark.parametrize("family", ODOMETERS)
def test_the_first_sample_of_each_series_is_0(view: View, family: str) -> None:
    series = view.ask(f"{family}[$]")
    assert [found["metric"] for found in series if float(found["values"][0][1])] == []
    assert view.number(f"count(min_over_time({family}[$]) == 0)") == len(series) > 0


def test_the_growth_is_what_the_api_told_to_the_token(view: View, note: Note) -> None:
    organization = view.ordeal.organization
    told = total(organization.told)
    growth = view.counters("max_over_time(#[$]) - min_over_time(#[$])")
    assert growth == +told
    note("tokens", tokens_of(growth))


def test_the_growth_by_key_is_what_the_api_told_to_the_token(view: View) -> None:
    growth = view.counters("max_over_time(#[$]) - min_over_time(#[$])", by_key=True)
    assert growth == +total(view.ordeal.organization.told, KEY_LABELS)


def test_estimates_grow_by_what_the_api_told_at_the_list_price(view: View, note: Note) -> None:
    """There are no two billed days that a price could be learned from."""
    truth, growth = view.ordeal.organization.estimated(), view.dollars(ESTIMATED, ESTIMATE_LABELS)
    assert growth.keys() == truth.keys()
    worst = max(abs(growth[labels] / usd - 1) for labels, usd in truth.items())
    note("dollars, and the worst relative error of a series", [sum(growth.values()), worst])
    assert worst < 1e-9


def test_dollars_by_key_are_those_of_the_workspace(view: View, note: Note) -> None:
    """To the last fraction: geographies that share a workspace are used alike here."""
    names = ("workspace_id", "model")
    truth, growth = view.dollars(ESTIMATED, names), view.dollars(KEY_ESTIMATED, names)
    assert growth.keys() == truth.keys()
    assert {key for (key,) in view.dollars(KEY_ESTIMATED, ["api_key_id"])} == {"apikey_1", "apikey_2", "console"}
    worst = max(abs(growth[labels] / usd - 1) for labels, usd in truth.items())
    note("worst relative error of dollars by key, summed by workspace and model", worst)
    assert worst < 1e-9


def test_what_was_lowered_is_shown_and_not_taken_back(view: View) -> None:
    organization = view.ordeal.organization
    lowered = tokens_of(organization.lowered)
    assert by_labels(view.ask("anthropic_usage_overcounted_tokens"), ["report"]) == dict.fromkeys(VIEWS, lowered)
    assert lowered > 0
    for by_key in (False, True):
        assert tokens_of(view.counters("#", by_key=by_key)) - lowered == tokens_of(total(organization.uses))
    assert view.number(f"min(max_over_time({LATE}[$]) - min_over_time({LATE}[$]))") > 0


def test_the_growth_of_the_bill_is_the_most_that_each_line_said(view: View) -> None:
    growth = view.ask(f"max_over_time({BILLED}[$]) - min_over_time({BILLED}[$])")
    billed = by_labels(growth, ["model"])
    assert billed == {("claude-haiku-5-5",): 1.5075, ("claude-opus-5-5",): 20.005}
    assert view.number("anthropic_cost_overcounted_usd") == 1.0025


def test_each_scrape_is_what_was_told_up_to_its_watermark(view: View, note: Note) -> None:
    """It shows no more than that; and no less, but for what was told since the last poll, or is still held."""
    organization, scrapes = view.ordeal.organization, view.scrapes()
    nearly = organization.end - 10
    midway = [scrape for scrape in scrapes if any(scrape.counts.values()) and scrape.watermark < nearly]
    exact, worst = set(), (0.0, 0.0)
    for scrape in scrapes:
        # The page was written up to a scrape timeout later.
        told = organization.known(scrape.time + 1, scrape.watermark)
        assert not {labels for labels, count in scrape.counts.items() if count > told[labels]}
    for scrape in midway:
        told = organization.known(scrape.time, scrape.watermark)
        missing = tokens_of(told) - tokens_of(scrape.counts)
        in_flight = tokens_of(organization.known(scrape.time, organization.end)) - tokens_of(told)
        assert missing < in_flight
        worst = max(worst, (missing, in_flight))
        exact |= {scrape.watermark} if +Counter(scrape.counts) == +told else set()
    note("scrapes", len(scrapes))
    note("scrapes while the counters grew", len(midway))
    note("watermarks at which they were exact", len(exact))
    note("tokens missing at worst, and in flight then", worst)
    assert len(exact) >= 3


def test_increase_is_right_but_for_extrapolation(view: View, note: Note) -> None:
    told = +total(view.ordeal.organization.told)
    increase, samples = view.counters("increase(#[$])"), view.counters("count_over_time(#[$])")
    assert increase.keys() == told.keys()
    errors = {labels: increase[labels] / count - 1 for labels, count in told.items()}
    # From 0 on nothing is added at the begin, and at the end no more than 1.1 times the time between two samples.
    assert not {labels for labels, error in errors.items() if not -1e-9 < error <= 1.1 / (samples[labels] - 1)}
    in_all = tokens_of(increase) / tokens_of(told) - 1
    note("error of increase in percent, of all tokens and at worst", [100 * in_all, 100 * max(errors.values())])


def test_catching_up_is_no_spike_per_second_of_use(view: View, note: Note) -> None:
    most = view.ordeal.organization.rate()
    first = next(scrape.time for scrape in view.scrapes() if any(scrape.counts.values()))
    of_use = f"sum(increase({TOKENS}[{WINDOW}s])) / (sum(delta({WATERMARK}[{WINDOW}s])) > {WINDOW / 4})"
    plain = f"sum(rate({TOKENS}[{WINDOW}s]))"
    seconds = int(view.ordeal.ended - first - WINDOW)
    highest = [view.number(f"max_over_time(({rate})[{seconds}s:1s])") / most for rate in (of_use, plain)]
    note("highest rate by the watermark and plain, of the true one", highest)
    assert highest[0] < 1.5


def test_each_trouble_is_seen_and_over(view: View, note: Note) -> None:
    begun, ended = view.ordeal.outage
    assert view.server.scalar(f"min_over_time({UP}[{ceil(ended - begun)}s])", ended) == 0
    failures = 'anthropic_exporter_poll_failures_total{report="usage",reason="%s"}[$]'
    assert view.number(f"max_over_time({failures % 'rate_limited'})") > 0
    assert view.number(f"max_over_time({failures % 'server'})") > 0
    assert view.number(UP) == 1
    assert view.number(f"min_over_time({LOADED}[$])") == 0
    assert view.number(LOADED) == 1
    assert view.ordeal.kills >= 6
    note("kills", view.ordeal.kills)
    note("seconds", view.ordeal.ended - view.ordeal.begun)
