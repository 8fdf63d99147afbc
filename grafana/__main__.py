"""Writes the dashboards' JSON anew: ``python -m grafana``."""

import json
from pathlib import Path

from grafana.boards import anomalies, cost, efficiency, exporter, overview, workspace
from grafana.looks import Json

FOLDER = Path(__file__).with_name("dashboards")
BOARDS: list[Json] = [
    overview.BOARD,
    cost.BOARD,
    efficiency.BOARD,
    workspace.BOARD,
    anomalies.BOARD,
    exporter.BOARD,
]


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    return {f"{board['uid']}.json": json.dumps(board, indent=2, sort_keys=True) + "\n" for board in BOARDS}


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
