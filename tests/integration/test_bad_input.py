"""Whatever the operator gets wrong is answered in one line on stderr, by the real program."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

CANARY = "sk-ant-admin01-canary"
KEY = {"ANTHROPIC_ADMIN_API_KEY": CANARY}
KEY_FILE = "ANTHROPIC_ADMIN_API_KEY_FILE"
PREFIX = "ANTHROPIC_EXPORTER_"

pytestmark = pytest.mark.process


def run(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program with nothing of our own environment but what Python needs."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "COVERAGE_PROCESS_START") if name in os.environ}
    command = [sys.executable, "-m", "exporter", *argv]
    return subprocess.run(
        command, env={**kept, **env}, cwd=cwd, capture_output=True, text=True, timeout=30, check=False
    )


def assert_refused(argv: Sequence[str], env: Mapping[str, str], cwd: Path, culprit: str) -> None:
    began = time.monotonic()
    done = run(argv, env, cwd)
    took = time.monotonic() - began
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("anthropic-exporter: error: ")
    assert done.stderr.count("\n") == 1
    assert culprit in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert CANARY not in done.stderr
    assert took < 3


FLAGS = [
    ("unknown flag", ["--usage.pol-interval", "60"], "--usage.pol-interval; did you mean --usage.poll-interval?"),
    ("abbreviated flag", ["--usage.poll", "60"], "--usage.poll; did you mean --usage.poll-interval?"),
    ("flag without value", ["--usage.settle"], "--usage.settle"),
    ("key as a flag", ["--api-key", CANARY], "ANTHROPIC_ADMIN_API_KEY"),
    ("key as an argument", [CANARY], "unknown command"),
    ("key in a value", ["--log.format", CANARY], "--log.format"),
    ("negative interval", ["--usage.poll-interval", "-60"], "--usage.poll-interval is '-60'"),
    ("zero interval", ["--cost.poll-interval=0"], "--cost.poll-interval is '0'"),
    ("nan interval", ["--usage.settle", "nan"], "--usage.settle is 'nan'"),
    ("word for an interval", ["--usage.hold", "5m"], "--usage.hold is '5m'"),
    ("too fast for the real API", ["--usage.poll-interval", "30"], "--usage.poll-interval is '30'"),
    ("plain http", ["--api.base-url", "http://api.example"], "--api.base-url is 'http://api.example'"),
    ("unknown command", ["srve"], "unknown command 'srve'; did you mean serve?"),
    ("two commands", ["serve", "check"], "'check'"),
    ("future anchor", ["--usage.anchor", "2999-01-01"], "--usage.anchor is '2999-01-01'"),
    ("bad anchor", ["--usage.anchor", "yesterday"], "YYYY-MM-DD"),
    ("bad listen address", ["--web.listen-address", "localhost"], "--web.listen-address is 'localhost'"),
    ("bad port", ["--web.listen-address", ":70000"], "--web.listen-address is ':70000'"),
    ("bad telemetry path", ["--web.telemetry-path", "metrics"], "--web.telemetry-path is 'metrics'"),
    ("missing web config", ["--web.config.file", "none.yml"], "none.yml: "),
    ("missing config file", ["check", "--config.file", "none.toml"], "--config.file 'none.toml' does not exist"),
    ("line break in a value", ["--log.level", "in\nfo"], "--log.level"),
]


@pytest.mark.parametrize(("argv", "culprit"), [pytest.param(*case[1:], id=case[0]) for case in FLAGS])
def test_a_bad_flag(argv: list[str], culprit: str, tmp_path: Path) -> None:
    assert_refused(argv, KEY, tmp_path, culprit)


VARIABLES = [
    ("unknown", f"{PREFIX}USAGE_POL_INTERVAL", "60", f"did you mean {PREFIX}USAGE_POLL_INTERVAL?"),
    ("zero", f"{PREFIX}USAGE_POLL_INTERVAL", "0", f"{PREFIX}USAGE_POLL_INTERVAL is '0'"),
    ("key under our prefix", f"{PREFIX}API_KEY", CANARY, "ANTHROPIC_ADMIN_API_KEY"),
    ("missing config file", f"{PREFIX}CONFIG_FILE", "none.toml", f"{PREFIX}CONFIG_FILE 'none.toml'"),
    ("both keys", KEY_FILE, "key", f"ANTHROPIC_ADMIN_API_KEY and {KEY_FILE}"),
]


@pytest.mark.parametrize(("name", "value", "culprit"), [pytest.param(*case[1:], id=case[0]) for case in VARIABLES])
def test_a_bad_variable(name: str, value: str, culprit: str, tmp_path: Path) -> None:
    assert_refused([], {**KEY, name: value}, tmp_path, culprit)


FILES = [
    ("unknown key", "[usage]\npol_interval = 60\n", "[usage] pol_interval; did you mean [usage] poll_interval?"),
    ("unknown section", "[usages]\n", "[usages]; did you mean [usage]?"),
    ("bad value", "[usage]\npoll_interval = -1\n", "exporter.toml: [usage] poll_interval is -1"),
    ("malformed", "[usage]\nsettle = = 3\n", "exporter.toml is not valid TOML: Invalid value (at line 2, column 10)"),
    ("key in the file", f"[api]\nkey = '{CANARY}'\n", "ANTHROPIC_ADMIN_API_KEY"),
]


@pytest.mark.parametrize(("text", "culprit"), [pytest.param(*case[1:], id=case[0]) for case in FILES])
def test_a_bad_config_file(text: str, culprit: str, tmp_path: Path) -> None:
    (tmp_path / "exporter.toml").write_text(text)
    assert_refused(["--config.file", "exporter.toml"], KEY, tmp_path, culprit)


def test_no_key(tmp_path: Path) -> None:
    for argv in ([], ["serve"], ["check"]):
        assert_refused(argv, {}, tmp_path, "ANTHROPIC_ADMIN_API_KEY, or ANTHROPIC_ADMIN_API_KEY_FILE")


@pytest.mark.parametrize("content", [None, "", " \n", f"{CANARY}\n{CANARY}\n", f"key: {CANARY}"])
def test_a_bad_key_file(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    assert_refused([], {KEY_FILE: str(file)}, tmp_path, f"{KEY_FILE} is '{file}'")


def test_a_folder_for_a_key_file(tmp_path: Path) -> None:
    assert_refused([], {KEY_FILE: str(tmp_path)}, tmp_path, f"{KEY_FILE} is '{tmp_path}': it cannot be read")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_key_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    (tmp_path / "key").chmod(0)
    assert_refused([], {KEY_FILE: "key"}, tmp_path, f"{KEY_FILE} is 'key': it cannot be read")


def test_help_lists_every_setting_on_lines_that_fit_and_needs_nothing(tmp_path: Path) -> None:
    done = run(["check", "--help"], {f"{PREFIX}UNKNOWN": "1"}, tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "--usage.poll-interval VALUE" in done.stdout
    assert f"{PREFIX}USAGE_POLL_INTERVAL" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_version(tmp_path: Path) -> None:
    done = run(["--version"], {}, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "anthropic-exporter 0.1.0\n", "")
