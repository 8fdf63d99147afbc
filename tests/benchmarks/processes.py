"""Processes that are measured from outside: started, asked over HTTP, and looked at in /proc."""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

from tests.world import KEY

TEXT = "text/plain;version=0.0.4"
PATIENCE = 600.0


@dataclass(frozen=True)
class Subject:
    """A process, and where it answers."""

    process: "subprocess.Popen[Any]"
    url: str

    @property
    def cpu(self) -> float:
        """The seconds of processor time that all its threads have used, those that ended included."""
        # Linux: the clock of another process' processor time (clock_getcpuclockid), finer than the ticks of /proc.
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def memory(self, field: str) -> float:
        """Return a figure of /proc (``VmRSS``, ``VmHWM``) in MiB."""
        with open(f"/proc/{self.process.pid}/status") as file:  # noqa: PTH123 - not a path of ours
            found = re.search(rf"^{field}:\s+(\d+) kB", file.read(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def wait_until_idle(self, seconds: float = 0.5) -> None:
        """Wait until it has done next to nothing for some time."""
        while True:
            used = self.cpu
            time.sleep(seconds)
            if self.cpu - used < 0.02 * seconds:
                return


class Client:
    """A plain blocking client with one connection, which it opens anew when the server closes it."""

    def __init__(self, url: str, *, accept: str = TEXT, encoding: str = "gzip") -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        self._path = parts.path or "/"
        self._headers = {"accept": accept, "accept-encoding": encoding}
        self._is_new = True

    def get(self) -> bytes:
        """Return the body as it was sent."""
        try:
            return self._get()
        except ConnectionError:
            if self._is_new:
                raise
            # A server may close a connection that was idle for long.
            self._connection.close()
            return self._get()

    def _get(self) -> bytes:
        self._connection.request("GET", self._path, headers=self._headers)
        with self._connection.getresponse() as response:
            body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{self._path} answered {response.status}")
        self._is_new = False
        return body

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True)
class Told:
    """What the API has been asked so far."""

    requests: dict[str, int]
    sent: int
    last: float

    @property
    def usage(self) -> int:
        """How often usage was asked for."""
        return self.requests.get("messages", 0)


@dataclass(frozen=True)
class Api:
    """The Admin API of a bench organisation, as the benchmark that has started it sees it."""

    url: str

    def told(self) -> Told:
        """Return what it was asked."""
        client = Client(f"{self.url}/bench")
        told = json.loads(client.get())
        client.close()
        return Told(**told)

    def stop_usage(self) -> None:
        """Let the organisation use nothing from now on."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.request("POST", "/bench")
        connection.getresponse().read()
        connection.close()


@contextmanager
def running(command: Sequence[str], **how: Any) -> "Iterator[subprocess.Popen[Any]]":
    """Run a program until the end of the block."""
    process = subprocess.Popen(command, **how)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def told_address(command: Sequence[str]) -> Iterator[Subject]:
    """Run a program that prints its address on its first line."""
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield Subject(process, process.stdout.readline().strip())


@contextmanager
def admin_api(label_sets: int, active: int, *flags: str) -> Iterator[Api]:
    """Run the Admin API of an organisation."""
    sizes = ["--label-sets", str(label_sets), "--active", str(active)]
    with told_address([sys.executable, "-m", "tests.benchmarks.admin_api", *sizes, *flags]) as subject:
        yield Api(subject.url)


@contextmanager
def exporter(api: Api | None, *flags: str) -> Iterator[Subject]:
    """Run the real program, reading ``api``, with a state file of its own."""
    with tempfile.TemporaryFile("w+") as log, tempfile.TemporaryDirectory() as folder:
        base = ["--web.listen-address", "127.0.0.1:0", "--state.path", f"{folder}/state"]
        base += ["--api.base-url", api.url] if api else []
        environment = os.environ | {"ANTHROPIC_ADMIN_API_KEY": KEY}
        command = [sys.executable, "-m", "exporter", *base, *flags]
        with running(command, env=environment, stderr=log) as process:
            yield Subject(process, address(log, process))


def address(log: IO[str], process: "subprocess.Popen[Any]") -> str:
    """Return the address that the log of the program tells."""
    while True:
        log.seek(0)
        text = log.read()
        if found := re.search(r"msg=listening url=(\S+)", text):
            return found[1]
        if process.poll() is not None:
            raise RuntimeError(f"the program ended: {text[-500:]}")
        time.sleep(0.02)
