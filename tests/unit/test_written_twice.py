"""Whatever is written twice is the same twice."""

import re
import tomllib
from pathlib import Path

import yaml

from exporter import __version__
from exporter.app import DEMO_LABELS
from exporter.demo.organization import HOUR, Tokens
from exporter.demo.prices import LIST_PRICES
from exporter.demo.simulation import SimulatedOrganization
from exporter.metrics.catalog import BY_NAME, CATALOG
from exporter.model import REPORTS, PriceKey
from exporter.pricefiles import shipped
from grafana.boards.anomalies import SPIKE, WINDOWS
from grafana.looks import USED
from tests import rules
from tests.events import SONNET, Use, WrittenOrganization, line
from tests.readme import README, rendered
from tests.world import TOTALS_ONLY, World, at

ROOT = Path(__file__).parents[2]
LOCKS = ("deploy/requirements.txt", "deploy/build-requirements.txt", "tests/requirements.txt")


def test_the_readme_tables_are_the_catalogue_and_the_settings() -> None:
    assert README.read_text() == rendered(README.read_text()), "run: make readme"


def test_every_metric_on_the_page_is_in_the_catalogue_with_type_help_and_labels() -> None:
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-02-20"))), at("2026-03-09T21:17:23"))
    world.run(660)
    text = world.scrape()
    ours = {name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if name.startswith("anthropic_")}
    for name in ours:
        metric = BY_NAME[name]
        assert f"# TYPE {name} {metric.type}" in text
        assert f"# HELP {name} {metric.help}" in text
        for labels in re.findall(rf"^{name}(?:_bucket)?(?:{{(.*)}})? ", text, re.MULTILINE):
            assert set(re.findall(r'(\w+)="', labels)) - {"le"} == set(metric.labels), name


def test_every_metric_of_the_catalogue_comes_on_a_page() -> None:
    simulated = SimulatedOrganization(seed=3, started=int(at("2026-02-20")))
    budgets = ("--budget.monthly-usd", "100", "--budget.workspaces", "default=7")
    one = World(simulated, at("2026-03-09T21:17:23"), "--usage.anchor", "2026-03-01", *budgets)
    one.run(660)
    # A day that was estimated and then billed, and a model that nobody has a price for.
    hours = range(int(at("2026-03-07")), int(at("2026-03-11")), HOUR)
    uses = [Use(hour, SONNET._replace(model="claude-nova-9"), Tokens(output=1)) for hour in hours]
    uses += [Use(hour, SONNET, Tokens(output=1000)) for hour in hours]
    organization = WrittenOrganization(uses)
    organization.bills |= {int(at(f"2026-03-{day}")): [line("1")] for day in ("07", "08", "09", "10")}
    other = World(organization, at("2026-03-08T22:00"), "--usage.poll-interval", "600", *TOTALS_ONLY)
    other.run(27 * HOUR, scrape_every=HOUR)
    other.meter.page.own.web_config(True)
    families = set(re.findall(r"^# TYPE (\S+)", one.scrape() + other.scrape(), re.MULTILINE))
    assert {metric.name for metric in CATALOG} - families == set()


def test_the_readme_names_every_report_and_only_metrics_that_exist() -> None:
    text = README.read_text()
    assert all(f"`{report}`" in text for report in REPORTS)
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\banthropic_[a-z_]+\w", text)}
    assert named <= BY_NAME.keys()


def test_dashboards_colour_what_alerts_tell() -> None:
    thresholds = {name: expr for name, expr in rules.records().items() if name.startswith(rules.THRESHOLD)}
    numbers = {name: float(expr.removeprefix("vector(").removesuffix(")")) for name, expr in thresholds.items()}
    burn = {name.split(":")[1]: number for name, number in numbers.items() if "budget_burn" in name}
    assert burn == {f"budget_burn_{window}": factor for window, (_, factor) in WINDOWS.items()}
    assert numbers["anthropic:spend_spike_ratio:warning"] == SPIKE
    used = [numbers[f"anthropic:budget_used:{severity}"] for severity in ("warning", "critical")]
    assert used == [step for step, _ in USED if step is not None]


def test_the_demo_and_the_price_list_have_the_same_list_prices() -> None:
    day = int(at("2026-11-01"))
    for model, prices in LIST_PRICES.items():
        for token_type, usd in prices._asdict().items():
            key = PriceKey(model, "standard", "0-200k", "global", token_type)
            assert shipped().usd_per_token(key, day) == usd / 1_000_000, key


def test_the_changelog_knows_the_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    asked = (
        project["project"]["dependencies"],
        groups["build"],
        [name for name in groups["dev"] if isinstance(name, str)],
    )
    wanted, build, tools = ({re.split(r"[<>=]", name)[0] for name in names} for names in asked)
    texts = [(ROOT / lock).read_text() for lock in LOCKS]
    runtime, building, development = (dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)) for text in texts)
    assert wanted <= runtime.keys()
    assert build <= building.keys()
    assert wanted | build | tools <= development.keys()
    assert runtime.items() | building.items() <= development.items()
    assert not [lock for lock, text in zip(LOCKS, texts, strict=True) if "://" in text]


def test_history_goes_on_in_the_series_of_the_shipped_scrape_configs() -> None:
    for file in ("deploy/prometheus/prometheus.yml", "deploy/compose/prometheus.yml"):
        [job] = yaml.safe_load((ROOT / file).read_text())["scrape_configs"]
        assert {"job": job["job_name"], **job["static_configs"][0]["labels"]} == DEMO_LABELS
