"""The unit as systemd reads it; tests/integration/test_systemd_unit.py starts it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme import README
from tests.tools import ROOT, tool

UNIT = ROOT / "deploy/systemd/anthropic-exporter.service"
TEXT = UNIT.read_text()
INSTALLED = "/opt/anthropic-exporter/bin/anthropic-exporter"
THRESHOLD = 15
"""Ten times the exposure that is allowed, of 100."""


def uncommented(text: str) -> str:
    """Return the unit with the settings that it holds as comments."""
    return re.sub(r"^#(?=[A-Z]\w+=)", "", text, flags=re.MULTILINE)


def analyze(folder: Path, text: str, *arguments: str) -> tuple[int, str, str]:
    """Let systemd read a unit whose program is there; return its status, and what it printed and complained of."""
    file = folder / UNIT.name
    file.write_text(text.replace(INSTALLED, str(Path(sys.executable).with_name("anthropic-exporter"))))
    command: list[str | Path] = [tool("systemd-analyze"), "--no-pager", *arguments, file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("text", [TEXT, uncommented(TEXT)], ids=["as it is", "with TLS"])
def test_systemd_knows_every_line(tmp_path: Path, text: str) -> None:
    assert analyze(tmp_path, text, "verify") == (0, "", "")


def test_systemd_would_say_which_line_it_does_not_know(tmp_path: Path) -> None:
    _, _, complaint = analyze(tmp_path, TEXT.replace("ProtectHome=", "ProtectHomes="), "verify")
    assert "'ProtectHomes'" in complaint


def test_it_is_hardly_exposed(tmp_path: Path) -> None:
    status, table, _ = analyze(tmp_path, TEXT, "security", "--offline=true", f"--threshold={THRESHOLD}")
    assert status == 0, table
    status, table, _ = analyze(tmp_path, TEXT, "security", "--offline=true", "--threshold=1")
    assert status != 0, table


def test_the_readme_says_how_to_install_these_files() -> None:
    told = README.read_text().partition("### systemd")[2].partition("\n### ")[0]
    named = re.findall(r"deploy/systemd/[\w.-]+", told)
    assert {ROOT / name for name in named} == set(UNIT.parent.iterdir())
    assert f"{INSTALLED.removesuffix('anthropic-exporter')}pip install --no-deps" in told
    for file in ("environment", "admin-api-key"):
        assert f"/etc/%N/{file}" in TEXT
        assert re.search(rf"install -m 600 .*{file} .*/etc/{UNIT.stem}/\n", told)
