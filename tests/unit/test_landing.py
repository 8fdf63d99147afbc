"""The landing page: what it says is what the metrics say, in words, and nothing else."""

import base64
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import httpx
import promql_parser
import pytest

from exporter import PROJECT_URL
from exporter.demo.faults import Fault
from exporter.demo.organization import DAY, HOUR, MINUTE, Tokens
from exporter.metrics.catalog import BY_NAME
from exporter.metrics.own import REASONS
from exporter.model import REPORTS, PollOutcome, Watermark
from exporter.money.recent import Recent, Spent, Total
from exporter.polling.schedule import Schedule, Task
from exporter.status import Board
from exporter.web import words
from exporter.web.landing import ReportStatus, Status, landing
from exporter.web.pages import text
from exporter.web.server import Server
from tests.events import OPUS, SONNET, BilledOrganization, Use
from tests.world import KEY, Page, World, at, total, value

ROOT = Path(__file__).parents[2]
NOW = at("2026-03-19T11:17:23")
ESTIMATED = "anthropic_estimated_cost_usd_total"
MONTH, UNBILLED = "anthropic_cost_month_to_date_usd", "anthropic_cost_unbilled_estimate_usd"
WATERMARK, SUCCESS = "anthropic_usage_watermark_timestamp_seconds", "anthropic_exporter_last_success_timestamp_seconds"
VOID = {"meta", "link", "br", "hr", "img", "input"}
MIX = Tokens(uncached_input=41_000, cache_read=900_000, output=17_000)


class Reader(HTMLParser):
    """Reads a page, and fails where a tag is not closed, or not where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.targets: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute comes twice: {attrs}"
        self.tags.add(tag)
        self.targets += [target or "" for name, target in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def organization(end: float = NOW + 3 * HOUR) -> BilledOrganization:
    """Return one that uses more from minute to minute; some of it is told later than counters wait."""
    hours = range(int(at("2026-03-10")), int(at("2026-03-19")), 4 * HOUR)
    uses = [Use(hour + 7 * n, kind, MIX) for hour in hours for n, kind in enumerate((SONNET, OPUS))]
    for number, minute in enumerate(range(int(at("2026-03-19T11:00")), int(end), MINUTE)):
        uses.append(Use(minute + 7, SONNET, MIX._replace(output=number * 1_000), delay=900 if number % 10 == 0 else 60))
        uses.append(Use(minute + 9, SONNET._replace(model="claude-nova-9"), MIX, delay=60))
    return BilledOrganization(uses)


def shown(status: Status) -> Reader:
    answer = landing(lambda: status, "1.2.3", "/metrics")
    return read(answer)


def read(page: Callable[..., object]) -> Reader:
    body = getattr(page(None), "body", b"")
    return Reader(body.decode())


@contextmanager
def serving(world: World) -> Iterator[str]:
    server = Server("127.0.0.1", 0)
    server.start({"/": landing(world.status, "1.2.3", "/stats"), "/stats": text("a 1\n"), "/-/healthy": text("")})
    try:
        yield server.url
    finally:
        server.stop()


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False)


def usd(amount: float) -> str:
    return f"${amount:,.2f}"


def row(page: Reader, report: str) -> str:
    """Return what the table says of a report."""
    names = [name for name, _ in words.REPORTS.values()]
    table = page.text.partition("Next poll")[2].partition("Where to look")[0]
    pattern = rf"\b{words.REPORTS[report][0]} (?:good|waiting|failing|trying again) .*?"  # type: ignore[index]
    found = re.search(rf"{pattern}(?=(?:{'|'.join(names)}) (?:good|waiting|failing|trying)|$)", table)
    assert found, report
    return found[0]


# --- money


def test_the_month_is_what_the_metrics_sum_up_to() -> None:
    world = World(organization(), NOW)
    page = world.run(50 * MINUTE)
    billed, unbilled = total(page, MONTH), total(page, UNBILLED)
    assert 0 < unbilled != billed > 0
    with serving(world) as url:
        told = Reader(get(url).text)
    assert (
        f"March 2026 so far {usd(billed + unbilled)} Billed {usd(billed)} finished UTC days up to 18 March" in told.text
    )
    reached = value(page, WATERMARK, report="usage")
    assert f"Not billed yet {usd(unbilled)} estimated, up to {words.clock(reached, world.now)}" in told.text


def test_sums_of_money_are_exact() -> None:
    world = World(organization(), NOW)
    world.run(20 * MINUTE)
    assert isinstance(world.organization, BilledOrganization)
    cents = [
        line.amount_cents
        for day in range(int(at("2026-03-01")), int(at("2026-03-19")), DAY)
        for line in world.organization.cost(day, world.now) or ()
    ]
    assert world.status().billed == sum(cents, Decimal(0)) / 100


def test_the_last_hour_is_the_growth_of_the_estimated_counters_over_an_hour_of_usage_time() -> None:
    world = World(organization(), NOW)
    pages: dict[float, Page] = {}
    # Half a minute after the polls: neither the end nor the begin of the hour is a moment of which something is kept.
    world.run(25 * MINUTE + 30)
    for _ in range(90):
        page = world.run(MINUTE)
        pages[value(page, WATERMARK, report="usage")] = page
        reached = value(page, WATERMARK, report="usage")
        if reached - HOUR in pages:
            grown = total(page, ESTIMATED) - total(pages[reached - HOUR], ESTIMATED)
            spent = world.status().recent
            assert spent
            assert (spent.end, spent.start) == (reached, reached - HOUR)
            assert float(spent.usd) == pytest.approx(grown, rel=1e-9)
    assert len(pages) == 90
    start, end = (words.clock(time, world.now) for time in (reached - HOUR, reached))
    expected = f"Last hour {usd(grown)} Estimated, for usage from {start} to {end}."
    assert expected in shown(world.status()).text
    assert grown > 1


def test_the_last_hour_may_be_younger_than_the_last_poll() -> None:
    slow = [f"--{name}-interval=7200" for name in ("usage.poll", "cost.poll", "names.poll", "limits.poll")]
    world = World(organization(NOW + 9 * HOUR), NOW, "--usage.by-api-key", "false", *slow)
    world.run(7 * HOUR, scrape_every=10 * MINUTE)
    before, began = world.page(), world.status().recent
    world.run(30 * MINUTE)
    assert total(world.page(), ESTIMATED) > total(before, ESTIMATED)
    world.run(30 * MINUTE - 1)
    spent = world.status().recent
    assert began
    assert spent
    assert spent.start == pytest.approx(began.end, abs=2)
    assert float(spent.usd) == pytest.approx(total(world.page(), ESTIMATED) - total(before, ESTIMATED), rel=0.01)


def test_an_outage_is_no_gap_and_no_end_of_the_last_hour() -> None:
    world = World(organization(), NOW)
    world.run(80 * MINUTE)
    before = world.page()
    world.faults.add(Fault(kind=500, until=world.now + 40 * MINUTE))
    world.run(30 * MINUTE)
    still = world.status()
    world.run(15 * MINUTE)
    spent, page = world.status().recent, world.page()
    assert still.recent
    assert spent
    assert spent.end - spent.start == HOUR
    assert spent.start < value(before, WATERMARK, report="usage") < still.recent.end < spent.end
    assert still.recent.end == pytest.approx(value(before, WATERMARK, report="usage"), abs=90)
    assert float(spent.usd) > total(page, ESTIMATED) - total(before, ESTIMATED)


def test_what_is_kept_does_not_grow_while_usage_time_stands_still() -> None:
    line = ((Decimal(0),), (Decimal(6),))
    recent = Recent().followed_by(Total(0, Watermark(60, 30, 0, 0), line), 0)
    for second in range(60, 2000):
        recent = recent.followed_by(Total(0, Watermark(60, 30, 0, 0), line), second)
    assert len(recent.points) < 100
    assert recent.spent(2000) == Spent(Decimal(6), 0, 90)


def test_late_data_are_a_step_and_not_a_slope() -> None:
    recent = Recent()
    for now, usd in ((60, 6), (90, 6), (90, 10), (3675, 10)):
        recent = recent.followed_by(Total(60, Watermark(now, 0, 0, 0), ((Decimal(usd),),)), now)
    assert recent.spent(3675) == Spent(Decimal(4), 75, 3675)


def test_before_an_hour_is_full_the_page_says_over_how_many_minutes() -> None:
    world = World(organization(), NOW)
    page = world.run(26 * MINUTE)
    minutes = round((value(page, WATERMARK, report="usage") - (NOW - 300)) / MINUTE)
    assert minutes == pytest.approx(26, abs=1)
    told = shown(world.status()).text
    assert f"Last {minutes} minutes {usd(total(page, ESTIMATED))} Estimated, for usage since 11:12 UTC" in told
    assert "Last hour" not in told
    assert "first scraped" not in told


def test_while_nobody_has_scraped_the_page_says_why_nothing_is_spent() -> None:
    world = World(organization(), NOW)
    world.poll()
    world.now += 10 * MINUTE
    world.poll()
    assert (
        "$0.00 Estimated, for usage since 11:12 UTC, when counting began. Counters stand at 0 until"
        in shown(world.status()).text
    )


def test_a_month_turns_by_the_clock_as_it_does_in_the_metrics() -> None:
    world = World(organization(), at("2026-03-19T23:00"))
    world.run(30 * MINUTE)
    world.now = at("2026-03-31T23:59:50")
    assert "March 2026 so far" in shown(world.status()).text
    assert (world.status().billed or 0) > 0
    assert (world.status().unbilled or 0) > 0
    world.now += 20
    page = world.page()
    assert total(page, MONTH) == total(page, UNBILLED) == 0
    assert "April 2026 so far $0.00 Billed $0.00" in shown(world.status()).text
    assert "Not billed yet $0.00" in shown(world.status()).text


def test_nothing_billed_is_zero_and_nothing_known_is_not() -> None:
    new = World(BilledOrganization([Use(NOW - HOUR, SONNET, MIX)]), NOW)
    assert (new.status().billed, new.status().unbilled) == (None, None)
    new.run(20 * MINUTE)
    told = shown(new.status()).text
    assert "Billed $0.00 no finished day has a bill yet" in told
    assert f"March 2026 so far {usd(total(new.page(), UNBILLED))}" in told
    assert "no bill yet" in row(shown(new.status()), "cost")


def test_after_a_restart_what_is_not_read_again_is_not_known(tmp_path: Path) -> None:
    world = World(organization(), NOW, state=tmp_path / "state.db")
    world.run(20 * MINUTE)
    world.stop()
    world.start()
    assert world.status().billed is None
    assert world.status().recent
    assert "Billed not known yet waits for the bill" in shown(world.status()).text
    page = world.run(20 * MINUTE)
    assert float(world.status().billed or 0) == pytest.approx(total(page, MONTH))


@pytest.mark.parametrize(
    ("amount", "said"),
    [("0", "$0.00"), ("0.004", "< $0.01"), ("0.125", "$0.13"), ("1234567.891", "$1,234,567.89")],
)
def test_amounts_are_told_to_the_cent(amount: str, said: str) -> None:
    assert words.usd(Decimal(amount)) == said


# --- reports


def test_each_report_says_when_it_succeeded_what_it_reaches_and_when_it_is_polled_next() -> None:
    world = World(organization(), NOW)
    page = world.run(40 * MINUTE + 23)
    told = shown(world.status())
    assert "All is well." in told.text
    for report, task in world.meter.tasks().items():
        success = value(page, SUCCESS, report=report)
        said = row(told, report)
        assert words.ago(success, world.now) in said
        assert words.ahead(success + task.interval, world.now) in said
    assert f"counts up to {words.clock(value(page, WATERMARK, report='usage'), world.now)}" in row(told, "usage")
    by_key = value(page, WATERMARK, report="api_key_usage")
    assert f"counts up to {words.clock(by_key, world.now)} {words.ago(by_key, world.now)}" in row(told, "api_key_usage")
    assert value(page, "anthropic_cost_last_day_start_timestamp_seconds") == at("2026-03-18")
    assert "billed up to 18 March 2026" in row(told, "cost")
    assert "23 s ago" in row(told, "usage")
    assert "in 37 s" in row(told, "usage")


def test_a_host_with_a_wrong_clock_tells_the_same() -> None:
    right, wrong = World(organization(), NOW), World(organization(), NOW, wrong=3 * HOUR)
    for world in (right, wrong):
        world.run(20 * MINUTE + 23)
    assert shown(wrong.status()).text == shown(right.status()).text


def test_a_report_that_is_switched_off_is_not_there() -> None:
    world = World(organization(), NOW, "--usage.by-api-key", "false")
    world.run(10 * MINUTE)
    assert [report.report for report in world.status().reports] == ["usage", "cost", "names", "limits"]
    assert "Usage by API key" not in shown(world.status()).text


def test_before_the_first_polls_the_page_says_what_it_waits_for() -> None:
    world = World(organization(), NOW)
    told = shown(world.status())
    assert "Waiting for the Admin API. Not read yet: Usage, Usage by API key, Cost, Names, Rate limits." in told.text
    assert "The organisation's name is not known yet" in told.text
    assert "March 2026 so far not known yet" in told.text
    world.poll("usage", "api_key_usage", "names", "limits")
    told = shown(world.status())
    assert "Waiting for the Admin API. Not read yet: Cost." in told.text
    assert "waiting" in row(told, "cost")
    assert "good" in row(told, "usage")
    assert "Written Organisation" in told.text


def test_a_wrong_key_is_told_with_what_to_do_and_is_not_shown() -> None:
    world = World(organization(), NOW)
    world.faults.add(Fault(kind=401))
    world.run(10 * MINUTE)
    with serving(world) as url:
        answer = get(url)
    told = Reader(answer.text)
    assert f"The Admin API does not accept the key. Nothing new is read. {words.FAILURES['auth'].remedy}" in told.text
    for report in world.meter.polls:
        assert f"since {words.clock(NOW, world.now)} (10 min ago)" in row(told, report)
    assert "runbooks.md#anthropicauthrefused" in answer.text
    everything = answer.text + repr(answer.headers)
    assert KEY not in everything
    assert "sk-ant" not in everything
    assert "canary" not in everything
    assert all(outcome.message and outcome.message not in everything for outcome in world.outcomes)


def test_a_report_that_fails_is_told_as_long_as_the_metrics_say_so() -> None:
    world = World(organization(), NOW, "--usage.by-api-key", "false")
    world.run(10 * MINUTE)
    world.faults.add(Fault(kind=403, endpoint="rate_limits", until=NOW + 40 * MINUTE))
    seen = []
    for _ in range(5):
        page, told = world.run(10 * MINUTE), shown(world.status())
        up = value(page, "anthropic_up", report="limits")
        assert ("failing" in row(told, "limits")) == (up == 0) == ("All is well." not in told.text)
        seen.append(up)
    assert seen == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (401, "auth"),
        (403, "permission"),
        (429, "rate_limited"),
        (400, "bad_request"),
        (503, "server"),
        ("html", "bad_response"),
    ],
)
def test_a_failure_is_told_by_its_reason_beside_what_is_well(kind: int, reason: str) -> None:
    world = World(organization(), NOW)
    world.run(10 * MINUTE)
    world.faults.add(Fault(kind=kind, endpoint="rate_limits"))
    begun = world.now
    page = world.run(40 * MINUTE)
    told = shown(world.status())
    assert value(page, "anthropic_up", report="limits") == 0
    assert total(page, "anthropic_exporter_poll_failures_total", report="limits", reason=reason) > 0
    failure = words.FAILURES[reason]
    assert f"{failure.meaning}. Concerned: Rate limits. {failure.remedy}" in told.text
    since = next(outcome.started for outcome in world.outcomes if outcome.reason)
    assert begun <= since
    assert re.search(rf"failing .* {failure.meaning} , since {words.clock(since, world.now)}", row(told, "limits"))
    assert all(row(told, report).split(words.REPORTS[report][0] + " ")[1].startswith("good") for report in REPORTS[:4])


def test_a_poll_that_is_tried_again_is_not_failing_yet_and_one_that_failed_is_until_it_succeeds() -> None:
    board, ended = Board(), PollOutcome("names", NOW, 2.0)
    tried = replace(ended, reason="server", ended=False, retry_in=2.0)

    def names(outcome: PollOutcome) -> tuple[str, ReportStatus]:
        board.polled(outcome)
        status = board.status(NOW + 60, ["names"], {})
        return row(shown(status), "names"), status.reports[0]

    assert names(tried)[0].startswith("Names trying again")
    assert names(replace(tried, started=NOW + 9, reason="timeout"))[1] == ReportStatus(
        "names", failing_since=NOW + 2, reason="timeout"
    )
    assert names(replace(tried, ended=True))[0].startswith("Names failing")
    assert names(tried)[0].startswith("Names failing")
    # It gave way to something more urgent, and is no success.
    assert names(replace(ended, ended=False))[0].startswith("Names failing")
    assert names(ended)[1] == ReportStatus("names", last_success=NOW + 2)
    assert names(ended)[0].startswith("Names good")


def test_reports_that_fail_for_different_reasons_are_counted() -> None:
    why = [("usage", "auth"), ("cost", "state")]
    reports = [ReportStatus(report, NOW, NOW, NOW, NOW, reason, is_down=True) for report, reason in why]  # type: ignore[arg-type]
    told = shown(Status(NOW, reports=(*reports, ReportStatus("names", NOW))))
    assert "2 of 3 reports fail. Concerned: Usage, Cost." in told.text
    assert words.FAILURES["auth"].remedy in row(told, "usage")
    assert words.FAILURES["state"].remedy in row(told, "cost")


def test_there_are_words_for_every_report_and_every_reason() -> None:
    assert set(words.FAILURES) == set(REASONS)
    assert tuple(words.REPORTS) == REPORTS
    headings = re.findall(r"^## (\w+)$", (ROOT / "deploy/runbooks.md").read_text(), re.MULTILINE)
    assert {failure.runbook for failure in words.FAILURES.values()} <= set(headings)
    assert "It fails (new)" in shown(Status(NOW, reports=(ReportStatus("cost", None, None, None, NOW, "new"),))).text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (99.9, "99 s"),
        (100, "1 min"),
        (5999, "99 min"),
        (6000, "1 h"),
        (47.9 * HOUR, "47 h"),
        (3 * DAY, "3 days"),
    ],
)
def test_spans_are_told_in_a_fitting_unit(seconds: float, said: str) -> None:
    assert words.ago(NOW - seconds, NOW) == f"{said} ago"
    assert words.ahead(NOW + seconds, NOW) == (f"in {said}" if seconds else "due now")


def test_another_day_is_named() -> None:
    assert words.clock(at("2026-03-19T23:59"), NOW) == "23:59 UTC"
    assert words.clock(at("2026-03-18T23:59"), NOW) == "18 Mar 23:59 UTC"


def test_the_schedule_tells_when_its_tasks_are_due() -> None:
    ran = threading.Event()

    def run(_give_way: Callable[[], bool]) -> PollOutcome:
        ran.set()
        return PollOutcome("cost", 0.0, 0.0)

    schedule = Schedule({"cost": Task(run, 3600, 1)})
    assert schedule.next_runs() == {}
    begun = time.time()
    schedule.start()
    try:
        assert ran.wait(5)
        assert schedule.next_runs() == {"cost": pytest.approx(begun + 3600, abs=5)}
    finally:
        schedule.stop()


# --- the page itself


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\"'><img src=x>", "&lt;b&gt;", "$style $$"])
def test_a_hostile_name_is_text(name: str) -> None:
    world = World(BilledOrganization([], name=name), NOW)
    world.poll()
    with serving(world) as url:
        answer = get(url)
    assert answer.status_code == 200
    told = Reader(answer.text)
    assert told.text.count(name) == 2
    assert not told.tags & {"script", "img"}


def test_what_cannot_be_encoded_is_replaced() -> None:
    assert "half ? pair" in shown(Status(NOW, organization="half \ud800 pair")).text


def test_the_page_needs_nothing_but_itself_and_says_so() -> None:
    with serving(World(organization(), NOW)) as url:
        answer = get(url)
        head = httpx.head(url, trust_env=False)
    told = Reader(answer.text)
    assert not told.tags & {"script", "link", "img", "iframe", "form", "object", "embed"}
    assert "url(" not in answer.text
    assert "@import" not in answer.text
    assert not re.search(r"\sstyle=|\son\w+=", answer.text)
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"].split("; ")[:2] == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
    ]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<meta http-equiv="refresh" content="30">' in answer.text
    assert (head.status_code, head.content) == (200, b"")


def test_every_link_leads_somewhere() -> None:
    with serving(World(organization(), NOW)) as url:
        told = Reader(get(url).text)
        local = [target for target in told.targets if not target.startswith("https://")]
        assert local == ["/stats", "/-/healthy", "/-/ready"]
        assert get(f"{url}{local[0]}").text == "a 1\n"
    for target in set(told.targets) - set(local):
        path = target.removeprefix(PROJECT_URL)
        kind, _, place = path.partition("/main/")
        assert path == "#readme" or (kind in ("/tree", "/blob") and (ROOT / place).exists()), target
    assert "1.2.3" in told.text


def test_what_to_begin_with_can_be_asked() -> None:
    html = landing(lambda: Status(NOW), "1.2.3", "/stats")
    told = read(html)
    code = [line for line in " ".join(told.words).splitlines() if "anthropic_" in line]
    queries = [line.strip() for line in code if not line.strip().startswith("curl")]
    assert len(queries) == 3
    assert len(code) == 5
    for query in queries:
        promql_parser.parse(query)
        assert set(re.findall(r"anthropic_\w+", query)) <= set(BY_NAME)
    assert all('"$EXPORTER/stats"' in line for line in code if "curl" in line)
    for start in ("anthropic_usage_tokens_total", "anthropic_cost_month", "anthropic_cost_unbilled"):
        assert any(name.startswith(start) for name in BY_NAME)


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    pairs = [2 * digit for digit in digits] if len(digits) == 3 else [digits[i : i + 2] for i in (0, 2, 4)]
    parts = [int(pair, 16) / 255 for pair in pairs]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1])
def test_colours_have_the_contrast_that_wcag_aa_asks_for(theme: int) -> None:
    css = (ROOT / "exporter/web/landing.css").read_text()
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[theme]))
    pairs = [(text, ground) for text in ("text", "soft", "link") for ground in ("ground", "card")]
    pairs += [(tone, f"{tone}-ground") for tone in ("good", "bad", "wait")]
    pairs += [(text, f"{tone}-ground") for text in ("text", "link") for tone in ("good", "bad", "wait")]
    for text_, ground in pairs:
        lighter, darker = sorted((luminance(colours[text_]), luminance(colours[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text_, ground)
