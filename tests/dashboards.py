"""The dashboards' queries as Grafana asks them, with all variables at All."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from exporter.model import DAY, HOUR, MINUTE

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
SCRAPE = 60
"""Seconds between two scrapes, as the provisioned data source has them."""
POINTS = 800
"""How wide a panel is, in points."""
SECONDS = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


class Query(NamedTuple):
    """What a panel asks: of one moment, ``end``, or of every ``step`` seconds from ``start`` on."""

    board: str
    panel: int
    title: str
    letter: str
    expr: str
    start: int
    end: int
    step: int | None

    @property
    def name(self) -> str:
        return f"{self.board} {self.panel}{self.letter} {self.title}"


def boards() -> dict[str, dict[str, Any]]:
    """Return the committed dashboards by uid."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if "targets" in panel]


def seconds(text: str) -> int:
    """Return how long ``5m`` is."""
    return int(text[:-1]) * SECONDS[text[-1]]


def begin(text: str, now: float) -> int:
    """Return when a range begins that Grafana writes as ``now-7d``, ``now/d``, ``now/M`` or ``31d``, in UTC."""
    if text in {"now/d", "now/M"}:
        day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return int((day if text == "now/d" else day - timedelta(days=day.day - 1)).timestamp())
    return int(now) - seconds(text.removeprefix("now-"))


def filled(expr: str, *, spans: int = HOUR, step: int = 5 * MINUTE, **picked: str) -> str:
    """Return an expression as Prometheus gets it; variables that are not ``picked`` are at All.

    A span is written in seconds, as Grafana does.
    """
    built_in = {"__range": f"{spans}s", "__rate_interval": f"{max(step + 5 * MINUTE, 20 * MINUTE)}s"}
    return re.sub(r"\$([a-z_]\w*)", lambda found: (built_in | picked).get(found[1], ".+"), expr)


def queries(board: dict[str, Any], now: float, **picked: str) -> Iterator[Query]:
    """Yield the queries of a dashboard's panels, asked at ``now`` (Unix seconds)."""
    for panel in panels(board):
        start, end = begin(panel.get("timeFrom", board["time"]["from"]), now), int(now)
        for target in panel["targets"]:
            step = None
            if target["range"]:
                step = max(seconds(target["interval"]), SCRAPE * -(-(end - start) // (POINTS * SCRAPE)))
                start, end = start // step * step, end // step * step
            expr = filled(target["expr"], spans=end - start, step=step or 5 * MINUTE, **picked)
            yield Query(board["uid"], panel["id"], panel["title"], target["refId"], expr, start, end, step)
