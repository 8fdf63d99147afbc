"""Prints the table: ``python -m tests.backtest``."""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.backtest.measure import measure
from tests.backtest.table import table
from tests.integration.conftest import prometheus_binaries

if __name__ == "__main__":
    newest = max(prometheus_binaries().values(), key=lambda leg: leg.version)
    with TemporaryDirectory() as folder:
        print(table(measure(newest, Path(folder))))  # noqa: T201
