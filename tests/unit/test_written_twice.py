"""Whatever is written twice is the same twice."""

import re
import tomllib
from pathlib import Path

from exporter import __version__
from exporter.demo.simulation import SimulatedOrganization
from exporter.metrics.catalog import BY_NAME, CATALOG
from exporter.model import REPORTS
from tests.readme import README, rendered
from tests.world import World, at

ROOT = Path(__file__).parents[2]


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
    start = at("2026-03-09T21:17:23")
    world = World(SimulatedOrganization(seed=3, started=int(at("2026-02-20"))), start, "--usage.anchor", "2026-03-01")
    world.run(660)
    families = set(re.findall(r"^# TYPE (\S+)", world.scrape(), re.MULTILINE))
    assert {metric.name for metric in CATALOG} - families == set()


def test_the_readme_names_every_report_and_only_metrics_that_exist() -> None:
    text = README.read_text()
    assert all(f"`{report}`" in text for report in REPORTS)
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\banthropic_[a-z_]+\w", text)}
    assert named <= BY_NAME.keys()


def test_the_changelog_knows_the_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {re.split(r"[<>=]", name)[0] for name in project["project"]["dependencies"]}
    tools = {re.split(r"[<>=]", name)[0] for name in project["dependency-groups"]["dev"]}
    runtime, development = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE))
        for lock in ("deploy/requirements.txt", "tests/requirements.txt")
    )
    assert wanted <= runtime.keys()
    assert wanted | tools <= development.keys()
    assert runtime.items() <= development.items()
    assert "://" not in (ROOT / "deploy/requirements.txt").read_text()
