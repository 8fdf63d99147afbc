"""Both generations of Prometheus scrape the program while it is killed again and again: they store what was used."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise, product
from math import ceil, inf
from random import Random
from typing import NamedTuple, TypeAlias

import pytest

from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, MINUTE, Dimensions, Tokens
from exporter.demo.server import serve
from tests.events import Use, WrittenOrganization, line
from tests.integration.conftest import ExporterProcess, PrometheusServer, Result, free_port, prometheus_binaries, until
from tests.world import KEY, TOKEN_TYPES, TOKENS, USAGE_LABELS

pytestmark = [pytest.mark.process, pytest.mark.prometheus]

Labels: TypeAlias = tuple[str, ...]
Note: TypeAlias = Callable[[str, object], None]

SEARCHES, BILLED = "anthropic_usage_server_tool_requests_total", "anthropic_cost_usd_total"
LATE, WATERMARK = "anthropic_usage_late_tokens_total", "anthropic_usage_watermark_timestamp_seconds"
ODOMETERS = (TOKENS, SEARCHES, BILLED, LATE)
UP, SUCCESS = 'anthropic_up{report="usage"}', 'anthropic_exporter_last_success_timestamp_seconds{report="usage"}'
LOADED = "anthropic_exporter_state_loaded"

HOLD = 3
QUICK = (
    *("--usage.poll-interval", "1", "--usage.hold", f"{HOLD}"),
    *("--cost.poll-interval", "1", "--names.poll-interval", "5"),
)
HEAD_START, LEAP = 40, 25
"""Seconds of its first minute that the watermark begins at, and by which a lower ``settle`` lets it leap later on."""

DOWN = (0.5, 0.5, 1.0, 1.5, 2.5, 7.5)
"""Seconds between a SIGKILL and the next start, in an order that the seed decides."""

WINDOW = 20
"""Seconds over which rates are taken; more than any downtime with the start after it."""

PATIENCE = 60.0
"""Seconds after which a wait fails; only what never comes takes them."""

MODELS = ("claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5")
KINDS = tuple(
    Dimensions("apikey_1", workspace, model, tier, "0-200k", "global")
    for model, workspace, tier in product(MODELS, ("wrkspc_1", None), ("standard", "batch"))
)
LONG_KNOWN, NEW = KINDS[:8], KINDS[8:]


class PatientOrganization(WrittenOrganization):
    """Has used all that it uses in the two minutes from ``minute`` on, and some before, but tells of it bit by bit.

    ``told`` is all that it ever tells, before any of it is lowered; nothing is told before ``open``.
    """

    def __init__(self, minute: int, billed_day: int) -> None:
        super().__init__()
        self.minute = minute
        self.end = minute + 2 * MINUTE
        self.told: Sequence[Use] = ()
        self.lowered: Counter[Labels] = Counter()
        self._day = billed_day
        self._random = Random(7)  # noqa: S311 - no secret

    def open(self) -> None:
        """Begin to tell: most of a minute before the watermark comes to it, some of it later than that."""
        now, first, second, earlier = int(time.time()), self.minute, self.minute + MINUTE, self.minute - 3 * MINUTE
        self.told = [
            *self._draw(now, earlier, LONG_KNOWN[:4], [0], 10**6),
            *self._draw(now, first, LONG_KNOWN, [0, 0, 0, 1], 10**6),
            *self._draw(now, second, LONG_KNOWN, range(3, 15, 2), 10**6),
            *self._draw(now, second, NEW, range(10, 26, 4), 10**5),
            *self._draw(now, earlier, KINDS, [18, 28], 10**4),
            *self._draw(now, first, KINDS, [22, 32], 10**4),
            *self._draw(now, second, KINDS, [28, 38], 10**4),
        ]
        self.uses = list(self.told)
        self.bill(haiku="100.25", opus="2000.5")

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

    def _draw(self, now: int, minute: int, kinds: Sequence[Dimensions], waits: Iterable[int], most: int) -> list[Use]:
        """Return a use of each kind within ``minute`` for each of ``waits``, told so many seconds from ``now``."""
        uses = []
        for kind, wait in product(kinds, waits):
            figures = [self._random.randrange(1, most) for _ in TOKEN_TYPES]
            moment = minute + self._random.randrange(MINUTE)
            tokens = Tokens._make([*figures, self._random.randrange(3)])
            uses.append(Use(moment, kind, tokens, now + wait - moment))
        return uses


def tally(dimensions: Dimensions, tokens: Tokens) -> Counter[Labels]:
    """Return figures by the labels of the counters; the last is the token type or the tool."""
    labels = tuple(getattr(dimensions, name) or "default" for name in USAGE_LABELS)
    return Counter({(*labels, lane): count for lane, count in tokens._asdict().items()})


def total(uses: Iterable[Use]) -> Counter[Labels]:
    """Return the sums, those that are 0 too."""
    sums: Counter[Labels] = Counter()
    for use in uses:
        sums.update(tally(use.dimensions, use.tokens))
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
    program: ExporterProcess
    kills: int = 0
    begun: float = 0.0
    ended: float = 0.0
    outage: tuple[float, float] = (0.0, 0.0)

    def endure(self, random: Random) -> None:
        """Live through everything, up to where all that was used is counted."""
        self.begun = time.time()
        downs = random.sample(DOWN, len(DOWN))
        self.sees(WATERMARK)
        self.organization.open()
        self.sees_progress()
        for down in downs[:2]:
            self.die(random.uniform(0, 4), down)
        self.storm()
        self.die(random.uniform(0, 2), downs[2])
        self.die(random.uniform(0, 4), downs[3])
        self.fall_silent(random.uniform(0, 2), downs[4])
        self.mislead()
        self.die(random.uniform(0, 3), downs[5])
        self.sees_progress()
        self.stop()
        self.sees(f"min_over_time({WATERMARK}[{HOLD + 1}s]) > {self.organization.end}")
        self.ended = time.time()

    def die(self, life: float, down: float) -> None:
        """Live for some seconds more, and be started again some seconds after a SIGKILL."""
        time.sleep(life)
        self.program.kill()
        self.kills += 1
        time.sleep(down)
        self.program = self.start(self.settle)

    def stop(self) -> None:
        """Be stopped with SIGTERM, and started with a lower ``settle``."""
        code, _ = self.program.terminate()
        assert code == 0
        self.settle -= LEAP
        self.program = self.start(self.settle)

    def storm(self) -> None:
        """Be asked by the API to come back later, each time."""
        self.api.faults.add(Fault(kind=429, retry_after="2"))
        self.sees(f"{UP} == 0")
        time.sleep(2)
        self.api.faults.clear()

    def fall_silent(self, life: float, down: float) -> None:
        """Hear nothing from the API for some seconds, die meanwhile, and find it well again."""
        self.sees(f"{UP} == 1")
        begun = time.time()
        self.api.faults.add(Fault(kind=503))
        self.sees(f"{UP} == 0")
        self.die(life, down)
        assert self.program.url
        time.sleep(1)
        self.api.faults.clear()
        self.outage = begun, time.time()
        self.sees(f"{UP} == 1")

    def mislead(self) -> None:
        """Be told what was known before anything was, and then figures that were lowered."""
        asked, usage = self.api.requests, "usage"
        enough = asked[usage] + 3
        self.api.faults.add(Fault(kind="stale", seconds=time.time() - self.begun, endpoint=usage))
        until(lambda: asked[usage] > enough or None, PATIENCE, self.program.log)
        self.api.faults.clear()
        self.organization.lower()
        self.organization.bill(haiku="150.75", opus="1900.25")
        self.sees("anthropic_usage_overcounted_tokens > 0 and on () anthropic_cost_overcounted_usd > 0")

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

    def counters(self, promql: str) -> dict[Labels, float]:
        """Return the answers for tokens and for requests, without zeros; ``#`` is the family."""
        families = {TOKENS: "token_type", SEARCHES: "tool"}
        found = {
            labels: value
            for family, label in families.items()
            for labels, value in by_labels(self.ask(promql.replace("#", family)), (*USAGE_LABELS, label)).items()
        }
        return {labels: value for labels, value in found.items() if value}

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
        told = Ordeal(organization, api, start, servers, settle, program)
        told.endure(Random(3))  # noqa: S311 - no secret
        yield told


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


def test_the_watermark_never_falls(view: View) -> None:
    assert view.number(f"resets({WATERMARK}[$])") == 0


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


def test_what_was_lowered_is_shown_and_not_taken_back(view: View) -> None:
    organization = view.ordeal.organization
    lowered = tokens_of(organization.lowered)
    assert view.number("anthropic_usage_overcounted_tokens") == lowered > 0
    assert tokens_of(view.counters("#")) - lowered == tokens_of(total(organization.uses))
    assert view.number(f"max_over_time({LATE}[$]) - min_over_time({LATE}[$])") > 0


def test_the_growth_of_the_bill_is_the_most_that_each_line_said(view: View) -> None:
    growth = view.ask(f"max_over_time({BILLED}[$]) - min_over_time({BILLED}[$])")
    billed = by_labels(growth, ["model"])
    assert billed == {("claude-haiku-5-5",): 1.5075, ("claude-opus-5-5",): 20.005}
    assert view.number("anthropic_cost_overcounted_usd") == 1.0025


def test_each_scrape_is_what_was_told_up_to_its_watermark(view: View, note: Note) -> None:
    organization = view.ordeal.organization
    midway, exact, worst = 0, 0, (0.0, 0.0)
    for scrape in view.scrapes():
        due = organization.known(scrape.time + 1, scrape.watermark)
        assert not {labels for labels, count in scrape.counts.items() if count > due[labels]}
        due = organization.known(scrape.time, scrape.watermark)
        told = organization.known(scrape.time, organization.end)
        short = tokens_of(due) - tokens_of(scrape.counts)
        flight = tokens_of(told) - tokens_of(due)
        sys.stdout.write(f"{scrape.time - view.ordeal.begun:6.2f} w {scrape.watermark - organization.minute:7.2f} C {tokens_of(scrape.counts):.0f} short {short:.0f} flight {flight:.0f}\n")
    note("scrapes", len(view.scrapes()))
    assert 0


def test_increase_is_right_but_for_extrapolation(view: View, note: Note) -> None:
    grown = view.counters("increase(#[$])")
    told = +total(view.ordeal.organization.told)
    samples = view.counters("count_over_time(#[$])")
    assert grown.keys() == told.keys()
    errors = {labels: grown[labels] / count - 1 for labels, count in told.items()}
    assert all(0 <= error + 1e-9 and error <= 1.1 / (samples[labels] - 1) for labels, error in errors.items())
    note("worst error of increase", max(errors.values()))


def test_catching_up_is_no_spike_per_second_of_use(view: View, note: Note) -> None:
    most = view.ordeal.organization.rate()
    first = next(scrape.time for scrape in view.scrapes() if any(scrape.counts.values()))
    span = f"{int(view.ordeal.ended - first - WINDOW)}s:1s"
    per_use = f"sum(increase({TOKENS}[{WINDOW}s])) / (sum(delta({WATERMARK}[{WINDOW}s])) > 5)"
    plain = f"sum(rate({TOKENS}[{WINDOW}s]))"
    used, seen = (view.number(f"max_over_time(({rate})[{span}])") / most for rate in (per_use, plain))
    note("per_use", used)
    note("plain", seen)
    assert used < 2


def test_the_outage_is_seen_and_the_state_gone_on_from(view: View, note: Note) -> None:
    begun, ended = view.ordeal.outage
    around = f"{UP}[{ceil(ended - begun)}s]"
    assert view.server.scalar(f"min_over_time({around})", ended) == 0
    assert view.number(UP) == 1
    assert view.number(f"min_over_time({LOADED}[$])") == 0
    assert view.number(LOADED) == 1
    note("kills", view.ordeal.kills)
    note("seconds", view.ordeal.ended - view.ordeal.begun)
