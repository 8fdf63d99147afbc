import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from exporter.api.client import Timing
from exporter.demo.api import AdminApi
from exporter.demo.faults import Fault, Faults
from exporter.demo.organization import DAY, ApiKey, Dimensions, Organization, Tokens, Workspace, total
from exporter.demo.simulation import SimulatedOrganization
from exporter.errors import SettingsError, StartError
from exporter.report import report
from exporter.settings import load
from tests.events import OPUS, SONNET, BilledOrganization, Use, WrittenOrganization
from tests.world import KEY, at

NOW = int(at("2026-11-19T15:00:00"))
TODAY = NOW - NOW % DAY
WEEK = {"--days": ["7"]}
FIGURES = ("uncached_input", "cache_read", "cache_creation_5m", "cache_creation_1h", "output")


@dataclass
class Asked:
    """The command on an organisation: what it has written, and what the API was asked."""

    organization: Organization
    flags: Sequence[str] = ()
    faults: Faults = field(default_factory=Faults)
    key: str = KEY
    now: int = NOW

    def __post_init__(self) -> None:
        self.api = AdminApi(self.organization, key=KEY, clock=self.time, faults=self.faults)

    def time(self) -> float:
        return self.now

    def text(self, given: Mapping[str, Sequence[str]]) -> str:
        today = datetime.fromtimestamp(self.now, UTC).date()
        environment = {"ANTHROPIC_ADMIN_API_KEY": self.key}
        settings = load(["--api.base-url", "http://127.0.0.1", *self.flags], environment, today=today)
        timing = Timing(clock=self.time, timer=self.time, sleep=lambda _seconds: None)
        stream = io.StringIO()
        assert report(settings, given, timing=timing, transport=httpx.WSGITransport(app=self.api), stream=stream) == 0
        return stream.getvalue()

    def json(self, given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text({**given, "--json": []}))
        return found


def tokens(row: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(row[name] for name in (*FIGURES, "web_searches"))


def usd(rows: Sequence[Mapping[str, Any]], what: str) -> Decimal:
    return sum((Decimal(row[what]) for row in rows), Decimal(0))


def by_id(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {row["id"]: row for row in rows}


def near(amount: Decimal, wanted: Decimal, share: str) -> bool:
    return abs(amount - wanted) <= Decimal(share) * wanted


def test_the_figures_are_the_organisations() -> None:
    organization = SimulatedOrganization(seed=3, started=TODAY - 40 * DAY)
    found = Asked(organization).json({"--days": ["10"]})
    days = range(TODAY - 10 * DAY, TODAY, DAY)
    truth = organization.usage(DAY, days[0], TODAY, NOW)
    assert [row["date"] for row in found["days"]] == [f"2026-11-{day:02}" for day in range(9, 19)]
    assert [tokens(row) for row in found["days"]] == [tuple(total(truth[day].values())) for day in days]
    used: dict[str, defaultdict[str, list[Tokens]]] = {
        kind: defaultdict(list) for kind in ("models", "workspaces", "api_keys")
    }
    for dimensions, counted in (row for rows in truth.values() for row in rows.items()):
        used["models"][dimensions.model].append(counted)
        used["workspaces"][dimensions.workspace_id or "default"].append(counted)
        used["api_keys"][dimensions.api_key_id or "console"].append(counted)
    for kind, rows in used.items():
        got = {row["id"]: tokens(row) for row in found[kind] if any(tokens(row))}
        assert got == {name: tuple(total(counts)) for name, counts in rows.items()}
        assert sum(row["share"] for row in found[kind]) == pytest.approx(1)
    names = {key.id: key.name for key in organization.api_keys} | {"console": "Console"}
    assert {row["id"]: row["name"] for row in found["api_keys"]} == {
        row["id"]: names[row["id"]] for row in found["api_keys"]
    }

    lines = [line for day in days for line in organization.cost(day, NOW) or ()]
    billed: dict[str, Counter[str]] = {"cost_type": Counter(), "workspace_id": Counter()}
    for line in lines:
        for name, sums in billed.items():
            sums[getattr(line, name) or "default"] += line.amount_cents  # type: ignore[assignment]
    cost = found["cost"]
    assert Decimal(cost["billed"]) * 100 == sum(line.amount_cents for line in lines)
    assert {name: Decimal(amount) * 100 for name, amount in cost["by_type"].items()} == billed["cost_type"]
    assert {row["id"]: Decimal(row["billed"]) * 100 for row in found["workspaces"]} == billed["workspace_id"]
    assert usd(found["models"], "billed") == Decimal(cost["billed"])
    assert Decimal(by_id(found["models"])["claude-sonnet-4-5-20250929"]["billed"]) > 0
    assert cost["billed_days"] == 10
    assert near(Decimal(cost["average"]), Decimal(cost["billed"]) / 10, "1e-15")

    assert near(usd(found["api_keys"], "estimated"), usd(found["workspaces"], "estimated"), "0.005")
    assert usd(found["models"], "estimated") == usd(found["workspaces"], "estimated")
    assert near(usd(found["models"], "estimated"), Decimal(cost["billed"]), "0.02")


def use(day: int, dimensions: Dimensions = SONNET, **counts: int) -> Use:
    """Return what was used so many days ago, at noon."""
    return Use(TODAY - day * DAY + DAY // 2, dimensions, Tokens(**counts))


def key(name: str, workspace_id: str | None = "wrkspc_1") -> Dimensions:
    return SONNET._replace(api_key_id=name, workspace_id=workspace_id)


def daily(first: int = 60, **counts: int) -> BilledOrganization:
    """Return an organisation that uses the same each day, today included."""
    return BilledOrganization([use(day, SONNET, **counts) for day in range(first, -1, -1)])


def test_the_month_is_what_was_billed_and_estimated_and_the_forecast_goes_on_like_the_last_week() -> None:
    organization = daily(output=1_000_000)
    organization.missing = {TODAY - DAY}
    cost = Asked(organization, ["--budget.monthly-usd", "411"]).json(WEEK)["cost"]
    assert (Decimal(cost["billed"]), cost["billed_days"], cost["finished_days"]) == (Decimal("82.2"), 6, 7)
    month = cost["month"]
    assert (month["month"], month["billed_days"], month["estimated_days"]) == ("2026-11", 17, 2)
    assert Decimal(month["billed"]) == Decimal("13.7") * 17
    assert Decimal(month["estimated"]) == Decimal("13.7") * 2
    assert Decimal(month["so_far"]) == Decimal("13.7") * 19
    assert month["forecast"]["days_left"] == 11.375
    assert Decimal(month["forecast"]["daily"]) == Decimal("13.7")
    assert Decimal(month["forecast"]["usd"]) == Decimal("13.7") * (19 + Decimal("11.375"))
    assert (Decimal(cost["previous_month"]["billed"]), cost["previous_month"]["billed_days"]) == (Decimal("424.7"), 31)
    assert cost["budget"] == {"monthly": "411", "used": pytest.approx(19 / 30), "forecast": pytest.approx(30.375 / 30)}


def test_the_week_before_the_first_use_is_not_averaged() -> None:
    forecast = Asked(daily(first=2, output=1_000_000)).json(WEEK)["cost"]["month"]["forecast"]
    assert Decimal(forecast["daily"]) == Decimal("13.7")


def test_movers_are_the_greatest_changes_first() -> None:
    uses = [use(day, SONNET, output=1_000_000) for day in range(1, 20)]
    uses += [use(day, key("apikey_grown"), output=2_000_000 if day <= 7 else 1_000_000) for day in range(1, 15)]
    uses += [use(day, key("apikey_less", None), output=1_000_000 if day <= 7 else 3_000_000) for day in range(1, 15)]
    uses += [use(3, key("apikey_new"), output=4_000_000), use(9, key("apikey_gone"), output=500_000)]
    asked = Asked(BilledOrganization(uses))
    movers = asked.json(WEEK)["movers"]
    assert movers["api_keys"]["unit"] == "usd"
    shown = [(move["id"], Decimal(move["change"]), move["ratio"]) for move in movers["api_keys"]["moves"]]
    assert shown == [
        ("apikey_less", Decimal("-191.8"), pytest.approx(-2 / 3)),
        ("apikey_grown", Decimal("95.9"), 1.0),
        ("apikey_new", Decimal("54.8"), None),
        ("apikey_gone", Decimal("-6.85"), -1.0),
    ]
    assert [(move["name"], Decimal(move["now"])) for move in movers["workspaces"]["moves"]] == [
        ("Default", Decimal("95.9")),
        ("Research", Decimal("342.5")),
    ]
    text = asked.text(WEEK).split("Top movers, estimated USD by API key\n")[1]
    assert [line.split() for line in text.splitlines()[1:5]] == [
        ["apikey_less", "287.70", "95.90", "-191.80", "-66.7%"],
        ["apikey_grown", "95.90", "191.80", "+95.90", "+100.0%"],
        ["apikey_new", "0.00", "54.80", "+54.80", "new"],
        ["apikey_gone", "6.85", "0.00", "-6.85", "-100.0%"],
    ]
    assert "apikey_gone" not in asked.text(WEEK).split("By API key")[1].split("Top movers")[0]


def test_without_any_price_tokens_move_and_are_said_to_be_in_no_estimate() -> None:
    new = SONNET._replace(model="claude-nobody-knows")
    asked = Asked(WrittenOrganization([use(9, new, output=500), use(2, new, output=1_500)]))
    found = asked.json(WEEK)
    assert found["movers"]["models"] == {
        "unit": "tokens",
        "moves": [{"id": new.model, "name": new.model, "before": 500, "now": 1500, "change": 1000, "ratio": 2.0}],
    }
    assert found["unpriced_tokens"] == {new.model: 1500}
    assert "1.50 K tokens of claude-nobody-knows are in no estimate" in asked.text(WEEK)


def test_keys_pay_for_their_geographies_together_what_their_workspace_does() -> None:
    def price(dimensions: Dimensions, word: str, _day: int) -> Decimal:
        return Decimal(15 if dimensions.inference_geo == "us" else 10)

    us = SONNET._replace(inference_geo="us")
    uses = [use(day, where, output=count) for day in range(1, 15) for where, count in ((SONNET, 3000), (us, 1000))]
    found = Asked(BilledOrganization(uses, price=price)).json(WEEK)
    assert by_id(found["api_keys"])["apikey_1"]["estimated"] == by_id(found["workspaces"])["wrkspc_1"]["estimated"]
    assert Decimal(found["api_keys"][0]["estimated"]) == Decimal("0.315")


def test_what_a_price_was_long_ago_counts_for_usage_of_then() -> None:
    change = TODAY - 100 * DAY

    def price(_dimensions: Dimensions, _word: str, day: int) -> Decimal:
        return Decimal(20 if day < change else 10)

    organization = BilledOrganization([use(day, output=1_000_000) for day in range(140, 0, -1)], price=price)
    found = Asked(organization).json({"--from": ["2026-07-22"], "--to": ["2026-08-30"]})
    assert Decimal(found["cost"]["billed"]) == usd(found["api_keys"], "estimated")


def test_cache_efficiency_is_what_was_read_of_all_input() -> None:
    organization = daily(uncached_input=600, cache_read=300, cache_creation_5m=60, cache_creation_1h=40, output=999)
    asked = Asked(organization)
    found = asked.json(WEEK)
    for row in (found["total"], *found["days"], *found["models"], *found["api_keys"]):
        assert row["cache_efficiency"] == 0.3
    line = next(line for line in asked.text(WEEK).splitlines() if line.startswith("2026-11-12"))
    assert line.split() == ["2026-11-12", "600", "300", "100", "999", "2.00", "K", "30.0%", "0"]
    assert Asked(daily(output=5)).json(WEEK)["total"]["cache_efficiency"] is None


def test_the_tables_show_the_first_fifteen_and_the_others_as_one() -> None:
    names = [f"apikey_{number:02}" for number in range(20)]
    uses = [use(day, key(name), output=1000 * (1 + n)) for n, name in enumerate(names) for day in range(1, 15)]
    asked = Asked(BilledOrganization(uses))
    rows = asked.text(WEEK).split("By API key\n")[1].split("\n\n")[0].splitlines()[1:]
    cells = [row.rsplit(maxsplit=5) for row in rows]
    assert [row[0] for row in cells] == [*reversed(names[5:]), "others (5)", "total"]
    dollars = [Decimal(row[-1]) for row in cells]
    assert cells[-2] == ["others (5)", "105", "K", "7.1%", "-", "1.44"]
    assert sum(dollars[:-1]) == pytest.approx(dollars[-1], abs=Decimal("0.08"))
    found = asked.json(WEEK)
    assert len(found["api_keys"]) == 20
    assert usd(found["api_keys"], "estimated") == Decimal(found["cost"]["billed"]) == Decimal("20.139")


def test_more_than_two_months_are_shown_by_the_month() -> None:
    asked = Asked(daily(first=90, output=1_000_000))
    lines = asked.text({"--days": ["63"]}).split("Usage by month (tokens)\n")[1].splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["2026-09", "2026-10", "2026-11", "total"]
    assert [line.split()[4:6] for line in lines[1:5]] == [["14.0", "M"], ["31.0", "M"], ["18.0", "M"], ["63.0", "M"]]
    assert len(asked.json({"--days": ["63"]})["days"]) == 63


def test_the_running_day_is_shown_on_request_only() -> None:
    asked = Asked(daily(output=1_000_000))
    assert asked.json(WEEK)["period"] == {"from": "2026-11-12", "to": "2026-11-18"}
    found = asked.json({"--from": ["2026-11-19"], "--to": ["2026-11-19"]})
    assert found["total"]["tokens"] == 1_000_000
    assert (found["cost"]["billed"], found["cost"]["average"], found["cost"]["finished_days"]) == ("0", None, 0)
    assert usd(found["models"], "estimated") == Decimal("13.7")
    ends = {request.query["ending_at"][0] for request in asked.api.log if request.endpoint == "cost"}
    assert ends == {"2026-11-19T00:00:00Z"}


def test_a_report_of_long_ago_reads_nothing_in_between() -> None:
    asked = Asked(daily(first=400, output=1_000_000))
    found = asked.json({"--from": ["2025-12-01"], "--to": ["2025-12-07"]})
    assert Decimal(found["cost"]["billed"]) == Decimal("13.7") * 7
    assert Decimal(found["cost"]["month"]["so_far"]) == Decimal("13.7") * 19
    starts = {request.query["starting_at"][0][:7] for request in asked.api.log if "starting_at" in request.query}
    assert starts <= {"2025-11", "2025-12", "2026-10", "2026-11"}


def test_a_month_is_read_politely() -> None:
    asked = Asked(daily(output=1_000_000))
    asked.text({})
    assert asked.api.requests["cost"] == 2
    usage = [request.query for request in asked.api.log if request.endpoint == "usage"]
    assert {query["bucket_width"][0] for query in usage} == {"1d"}
    assert len(usage) <= 12


def test_filters_narrow_usage_and_are_said_while_cost_is_of_everything() -> None:
    organization = daily(output=1_000_000)
    organization.uses += [
        use(day, OPUS._replace(workspace_id="wrkspc_1"), output=2_000_000) for day in range(60, -1, -1)
    ]
    asked = Asked(organization, ["--usage.models", OPUS.model, "--usage.workspace-ids", "wrkspc_9,wrkspc_1"])
    assert "Usage is of workspace_ids wrkspc_9, wrkspc_1; models claude-opus-5-5 only; cost is of" in asked.text(WEEK)
    found = Asked(organization, ["--usage.models", OPUS.model]).json(WEEK)
    assert found["filters"] == {"models": [OPUS.model]}
    assert found["total"]["tokens"] == 14_000_000
    assert Decimal(found["cost"]["billed"]) == Decimal("13.7") * 21
    assert Decimal(found["cost"]["month"]["estimated"]) == Decimal("13.7") * 3
    assert usd(found["api_keys"], "estimated") == Decimal("13.7") * 14


def test_nothing_at_all_is_an_error_with_a_remedy() -> None:
    asked = Asked(WrittenOrganization([use(30, output=5)]))
    with pytest.raises(StartError, match=r"^no usage in 2026-11-12 to 2026-11-18; try a wider range$"):
        asked.text(WEEK)


def test_filters_that_nothing_passes_are_named() -> None:
    with pytest.raises(StartError, match=r"^no usage in .* with models nova; correct these, or try a wider range$"):
        Asked(daily(output=5), ["--usage.models", "nova"]).text(WEEK)


def test_days_before_there_were_any_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^--from is 0001-01-01: it must be at most 3660 days ago$"):
        Asked(WrittenOrganization()).text({"--from": ["0001-01-01"], "--to": ["0001-01-02"]})


def test_a_wrong_key_ends_it() -> None:
    with pytest.raises(StartError, match="is this an Admin API key"):
        Asked(daily(output=5), key="sk-ant-admin01-another").text(WEEK)


def forbidding(endpoint: str, grouped_by: str | None = None) -> Faults:
    faults = Faults()
    faults.add(Fault(kind=403, endpoint=endpoint, grouped_by=grouped_by))
    return faults


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading: ")]


def test_without_the_right_to_cost_the_rest_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(daily(output=1_000_000), faults=forbidding("cost"))
    text = asked.text(WEEK)
    first, second = said(capsys)
    assert first.startswith("cost: the API answered 403")
    assert "going on without cost: give the key the right to read it" in first
    assert second == "what usage costs is estimated by list prices"
    assert "\nCost: not readable: the key lacks the right to read cost\n" in text
    assert "billed" not in text
    found = asked.json(WEEK)
    assert found["cost"] is None
    assert found["total"]["tokens"] == 7_000_000
    assert {row["billed"] for row in found["models"]} == {None}


def test_without_the_right_to_names_there_are_ids(capsys: pytest.CaptureFixture[str]) -> None:
    for endpoint, kind, name in (("workspaces", "workspaces", "wrkspc_1"), ("api_keys", "api_keys", "apikey_1")):
        found = Asked(daily(output=5), faults=forbidding(endpoint)).json(WEEK)
        assert found[kind][0]["name"] == name
        assert len(said(capsys)) == 1
    asked = Asked(daily(output=5), faults=forbidding("organization"))
    assert asked.json(WEEK)["organization"] is None
    assert asked.text(WEEK).startswith("Organisation: usage and cost, 2026-11-12 to 2026-11-18 (UTC days)\n")


def test_without_the_right_to_the_view_by_key_it_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(daily(output=1_000_000), faults=forbidding("usage", "api_key_id"))
    text = asked.text(WEEK)
    assert len(said(capsys)) == 1
    assert "By API key: not readable: the key lacks the right to read usage by API key" in text
    found = asked.json(WEEK)
    assert (found["api_keys"], found["movers"]["api_keys"]) == (None, None)
    assert Decimal(found["cost"]["billed"]) == Decimal("95.9")


def test_without_the_right_to_usage_there_is_no_report() -> None:
    with pytest.raises(StartError, match="give the key the right to read it"):
        Asked(daily(output=5), faults=forbidding("usage")).text(WEEK)


def test_keys_are_not_read_where_the_settings_say_so() -> None:
    asked = Asked(daily(output=5), ["--usage.by-api-key", "false"])
    assert "By API key: not read: usage.by_api_key is false" in asked.text(WEEK)
    assert not [request for request in asked.api.log if "api_key_id" in request.query.get("group_by[]", ())]


def test_names_do_nothing_to_the_text_and_are_never_cut() -> None:
    organization = daily(output=1_000_000)
    organization.uses += [use(day, key("apikey_9", None), output=5) for day in range(1, 15)]
    organization.name = "Evil\x1b[2J\nLtd"
    long = "x" * 3000
    organization.workspaces = [Workspace("wrkspc_1", f"{long}\x1b]0;\x07", archived=False)]
    organization.api_keys = [
        ApiKey("apikey_1", "twin", "wrkspc_1", "active", None, 0),
        ApiKey("apikey_9", "twin", "wrkspc_default", "active", None, 0),
    ]
    text = Asked(organization).text(WEEK)
    assert text.startswith("Evil [2J Ltd: usage")
    assert "\x1b" not in text
    assert f"\n{long} ]0;  " in text
    assert "\ntwin (apikey_1) " in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_small_and_great_figures_are_short() -> None:
    counts = (999, 1000, 9_994, 9_996, 99_960, 999_499, 999_500, 45_600_000, 1_234_000_000, 5 * 10**15)
    organization = WrittenOrganization([use(10 - n, output=count) for n, count in enumerate(counts)])
    rows = Asked(organization).text({"--days": ["10"]}).split("\n\n")[1].splitlines()[2:12]
    shown = [re.split(" {2,}", row)[5] for row in rows]
    assert shown == ["999", "1.00 K", "9.99 K", "10.0 K", "100 K", "999 K", "1.00 M", "45.6 M", "1.23 B", "5000 T"]
