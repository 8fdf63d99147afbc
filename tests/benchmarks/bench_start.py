"""Cold start, memory and requests of the real program against the simulated organisation of the demo."""

import time

from exporter.app import DEMO_AGE, DEMO_SEED
from exporter.demo.api import AdminApi
from exporter.demo.server import serve
from exporter.demo.simulation import SimulatedOrganization
from tests.benchmarks.processes import Api, Client, exporter
from tests.world import KEY, World

IDLE = 20.0


def start(*flags: str) -> None:
    """Start the program once and print what it took."""
    organization = SimulatedOrganization(seed=DEMO_SEED, started=int(time.time()) - DEMO_AGE)
    api = AdminApi(organization, key=KEY, clock=time.time)
    begun = time.monotonic()
    with serve(api) as server, exporter(Api(server.url), *flags) as subject:
        listening = time.monotonic() - begun
        client = Client(subject.url, encoding="identity")
        while b'anthropic_up{report="names"} 1' not in client.get():
            time.sleep(0.05)
        complete = time.monotonic() - begun
        asked = sum(api.requests.values())
        used = subject.cpu
        time.sleep(IDLE)
        idle = (subject.cpu - used) / IDLE * 100
        samples = len([line for line in client.get().splitlines() if line[:1] != b"#"])
        client.close()
        print(f"{' '.join(flags) or 'default anchor'}: listening {listening:.2f} s, all reports {complete:.2f} s,")
        print(f"  requests {asked}, samples {samples}, RSS {subject.memory('VmRSS'):.1f} MiB ", end="")
        print(f"(peak {subject.memory('VmHWM'):.1f}), idle CPU {idle:.2f} %")


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
