"""The series of a file, by prometheus-client's own server and a collector that reads values as they are now.

The file has a line for each series: the label values and the value, with tabs between them.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

LABELS = ("model", "workspace_id", "service_tier", "context_window", "inference_geo", "token_type")


class Tokens(Collector):
    """Counters that grow by one each second."""

    def __init__(self, file: Path) -> None:
        lines = (line.split("\t") for line in file.read_text().splitlines())
        self._series = [(tuple(labels), float(value)) for *labels, value in lines]
        self._begun = time.monotonic()

    def describe(self) -> list[Metric]:
        """Nothing is asked twice for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the family, made anew."""
        family = CounterMetricFamily("anthropic_usage_tokens_total", "Tokens used.", labels=LABELS)
        grown = int(time.monotonic() - self._begun)
        for labels, value in self._series:
            family.add_metric(labels, value + grown)
        yield family


if __name__ == "__main__":
    registry = CollectorRegistry()
    registry.register(Tokens(Path(sys.argv[1])))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    print(f"http://127.0.0.1:{server.server_port}/metrics", flush=True)
    thread.join()
