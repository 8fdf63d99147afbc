"""Draws a dashboard, rendered with Grafana's front-end libraries, in headless Chromium from a live Prometheus."""

import functools
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

HERE: Final = Path(__file__).resolve().parent
CACHE: Final = HERE.parents[1] / ".cache/rendering"
PAGE: Final = HERE / "page.html"
INTER: Final = Path("/usr/share/fonts/opentype/inter")
MONOSPACED: Final = Path("/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf")
ICONS: Final = CACHE / "node_modules/@grafana/ui/dist/public"
WIDTH: Final = 1600
ROW_HEIGHT: Final = 38
AROUND: Final = 130
"""Pixels above and below the panels: title, variables, time range."""
PATIENCE: Final = 60.0
FAULTS: Final = ("errors", "failedQueries", "failed", "empty", "clipped", "legends", "pageErrors", "consoleErrors")
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Json = dict[str, Any]


class Drawing(NamedTuple):
    """What a dashboard looks like, and what the page has to tell about it."""

    report: Json
    text: str
    png: bytes


def chromium() -> Path | None:
    """Return the system's Chromium, if there is one."""
    found = shutil.which("chromium")
    return Path(found) if found else None


def faults(report: Json) -> Json:
    """Return what is wrong with a drawing: an empty dictionary, if nothing is."""
    return {name: report[name] for name in FAULTS if report[name]}


def missing() -> str | None:
    """Say what is not there that drawing needs."""
    if chromium() is None:
        return "no Chromium"
    if not (CACHE / "bundle.js").is_file():
        return "the page that draws dashboards is not built"
    return None


class _Files(SimpleHTTPRequestHandler):
    """The page, its bundle, and the fonts that Grafana's styles ask for."""

    protocol_version = "HTTP/1.1"

    def translate_path(self, path: str) -> str:
        path = path.partition("?")[0].lstrip("/")
        if path == PAGE.name:
            return str(PAGE)
        if path.startswith("public/fonts/"):
            inter = INTER / Path(path).with_suffix(".otf").name
            return str(inter if inter.is_file() else MONOSPACED)
        if path.startswith("public/"):
            icon = ICONS / path.removeprefix("public/").removeprefix("build/")
            return str(icon if icon.is_file() else HERE / "blank.svg")  # the libraries' package has not all of them
        return str(CACHE / path)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""


@contextmanager
def _served() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Files) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.05), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{PAGE.name}"
        finally:
            server.shutdown()
            thread.join(5)


def _height(dashboard: Json) -> int:
    """Return the height that holds the whole dashboard."""
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    return int(max((place["y"] + place["h"] for place in places), default=0)) * ROW_HEIGHT + AROUND


def _settle(page: Page) -> Json:
    """Wait until nothing on the page changes any more, and return its report."""
    deadline = time.monotonic() + PATIENCE
    page.wait_for_function("window.report || window.broken", timeout=PATIENCE * 1000)
    if broken := page.evaluate("window.broken"):
        raise RuntimeError(broken)
    report: Json = {}
    calm = 0
    while calm < 3 and time.monotonic() < deadline:
        page.wait_for_timeout(200)
        before, report = report, json.loads(page.evaluate("JSON.stringify(window.report())"))
        calm = calm + 1 if report["settled"] and report == before else 0
    return report


def _told(said: ConsoleMessage) -> str:
    return f"{said.text} ({said.location['url']})"


class Renderer:
    """A browser with the page in it; ``draw`` may be called many times."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._url = url

    def draw(
        self,
        dashboard: Json,
        prometheus: str,
        *,
        now: float | None = None,
        time_range: tuple[str, str] | None = None,
        variables: Mapping[str, Sequence[str]] | None = None,
        theme: str = "dark",
        scrape_interval: str = "60s",
    ) -> Drawing:
        """Draw the dashboard at the moment ``now``, with its own time range or another one."""
        task = {
            "dashboard": dashboard,
            "prometheus": prometheus,
            "scrapeInterval": scrape_interval,
            "theme": theme,
            "time": {"from": time_range[0], "to": time_range[1]} if time_range else None,
            "variables": {name: list(values) for name, values in (variables or {}).items()},
        }
        begun = time.monotonic()
        size = ViewportSize(width=WIDTH, height=_height(dashboard))
        with self._browser.new_context(
            viewport=size, device_scale_factor=1, timezone_id="UTC", locale="en-US"
        ) as context:
            page = context.new_page()
            errors: list[str] = []
            console: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error.stack or error)))
            page.on("console", lambda said: console.append(_told(said)) if said.type == "error" else None)
            if now is not None:
                page.clock.set_fixed_time(now)
            page.add_init_script(f"window.rendering = {json.dumps(task)}")
            page.goto(self._url)
            report = _settle(page)
            text = page.inner_text("body")
            png = page.screenshot(full_page=True)
        report |= {
            "failedQueries": [query for query in report["queries"] if query.get("error")],
            "pageErrors": errors,
            "consoleErrors": console,
            "seconds": round(time.monotonic() - begun, 1),
        }
        return Drawing(report, text, png)


@contextmanager
def renderer() -> Iterator[Renderer]:
    """Start the browser and the little server that holds the page."""
    with _served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield Renderer(browser, url)
        finally:
            browser.close()
