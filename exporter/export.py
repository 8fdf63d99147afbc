"""The ``export`` command: usage or cost of some days as CSV or JSON lines."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, TextIO

from exporter import terminal
from exporter.api.admin import FILTERS, MOST_DIMENSIONS, WIDTHS, AdminApi
from exporter.api.client import Timing, Transport
from exporter.api.rows import WITHOUT, bill_labels
from exporter.dates import day_of
from exporter.errors import SettingsError, StartError
from exporter.history.export.formats import FORMATS
from exporter.history.export.table import COST, USAGE, Names, Row, Table
from exporter.history.output import standard_output, whole
from exporter.model import (
    CONSOLE,
    DAY,
    DEFAULT_WORKSPACE,
    HOUR,
    MINUTE,
    NOT_APPLICABLE,
    ApiKey,
    Bucket,
    Window,
    Workspace,
)
from exporter.parts import new_credentials
from exporter.polling.windows import floor
from exporter.reader import Reader, Say
from exporter.settings import Settings
from exporter.settings.commands import Days, choice, days, one, pairs
from exporter.settings.options import Given
from exporter.settings.sources import nearest
from exporter.settings.values import shown

USAGE_GROUPING = "model,service_tier,workspace_id"
COST_GROUPING = "workspace_id,description"
UNITS = {DAY: "days", HOUR: "hours", MINUTE: "minutes"}


@dataclass(frozen=True, slots=True)
class _Task:
    """What to read, what becomes of it, and what to say if there is none."""

    what: str
    report: Callable[[Window], list[Bucket[Any]]]
    window: Window
    table: Table
    nothing: str


def export(
    settings: Settings,
    what: str,
    given: Given,
    *,
    say: Say = terminal.say,
    timing: Timing | None = None,
    transport: Transport | None = None,
    stream: TextIO | None = None,
) -> int:
    """Write ``usage`` or ``cost`` to ``--output``, else to ``stream`` (standard output); return the exit status.

    Raises SettingsError for what cannot be asked, and StartError if there is nothing, or if it cannot be read or
    written.
    """
    timing = timing or Timing()
    write = FORMATS[choice(given, "--format", tuple(FORMATS))]
    reader = Reader(settings, new_credentials(settings), say=say, timing=timing, transport=transport)
    task = (_usage if what == "usage" else _cost)(given, reader.api, timing.clock())
    with _output(given, stream) as file:
        names = _names(reader, task.table.shown)
        with _progress(task, file) as advance:
            rows = _rows(reader, task, names, advance)
            first = next(rows, None)
            if first is None:
                raise StartError(task.nothing)
            write(file, task.table.columns, chain([first], rows))
    return 0


def _usage(given: Given, api: AdminApi, now: float) -> _Task:
    width = {text: width for width, text in WIDTHS.items()}[choice(given, "--width", ("1d", "1h", "1m"))]
    columns = _grouping(given, FILTERS, USAGE_GROUPING)
    wanted = {name: api.filters[filter_] for name, filter_ in FILTERS.items() if api.filters.get(filter_)}
    wanted |= _filters(given, FILTERS)
    # The API cannot be asked for what has no value.
    kept = {name: values for name, values in wanted.items() if WITHOUT.get(name, NOT_APPLICABLE) in values}
    read = tuple(dict.fromkeys((*columns, *kept)))
    if len(read) > MOST_DIMENSIONS:
        needed = f"they need {len(read)} dimensions ({', '.join(read)}), and the API tells {MOST_DIMENSIONS} apart"
        raise SettingsError(f"--group-by and --filter: {needed}; leave some out")
    filters = {FILTERS[name]: values for name, values in wanted.items() if name not in kept}
    asked = days(given, day_of(now))
    # The bucket that is not over is told when its end is asked for.
    window = Window(width, asked.start, min(asked.end, floor(now, width) + width))
    report = partial(replace(api, filters=filters).usage_by, read)
    return _Task("usage", report, window, Table(USAGE, read, columns, kept), _nothing("usage", asked, wanted))


def _cost(given: Given, api: AdminApi, now: float) -> _Task:
    if (width := one(given, "--width", "1d")) != "1d":
        raise SettingsError(f"--width is {shown(width)}: cost is known by the day only; leave it out")
    grouping = _grouping(given, COST_GROUPING.split(","), COST_GROUPING)
    wanted = _filters(given, bill_labels(COST_GROUPING.split(",")))
    needed = ("workspace_id" if name == "workspace_id" else "description" for name in wanted)
    read = tuple(dict.fromkeys((*grouping, *needed)))
    asked, today = days(given, day_of(now)), floor(now, DAY)
    window = Window(DAY, asked.start, min(asked.end, today))
    table = Table(COST, bill_labels(read), bill_labels(grouping), wanted)
    nothing = f"{_nothing('cost', asked, wanted)}: a day's bill is out some hours after its end"
    return _Task("cost", partial(api.cost_by, read), window, table, nothing)


def _grouping(given: Given, known: Iterable[str], default: str) -> tuple[str, ...]:
    names = [name.strip() for name in one(given, "--group-by", default).split(",")]
    for name in names:
        _check("--group-by", name, known)
        if names.count(name) > 1:
            raise SettingsError(f"--group-by: {name} is given twice; give it once")
    return tuple(names)


def _filters(given: Given, known: Iterable[str]) -> dict[str, Sequence[str]]:
    wanted: dict[str, list[str]] = {}
    for name, value in pairs(given, "--filter"):
        _check("--filter", name, known)
        wanted.setdefault(name, []).append(value)
    return {**wanted}


def _check(flag: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise SettingsError(f"{flag}: unknown dimension {shown(name)}; did you mean {nearest(name, known)}?")


def _nothing(what: str, asked: Days, wanted: Mapping[str, Sequence[str]]) -> str:
    filters = " and ".join(f"{name}={' or '.join(values)}" for name, values in wanted.items())
    if filters:
        return f"no {what} in {asked} with {filters}; correct the filter, or try a wider range"
    return f"no {what} in {asked}; try a wider range"


def _output(given: Given, stream: TextIO | None) -> AbstractContextManager[TextIO]:
    if (path := one(given, "--output", "-")) != "-":
        return whole(path)
    return standard_output() if stream is None else nullcontext(stream)


def _progress(task: _Task, file: TextIO) -> AbstractContextManager[terminal.Advance]:
    if file.isatty():
        # The rows themselves are there to be seen, and a bar would be drawn between them.
        return nullcontext(lambda _more: None)
    return terminal.progress(task.what, task.window.buckets, UNITS[task.window.width])


def _rows(reader: Reader, task: _Task, names: Names, advance: terminal.Advance) -> Iterator[Row]:
    for part, buckets in reader.buckets(task.report, task.window):
        for bucket in buckets:
            yield from task.table.rows(bucket, part.width, names)
        advance(part.buckets)


def _names(reader: Reader, columns: Iterable[str]) -> Names:
    def called(what: str, read: Callable[[], Iterable[Workspace | ApiKey]]) -> dict[str, str]:
        return {item.id: item.name for item in reader.readable(f"names of {what}", read) or ()}

    names: dict[str, dict[str, str]] = {}
    if "workspace_id" in columns:
        found = called("workspaces", lambda: reader.api.workspaces()[0])
        names["workspace_id"] = {DEFAULT_WORKSPACE: "Default", **found}
    if "api_key_id" in columns:
        names["api_key_id"] = {CONSOLE: "Console", **called("API keys", lambda: reader.api.api_keys((), None))}
    return names
