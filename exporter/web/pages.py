"""Which path answers what."""

import logging
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

logger = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

LANDING = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>anthropic-exporter</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem; color-scheme: light dark }}</style>
<h1>anthropic-exporter</h1>
<p>Usage and cost of an organisation on the Anthropic API, for Prometheus. Version {version}.</p>
<ul>
<li><a href="{metrics}">Metrics</a></li>
<li><a href="/-/healthy">Healthy?</a></li>
<li><a href="/-/ready">Ready?</a></li>
</ul>
</html>
"""


def text(status: str, body: str, content_type: str = "text/plain", headers: Iterable[tuple[str, str]] = ()) -> App:
    """Return an application that always answers the same."""
    encoded = body.encode()

    def app(_environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        length = ("Content-Length", str(len(encoded)))
        start_response(status, [("Content-Type", f"{content_type}; charset=utf-8"), length, *headers])
        return [encoded]

    return app


def landing(version: str, telemetry_path: str) -> App:
    """Return the page at ``/``."""
    return text("200 OK", LANDING.format(version=escape(version), metrics=escape(telemetry_path)), "text/html")


def health(alive: Callable[[], bool]) -> App:
    """Return the page that says whether the process and its schedule are alive; it says nothing of the API."""
    good, bad = text("200 OK", "Healthy.\n"), text("503 Service Unavailable", "Polls have stopped.\n")

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return (good if alive() else bad)(environ, start_response)

    return app


def ready() -> App:
    """Return the page that says that we listen."""
    return text("200 OK", "Ready.\n")


def router(routes: Mapping[str, App]) -> App:
    """Return the application that answers GET and HEAD of each path in ``routes``."""
    missing = text("404 Not Found", "Not found.\n")
    broken = text("500 Internal Server Error", "This page could not be made; the log says why.\n")
    refused = text("405 Method Not Allowed", "Only GET and HEAD.\n", headers=[("Allow", "GET, HEAD")])

    def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        page = routes.get(environ["PATH_INFO"], missing)
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            return refused(environ, start_response)
        try:
            return _head(page, environ, start_response) if method == "HEAD" else page(environ, start_response)
        except Exception:
            logger.exception("a page could not be made", extra={"fields": {"path": environ["PATH_INFO"]}})
            return broken(environ, start_response)

    return app


def _head(page: App, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the headers alone, the length of what GET would send among them."""
    answer: list[tuple[str, list[tuple[str, str]]]] = []
    size = sum(map(len, page(environ, lambda status, headers: answer.append((status, headers)))))
    status, headers = answer[0]
    start_response(
        status, [*(header for header in headers if header[0] != "Content-Length"), ("Content-Length", str(size))]
    )
    return []
