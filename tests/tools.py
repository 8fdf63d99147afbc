"""Programs that tests of the deployment files need, and where they come from."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "packaging"


def tool(name: str) -> Path:
    """Return where a program is that .ci/packaging installs; without it skip the test, or fail under CI."""
    found = shutil.which(name, path=f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if found:
        return Path(found)
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {name}; .ci/packaging installs it on Debian 12")
    raise AssertionError
