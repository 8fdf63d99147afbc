"""How wrong naive designs of the counters are, and ours, over four days with faults, asked from a real Prometheus."""

import io
import logging
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

from exporter.demo.organization import HOUR
from tests.benchmarks.designs import GAUGE, NAIVE, POLL, Samples, Shown, play
from tests.benchmarks.history import BEGIN, DOWN, END, MODELS, OUTAGE, SEED, STOPS, History, lives
from tests.integration.conftest import PrometheusLeg, PrometheusServer, prometheus_binaries
from tests.world import TOKENS, World

SCRAPE = 15
HOURS = (END - BEGIN) // HOUR
OURS = "**ours**"
SHOWN = re.compile(rf'^{TOKENS}{{.*model="(\w+)".*token_type="output".*}} (\S+)$', re.MULTILINE)


class WatchedWorld(World):
    """Keeps what each scrape shows."""

    def __init__(self, history: History, now: float, state: Path) -> None:
        super().__init__(history, now, state=state)
        self.shown: dict[float, Shown] = {}

    def scrape(self, *only: str) -> str:
        text = super().scrape(*only)
        self.shown[self.now] = {model: float(value) for model, value in SHOWN.findall(text)}
        return text


def ours(history: History, folder: Path) -> Samples:
    """Return what scrapes of the real meter show, killed and started as the others are."""
    world = WatchedWorld(history, lives()[0].start, folder / "state.db")
    world.faults.add(OUTAGE)
    for life in lives():
        if world.now < life.start:
            world.crash()
            world.now = life.start
            world.start()
        world.run(life.stop - world.now, SCRAPE)
    return list(world.shown.items())


def fill(data: Path, leg: PrometheusLeg, samples: Mapping[str, Samples]) -> None:
    """Write the samples of all designs into a TSDB."""
    text = data.with_suffix(".txt")
    with text.open("w") as file:
        for design, scrapes in samples.items():
            for moment, shown in scrapes:
                for model, value in shown.items():
                    file.write(f'tokens_total{{design="{design}",model="{model}"}} {value} {moment}\n')
        file.write("# EOF\n")
    importer = (leg.promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet")
    subprocess.run([*importer, text, data], check=True, stdout=subprocess.DEVNULL)


def ask(server: PrometheusServer, design: str) -> dict[str, Shown]:
    """Ask as a user would; the sums of a gauge count each minute as often as it was scraped."""
    series = f'tokens_total{{design="{design}"}}'
    call, per = ("sum_over_time", f"* {SCRAPE} / {POLL}") if design == GAUGE else ("increase", "")
    queries = {
        "whole": f"{call}({series}[{HOURS}h]) {per}",
        "hourly": f"sum_over_time({call}({series}[1h])[{HOURS}h:1h]) {per}",
        "resets": f"resets({series}[{HOURS}h])",
        "ends": f"max_over_time({series}[{HOURS}h]) - min_over_time({series}[{HOURS}h])",
    }
    return {
        name: {found["metric"]["model"]: float(found["value"][1]) for found in server.query(promql, END)}
        for name, promql in queries.items()
    }


def row(design: str, answers: Mapping[str, Shown], truth: Shown) -> str:
    """Return the line of a design: errors of the increases in per cent, and the worst of the first in tokens."""
    whole, hourly = (
        " / ".join(f"{(answers[name][model] / truth[model] - 1) * 100:+.3f}" for model in MODELS)
        for name in ("whole", "hourly")
    )
    worst = max((answers["whole"][model] - truth[model] for model in MODELS), key=abs)
    resets = "-" if design == GAUGE else f"{sum(answers['resets'].values()):.0f}"
    return f"| {design} | {whole} | {worst:+,.0f} | {hourly} | {resets} |"


def measure(leg: PrometheusLeg, folder: Path) -> None:
    """Print the table, and how exact our own samples are without PromQL's extrapolation."""
    begun = time.monotonic()
    history = History(SEED)
    scrapes = ours(history, folder)
    times = [moment for moment, _ in scrapes]
    samples = {name: list(play(design, history, times)) for name, design in NAIVE.items()} | {OURS: scrapes}
    fill(folder / "data", leg, samples)
    with redirect_stdout(io.StringIO()), PrometheusServer(leg, folder, {}) as server:
        answers = {design: ask(server, design) for design in samples}
    truth = history.used()
    killed, used = ", ".join(f"{gone / 60:g}" for _, gone in STOPS), " / ".join(f"{truth[model]:,}" for model in MODELS)
    print(
        f"{HOURS} hours of seed {SEED}: {len(times)} scrapes, one each {SCRAPE} s, and a poll each {POLL} s; exporters"
    )
    print(f"killed for {killed} min, API down for {DOWN / 60:g} min; Prometheus {leg.version[0]}.{leg.version[1]};")
    print(f"errors are of {' / '.join(MODELS)}, which used {used} tokens\n")
    print(f"| design | increase over {HOURS} h, % | worst, tokens | sum of {HOURS} hourly increases, % | resets |")
    print("|---" * 5 + "|")
    print("\n".join(row(design, answers[design], truth) for design in samples))
    exact = " / ".join(f"{answers[OURS]['ends'][model] - truth[model]:+.0f}" for model in MODELS)
    print(f"\nours, last sample less first less truth: {exact} tokens; took {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    logging.disable()
    legs = prometheus_binaries().values()
    if legs:
        with tempfile.TemporaryDirectory() as directory:
            measure(max(legs, key=lambda leg: leg.version), Path(directory))
    else:
        print("no Prometheus with its promtool is installed: there is nothing to ask")
