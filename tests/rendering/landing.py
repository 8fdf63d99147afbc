"""Draw the landing page of the simulated organisation: ``python -m tests.rendering.landing OUT.png``."""

import argparse
import sys
from pathlib import Path

from playwright.sync_api import ViewportSize, sync_playwright

from exporter import __version__
from exporter.demo.organization import DAY, HOUR
from exporter.demo.simulation import SimulatedOrganization
from exporter.web.landing import landing
from exporter.web.server import Server
from tests.rendering.draw import FLAGS, chromium
from tests.world import World, at

NOW = at("2026-03-19T12:37:41")
HEIGHT, MARGIN = 800, 32


def world() -> World:
    """Return one in which the exporter has run for two hours."""
    organization = SimulatedOrganization(seed=1, started=int(NOW - 60 * DAY))
    found = World(organization, NOW - 2 * HOUR)
    found.run(2 * HOUR + 23)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rendering.landing", description=__doc__, allow_abbrev=False)
    parser.add_argument("out", type=Path, help="where the picture goes")
    parser.add_argument("--width", type=int, default=1000, help="of the window, in pixels")
    parser.add_argument("--until", default="footer", help="the last element that is drawn, as a CSS selector")
    parser.add_argument("--dark", action="store_true", help="the dark colours")
    parser.add_argument("--url", help="the page of an exporter that runs, instead of the simulated one")
    given = parser.parse_args()
    server = Server("127.0.0.1", 0)
    if not given.url:
        server.start({"/": landing(world().status, __version__, "/metrics")})
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_page(
            viewport=ViewportSize(width=given.width, height=HEIGHT), color_scheme="dark" if given.dark else "light"
        )
        page.on("console", lambda said: errors.append(said.text))
        page.goto(given.url or server.url)
        box = page.locator(given.until).bounding_box()
        assert box
        height = box["y"] + box["height"] + MARGIN
        page.screenshot(path=given.out, full_page=True, clip={"x": 0, "y": 0, "width": given.width, "height": height})
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            errors.append("the page is wider than the window")
        browser.close()
    server.stop()
    for error in errors:
        sys.stderr.write(f"{error}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
