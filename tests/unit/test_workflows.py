"""What runs on GitHub: valid, audited, pinned, and with no more rights than it needs."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools import ROOT, call, linter

FOLDER = ROOT / ".github"
TEXTS = {file.name: file.read_text() for file in sorted((FOLDER / "workflows").iterdir())}
WORKFLOWS: dict[str, dict[str, Any]] = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = [
    pytest.param(job, id=f"{file}-{name}") for file, flow in WORKFLOWS.items() for name, job in flow["jobs"].items()
]


def commands() -> str:
    """Return all that a shell is told to do."""
    jobs = [job for flow in WORKFLOWS.values() for job in flow["jobs"].values()]
    return "\n".join(step.get("run", "") for job in jobs for step in job.get("steps", ()))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", [FOLDER / "workflows" / name for name in TEXTS]),
        ("dependabot", [FOLDER / "dependabot.yml"]),
    ],
)
def test_they_are_what_github_takes(schema: str, files: list[Path]) -> None:
    done = call(linter("check-jsonschema"), "--builtin-schema", f"vendor.{schema}", *files)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_strictest_audit_finds_nothing() -> None:
    done = call(linter("zizmor"), "--offline", "--persona=auditor", "--quiet", "--no-progress", "--color=never", FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", TEXTS)
def test_every_action_is_pinned_by_commit_and_says_its_version(file: str) -> None:
    uses = re.findall(r"^ *(?:- )?uses: *(.*)$", TEXTS[file], re.MULTILINE)
    assert uses
    for line in uses:
        assert re.fullmatch(r"[\w-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\$/\.github/workflows/\w+\.yml", line)


def test_an_action_has_one_version() -> None:
    pins = set(re.findall(r"uses: ([\w-]+/[\w.-]+)(@.*)", "\n".join(TEXTS.values())))
    assert len(pins) == len(dict(pins))


@pytest.mark.parametrize("file", WORKFLOWS)
def test_a_workflow_grants_nothing_and_does_not_run_twice(file: str) -> None:
    assert WORKFLOWS[file]["permissions"] == {}
    assert "github.ref" in WORKFLOWS[file]["concurrency"]["group"]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_ends_and_keeps_no_credentials(job: dict[str, Any]) -> None:
    # A job that calls a workflow cannot have a limit; the jobs it calls have.
    assert "uses" in job or job["timeout-minutes"] <= 90
    assert job["permissions"]
    for step in job.get("steps", ()):
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_no_command_is_written_by_a_template() -> None:
    assert "${{" not in commands()


def test_what_they_run_and_read_is_there() -> None:
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    made = re.findall(r"\bmake (\w+)", commands())
    assert made
    assert set(made) <= set(targets)
    paths = re.findall(r"(?<![\w/.])((?:deploy|grafana|\.ci)/[\w./-]+)", commands())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_all_pythons_are_tested_that_the_project_supports() -> None:
    tested = WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == ["3.11", "3.12", "3.13", "3.14"]
    assert f'requires-python = ">={tested[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_everything_is_released_after_all_checks() -> None:
    jobs = WORKFLOWS["release.yml"]["jobs"]

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        return set(needs).union(*map(before, needs))

    publishing = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert publishing == {"image", "chart", "pypi", "release"}
    assert all(before(name) >= {"version", "ci"} for name in publishing)


def test_the_notes_of_a_release_are_its_part_of_the_changelog(tmp_path: Path) -> None:
    (command,) = re.findall(r"awk .*(?= >notes\.md)", commands())
    changelog = "# Changelog\n\n## 2.0.0\n\n- new\n\n## 1.10.0\n\n- old\n"
    (tmp_path / "CHANGELOG.md").write_text(changelog)
    environment = {"PATH": "/usr/bin:/bin", "VERSION": "2.0.0"}
    told = subprocess.check_output(["sh", "-c", command], cwd=tmp_path, env=environment, text=True)
    assert told.strip() == "- new"
