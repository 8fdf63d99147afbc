"""Programs that tests of the deployment files need, and where they come from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "packaging"


def lacking(what: str) -> NoReturn:
    """Skip the test, or let it fail where everything has to be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    raise AssertionError


def tool(name: str) -> Path:
    """Return where a program is that .ci/packaging installs."""
    found = shutil.which(name, path=f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Path(found or lacking(f"no {name}; .ci/packaging installs it on Debian 12"))


def linter(name: str) -> Path:
    """Return where a program of this environment is."""
    return Path(sys.executable).with_name(name)


def call(program: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
