"""How long ``/-/healthy`` and ``/metrics`` wait while the program reads pages of 30 MB, beside one that reads nothing.

The load is open: requests begin when they are due, each on a connection of its own, however long others take.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from math import inf
from urllib.parse import urljoin

from tests.benchmarks.organization import yesterday
from tests.benchmarks.processes import Api, Client, Subject, admin_api, exporter

ROWS = 2_400
"""Label sets, all of them used in each minute: 31 minutes of them are a page of some 30 MB."""
HEALTHY_RATE, SCRAPE_RATE = 100.0, 10.0
READ_EVERY = 3
NEVER = 86_400


def ask(url: str, due: float) -> float:
    """Return the milliseconds from when the request was due until its answer was read; endless if none came."""
    client = Client(url)
    try:
        client.get()
    except OSError:
        return inf
    finally:
        client.close()
    return (time.perf_counter() - due) * 1000


def load(urls: Sequence[tuple[str, float]], seconds: float) -> list[list[float]]:
    """Ask each address at its rate (a second); return the milliseconds that they took."""
    begun = time.perf_counter() + 0.1
    due = sorted((begun + n / rate, which) for which, (_, rate) in enumerate(urls) for n in range(int(seconds * rate)))
    asked: list[list[Future[float]]] = [[] for _ in urls]
    with ThreadPoolExecutor(64) as pool:
        for moment, which in due:
            time.sleep(max(0.0, moment - time.perf_counter()))
            asked[which].append(pool.submit(ask, urls[which][0], moment))
    return [[one.result() for one in some] for some in asked]


def row(name: str, times: Sequence[float]) -> str:
    """Return a line of the table."""
    ordered = sorted(times)
    p50, p99 = (ordered[int(share * len(ordered))] for share in (0.5, 0.99))
    return f"| {name} | {p50:.1f} | {p99:.1f} | {ordered[-1]:.1f} | {ordered.count(inf)} |"


def measure(label: str, api: Api, subject: Subject, asked: argparse.Namespace) -> None:
    """Print the lines of one arrangement."""
    urls = [(urljoin(subject.url, "/-/healthy"), HEALTHY_RATE), (subject.url, asked.scrapes)]
    for url, _ in urls:
        ask(url, time.perf_counter())
    before, used, begun = api.told(), subject.cpu, time.perf_counter()
    healthy, metrics = load(urls, asked.seconds)
    percent = (subject.cpu - used) / (time.perf_counter() - begun) * 100
    told = api.told()
    read = (told.sent - before.sent) / 1e6
    print(row(f"{label} | /-/healthy", healthy))
    print(row(f"{label} | /metrics", metrics))
    print(
        f"\n{label}: {told.usage - before.usage} reads of usage, {read:.0f} MB, "
        f"CPU {percent:.0f} %, peak {subject.memory('VmHWM'):.0f} MiB\n",
        flush=True,
    )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--scrapes", type=float, default=SCRAPE_RATE, help="scrapes a second")
    asked = parser.parse_args()
    anchor = datetime.fromtimestamp(yesterday(time.time()), UTC).strftime("%Y-%m-%d")
    flags = ["--usage.by-api-key", "false", "--usage.anchor", anchor, "--metrics.max-series", "10000000"]
    print("| | asked | p50 ms | p99 ms | max ms | failed |")
    print("|---" * 6 + "|")
    for label, pace in (("idle", NEVER), ("reading", READ_EVERY)):
        with ExitStack() as stack:
            api = stack.enter_context(admin_api(ROWS, ROWS))
            subject = stack.enter_context(exporter(api, "--usage.poll-interval", str(pace), *flags))
            while not api.told().usage or time.time() - api.told().last < 1:
                time.sleep(0.2)
            if pace == NEVER:
                subject.wait_until_idle(2)
            else:
                time.sleep(15)
            measure(label, api, subject, asked)


if __name__ == "__main__":
    main()
