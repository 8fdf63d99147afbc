"""Prometheus exporter for the usage and cost of an organisation on the Anthropic API.

    cli ─▶ app ─▶ web, polling, metrics, history, demo ─▶ api, ledger, money ─▶ model, errors

Arrows point at what is imported; nothing points back or sideways.
"""

__version__ = "0.1.0"

PROGRAM = "anthropic-exporter"

PROJECT_URL = "https://github.com/anthropic-exporter/anthropic-exporter"
