"""Draw one dashboard: ``python -m tests.rendering DASHBOARD.json PROMETHEUS_URL OUT.png [--var-NAME=VALUE ...]``."""

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path

from tests.rendering.draw import faults, missing, renderer


def _variables(rest: list[str], parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for argument in rest:
        name, equals, value = argument.removeprefix("--var-").partition("=")
        if not argument.startswith("--var-") or not equals:
            parser.error(f"what is {argument}?")
        found.setdefault(name, []).append(value)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rendering", description=__doc__, allow_abbrev=False)
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("prometheus", help="address of the Prometheus, for example http://127.0.0.1:9090")
    parser.add_argument("out", type=Path, help="where the picture goes")
    parser.add_argument("--light", action="store_true", help="the light theme")
    parser.add_argument("--now", type=datetime.fromisoformat, help="the moment the data ends, 2026-11-19T15:00:00Z")
    parser.add_argument("--from", dest="start", help="another range: now-7d, or milliseconds")
    parser.add_argument("--to", dest="end", default="now")
    parser.add_argument("--queries", action="store_true", help="print the queries, too")
    given, rest = parser.parse_known_args()
    if reason := missing():
        parser.error(f"{reason}: run .ci/rendering")
    with renderer() as drawer:
        drawing = drawer.draw(
            json.loads(given.dashboard.read_text()),
            given.prometheus.rstrip("/"),
            now=given.now.timestamp() if given.now else None,
            time_range=(given.start, given.end) if given.start else None,
            variables=_variables(rest, parser),
            theme="light" if given.light else "dark",
        )
    given.out.write_bytes(drawing.png)
    report = drawing.report if given.queries else {**drawing.report, "queries": len(drawing.report["queries"])}
    json.dump(report, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
    return 1 if faults(drawing.report) or not drawing.report["settled"] else 0


if __name__ == "__main__":
    sys.exit(main())
