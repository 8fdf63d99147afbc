"""The options of the commands that tell of the past, and the days that they are asked for."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import chain
from typing import NamedTuple

from exporter.dates import day_of, midnight
from exporter.errors import SettingsError
from exporter.settings import values
from exporter.settings.options import Given, Option

FROM = Option("--from", "YYYY-MM-DD", "first UTC day")
TO = Option("--to", "YYYY-MM-DD", "last UTC day, included; may be today for usage (default: yesterday)")
DAYS = Option("--days", "N", "the last N finished UTC days, instead of --from and --to (default: 30)")
ASKED = (FROM, TO, DAYS)

OPTIONS: Mapping[str, Sequence[Option]] = {
    "backfill": (
        FROM._replace(description="first UTC day; the last moment is where the live counters begin"),
        Option("--label", "NAME=VALUE", "label that the scrape gives the live series: job and instance, or more", True),
        Option("--output", "FILE", "OpenMetrics file to write (default: anthropic-history.om)"),
        Option("--into", "FOLDER", "data folder of a Prometheus: put blocks there instead, with promtool"),
        Option("--url", "URL", "address of a VictoriaMetrics: import there, in place of a file"),
    ),
    "export": (
        *ASKED,
        Option("--width", "1m|1h|1d", "length of a bucket of usage (default: 1d)"),
        Option("--group-by", "NAME,...", "default model,service_tier,workspace_id; for cost workspace_id,description"),
        Option("--filter", "NAME=VALUE", "keep only what has this value; one dimension may be given many times", True),
        Option("--format", "csv|jsonl", "CSV with a header, or a JSON object a line (default: csv)"),
        Option("--output", "FILE", "file to write, once it is whole (default: -, standard output)"),
    ),
    "report": (
        *ASKED,
        Option("--json", "", "figures for machines in place of tables"),
    ),
}

ALL = tuple({option.flag: option for option in chain(*OPTIONS.values())}.values())
"""Each flag once: which words are the values of options shows where the command is."""

DEFAULT_DAYS = 30
MOST_DAYS = 3660
"""Ten years: more than there is."""


class Days(NamedTuple):
    """UTC days with ``start`` <= time < ``end``; Unix seconds."""

    start: int
    end: int

    def __str__(self) -> str:
        first, last = map(day_of, (self.start, self.end - 1))
        return f"{first} to {last}" if first < last else f"{first}"


def one(given: Given, flag: str, default: str = "") -> str:
    """Return the value of an option that is given once at most."""
    return given.get(flag, [default])[0]


def choice(given: Given, flag: str, known: Sequence[str]) -> str:
    """Return the value of an option that has few; the first is the default."""
    value = one(given, flag, known[0])
    if value not in known:
        raise SettingsError(f"{flag} is {values.shown(value)}: it must be {' or '.join(known)}")
    return value


def pairs(given: Given, flag: str) -> list[tuple[str, str]]:
    """Return the names and values of an option that is written NAME=VALUE."""
    found = [pair.partition("=") for pair in given.get(flag, ())]
    for name, _, value in found:
        if not name or not value:
            raise SettingsError(f"{flag} is {values.shown(name + _)}: write it as NAME=VALUE")
    return [(name, value) for name, _, value in found]


def day(given: Given, flag: str) -> date:
    """Return the day that an option gives, which must be there; raise SettingsError if it is none."""
    if flag not in given:
        raise SettingsError(f"{flag} is missing; write {flag} YYYY-MM-DD")
    text = one(given, flag)
    try:
        found = values.day(text)
    except ValueError as error:
        raise SettingsError(f"{flag} is {values.shown(text)}: {error}") from None
    assert isinstance(found, date)  # noqa: S101 - that of a text always is
    return found


def days(given: Given, today: date) -> Days:
    """Return the days that ``--days``, or ``--from`` and ``--to``, ask for; raise SettingsError if there are none."""
    yesterday = today - timedelta(days=1)
    if "--days" in given:
        if "--from" in given or "--to" in given:
            raise SettingsError("--days stands in place of --from and --to; give one or the other")
        return _span(yesterday - timedelta(days=_count(given) - 1), yesterday)
    last = day(given, "--to") if "--to" in given else yesterday
    first = day(given, "--from") if "--from" in given else last - timedelta(days=DEFAULT_DAYS - 1)
    if last > today:
        raise SettingsError(f"--to is {last}: it must not be in the future; today is {today} (UTC)")
    check_first(first, today)
    if first > last:
        raise SettingsError(f"--from is {first}: it must not be after the last day, {last}")
    return _span(first, last)


def check_first(first: date, today: date) -> None:
    """Raise SettingsError if the day that ``--from`` gives is too long ago."""
    if (today - first).days > MOST_DAYS:
        raise SettingsError(f"--from is {first}: it must be at most {MOST_DAYS} days ago")


def _count(given: Given) -> int:
    text = one(given, "--days")
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MOST_DAYS:
        raise SettingsError(f"--days is {values.shown(text)}: it must be a whole number from 1 to {MOST_DAYS}")
    return int(text)


def _span(first: date, last: date) -> Days:
    return Days(midnight(first), midnight(last + timedelta(days=1)))
