"""The commands. What a command needs is imported when it runs: help and errors answer at once."""
# ruff: noqa: PLC0415

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from exporter import PROGRAM, __version__
from exporter.errors import ExporterError, SettingsError

if TYPE_CHECKING:
    from exporter.settings import Settings
    from exporter.settings.options import Given, Option
    from exporter.settings.sources import Row

USAGE = f"""\
usage: {PROGRAM} [COMMAND] [--SECTION.NAME VALUE ...]

Prometheus exporter for the usage and cost of an organisation on the Anthropic API.

commands:
  serve      poll the Admin API and serve the metrics (the default)
  check      try settings, key and every endpoint once, and say what was found
  demo       serve the metrics of a simulated organisation; needs no key
  backfill   write the days before the first start for Prometheus or VictoriaMetrics
  export usage | cost
             write usage or cost of some days as CSV or JSON lines
  report     print what was used and spent, by whom, and what has changed
  state show | reset
             say what the state file holds; or move it aside and begin anew
  health     say whether the exporter that keeps this state file is alive, for exec probes
  --version  print the version
  --help     print this text

The admin key comes from the environment only:
  ANTHROPIC_ADMIN_API_KEY       the key, or
  ANTHROPIC_ADMIN_API_KEY_FILE  a file that holds it; read again when it changes

Every other setting is a flag, an environment variable or a key in a TOML file: the flag
--usage.poll-interval is ANTHROPIC_EXPORTER_USAGE_POLL_INTERVAL is poll_interval under [usage].
A flag wins over the environment, the environment over the file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except ExporterError as error:
        _failed(error)
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        return 130


def _run(argv: Sequence[str]) -> int:
    if "--version" in argv:
        print(f"{PROGRAM} {__version__}")
        return 0
    from exporter import settings
    from exporter.settings.commands import ALL, OPTIONS

    wanted = [word for word in argv if word not in {"-h", "--help"}]
    command, flags = settings.command(wanted, ALL)
    if len(wanted) < len(argv):
        only = [command] if command and command in OPTIONS else []
        whole = [USAGE, *_options(OPTIONS), *_sections(settings.rows())]
        print("\n".join([*_options(only), f"\nSettings: {PROGRAM} --help"] if only else whole).lstrip())
        return 0
    return _command(command or "serve")(flags)


def _command(name: str) -> Callable[[Sequence[str]], int]:
    commands = {
        "serve": _serve,
        "check": _check,
        "demo": _demo,
        "backfill": _backfill,
        "export": _export,
        "report": _report,
        "health": _health,
        "state": _state,
    }
    return _known(name, commands)


def _known(name: str, commands: Mapping[str, Callable[..., int]]) -> Callable[..., int]:
    if name not in commands:
        from exporter.settings.sources import nearest

        raise SettingsError(f"unknown command {name!r}; did you mean {nearest(name, commands)}?")
    return commands[name]


def _serve(flags: Sequence[str]) -> int:
    settings = _load(flags)
    from exporter import app

    return app.serve(settings)


def _check(flags: Sequence[str]) -> int:
    settings = _load(flags)
    from exporter import check

    return check.check(settings)


def _demo(flags: Sequence[str]) -> int:
    from exporter import app

    settings = _load(flags, defaults=app.DEMO_DEFAULTS, needs_key=False)
    return app.demo(settings, lambda text: print(text, flush=True))


def _backfill(flags: Sequence[str]) -> int:
    given, settings = _asked("backfill", flags)
    from exporter import backfill

    return backfill.backfill(settings, given)


def _export(flags: Sequence[str]) -> int:
    from exporter import settings
    from exporter.settings.commands import OPTIONS

    name, flags = settings.command(flags, OPTIONS["export"])
    if name not in {"usage", "cost"}:
        raise SettingsError("export: say what to write, usage or cost")
    given, loaded = _asked("export", flags)
    from exporter import export

    return export.export(loaded, name, given)


def _report(flags: Sequence[str]) -> int:
    given, settings = _asked("report", flags)
    from exporter import report

    return report.report(settings, given)


def _asked(command: str, flags: Sequence[str]) -> "tuple[Given, Settings]":
    """Return what was given of a command's options, and the settings; from here on SIGTERM ends it as Ctrl-C does."""
    import signal

    from exporter.settings.commands import OPTIONS
    from exporter.settings.options import take

    for number in (signal.SIGTERM, signal.SIGHUP):
        # What nohup has ignored stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    given, words = take(flags, OPTIONS[command])
    return given, _load(words, options=OPTIONS[command])


def _health(flags: Sequence[str]) -> int:
    from exporter import heartbeat

    return heartbeat.health(_load(flags, needs_key=False))


def _state(flags: Sequence[str]) -> int:
    from exporter import settings, state

    name, flags = settings.command(flags)
    if not name:
        raise SettingsError("state: say what to do, show or reset")
    command = _known(name, {"show": state.show, "reset": state.reset})
    return command(_load(flags, needs_key=False))


def _load(
    flags: Sequence[str],
    *,
    defaults: Mapping[str, Any] | None = None,
    needs_key: bool = True,
    options: "Iterable[Option]" = (),
) -> "Settings":
    from exporter.settings import load

    # Without a key only the simulated API is read, wherever the real one may be.
    ignored = () if needs_key else ("ANTHROPIC_EXPORTER_API_BASE_URL",)
    environment = {name: value for name, value in os.environ.items() if name not in ignored}
    today = datetime.now(UTC).date()
    return load(flags, environment, today=today, defaults=defaults, needs_key=needs_key, options=options)


def _failed(error: ExporterError) -> None:
    from exporter.settings.values import one_line

    line = one_line(str(error), os.environ.get("ANTHROPIC_ADMIN_API_KEY", ""))
    print(f"{PROGRAM}: error: {line}", file=sys.stderr)


def _options(commands: Iterable[str]) -> Iterable[str]:
    from exporter.settings.commands import OPTIONS

    for command in commands:
        yield f"\n{command}:"
        for option in OPTIONS[command]:
            yield f"  {f'{option.flag} {option.value}':<22}{option.description}"


def _sections(rows: Iterable["Row"]) -> Iterable[str]:
    for section, members in groupby(rows, key=lambda row: row.name.partition(".")[0]):
        yield f"\n[{section}]"
        for row in members:
            default = f" (default: {row.default})" if row.default else ""
            yield f"  {row.flag + ' VALUE':<38}{row.variable}\n      {row.description}{default}"
