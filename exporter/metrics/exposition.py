"""Series as text: what prometheus-client would write, byte for byte, at a fraction of its cost.

A family's header and the shape of its lines are taken from prometheus-client itself, which knows the formats; what is
filled in here are label values and numbers. Format: Prometheus text exposition 0.0.4 and 1.0.0, OpenMetrics 1.0.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from exporter.families import ODOMETERS
from exporter.metrics.catalog import Metric as Family
from exporter.metrics.samples import Table
from exporter.model import Labels

EOF = b"# EOF\n"
MARK = "\x00"
"""Stands around a label's number in a line's shape; prometheus-client escapes it in no format."""

SCHEMES = ("allow-utf-8", "underscores", "dots", "values")
"""How names that not every reader can take are escaped; ours need it in the last two only."""

EXACT = 2**53
"""Whole numbers below are what they are as floating-point numbers, too."""

EXPONENT_FROM = 10**6
"""Numbers are written with an exponent from here on, as Go does."""


class Registry(Protocol):
    """What prometheus-client writes."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        ...


class Only(NamedTuple):
    """A registry of these metrics, and nothing else."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self.metrics


class Format(NamedTuple):
    """An exposition format; ``encode`` is prometheus-client's."""

    content_type: str
    encode: Callable[[Registry], bytes]

    @property
    def end(self) -> bytes:
        """What comes after all families."""
        return EOF if self.content_type.startswith("application/openmetrics-text") else b""

    def text(self, registry: Registry) -> bytes:
        """Return all of a registry, without what comes at the end."""
        return self.encode(registry).removesuffix(self.end)


def _formats() -> Iterator[Format]:
    for kind in ("text/plain", "application/openmetrics-text"):
        for terms in ("", *(f";version=1.0.0;escaping={scheme}" for scheme in SCHEMES)):
            encode, content_type = choose_encoder(kind + terms)
            yield Format(content_type, encode)


FORMATS = {known.content_type: known for known in _formats()}


def negotiated(accept: str) -> Format:
    """Return the format that an ``Accept`` header asks for; of a version that is not written here, the nearest one."""
    try:
        _, wanted = choose_encoder(accept)
    except TypeError:
        wanted = ""  # a version that is none
    kind = "application/openmetrics-text" if wanted.startswith("application/openmetrics-text") else ""
    return FORMATS.get(wanted) or FORMATS[choose_encoder(kind)[1]]


class Shape:
    """How one family is written in one format: ``header``, and then a text for each row."""

    def __init__(self, family: Family, format: Format) -> None:  # noqa: A002 - the field's word
        odometer = ODOMETERS.get(family.name)
        self._lanes = odometer.lanes if odometer else ()
        kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
        example = kind(family.name, family.help, labels=family.labels)
        example.add_metric([f"{MARK}{number}{MARK}" for number in range(len(family.labels))], 0.0)
        *header, line = format.text(Only([example])).decode().splitlines(keepends=True)
        self.header = "".join(header).encode()
        self.line: Sequence[str] = re.split(MARK, line.removesuffix("0.0\n").replace("%", "%%"))

    def template(self, labels: Labels) -> bytes:
        """Return the lines of a row, with a place for each of its values."""
        texts = [escaped(label) for label in labels]
        lines = [self._line([*texts, lane]) for lane in self._lanes] if self._lanes else [self._line(texts)]
        return "".join(lines).encode()

    def _line(self, texts: Sequence[str]) -> str:
        pieces = list(self.line)
        pieces[1::2] = [texts[int(place)] for place in pieces[1::2]]
        return "".join([*pieces, "%b\n"])


class Writer:
    """Writes rows; the texts of label sets are kept from one time to the next, as they are by far the most of it."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = {family.name: family for family in families}
        self._shapes: dict[tuple[str, str], Shape] = {}
        self._kept: dict[str, tuple[Sequence[str], dict[Labels, bytes]]] = {}

    def write(self, name: str, table: Table, format: Format) -> Iterator[bytes]:  # noqa: A002 - the field's word
        """Yield the text of a family, row by row; nothing if there are none."""
        if not table.rows:
            return
        key = name, format.content_type
        shape = self._shapes.get(key) or self._shapes.setdefault(key, Shape(self._families[name], format))
        yield shape.header
        templates, values = self._templates(name, shape, len(table.rows)), table.values
        for labels, row in table.rows:
            template = templates.get(labels)
            if template is None:
                template = templates[labels] = shape.template(labels)
            yield template % tuple([number(value) for value in values(row)])

    def _templates(self, name: str, shape: Shape, rows: int) -> dict[Labels, bytes]:
        """Return the known texts: of lines of this shape, and not many more than are needed now."""
        line, known = self._kept.get(name, ((), {}))
        if line != shape.line or len(known) > 2 * rows:
            known = {}
            self._kept[name] = shape.line, known
        return known


def escaped(value: str) -> str:
    """Return a label value as the formats want it, and safe from ``%``."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"").replace("%", "%%")


def number(value: float | Decimal) -> bytes:
    """Return a value as prometheus-client writes it: of whole numbers that are exact, in a fraction of the time."""
    if not isinstance(value, int):
        amount = float(value)
        if -EXPONENT_FROM < amount < EXPONENT_FROM:
            return repr(amount).encode()
        return floatToGoString(amount).encode()  # type: ignore[no-untyped-call, no-any-return]
    if 0 <= value < EXPONENT_FROM:
        return b"%d.0" % value
    if not 0 <= value < EXACT:
        return floatToGoString(value).encode()  # type: ignore[no-untyped-call, no-any-return]
    digits = str(value)
    figures = digits.rstrip("0")
    point = "." if len(figures) > 1 else ""
    return f"{figures[0]}{point}{figures[1:]}e+{len(digits) - 1:02d}".encode()
