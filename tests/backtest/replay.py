"""The rules evaluated over what a real Prometheus has of the past, as if it had evaluated them at the time.

Two things differ: all rules see what others record at the same moment, and what is not recorded any more is seen for
up to five minutes longer, since blocks are made without markers of staleness.
"""

import os
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec

from exporter.history.backfill.files import BLOCK
from exporter.history.backfill.openmetrics import series
from exporter.model import MINUTE
from tests.backtest.rules import Alert, Firing, Recording, firings, levels
from tests.history import make_blocks
from tests.integration.conftest import PrometheusLeg, PrometheusServer

AT_ONCE = 3
"""Queries that are asked at the same time."""


class Row(msgspec.Struct):
    """A series of an answer."""

    metric: dict[str, str]
    values: list[tuple[int, str]]


class _Data(msgspec.Struct):
    result: list[Row]


class _Answer(msgspec.Struct):
    status: str
    data: _Data | None = None
    error: str = ""


@dataclass(frozen=True)
class Replay:
    """Evaluates from ``start`` to ``end`` every ``step`` seconds, 11,000 times at most, over the blocks of ``data``."""

    leg: PrometheusLeg
    directory: Path
    start: int
    end: int
    step: int

    @property
    def data(self) -> Path:
        """Where the blocks are."""
        return self.directory / "data"

    def record(self, cuts: Sequence[int] = ()) -> None:
        """Evaluate the recording rules; no block of the results goes on after one of ``cuts``."""
        for level in levels():
            answers = self.answers([rule.expr for rule in level])
            rows = [(rule, row) for rule, found in zip(level, answers, strict=True) for row in found]
            make_blocks(self.data, self.leg.promtool, self._texts(rows, cuts), cuts)

    def _texts(self, rows: Iterable[tuple[Recording, Row]], cuts: Sequence[int]) -> Iterator[tuple[int, str]]:
        """Yield the results by the blocks that they are for, with the first time of each."""
        named = [(series(rule.record, _labels(row)), row.values) for rule, row in rows]
        edges = range(self.start // BLOCK * BLOCK, self.end + BLOCK, BLOCK)
        bounds = sorted({self.start, self.end + 1, *(cut + 1 for cut in cuts), *edges})
        for begin, end in pairwise(bound for bound in bounds if self.start <= bound <= self.end + 1):
            for name, values in named:
                first, last = (bisect_right(values, bound - 1, key=lambda pair: pair[0]) for bound in (begin, end))
                yield begin, "".join([f"{name} {value} {time}\n" for time, value in values[first:last]])

    def fire(self, alerts: Sequence[Alert]) -> list[Firing]:
        """Return what fires, in order of time; what is true lasts until it is evaluated again."""
        answers = self.answers([alert.expr for alert in alerts])
        found = [
            firing
            for alert, rows in zip(alerts, answers, strict=True)
            for row in rows
            for firing in firings(alert, _labels(row), self._minutes(row))
        ]
        return sorted(found, key=lambda firing: firing.start)

    def _minutes(self, row: Row) -> list[int]:
        return [time + minute for time, _ in row.values for minute in range(0, self.step, MINUTE)]

    def answers(self, exprs: Sequence[str]) -> list[list[Row]]:
        """Return what each expression gives."""
        with (
            PrometheusServer(self.leg, self.directory, {}) as server,
            httpx.Client(base_url=server.url, trust_env=False, timeout=120) as client,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            return list(pool.map(partial(self._ask, client), exprs))

    def _ask(self, client: httpx.Client, expr: str) -> list[Row]:
        asked: dict[str, str | int] = {"query": expr, "start": self.start, "end": self.end, "step": self.step}
        answer = msgspec.json.decode(client.get("/api/v1/query_range", params=asked).content, type=_Answer)
        assert answer.data, f"{expr}: {answer.error}"
        return answer.data.result


def branch(data: Path, directory: Path, seam: int) -> None:
    """Give ``directory`` the blocks of ``data`` that end by the seam."""
    for meta in data.glob("*/meta.json"):
        if msgspec.json.decode(meta.read_bytes())["maxTime"] <= seam * 1000 + 1:
            shutil.copytree(meta.parent, directory / "data" / meta.parent.name, copy_function=os.link)


def _labels(row: Row) -> Mapping[str, str]:
    return {name: value for name, value in row.metric.items() if name != "__name__"}
