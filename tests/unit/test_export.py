"""``export``, in this process, against the simulated API."""

import csv
import io
import json
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from exporter.api.client import Timing
from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault
from exporter.demo.organization import ApiKey, CostLine, Organization, Tokens, Workspace
from exporter.demo.simulation import Arrival, SimulatedOrganization
from exporter.errors import SettingsError, StartError
from exporter.export import export
from exporter.model import DAY, HOUR, MINUTE
from exporter.settings import load
from exporter.settings.commands import OPTIONS
from exporter.settings.options import take
from tests.events import OPUS, SONNET, BilledOrganization, Use, WrittenOrganization, line
from tests.world import KEY, TOKEN_TYPES, TOTALS_ONLY, World, at, by, tokens

MONDAY = int(at("2026-11-02"))
NOW = MONDAY + 3 * DAY + 10 * HOUR + 30 * MINUTE
SPAN = ("--from", "2026-11-02", "--to", "2026-11-04")
FIGURES = (
    "uncached_input_tokens,output_tokens,cache_creation_tokens,cache_creation_5m_tokens,cache_creation_1h_tokens,"
    "cache_read_tokens,web_search_requests"
)
ALL_FIVE = "model,workspace_id,service_tier,context_window,inference_geo"

AGAIN = "correct the filter, or try a wider range"


class Desk:
    """The command, the simulated API that it reads, and what it said."""

    def __init__(self, organization: Organization, now: float = NOW) -> None:
        self.now = now
        self.api = AdminApi(organization, key=KEY, clock=self.time)
        self.timing = Timing(clock=self.time, timer=self.time, sleep=self.sleep, spread=lambda: 0.5)
        self.said: list[str] = []
        self.stream = io.StringIO()

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def export(self, what: str, *words: str, flags: Sequence[str] = ()) -> str:
        """Return what stands on standard output."""
        given, _ = take(words, OPTIONS["export"])
        environment = {"ANTHROPIC_ADMIN_API_KEY": KEY}
        settings = load(["--api.base-url", "http://127.0.0.1", *flags], environment, today=datetime.now(UTC).date())
        transport = httpx.WSGITransport(app=self.api)
        status = export(
            settings, what, given, say=self.said.append, timing=self.timing, transport=transport, stream=self.stream
        )
        assert status == 0
        return self.stream.getvalue()

    def rows(self, what: str, *words: str, flags: Sequence[str] = ()) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.export(what, *words, flags=flags))))

    def asked(self, endpoint: str) -> Mapping[str, list[str]]:
        """Return the parameters of the last request."""
        return [seen.query for seen in self.api.log if seen.endpoint == endpoint][-1]


def used() -> WrittenOrganization:
    """Return an organisation with some usage on Monday and on Wednesday, and today."""
    console = SONNET._replace(api_key_id=None)
    deleted = SONNET._replace(api_key_id="apikey_9", workspace_id="wrkspc_9")
    return WrittenOrganization(
        [
            Use(MONDAY + 5 * MINUTE, SONNET, Tokens(1, 2, 3, 4, 5, 6)),
            Use(MONDAY + 90 * MINUTE, console, Tokens(10, 0, 0, 0, 50)),
            Use(MONDAY + 100 * MINUTE, OPUS, Tokens(output=7)),
            Use(MONDAY + 2 * DAY, deleted, Tokens(uncached_input=8)),
            Use(NOW - 61, OPUS, Tokens(output=9)),
            Use(NOW - 1, OPUS, Tokens(output=1)),
        ]
    )


def billed() -> WrittenOrganization:
    """Return an organisation with two bills."""
    search = CostLine("wrkspc_1", "Web Search Usage", "web_search", None, None, None, None, None, Decimal("1E+3"))
    fine = line("0.0000123456789012345678901234567890", text="Tiny")
    monday = [line("123.45", text="Claude, Output"), search, fine, line("0.05", text="Claude, Output")]
    return WrittenOrganization(bills={MONDAY: monday, MONDAY + DAY: [line("-250", text="Correction")]})


def test_usage_has_a_row_for_each_day_and_what_is_told_apart() -> None:
    assert Desk(used()).export("usage", *SPAN) == (
        f"date,model,service_tier,workspace_id,workspace_name,{FIGURES}\n"
        "2026-11-02,claude-opus-5-5,batch,default,Default,0,7,0,0,0,0,0\n"
        "2026-11-02,claude-sonnet-5-5,standard,wrkspc_1,Research,11,55,7,3,4,2,6\n"
        "2026-11-04,claude-sonnet-5-5,standard,wrkspc_9,wrkspc_9,8,0,0,0,0,0,0\n"
    )


def test_dimensions_come_in_the_order_asked_for_and_ids_with_their_names() -> None:
    desk = Desk(used())
    text = desk.export("usage", *SPAN, "--group-by", "workspace_id, api_key_id,account_id,inference_geo")
    header, *rows = text.splitlines()
    assert header == f"date,workspace_id,workspace_name,api_key_id,api_key_name,account_id,inference_geo,{FIGURES}"
    assert [row.split(",")[:7] for row in rows] == [
        ["2026-11-02", "default", "Default", "apikey_2", "apikey_2", "none", "us"],
        ["2026-11-02", "wrkspc_1", "Research", "apikey_1", "bot", "none", "global"],
        ["2026-11-02", "wrkspc_1", "Research", "console", "Console", "none", "global"],
        ["2026-11-04", "wrkspc_9", "wrkspc_9", "apikey_9", "apikey_9", "none", "global"],
    ]


def test_names_are_read_only_for_columns_that_need_them() -> None:
    desk = Desk(used())
    desk.export("usage", *SPAN, "--group-by", "model", "--filter", "workspace_id=default")
    assert set(desk.api.requests) == {"usage"}


@pytest.mark.parametrize(
    ("width", "dates"),
    [
        ("1d", ["2026-11-02", "2026-11-02", "2026-11-04", "2026-11-05"]),
        ("1h", ["02T00:00:00Z", "02T01:00:00Z", "02T01:00:00Z", "04T00:00:00Z", "05T10:00:00Z"]),
        ("1m", ["02T00:05:00Z", "02T01:30:00Z", "02T01:40:00Z", "04T00:00:00Z", "05T10:28:00Z", "05T10:29:00Z"]),
    ],
)
def test_buckets_are_days_hours_or_minutes_up_to_the_one_that_is_not_over(width: str, dates: list[str]) -> None:
    rows = Desk(used(), NOW - 0.5).rows("usage", "--from", "2026-11-02", "--to", "2026-11-05", "--width", width)
    assert [row["date"].removeprefix("2026-11-" * (width != "1d")) for row in rows] == dates
    assert sum(int(row["output_tokens"]) for row in rows) == 72


def test_the_days_are_the_last_finished_ones_unless_others_are_asked_for() -> None:
    assert {row["date"] for row in Desk(used()).rows("usage")} == {"2026-11-02", "2026-11-04"}
    assert {row["date"] for row in Desk(used()).rows("usage", "--days", "2")} == {"2026-11-04"}


def simulated() -> SimulatedOrganization:
    """Return an organisation that was used on Monday until ten."""
    arrival = Arrival(median=0, late_share=0)
    return SimulatedOrganization(seed=3, started=MONDAY, arrival=arrival, quiet_after=MONDAY + 10 * HOUR)


def test_tokens_are_those_of_the_counters_and_of_the_organisation() -> None:
    organization = simulated()
    world = World(organization, MONDAY + DAY, "--usage.anchor", "2026-11-02", *TOTALS_ONLY)
    counted = tokens(world.run(10 * MINUTE, scrape_every=5 * MINUTE))
    assert len(counted) > 50
    assert counted == world.truth(MONDAY, MONDAY + DAY)
    asked = ("--days", "1", "--group-by", ALL_FIVE)
    for width in ("1d", "1h", "1m"):
        assert exported(Desk(organization, world.now).rows("usage", *asked, "--width", width)) == counted


def exported(rows: Iterable[Mapping[str, str]]) -> Counter[tuple[str, ...]]:
    """Return the tokens of all rows by the labels of the counters."""
    sums: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        labels = [row[name] for name in ALL_FIVE.split(",")]
        for token_type in TOKEN_TYPES:
            sums[*labels, token_type] += int(row[f"{token_type}_tokens"])
        parts = int(row["cache_creation_5m_tokens"]) + int(row["cache_creation_1h_tokens"])
        assert int(row["cache_creation_tokens"]) == parts
    return +sums


def test_dollars_are_those_of_the_gauges_and_of_the_bills() -> None:
    organization = BilledOrganization(used().uses, price=lambda *_: Decimal("3.1"))
    world = World(organization, NOW, *TOTALS_ONLY)
    gauges = by(world.run(MINUTE), "anthropic_cost_month_to_date_usd", ["workspace_id", "token_type"])
    dollars: dict[tuple[str, ...], float] = {}
    for row in Desk(organization, world.now).rows("cost", *SPAN):
        group = row["workspace_id"], row["token_type"]
        dollars[group] = dollars.get(group, 0) + float(row["amount_usd"])
    assert dollars == pytest.approx(gauges)
    assert sum(dollars.values()) == pytest.approx(organization.dollars(MONDAY, MONDAY + 3 * DAY))


def test_cost_has_a_row_for_each_line_exact_to_the_last_digit() -> None:
    assert Desk(billed()).export("cost", *SPAN) == (
        "date,workspace_id,workspace_name,description,cost_type,model,token_type,service_tier,context_window,"
        "inference_geo,currency,amount_usd\n"
        '2026-11-02,default,Default,"Claude, Output",tokens,claude-sonnet-5-5,output,standard,0-200k,global,USD,'
        "1.235\n"
        "2026-11-02,default,Default,Tiny,tokens,claude-sonnet-5-5,output,standard,0-200k,global,USD,"
        "0.00000012345678901234567890123456789\n"
        "2026-11-02,wrkspc_1,Research,Web Search Usage,web_search,none,none,none,none,none,USD,10\n"
        "2026-11-03,default,Default,Correction,tokens,claude-sonnet-5-5,output,standard,0-200k,global,USD,-2.5\n"
    )


@pytest.mark.parametrize(
    ("grouping", "columns", "amounts"),
    [
        ("workspace_id", "workspace_id,workspace_name", ["1.23500012345678901234567890123456789", "10", "-2.5"]),
        (
            "description",
            "description,cost_type,model,token_type,service_tier,context_window,inference_geo",
            ["1.235", "0.00000012345678901234567890123456789", "10", "-2.5"],
        ),
    ],
)
def test_cost_can_be_told_by_one_thing_only(grouping: str, columns: str, amounts: list[str]) -> None:
    desk = Desk(billed())
    header, *rows = desk.export("cost", *SPAN, "--group-by", grouping).splitlines()
    assert header == f"date,{columns},currency,amount_usd"
    assert [row.rpartition(",")[2] for row in rows] == amounts
    assert desk.asked("cost")["group_by[]"] == [grouping]


@pytest.mark.parametrize(
    ("words", "days"),
    [
        (["token_type=output"], ["2026-11-02", "2026-11-02", "2026-11-03"]),
        (["cost_type=web_search", "cost_type=code_execution"], ["2026-11-02"]),
        (["description=Correction", "workspace_id=default"], ["2026-11-03"]),
        (["token_type=none", "workspace_id=wrkspc_1"], ["2026-11-02"]),
    ],
)
def test_cost_is_filtered_on_what_lines_say(words: list[str], days: list[str]) -> None:
    filters = [word for given in words for word in ("--filter", given)]
    assert [row["date"] for row in Desk(billed()).rows("cost", *SPAN, *filters)] == days


def test_cost_can_be_filtered_on_what_is_no_column() -> None:
    rows = Desk(billed()).rows("cost", *SPAN, "--group-by", "workspace_id", "--filter", "token_type=output")
    assert [row["amount_usd"] for row in rows] == ["1.23500012345678901234567890123456789", "-2.5"]
    assert list(rows[0]) == ["date", "workspace_id", "workspace_name", "currency", "amount_usd"]


def test_the_bill_of_a_day_that_is_not_over_is_not_asked_for() -> None:
    desk = Desk(billed())
    desk.export("cost", "--from", "2026-11-02", "--to", "2026-11-05")
    assert desk.asked("cost")["ending_at"] == ["2026-11-05T00:00:00Z"]


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        ("model", "models[]"),
        ("workspace_id", "workspace_ids[]"),
        ("api_key_id", "api_key_ids[]"),
        ("service_tier", "service_tiers[]"),
        ("context_window", "context_window[]"),
        ("inference_geo", "inference_geos[]"),
        ("account_id", "account_ids[]"),
        ("service_account_id", "service_account_ids[]"),
    ],
)
def test_usage_is_filtered_by_the_api(given: str, parameter: str) -> None:
    desk = Desk(used())
    with pytest.raises(StartError, match=f"with {given}=a or b; correct"):
        desk.export("usage", *SPAN, "--filter", f"{given}=a", "--filter", f"{given}=b")
    assert desk.asked("usage")[parameter] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["workspace_id=default"], ["7"]),
        (["workspace_id=default", "workspace_id=wrkspc_9"], ["7", "0"]),
        (["api_key_id=console"], ["50"]),
        (["api_key_id=console", "workspace_id=wrkspc_1"], ["50"]),
        (["account_id=none", "api_key_id=apikey_1"], ["5"]),
    ],
)
def test_what_has_no_id_is_filtered_here_and_its_dimension_summed_away(words: list[str], output: list[str]) -> None:
    filters = [word for given in words for word in ("--filter", given)]
    rows = Desk(used()).rows("usage", *SPAN, "--group-by", "model", *filters)
    assert [row["output_tokens"] for row in rows] == output
    assert list(rows[0])[:3] == ["date", "model", "uncached_input_tokens"]


def test_the_settings_narrow_usage_unless_a_filter_takes_their_place() -> None:
    flags = ("--usage.models", SONNET.model, "--usage.workspace-ids", "wrkspc_9")
    rows = Desk(used()).rows("usage", *SPAN, flags=flags)
    assert [row["workspace_id"] for row in rows] == ["wrkspc_9"]
    rows = Desk(used()).rows("usage", *SPAN, "--filter", "workspace_id=wrkspc_1", flags=flags)
    assert [row["workspace_id"] for row in rows] == ["wrkspc_1"]
    desk = Desk(used())
    with pytest.raises(StartError, match=f"no usage in .* with model={SONNET.model} and workspace_id=default; correct"):
        desk.export("usage", *SPAN, "--filter", "workspace_id=default", flags=flags)
    assert desk.asked("usage")["models[]"] == [SONNET.model]
    assert "workspace_ids[]" not in desk.asked("usage")


@pytest.mark.parametrize(
    ("what", "words", "told"),
    [
        ("usage", "--group-by modle", "--group-by: unknown dimension 'modle'; did you mean model?"),
        ("usage", "--group-by model,", "--group-by: unknown dimension ''"),
        ("usage", "--group-by model,speed", "unknown dimension 'speed'"),
        ("usage", "--group-by model,api_key_id,model", "--group-by: model is given twice; give it once"),
        ("usage", f"--group-by {ALL_FIVE},api_key_id", "they need 6 dimensions"),
        ("usage", f"--group-by {ALL_FIVE} --filter api_key_id=console", "they need 6 dimensions"),
        ("usage", "--filter descripton=x", "--filter: unknown dimension 'descripton'"),
        ("usage", "--filter model", "--filter is 'model': write it as NAME=VALUE"),
        ("usage", "--width 2h", "--width is '2h': it must be 1d or 1h or 1m"),
        ("usage", "--format xlsx", "--format is 'xlsx': it must be csv or jsonl"),
        ("usage", "--to 2026-11-06", "--to is 2026-11-06: it must not be in the future"),
        ("cost", "--width 1h", "--width is '1h': cost is known by the day only; leave it out"),
        ("cost", "--group-by model", "did you mean"),
        ("cost", "--filter amount_usd=1", "unknown dimension 'amount_usd'"),
        ("cost", "--filter workspace_name=x", "did you mean workspace_id?"),
    ],
)
def test_what_is_asked_wrongly_is_told_before_anything_is_read(what: str, words: str, told: str) -> None:
    desk = Desk(used())
    with pytest.raises(SettingsError) as error:
        desk.export(what, *words.split())
    assert told in str(error.value)
    assert not desk.api.requests


def test_json_lines_have_counts_as_numbers_and_amounts_as_strings() -> None:
    usage = Desk(used()).export("usage", *SPAN, "--format", "jsonl").splitlines()
    first = json.loads(usage[0])
    assert list(first) == ["date", "model", "service_tier", "workspace_id", "workspace_name", *FIGURES.split(",")]
    assert (len(usage), first["output_tokens"], first["workspace_name"]) == (3, 7, "Default")
    cost = [json.loads(text) for text in Desk(billed()).export("cost", *SPAN, "--format", "jsonl").splitlines()]
    assert [row["amount_usd"] for row in cost] == ["1.235", "0.00000012345678901234567890123456789", "10", "-2.5"]


def test_no_text_of_a_csv_is_a_formula_of_a_spreadsheet() -> None:
    organization = billed()
    organization.workspaces = [Workspace("wrkspc_1", '=HYPERLINK("x")', archived=False)]
    texts = ("+1", "-1", "@SUM(A1)", "\tx", "plain=1")
    organization.bills = {MONDAY: [line("-1", text=text, workspace="wrkspc_1") for text in texts]}
    rows = Desk(organization).rows("cost", *SPAN)
    assert {row["description"] for row in rows} == {"'+1", "'-1", "'@SUM(A1)", "'\tx", "plain=1"}
    assert {(row["workspace_name"], row["amount_usd"]) for row in rows} == {('\'=HYPERLINK("x")', "-0.01")}
    (told, *_) = Desk(organization).export("cost", *SPAN, "--format", "jsonl").splitlines()
    assert json.loads(told)["workspace_name"] == '=HYPERLINK("x")'


def test_names_that_may_not_be_read_leave_ids() -> None:
    desk = Desk(replace(used(), api_keys=[ApiKey("apikey_2", "batch", "wrkspc_default", "active", None, 0)]))
    desk.api.faults.add(Fault(kind=403, endpoint="workspaces"))
    rows = desk.rows("usage", *SPAN, "--group-by", "api_key_id,workspace_id")
    assert [(row["api_key_name"], row["workspace_name"]) for row in rows] == [
        ("apikey_1", "wrkspc_1"),
        ("batch", "Default"),
        ("Console", "wrkspc_1"),
        ("apikey_9", "wrkspc_9"),
    ]
    (told,) = desk.said
    assert told.startswith("workspaces: the API answered 403")
    assert "going on without names of workspaces" in told


@pytest.mark.parametrize(
    ("what", "words", "told"),
    [
        ("usage", ("--days", "1"), f"no usage in 2026-11-04 with model=x; {AGAIN}"),
        (
            "usage",
            ("--days", "3"),
            f"no usage in 2026-11-02 to 2026-11-04 with model=x; {AGAIN}",
        ),
        (
            "cost",
            ("--to", "2026-11-05", "--from", "2026-11-05"),
            f"no cost in 2026-11-05 with model=x; {AGAIN}: a day's bill is out some hours after its end",
        ),
    ],
)
def test_nothing_is_written_where_there_is_nothing(what: str, words: Sequence[str], told: str, tmp_path: Path) -> None:
    for output in ((), ("--output", str(tmp_path / "out.csv"))):
        desk = Desk(WrittenOrganization())
        with pytest.raises(StartError) as error:
            desk.export(what, *words, "--filter", "model=x", *output)
        assert str(error.value) == told
        assert desk.stream.getvalue() == ""
        assert list(tmp_path.iterdir()) == []


class Trigger(io.StringIO):
    """Does something at the first text that it gets."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act

    def write(self, text: str) -> int:
        if not self.tell():
            self._act()
        return super().write(text)


def test_rows_are_written_as_they_are_read() -> None:
    desk = Desk(simulated(), MONDAY + 50 * DAY)
    desk.stream = Trigger(lambda: desk.api.faults.add(Fault(kind=401, endpoint="usage")))
    with pytest.raises(StartError, match="is this an Admin API key"):
        desk.export("usage", "--from", "2026-11-01", "--to", "2026-12-20")
    assert "2026-11-02," in desk.stream.getvalue()


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    desk = Desk(used())
    assert desk.export("usage", *SPAN, "--output", str(file)) == ""
    assert file.read_bytes().decode() == Desk(used()).export("usage", *SPAN)
    file.chmod(0o600)
    (tmp_path / "link").symlink_to(file)
    desk.export("usage", "--days", "1", "--output", str(tmp_path / "link"))
    assert file.read_text().count("\n") == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "usage.csv"]


def test_what_fails_midway_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "usage.csv"
    file.write_text("before")
    desk = Desk(simulated(), MONDAY + 50 * DAY)
    desk.api.faults.add(Fault(kind=401, endpoint="usage", after_pages=1))
    asked = ("--from", "2026-11-01", "--to", "2026-12-20", "--output", str(file))
    paged = AdminApi(simulated(), key=KEY, clock=desk.timing.clock, page_buckets={DAY: 2}, faults=desk.api.faults)
    desk.api = paged
    with pytest.raises(StartError, match="has it not expired"):
        desk.export("usage", *asked)
    assert paged.requests["usage"] == 2
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_a_place_where_no_file_can_be_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, told in {
        "": "that is a folder",
        "none/out.csv": "No such file or directory; give a file in a folder that exists",
        "file/out.csv": "Not a directory",
        "x" * 300: "File name too long",
        "/dev/full": "that is no regular file",
    }.items():
        desk = Desk(used())
        with pytest.raises(SettingsError, match=f"^.*: {told}"):
            desk.export("usage", *SPAN, "--output", str(tmp_path / place))
        assert not desk.api.requests


def test_a_busy_api_is_waited_for() -> None:
    desk = Desk(used())
    desk.api.faults.add(Fault(kind=429, endpoint="usage", times=4, retry_after="20"))
    assert len(desk.rows("usage", *SPAN)) == 3
    assert any("429" in told and "waiting" in told for told in desk.said)


def test_progress_is_told_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Desk(used()).export("usage", *SPAN, "--width", "1h")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "usage: 72 of 72 hours\n")
