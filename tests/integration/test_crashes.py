"""What the counters show when the real program is killed, stopped or out of disk: what they ever showed, or more."""

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import groupby, pairwise, product
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import httpx
import pytest

from exporter.demo.api import AdminApi
from exporter.demo.organization import DAY, MINUTE, CostLine, Dimensions, Tokens
from exporter.demo.server import serve
from tests.events import Use, WrittenOrganization, line
from tests.integration.conftest import free_port, until
from tests.world import KEY, TOKENS, USAGE_LABELS, Page, by, parse, total, value

if TYPE_CHECKING:
    from tests.integration.conftest import ExporterProcess

pytestmark = pytest.mark.process

Start: TypeAlias = Callable[..., "ExporterProcess"]
Labels: TypeAlias = tuple[str, ...]

QUICK = (
    *("--usage.poll-interval", "1", "--usage.api-key-poll-interval", "1", "--cost.poll-interval", "1"),
    *("--names.poll-interval", "2", "--limits.poll-interval", "2"),
)
PATIENCE = 60.0
"""Seconds after which a wait fails; only what never comes takes them."""

SEARCHES, BILLED = "anthropic_usage_server_tool_requests_total", "anthropic_cost_usd_total"
WATERMARK, LATE = "anthropic_usage_watermark_timestamp_seconds", "anthropic_usage_late_tokens_total"
KEY_TOKENS, KEY_SEARCHES = "anthropic_api_key_usage_tokens_total", "anthropic_api_key_usage_server_tool_requests_total"
ESTIMATED, KEY_ESTIMATED = "anthropic_estimated_cost_usd_total", "anthropic_api_key_estimated_cost_usd_total"
GROWING = {TOKENS, KEY_TOKENS, ESTIMATED, KEY_ESTIMATED}
"""What has grown whenever somebody has used anything and it was counted."""
COUNTERS = {*GROWING, SEARCHES, KEY_SEARCHES, BILLED, LATE}
REPEATED = {*GROWING, SEARCHES, KEY_SEARCHES, BILLED, WATERMARK}
"""What a program that was started again shows as it was, for the hold."""
ODOMETERS = COUNTERS | REPEATED
"""What never falls and never goes."""
LOADED, COMMITS = "anthropic_exporter_state_loaded", "anthropic_exporter_state_commit_duration_seconds_count"
FAILURES = "anthropic_exporter_poll_failures_total"

ESTIMATE_LABELS = ("workspace_id", "model", "service_tier", "cost_type", "token_type")
PRICE_LABELS = ("model", "service_tier", "context_window", "inference_geo", "token_type")
CELL_LABELS = ("model", "workspace_id", "service_tier", "context_window")
"""What the views by geography and by API key have in common."""

MODELS = ("claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-5-5")
PLACES = {"wrkspc_1": (("apikey_1", "global"), ("apikey_2", "us")), None: ((None, "us"),)}
"""The keys and geographies of each workspace."""
KINDS = tuple(
    [Dimensions(key, workspace, model, tier, context, geo) for key, geo in PLACES[workspace]]
    for workspace, model, tier, context in product(PLACES, MODELS, ("standard", "batch"), ("0-200k", "200k-1M"))
)
"""What is used together."""

EXACT = 1e-9
LEEWAY = {"wrkspc_1": 0.005, "default": EXACT}
"""How far dollars by API key may be from those of their workspace, relative: with one geography not at all."""

VIEWS = ("usage", "api_key_usage")

KILLS = 21
MOMENTS = ("as it starts", "in a poll", "in a poll after it has moved on", "in a poll")

SLOW_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The process is inside as long as the marker is there. */
static void dwell(const char *place)
{
    const char *where = getenv("SLOW_DISK_AT"), *marker = getenv("SLOW_DISK_MARKER");
    if (!where || !marker || strcmp(where, place))
        return;
    close(open(marker, O_CREAT | O_WRONLY, 0600));
    usleep(300000);
    unlink(marker);
}

/* A frame of SQLite's log begins with 24 bytes; the second four are 0 in all frames of a transaction but the last. */
static int commits(int file, const void *data, size_t size)
{
    char link[64], name[4096];
    if (size != 24 || !memcmp((const char *)data + 4, "\0\0\0\0", 4))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name);
    return length > 4 && !memcmp(name + length - 4, "-wal", 4);
}

#define SYNC(name) \
    int name(int file) \
    { \
        dwell("sync"); \
        return ((int (*)(int))dlsym(RTLD_NEXT, #name))(file); \
    }
#define WRITE(name) \
    ssize_t name(int file, const void *data, size_t size, off_t offset) \
    { \
        if (commits(file, data, size)) \
            dwell("record"); \
        return ((ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, #name))(file, data, size, offset); \
    }
SYNC(fsync)
SYNC(fdatasync)
WRITE(pwrite)
WRITE(pwrite64)
"""


class BusyOrganization(WrittenOrganization):
    """Has used more in one minute each time it is asked, and raises the bill of one day, until it ``rests``.

    ``asked`` is set when it was asked for minutes, of which each poll of usage reads the last.
    """

    def __init__(self, minute: int, day: int) -> None:
        super().__init__([Use(minute - 1, dimensions, Tokens(output=1_000_000)) for dimensions in KINDS[0]])
        self.rests = False
        self.asked = threading.Event()
        self._minute = minute
        self._day = day
        self._cents = dict.fromkeys(MODELS, Decimal(0))
        self._random = Random(1)  # noqa: S311 - no secret

    def usage(self, width: int, start: int, end: int, as_of: float) -> Mapping[int, Mapping[Dimensions, Tokens]]:
        if not self.rests:
            self.uses += [*self._draw(), *self._draw()]
        found = super().usage(width, start, end, as_of)
        if width == MINUTE:
            self.asked.set()
        return found

    def cost(self, day: int, as_of: float) -> Sequence[CostLine] | None:
        if day == self._day and not self.rests:
            self._cents[self._random.choice(MODELS)] += Decimal(self._random.randrange(10**6)) / 1000
            self.bills[day] = [line(str(cents), model=model) for model, cents in self._cents.items()]
        return super().cost(day, as_of)

    def _draw(self) -> list[Use]:
        """Return uses of one kind: by each key and in each geography nearly as much as in the others."""
        moment, kind = self._minute + self._random.randrange(MINUTE), self._random.choice(KINDS)
        figures = [self._random.randrange(1, 10**6) for _ in range(5)]
        return [Use(moment, dimensions, self._nearly(figures)) for dimensions in kind]

    def _nearly(self, figures: Sequence[int]) -> Tokens:
        more = [count + self._random.randrange(count // 20 + 1) for count in figures]
        return Tokens._make([*more, self._random.randrange(3)])

    def used(self, anchor: int) -> Page:
        """Return the sums since the anchor as the counters should show them."""
        sums: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
        for use in self.uses:
            labels = {name: getattr(use.dimensions, name) or "default" for name in USAGE_LABELS}
            for lane, count in use.tokens._asdict().items() if use.time >= anchor else ():
                family, label = (SEARCHES, "tool") if lane == "web_search" else (TOKENS, "token_type")
                sums[family, frozenset({**labels, label: lane}.items())] += count
        return dict(sums)

    def billed(self, anchor: int) -> dict[tuple[str, ...], float]:
        """Return the bill in USD, by model."""
        return {(model,): float(cents / 100) for model, cents in self._cents.items() if anchor < self._day + DAY}


class Scrape(NamedTuple):
    """A page, and when it was asked for and had come (monotonic seconds)."""

    begun: float
    ended: float
    page: Page


class Recorder:
    """Scrapes one address through all restarts, and keeps what it was shown."""

    def __init__(self, url: str) -> None:
        self.scrapes: list[Scrape] = []
        self._url = url
        self._client = httpx.Client(trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))
        self._lock = threading.Lock()

    def close(self) -> None:
        self._client.close()

    def scrape(self) -> Page | None:
        """Return the page, or None while nobody answers."""
        with self._lock:
            begun = time.monotonic()
            try:
                text = self._client.get(self._url).raise_for_status().text
            except httpx.TransportError:
                return None
            self.scrapes.append(Scrape(begun, time.monotonic(), parse(text)))
            return self.scrapes[-1].page

    @contextmanager
    def running(self) -> Iterator[None]:
        """Scrape on and on meanwhile."""
        stopped = threading.Event()

        def run() -> None:
            while not stopped.wait(0.1):
                self.scrape()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def lives(self) -> list[list[Scrape]]:
        """Return what each process showed."""
        processes = groupby(self.scrapes, lambda scrape: value(scrape.page, "process_start_time_seconds"))
        return [list(scrapes) for _, scrapes in processes]


class Story:
    """The program, started again and again where it was; an organisation that is busy; and all that was ever shown.

    What was used before ``anchor`` does not count, only the minute before ``end`` is estimated, and nothing is used
    from ``end`` on (Unix seconds). ``state`` is the path of the state file.
    """

    def __init__(
        self,
        start: Start,
        organization: BusyOrganization,
        recorder: Recorder,
        state: Path,
        *,
        anchor: int,
        end: int,
        hold: float,
    ) -> None:
        self.organization = organization
        self.recorder = recorder
        self.state = state
        self._start = start
        self._anchor = anchor
        self._end = end
        self._hold = hold
        self._families = ODOMETERS if organization.billed(anchor) else ODOMETERS - {BILLED}
        self.stops: list[float] = []
        self._kills = 0

    def begin(self, *, wait: bool = True, env: Mapping[str, str] | None = None) -> None:
        self.organization.asked.clear()
        self.program = self._start(wait=wait, env=env)

    def kill(self) -> None:
        self.program.kill()
        self._kills += 1

    def stop(self) -> None:
        code, seconds = self.program.terminate()
        assert code == 0
        self.stops.append(seconds)

    def restarts(self) -> Page:
        """Stop the program and start it again; return what it showed last."""
        page = self.page()
        self.stop()
        self.begin()
        return page

    def wait_for(self, predicate: Callable[[Page], bool]) -> Page:
        """Scrape until the page is as it should be."""

        def look() -> Page | None:
            page = self.recorder.scrape()
            return page if page and predicate(page) else None

        return until(look, PATIENCE, self._complaint)

    def page(self) -> Page:
        return self.wait_for(bool)

    def moves_on(self) -> Page:
        """Wait until the counters have grown."""
        before = self.wait_for(lambda page: self._families <= {name for name, _ in page})
        return self.wait_for(lambda page: all(total(page, name) > total(before, name) for name in GROWING))

    def stands(self) -> Page:
        """Return the first page of a program that has just begun, and scrape on for the hold."""
        self.page()
        first = self.recorder.lives()[-1][0]
        self.wait_for(lambda _: time.monotonic() > first.begun + self._hold)
        return first.page

    def comes_to_rest(self) -> Page:
        """Wait until all is counted, to the last token and cent."""
        self.organization.rests = True
        return self.wait_for(lambda page: min(reached(page).values()) >= self._end and not self.errors(page))

    def errors(self, page: Page) -> Mapping[object, float]:
        """Return by how much counters differ from the organisation's own sums; the bill is by model.

        What is counted by API key is compared with the other counters; dollars are relative.
        """
        wrong: Counter[object] = Counter(only(page, {TOKENS, SEARCHES}))
        wrong.update(by(page, BILLED, ["model"]))
        wrong.subtract(self.organization.used(self._anchor))
        wrong.subtract(self.organization.billed(self._anchor))
        for family, by_key, lane in ((TOKENS, KEY_TOKENS, "token_type"), (SEARCHES, KEY_SEARCHES, "tool")):
            wrong.update(summed(page, by_key, (*CELL_LABELS, lane)))
            wrong.subtract(summed(page, family, (*CELL_LABELS, lane)))
        off = {labels: error for labels, error in self.estimate_errors(page).items() if error > EXACT}
        off |= {labels: error for labels, error in key_errors(page).items() if error > LEEWAY[labels[0]]}
        return {key: difference for key, difference in wrong.items() if difference} | off

    def estimate_errors(self, page: Page) -> dict[Labels, float]:
        """Return by how much each estimate differs, relative, from usage at the prices of the same page."""
        return differences(
            summed(page, ESTIMATED, ESTIMATE_LABELS), priced(self.organization.used(self._end - MINUTE), page)
        )

    def kept(self) -> Mapping[str, Mapping[str, str]]:
        """Return what the state file says of each kind of counters as a whole."""
        with closing(sqlite3.connect(f"file:{self.state}?mode=ro", uri=True)) as file:
            found = file.execute("SELECT key, value FROM note WHERE key LIKE 'ledger.%'").fetchall()
        assert found, "nothing is kept yet"
        ledgers = {key.removeprefix("ledger."): json.loads(facts).items() for key, facts in found}
        return {name: {fact: str(said) for fact, said in facts} for name, facts in ledgers.items()}

    def assert_no_more_than_is_kept(self, page: Page) -> Mapping[str, Mapping[str, str]]:
        """Check a page against the file; return what is in the file."""
        kept = self.kept()
        for report, usage_time in reached(page).items():
            assert usage_time <= float(kept[report]["reach"])
            assert value(page, LATE, report=report) <= int(kept[report]["late"])
        return kept

    def assert_whole(self) -> None:
        """Check everything that was shown from the begin to the end; pytest -rP tells how much that was."""
        pages, lives = [scrape.page for scrape in self.recorder.scrapes], self.recorder.lives()
        assert_nothing_falls_or_goes(pages)
        assert_begins_at_zero(pages, {ESTIMATED, KEY_ESTIMATED})
        assert [value(life[0].page, LOADED) for life in lives] == [0] + [1] * (len(lives) - 1)
        held = sum(assert_stands(life, self._hold) for life in lives[1:])
        assert held
        counted, late = total(pages[-1], TOKENS), value(pages[-1], LATE, report="usage")
        assert late <= counted - max(map(self._on_time, pages))
        worst = max(map(abs, self.errors(pages[-1]).values()), default=0)
        sys.stdout.write(f"{self._kills} kills, {len(pages)} pages of {len(lives)} lives, {held} in a hold; ")
        sys.stdout.write(f"{counted:.0f} tokens, {late:.0f} of them late, worst error {worst:g}; ")
        estimate, by_key = max(self.estimate_errors(pages[-1]).values()), max(key_errors(pages[-1]).values())
        dollars = total(pages[-1], ESTIMATED)
        sys.stdout.write(f"{dollars:.2f} USD, worst error {estimate:.1e}, by key {by_key:.1e} of a workspace's model\n")

    def _on_time(self, page: Page) -> float:
        """Return the tokens on a page that were certainly counted before the watermark had passed their time."""
        return total(page, TOKENS) if total(page, WATERMARK, report="usage") < self._end else 0

    def _complaint(self) -> str:
        page = self.page()
        return f"errors: {self.errors(page)}\npage: {only(page, ODOMETERS)}\n{self.program.log()}"


def only(page: Page, families: Collection[str]) -> Page:
    return {key: sample for key, sample in page.items() if key[0] in families}


def reached(page: Page) -> dict[str, float]:
    """Return the watermarks by report."""
    return {report: usage_time for (report,), usage_time in by(page, WATERMARK, ["report"]).items()}


def summed(page: Page, family: str, labels: Sequence[str]) -> Counter[Labels]:
    """Return a family's sums by some of its labels."""
    sums: Counter[Labels] = Counter()
    for (name, carried), sample in page.items():
        if name == family:
            given = dict(carried)
            sums[tuple(given[label] for label in labels)] += sample  # type: ignore[assignment]
    return sums


def priced(used: Page, page: Page) -> Counter[Labels]:
    """Return what tokens and searches cost at the prices on a page, by the labels of estimates."""
    usd = by(page, "anthropic_price_usd_per_token", PRICE_LABELS)
    usd |= by(page, "anthropic_price_usd_per_request", ["tool"])
    costs: Counter[Labels] = Counter()
    for (name, carried), count in used.items():
        given = dict(carried)
        is_search = name == SEARCHES
        lane = (given["tool"], "none") if is_search else ("tokens", given["token_type"])
        key = (given["tool"],) if is_search else tuple(given[label] for label in PRICE_LABELS)
        costs[given["workspace_id"], given["model"], given["service_tier"], *lane] += count * usd.get(key, 0)  # type: ignore[assignment]
    return costs


def differences(found: Mapping[Labels, float], truth: Mapping[Labels, float]) -> dict[Labels, float]:
    """Return by how much dollars differ from the truth, relative to it, or to a cent where it is less."""
    keys = found.keys() | truth.keys()
    return {key: abs(found.get(key, 0) - truth.get(key, 0)) / max(truth.get(key, 0), 0.01) for key in keys}


def key_errors(page: Page) -> dict[Labels, float]:
    """Return by how much the dollars by API key differ, relative, from those of a workspace and model."""
    labels = ("workspace_id", "model")
    return differences(summed(page, KEY_ESTIMATED, labels), summed(page, ESTIMATED, labels))


def assert_nothing_falls_or_goes(pages: Sequence[Page]) -> None:
    for before, after in pairwise(only(page, ODOMETERS) for page in pages):
        assert not before.keys() - after.keys()
        assert not {key: (was, after[key]) for key, was in before.items() if after[key] < was}


def assert_begins_at_zero(pages: Sequence[Page], families: Collection[str]) -> None:
    first: Page = {}
    for page in pages:
        first = only(page, families) | first
    assert not {key: sample for key, sample in first.items() if sample}


def assert_same(before: Page, after: Page) -> None:
    """Everything stands where it stood, and what is new is at 0."""
    stood, stands = only(before, REPEATED), only(after, REPEATED)
    new = dict.fromkeys(stands.keys() - stood.keys(), 0.0)
    assert stands == stood | new


def assert_stands(life: Sequence[Scrape], hold: float) -> int:
    """Check that all stands as it was first shown for the hold; return how many scrapes fell into it."""
    held = [scrape for scrape in life[1:] if scrape.ended <= life[0].begun + hold]
    for scrape in held:
        assert_same(life[0].page, scrape.page)
    return len(held)


@pytest.fixture
def tell(exporter_process: Start, tmp_path: Path) -> Iterator[Callable[..., Story]]:
    """Begin a story: ``tell(lead, hold=1, anchored=True)``; the watermark is where its usage ends in ``lead`` seconds.

    It counts from yesterday on, and so with a bill, or else from the minute of the first start.
    """
    with ExitStack() as running:

        def begin(lead: float, hold: float = 1, *, anchored: bool = True) -> Story:
            now = time.time()
            settle = MINUTE + (now + lead) % MINUTE
            end, yesterday = round(now + lead - settle), int(now // DAY - 1) * DAY
            organization = BusyOrganization(end - MINUTE, yesterday)
            api = running.enter_context(serve(AdminApi(organization, key=KEY, clock=time.time)))
            address = f"127.0.0.1:{free_port()}"
            flags = [*QUICK, "--api.base-url", api.url, "--web.listen-address", address, "--state.path", "counters.db"]
            flags += ["--usage.settle", f"{settle:.3f}", "--usage.hold", f"{hold}"]
            flags += ["--usage.anchor", f"{datetime.fromtimestamp(yesterday, UTC):%Y-%m-%d}"] if anchored else []

            def start(*, wait: bool, env: Mapping[str, str] | None) -> "ExporterProcess":
                return exporter_process(*flags, wait=wait, env={"ANTHROPIC_ADMIN_API_KEY": KEY} | dict(env or {}))

            recorder = running.enter_context(closing(Recorder(f"http://{address}/metrics")))
            anchor = yesterday if anchored else end - MINUTE
            return Story(start, organization, recorder, tmp_path / "counters.db", anchor=anchor, end=end, hold=hold)

        yield begin


class SlowDisk(NamedTuple):
    """A library that lets a process dwell within each commit, and the file that is there meanwhile.

    The place ``record`` is before the last frame is written, without which the others are void; ``sync`` is after it.
    """

    library: Path
    marker: Path

    def at(self, place: str) -> Mapping[str, str]:
        """Return the environment of a process that shall dwell there."""
        self.marker.unlink(missing_ok=True)
        return {"LD_PRELOAD": f"{self.library}", "SLOW_DISK_AT": place, "SLOW_DISK_MARKER": f"{self.marker}"}

    def entered(self, before: int | None = None) -> int | None:
        """Return when the process came to the place (ns), unless that was ``before``; one that died there stays."""
        with suppress(FileNotFoundError):
            moment = self.marker.stat().st_mtime_ns
            return None if moment == before else moment
        return None


@pytest.fixture
def slow_disk(tmp_path: Path) -> SlowDisk:
    compiler = shutil.which("gcc")
    if compiler is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no gcc, which builds the slow disk")
    disk = SlowDisk(tmp_path / "slow-disk.so", tmp_path / "in-a-commit")
    build = (compiler, "-shared", "-fPIC", "-o", disk.library, "-x", "c", "-", "-ldl")
    subprocess.run(build, input=SLOW_DISK, text=True, check=True)
    return disk


def live(story: Story, moment: str, random: Random) -> None:
    """Let the program run up to a moment of a kind."""
    if moment == "as it starts":
        time.sleep(random.uniform(0, 0.7))
        return
    if moment == "in a poll after it has moved on":
        story.moves_on()
        story.organization.asked.clear()
    for _ in range(random.randint(1, 4)):
        assert story.organization.asked.wait(PATIENCE)
        story.organization.asked.clear()
    # What was answered, by geography or by key, is committed and published now.
    time.sleep(random.uniform(0, 0.03))


def test_no_kill_lowers_a_counter_or_loses_a_token(tell: Callable[..., Story]) -> None:
    story, random = tell(lead=20, anchored=False), Random(1)  # noqa: S311 - no secret
    with story.recorder.running():
        story.begin()
        story.moves_on()
        for number in range(KILLS):
            story.kill()
            time.sleep(random.uniform(1.5, 3) if number % 7 == 3 else 0)
            story.begin(wait=False)
            live(story, MOMENTS[number % len(MOMENTS)], random)
        page = story.comes_to_rest()
    story.assert_whole()
    assert_begins_at_zero([scrape.page for scrape in story.recorder.scrapes], COUNTERS)
    assert value(page, LATE, report="usage") > 0


def test_a_clean_stop_goes_on_from_exactly_what_was_shown(tell: Callable[..., Story]) -> None:
    hold = 2.0
    story = tell(lead=8, hold=hold)
    story.begin()
    page = story.moves_on()
    story.wait_for(lambda later: value(later, COMMITS) > value(page, COMMITS))

    last = story.restarts()
    # Whatever was polled meanwhile, the hold begins when somebody looks.
    time.sleep(hold + 0.5)
    assert_same(last, story.stands())
    story.moves_on()

    last = story.restarts()
    story.stop()
    story.begin()
    assert_same(last, story.stands())
    story.moves_on()

    last = story.restarts()
    assert_same(last, story.restarts())
    assert_same(last, story.stands())
    story.comes_to_rest()
    story.assert_whole()
    # A busy disk may hold up a single one.
    assert median(story.stops) < 2


def dies_in_a_commit(story: Story, disk: SlowDisk, place: str) -> None:
    """Begin lives until one ends within a commit: what is shown then is no more than what was kept before it."""
    for _ in range(5):
        story.begin(env=disk.at(place))
        story.moves_on()
        entered = until(partial(disk.entered, disk.entered()), PATIENCE, story.program.log)
        kept = story.assert_no_more_than_is_kept(story.page())
        story.kill()
        if disk.entered() == entered:
            assert place == "sync" or story.kept() == kept
            return
    pytest.fail("no commit was slow enough to die in it")


def test_a_kill_within_a_commit_loses_nothing(tell: Callable[..., Story], slow_disk: SlowDisk) -> None:
    story = tell(lead=8)
    for place in ("record", "sync", "record", "sync", "record"):
        dies_in_a_commit(story, slow_disk, place)
    story.begin()
    story.comes_to_rest()
    story.assert_whole()


def limit_files(program: "ExporterProcess", size: int | None) -> None:
    """Let no file of the program grow beyond ``size`` bytes, or let them all grow again."""
    _, most = resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))


def state_failures(page: Page) -> float:
    return value(page, FAILURES, report="usage", reason="state")


def fill_disk(story: Story) -> Page:
    """Let nothing be written any more; return what is shown when the last commit has run out."""
    limit_files(story.program, 0)

    def is_frozen(page: Page) -> bool:
        kept = story.assert_no_more_than_is_kept(page)
        return state_failures(page) > 0 and reached(page) == {name: float(kept[name]["reach"]) for name in VIEWS}

    page = story.wait_for(is_frozen)
    later = story.wait_for(lambda later: state_failures(later) > state_failures(page) + 1)
    assert only(later, ODOMETERS) == only(page, ODOMETERS)
    assert value(later, "anthropic_up", report="usage") == 0
    assert f"the state file {story.state} cannot be written: disk I/O error" in story.program.log()
    return later


def test_a_full_disk_stops_the_counters_at_what_is_kept(tell: Callable[..., Story]) -> None:
    story = tell(lead=8)
    story.begin()
    story.moves_on()
    fill_disk(story)
    limit_files(story.program, None)
    story.moves_on()
    story.wait_for(lambda page: value(page, "anthropic_up", report="usage") == 1)
    frozen = fill_disk(story)
    story.kill()
    story.begin()
    assert_same(frozen, story.stands())
    story.moves_on()
    frozen = fill_disk(story)
    story.stop()
    assert 'level=warning msg="the last values could not be kept"' in story.program.log()
    story.begin()
    assert_same(frozen, story.stands())
    story.comes_to_rest()
    story.assert_whole()
