import os
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import PrometheusLeg, PrometheusServer

pytestmark = pytest.mark.prometheus

PAGE = b"# HELP answer_total A constant.\n# TYPE answer_total counter\nanswer_total 42\n"


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/some/metrics"
        server.shutdown()
        thread.join()


def test_prometheus_scrapes_a_page_under_the_instance_it_was_given(
    prometheus: "Callable[..., PrometheusServer]", page: str
) -> None:
    with prometheus({"a-page": page}) as server:
        server.wait_for('up{instance="a-page"} == 1', lambda found: len(found) == 1)
        assert server.scalar("answer_total") == 42
        assert server.scalar("scalar(answer_total) + 1") == 43
        assert server.query("absent_total") == []
        assert [(target["health"], target["scrapeUrl"]) for target in server.targets()] == [("up", page)]
        code, seconds = server.terminate()
        assert (code, seconds < 10) == (0, True), server.log()


def test_promtool_is_of_the_same_generation(prometheus_leg: "PrometheusLeg") -> None:
    checked = subprocess.run(
        [prometheus_leg.promtool, "check", "metrics"], input=PAGE, capture_output=True, check=False, env=os.environ
    )
    assert (checked.returncode, checked.stderr) == (0, b"")
