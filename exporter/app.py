"""Wires everything, and runs it: the only module that knows all the others."""

import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from exporter import PROGRAM, __version__, demo_past, log
from exporter.api.client import Timing
from exporter.api.credentials import Credentials
from exporter.demo.api import AdminApi as SimulatedApi
from exporter.demo.server import serve as serve_simulation
from exporter.demo.simulation import SimulatedOrganization
from exporter.errors import ExporterError, StateError
from exporter.families import COUNTED
from exporter.heartbeat import Heartbeat
from exporter.ledger.place import MEMORY
from exporter.ledger.state import StateFile
from exporter.meter import Meter
from exporter.model import DAY
from exporter.parts import new_credentials
from exporter.polling.schedule import Schedule
from exporter.settings import Settings
from exporter.settings.values import parse_listen_address
from exporter.web.config import Door
from exporter.web.landing import landing
from exporter.web.pages import health, metrics, ready
from exporter.web.server import Server

logger = logging.getLogger(__name__)

TURN = 0.001
"""Seconds that a busy thread keeps the interpreter for: a scrape changes threads often, and a poll is busy."""

FULL_COLLECTIONS = 500
"""Collections of the middle generation for each full one."""

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}

DEMO_DEFAULTS: Mapping[str, Any] = {
    "api": {"base_url": "http://127.0.0.1"},
    "usage": {"poll_interval": 5, "hold": 10, "api_key_poll_interval": 15},
    "cost": {"poll_interval": 60},
    "names": {"poll_interval": 60},
    "limits": {"poll_interval": 60},
    "budget": {"monthly_usd": Decimal(30000), "workspaces": {"default": Decimal(1500)}},
    "state": {"path": MEMORY},
}
DEMO_KEY = "sk-ant-admin01-simulated"
DEMO_AGE = 366 * DAY
DEMO_SEED = 1
DEMO_LABELS = {"job": "anthropic", "instance": "my-organisation"}
"""As deploy/prometheus/prometheus.yml has them."""

INVITATION = """
This is a simulated organisation, and the exporter reading it: no figure is real, and no key is needed.

    curl -s {url} | grep ^anthropic_usage_tokens_total                 # tokens
    curl -s {url} | grep ^anthropic_api_key_estimated_cost_usd_total   # dollars, by API key
    curl -s {url} | grep -E '^anthropic_(price|cost_unbilled)'         # prices by the bill, and what it lacks yet

Look twice: the first look shows every counter at 0, and within half a minute they move. Its Admin API is there for
other commands, too, in another terminal:

    export ANTHROPIC_EXPORTER_API_BASE_URL={api} ANTHROPIC_ADMIN_API_KEY={key}
    {program} report

Ctrl-C ends it.
"""


def serve(settings: Settings) -> int:
    """Poll and serve until SIGTERM or SIGINT; return the exit status."""
    _hold_signals()
    credentials = new_credentials(settings)
    log.configure(settings.log.level, settings.log.format, secrets=lambda: (credentials.current,))
    return _run(settings, credentials, settings.state.path, lambda _url: _warn(settings, credentials))


def demo(settings: Settings, say: Callable[[str], None]) -> int:
    """Serve a simulated organisation with a year of history, until SIGTERM or SIGINT; return the exit status.

    ``say`` is told where to look.
    """
    _hold_signals()
    log.configure(settings.log.level, settings.log.format)
    started = int(time.time()) - DEMO_AGE
    simulation = SimulatedApi(SimulatedOrganization(seed=DEMO_SEED, started=started), key=DEMO_KEY, clock=time.time)
    with serve_simulation(simulation) as server:
        api = settings.api.model_copy(update={"base_url": server.url})
        settings = settings.model_copy(update={"api": api})
        credentials, history = Credentials(DEMO_KEY, None), settings.demo.history
        logger.info("SIMULATED DATA: no real organisation is read", extra={"fields": {"api": server.url}})

        def prepare(anchor: int) -> None:
            if history:
                demo_past.write(settings, credentials, history, anchor=anchor, labels=DEMO_LABELS, stopped=_is_stopped)

        # Simulated counters must not get into the file of real ones, if one is set.
        return _run(settings, credentials, MEMORY, lambda url: say(_invitation(url, server.url)), prepare)


def _invitation(url: str, api: str) -> str:
    is_installed = Path(sys.argv[0]).name == PROGRAM
    program = PROGRAM if is_installed else f"{os.path.relpath(sys.executable)} -m exporter"
    return INVITATION.format(url=url, api=api, key=DEMO_KEY, program=program)


def _warn(settings: Settings, credentials: Credentials) -> None:
    if settings.state.path == MEMORY:
        logger.warning("the counters are kept in memory only: a restart begins at 0")
    if not credentials.key().startswith("sk-ant-admin"):
        logger.warning("the key does not begin with sk-ant-admin; the Admin API may refuse it")


def _hold_signals() -> None:
    """Keep the signals that end the program for ``sigwait``: a handler could run, or wait, at any unlucky moment.

    Threads inherit this, so it comes before the first of them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _is_stopped() -> bool:
    return not signal.sigpending().isdisjoint(STOP_SIGNALS)


def _run(
    settings: Settings,
    credentials: Credentials,
    state_path: str,
    greet: Callable[[str], None],
    prepare: Callable[[int], None] = lambda _anchor: None,
) -> int:
    """Run until a signal; ``prepare`` hears the usage time from which on is counted, ``greet`` where it is served.

    The counters are kept at ``state_path``; the sign of life is where ``health`` looks, beside the setting's path.
    """
    door = Door(settings.web.config_file) if settings.web.config_file else None
    server = Server(*parse_listen_address(settings.web.listen_address), door)
    failures: list[ExporterError] = []

    def abort(error: ExporterError) -> None:
        failures.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    state = _open_state(state_path)
    meter = Meter(settings, credentials, Timing(), state, abort=abort)
    prepare(meter.anchor)
    begun = "going on from the state file" if state.loaded else "new state"
    logger.info(begun, extra={"fields": {"file": state.path}})
    schedule = Schedule(meter.tasks())
    pages = {
        "/": landing(lambda: meter.status(schedule.next_runs()), __version__, settings.web.telemetry_path),
        settings.web.telemetry_path: metrics(meter.page.scrape, meter.page.content_type),
        "/-/healthy": health(schedule.alive),
        "/-/ready": ready(),
    }
    if door:
        door.tell(meter.page.own.web_config)
    heartbeat = Heartbeat(settings.state.path, schedule.alive)
    server.start(pages)
    schedule.start()
    heartbeat.start()
    _calm_the_collector()
    sys.setswitchinterval(TURN)
    url = f"{server.url}{settings.web.telemetry_path}"
    greet(url)
    logger.info("listening", extra={"fields": {"url": url, "version": __version__}})
    signal.sigwait(STOP_SIGNALS)
    logger.info("stopping")
    heartbeat.stop()
    schedule.stop()
    server.stop()
    try:
        meter.close()
    except StateError as error:
        # What was committed before still bounds what was served, so the next start loses nothing.
        logger.warning("the last values could not be kept", extra={"fields": {"error": str(error)}})
    if failures:
        raise failures[0]
    return 0


def _calm_the_collector() -> None:
    """Let full collections of garbage be rare: each one walks through all that is counted, and stops everything.

    What polls and scrapes leave behind is hardly ever cyclic, and the younger generations are looked at as always.
    """
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTIONS)


def _open_state(path: str) -> StateFile:
    state = StateFile(path, COUNTED, time.time())
    if state.set_aside:
        fields: dict[str, object] = {"file": state.path, "kept_as": state.set_aside}
        logger.error("the state file was corrupt; the counters begin anew", extra={"fields": fields})
    return state
