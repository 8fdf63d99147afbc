"""Cold start, memory and requests of the real program against the simulated organisation of the demo."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from exporter.app import DEMO_HISTORY, DEMO_SEED
from exporter.demo.api import AdminApi
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization
from tests.world import KEY, World

IDLE = 20.0


def memory(pid: int, field: str) -> float:
    """Return a figure of /proc in MiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(*flags: str) -> None:
    """Start the program once and print what it took."""
    organization = SimulatedOrganization(seed=DEMO_SEED, started=int(time.time()) - DEMO_HISTORY)
    api = AdminApi(organization, key=KEY, clock=time.time)
    with serve(api) as server, tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        base = ["--api.base-url", server.url, "--web.listen-address", "127.0.0.1:0", "--state.path", f"{folder}/state"]
        command = [sys.executable, "-m", "exporter", *base, *flags]
        begun = time.monotonic()
        process = subprocess.Popen(command, env=os.environ | {"ANTHROPIC_ADMIN_API_KEY": KEY}, stderr=log)
        try:
            url, listening = wait_for(log, begun)
            while 'anthropic_up{report="names"} 1' not in httpx.get(url, trust_env=False, timeout=30).text:
                time.sleep(0.05)
            complete = time.monotonic() - begun
            asked = sum(api.requests.values())
            used = cpu(process.pid)
            time.sleep(IDLE)
            samples = len([line for line in httpx.get(url, trust_env=False).text.splitlines() if line[0] != "#"])
            idle = (cpu(process.pid) - used) / IDLE * 100
            memories = [memory(process.pid, field) for field in ("VmRSS", "VmHWM")]
            print(f"{' '.join(flags) or 'default anchor'}: listening {listening:.2f} s, all reports {complete:.2f} s,")
            print(f"  requests {asked}, samples {samples}, ", end="")
            print("RSS {:.1f} MiB (peak {:.1f}), ".format(*memories) + f"idle CPU {idle:.2f} %")
        finally:
            process.terminate()
            process.wait(10)


def wait_for(log: object, begun: float) -> tuple[str, float]:
    """Return the address that the log tells, and the seconds until it did."""
    while True:
        log.seek(0)  # type: ignore[attr-defined]
        if found := re.search(r"msg=listening url=(\S+)", log.read()):  # type: ignore[attr-defined]
            return found[1], time.monotonic() - begun
        time.sleep(0.02)


def steady() -> None:
    """Count the requests of six hours after the first, on a clock of our own."""
    now = time.time() - 10 * 86400
    world = World(SimulatedOrganization(seed=DEMO_SEED, started=int(now) - 60 * 86400), now)
    world.run(3600, scrape_every=600)
    before = dict(world.api.requests)
    world.run(6 * 3600, scrape_every=3600)
    rates = {name: (count - before.get(name, 0)) / 6 for name, count in sorted(world.api.requests.items())}
    print("requests an hour: " + ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items()))
    print(f"in all {sum(rates.values()):.1f} an hour, of usage {rates['usage'] / 60:.2f} a minute")


if __name__ == "__main__":
    start()
    start("--usage.anchor", time.strftime("%Y-%m-%d", time.gmtime(time.time() - 364 * 86400)))
    steady()
