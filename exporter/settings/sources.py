"""Where settings come from: flags, environment variables and a TOML file, and who said what."""

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_settings import BaseSettings, EnvSettingsSource, TomlConfigSettingsSource

from exporter.errors import SettingsError
from exporter.settings.commands import OPTIONS
from exporter.settings.options import Option, add

PREFIX = "ANTHROPIC_EXPORTER_"
KEY_VARIABLE = "ANTHROPIC_ADMIN_API_KEY"
KEY_FILE_VARIABLE = "ANTHROPIC_ADMIN_API_KEY_FILE"

CONFIG_FILE = "config.file"
_TOOLKIT_FLAGS = {"web.config_file": ("--web.config.file",)}
_KUBERNETES = re.compile(rf"{PREFIX}(SERVICE_\w*|PORT(_\w*)?)")
"""What Kubernetes injects into every container beside a Service called ``anthropic-exporter``."""

_KEY_GUESSES = {"key", "api_key", "api.key", "admin_api_key", "anthropic_admin_api_key", "anthropic_exporter_api_key"}


class Row(NamedTuple):
    """One setting under each of its names, for --help and the README."""

    name: str
    flag: str
    variable: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Sources:
    """What the operator set; ``unknown`` has one line for each name that does not exist."""

    values: Mapping[str, object]
    written: Mapping[str, str]
    unknown: Sequence[str]

    def where(self, name: str) -> str:
        """Return the setting's name as the operator wrote it; the flag if nobody did."""
        return self.written.get(name) or _flag(name)

    def nested(self) -> dict[str, Any]:
        """Return the raw values by section and key."""
        nested: dict[str, Any] = {}
        for name, value in self.values.items():
            section, _, key = name.partition(".")
            if key:
                nested.setdefault(section, {})[key] = value
            else:
                nested[name] = value
        return nested


def table(model: type[BaseSettings]) -> tuple[Row, ...]:
    """List the settings of the model's sections in declared order; the key is not among them."""
    return tuple(
        Row(
            name := f"{section}.{key}",
            _flag(name),
            PREFIX + name.replace(".", "_").upper(),
            _text(field.get_default(call_default_factory=True)),
            field.description or "",
        )
        for section, outer in model.model_fields.items()
        for key, field in getattr(outer.annotation, "model_fields", {}).items()
    )


def parse_flags(
    rows: Iterable[Row], argv: Sequence[str], options: Iterable[Option] = ()
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return {setting: (flag as written, value)} and all words that are no known flag, and none of ``options``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add(parser, options)
    for row in rows:
        spellings = dict.fromkeys((row.flag, f"--{row.name}", *_TOOLKIT_FLAGS.get(row.name, ())))
        parser.add_argument(*spellings, dest=row.name, action=_AsWritten, default=argparse.SUPPRESS)
    try:
        given, words = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        flag = (error.argument_name or "").partition("/")[0]
        if any(option.flag == flag and not option.value for option in options):
            raise SettingsError(f"{flag}: it takes no value") from None
    else:
        return vars(given), words
    raise SettingsError(f"{flag}: a value is missing; write {flag}=VALUE")


def read(
    model: type[BaseSettings],
    argv: Sequence[str],
    env: Mapping[str, str],
    defaults: Mapping[str, Any],
    options: Iterable[Option] = (),
) -> Sources:
    """Merge all sources: flag over environment over file over ``defaults``.

    ``options`` are what could have been meant by an unknown flag, besides settings.
    """
    rows = table(model)
    flags, words = parse_flags(rows, argv)
    given = _flat(_environment(model, env, rows)) | {name: value for name, (_, value) in flags.items()}
    written = {row.name: row.variable for row in rows if row.name in given}
    written |= {name: flag for name, (flag, _) in flags.items()}
    file = str(given.get(CONFIG_FILE, ""))
    content = _toml(model, file, written[CONFIG_FILE]) if CONFIG_FILE in given else {}
    in_file = {row.name: _flat(content)[row.name] for row in rows if row.name in _flat(content)}
    in_file.pop(CONFIG_FILE, None)
    written = {name: f"{file}: {_key(name)}" for name in in_file} | written
    unknown = (
        _unknown_words([*(row.flag for row in rows), *(option.flag for option in options)], words),
        _unknown_variables(rows, env),
        _unknown_keys(rows, file, content),
    )
    return Sources(_flat(defaults) | in_file | given, written, list(chain(*unknown)))


def split_command(
    rows: Iterable[Row], argv: Sequence[str], options: Iterable[Option] = ()
) -> tuple[str | None, list[str]]:
    """Return the first word that is neither a flag nor a flag's value, and the arguments without it."""
    places = [_Word(word) for word in argv]
    _, words = parse_flags(rows, places, options)
    if not words or words[0].startswith("-"):
        return None, list(argv)
    return words[0], [str(word) for word in places if word is not words[0]]


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that begins with this one, or else looks most like it."""
    names = list(known)
    begun = (candidate for candidate in names if candidate.startswith(name))
    return next(begun, None) or difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]


class _Word(str):
    """A word of the command line that is told apart from its equals."""

    __slots__ = ()


class _AsWritten(argparse.Action):
    """Keeps the spelling of the flag beside its value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's signature
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, (option_string, values))


def _environment(model: type[BaseSettings], env: Mapping[str, str], rows: Iterable[Row]) -> dict[str, Any]:
    wanted = {KEY_VARIABLE, KEY_FILE_VARIABLE, *(row.variable for row in rows)}
    source = EnvSettingsSource(model)
    # The source gets our mapping in place of os.environ, in lower case as it expects it; an empty
    # variable counts as unset, since compose files and charts pass those on.
    source.env_vars = {name.lower(): value for name, value in env.items() if name in wanted and value}
    return source()


def _toml(model: type[BaseSettings], file: str, where: str) -> dict[str, Any]:
    path = Path(file).absolute()
    try:
        if path.is_file():
            return TomlConfigSettingsSource(model, toml_file=path)()
        problem = "is not a file" if path.exists() else "does not exist"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{file} is not valid TOML: {_malformed(path, str(error))}; correct it there") from None
    raise SettingsError(f"{where} {file[:100]!r} {problem}; give the path of a TOML file that can be read")


def _malformed(path: Path, problem: str) -> str:
    lines = path.read_text(encoding="utf-8").split("\n")
    return problem.replace("at end of document", f"at line {len(lines)}, column {len(lines[-1]) + 1}")


def _unknown_words(spellings: Sequence[str], words: Iterable[str]) -> Iterable[str]:
    takes_value = False
    for word in words:
        flag = word.partition("=")[0].partition(" ")[0]
        if word.startswith("-"):
            owners = [command for command, options in OPTIONS.items() if flag in (option.flag for option in options)]
            remedy = f"it belongs to {' and '.join(owners)}" if owners else _hint(flag, spellings)
            yield f"unknown flag {flag}; {remedy}"
        elif not takes_value:
            yield f"unexpected argument {word!r}; settings are written --section.name VALUE"
        takes_value = word == flag and word.startswith("--")


def _unknown_variables(rows: Sequence[Row], env: Iterable[str]) -> Iterable[str]:
    known = [row.variable for row in rows]
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in known and not _KUBERNETES.fullmatch(name):
            yield f"unknown environment variable {name}; {_hint(name, known)}"


def _unknown_keys(rows: Sequence[Row], file: str, content: Mapping[str, Any]) -> Iterable[str]:
    names = [row.name for row in rows if row.name != CONFIG_FILE]
    sections = list(dict.fromkeys(name.partition(".")[0] for name in names))
    for section, keys in content.items():
        if not isinstance(keys, dict):
            hint = f"write it as [{section}]" if section in sections else _hint(section, names, _key)
            yield f"{file}: unknown key {section} outside of a section; {hint}"
        elif section not in sections:
            yield f"{file}: unknown section [{section}]; did you mean [{nearest(section, sections)}]?"
        else:
            unknown = (name for key in keys if (name := f"{section}.{key}") not in names)
            yield from (f"{file}: unknown key {_key(name)}; {_hint(name, names, _key)}" for name in unknown)


def _hint(name: str, known: Iterable[str], spell: Callable[[str], str] = str) -> str:
    if name.lower().strip("-").replace("-", "_") in _KEY_GUESSES:
        return f"the key comes from the environment only: {KEY_VARIABLE} or {KEY_FILE_VARIABLE}"
    return f"did you mean {spell(nearest(name, known))}?"


def _flat(nested: Mapping[str, Any]) -> dict[str, object]:
    sections = {name: keys for name, keys in nested.items() if isinstance(keys, Mapping)}
    flat = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    return flat | {name: value for name, value in nested.items() if name not in sections}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _key(name: str) -> str:
    section, _, key = name.partition(".")
    return f"[{section}] {key}"


def _text(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default else ""
