"""The options of single commands: words of one dash-dash word that no setting has."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter.errors import SettingsError


class Option(NamedTuple):
    """An option of a command: ``value`` is what stands for its value in texts, nothing for a switch."""

    flag: str
    value: str
    description: str
    repeats: bool = False


Given = Mapping[str, Sequence[str]]
"""The values of the options that were given, by flag; those of a switch are empty."""


def add(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Let a parser know options; what is given is a list under the flag's name."""
    for option in options:
        if option.value:
            parser.add_argument(option.flag, dest=option.flag, action="append", default=argparse.SUPPRESS)
        else:
            parser.add_argument(
                option.flag, dest=option.flag, action="append_const", const="", default=argparse.SUPPRESS
            )


def take(argv: Sequence[str], options: Sequence[Option]) -> tuple[Given, list[str]]:
    """Return what was given of ``options``, and the other words; raise SettingsError for one that is wrong."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add(parser, options)
    try:
        known, words = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        flag = error.argument_name
        wanted = next(option.value for option in options if option.flag == flag)
        remedy = f"write {flag} {wanted}" if wanted else "it takes no value"
        raise SettingsError(f"{flag}: {'a value is missing; ' if wanted else ''}{remedy}") from None
    given: Given = vars(known)
    for option in options:
        if option.value and "" in given.get(option.flag, ()):
            raise SettingsError(f"{option.flag}: a value is missing; write {option.flag} {option.value}")
        if len(given.get(option.flag, ())) > 1 and not option.repeats:
            raise SettingsError(f"{option.flag} is given twice; give it once")
    return given, words
