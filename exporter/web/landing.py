"""The page at ``/``."""

from html import escape

from exporter.web.pages import Page, text

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


def landing(version: str, telemetry_path: str) -> Page:
    """Return it."""
    return text(LANDING.format(version=escape(version), metrics=escape(telemetry_path)), "text/html")
