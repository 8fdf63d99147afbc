"""The web config file: TLS, users and headers, in the format of Prometheus' exporter-toolkit.

It is read again when it, or a file that it names, has changed. Every error is one line: the file, the key, what is
wrong and what to do; none holds a hash, a certificate or a key.
"""

import logging
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import bcrypt
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from exporter.errors import SettingsError
from exporter.web import tls, users
from exporter.web.tls import STRICT, Blank, TlsSettings
from exporter.web.users import Check, Passwords

if TYPE_CHECKING:
    from concurrent.futures import Future

logger = logging.getLogger(__name__)

Stamps = tuple[tuple[int, ...] | None, ...]
UNSHOWN = "a key that is not shown"
_SHOWN_KEY = re.compile(r"[\w.@+-]{1,64}")
"""Names that can neither be a hash nor part of a key file."""

WRONG_TYPE = {
    "string_type": "it must be text; put it in quotes",
    "bool_type": "it must be true or false",
    "list_type": "it must be a list; put a dash before each entry",
    "dict_type": "it must be a list of names, each with a hash behind it; indent them below it",
    "model_type": "it must hold keys of its own; indent them below it",
    "invalid_key": "its keys must be text; put them in quotes",
}
"""By the type of pydantic's error; its own words are for programmers."""


def _section(value: object) -> object:
    return {} if value is None else value


def _header(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[ -~]+", text):
        raise ValueError("a header must be one line of printable ASCII; remove everything else")
    return text


def _user(name: str) -> str:
    if ":" in name or not name.isprintable():
        raise ValueError("no client can send a name with a colon or a control character; take another")
    return name


def _hash(secret: object) -> object:
    if not isinstance(secret, str) or not users.is_hash(secret):
        raise ValueError("it is not a bcrypt hash; make one with htpasswd -nBC 10 NAME, and put it in quotes")
    return secret


def _not_here(value: object) -> None:
    if value is not None:
        raise ValueError("requests are not limited by this program; remove it, and limit them in a proxy")


Section = BeforeValidator(_section)
HeaderText = Annotated[str | None, Blank, AfterValidator(_header)]
Users = dict[Annotated[str, AfterValidator(_user)], Annotated[SecretStr, BeforeValidator(_hash)]]


class Headers(BaseModel):
    """The headers that may be added to each answer."""

    model_config = STRICT

    content_security_policy: HeaderText = Field(None, alias="Content-Security-Policy")
    frame_options: Annotated[Literal["deny", "sameorigin"] | None, Blank] = Field(None, alias="X-Frame-Options")
    content_type_options: Annotated[Literal["nosniff"] | None, Blank] = Field(None, alias="X-Content-Type-Options")
    xss_protection: HeaderText = Field(None, alias="X-XSS-Protection")
    strict_transport_security: HeaderText = Field(None, alias="Strict-Transport-Security")


class HttpSettings(BaseModel):
    """The keys of ``http_server_config``."""

    model_config = STRICT

    http2: bool | None = None
    """Accepted for the sake of shared files: this server speaks HTTP/1.1, on which clients agree by themselves."""
    headers: Headers | None = None


class WebSettings(BaseModel):
    """The file."""

    model_config = STRICT

    tls_server_config: Annotated[TlsSettings, Section] = TlsSettings()
    http_server_config: Annotated[HttpSettings, Section] = HttpSettings()
    basic_auth_users: Annotated[Users, Section] = Field({}, repr=False)
    rate_limit: Annotated[None, BeforeValidator(_not_here)] = None


MODELS: Mapping[tuple[str | int, ...], type[BaseModel]] = {
    (): WebSettings,
    ("tls_server_config",): TlsSettings,
    ("http_server_config",): HttpSettings,
    ("http_server_config", "headers"): Headers,
}


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader takes the last of two equal keys; here they are an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001 - the library's
        names: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in names:
                line = key.start_mark.line + 1
                raise SettingsError(f"line {line}: {_shown(key.value)} is there twice; remove one of them")
            names.add(key.value)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for connections and requests."""

    tls: ssl.SSLContext | None
    headers: Mapping[str, str]
    allowed_sans: frozenset[str] | None
    users: Mapping[bytes, bytes] = field(repr=False)
    """Hashes by name."""
    passwords: Passwords = field(repr=False)
    decoy: bytes = field(repr=False)

    def admits(self, authorization: str | None) -> "bool | Future[bool]":
        """Whether a request with this Authorization header is let in; everyone is if there are no users."""
        if not self.users:
            return True
        given = users.credentials(authorization)
        return given is not None and self.passwords.verdict(*given, self.users, self.decoy)

    def admits_peer(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this certificate, as of ``getpeercert()``, is let in."""
        return self.allowed_sans is None or not self.allowed_sans.isdisjoint(tls.sans(certificate or {}))


class _Watch(NamedTuple):
    files: tuple[str, ...]
    stamps: Stamps


class Door:
    """The policy in force; raises SettingsError at construction if the file cannot be used.

    ``check`` compares a password with a hash.
    """

    def __init__(self, path: Path, *, check: Check = bcrypt.checkpw) -> None:
        self._path = path
        self._heard: Callable[[bool], object] = bool
        self._passwords = Passwords(check)
        self._lock = threading.Lock()
        self._watch, found = self._read()
        if isinstance(found, SettingsError):
            raise found
        self._policy = found
        self._is_sound = True

    def tell(self, heard: Callable[[bool], object]) -> None:
        """Let ``heard`` know now, and after each further reading, whether the last one could be used."""
        with self._lock:
            self._heard = heard
            heard(self._is_sound)

    def look(self) -> Policy:
        """Return the policy in force, read anew if a file has changed; a new one that cannot be used is only logged."""
        watch = self._watch
        if _stamps(watch.files) != watch.stamps:
            with self._lock:
                if _stamps(self._watch.files) != self._watch.stamps:
                    self._again()
        return self._policy

    def _again(self) -> None:
        watch, found = self._read()
        if isinstance(found, Policy):
            found = self._closed(found)
        fields: dict[str, object] = {"file": str(self._path)}
        if isinstance(found, SettingsError):
            fields["error"] = str(found)
            logger.error("the web config cannot be used; the old one stays in force", extra={"fields": fields})
        else:
            self._policy = found
            fields |= {"tls": found.tls is not None, "users": len(found.users)}
            logger.info("the web config was read again", extra={"fields": fields})
        # Last of all: who sees it without the lock may go on with the policy.
        self._watch = watch
        self._is_sound = isinstance(found, Policy)
        self._heard(self._is_sound)

    def _closed(self, new: Policy) -> Policy | SettingsError:
        """Refuse what opens the door to all: the file may just be half written."""
        for name, before, now in (("TLS", self._policy.tls, new.tls), ("the users", self._policy.users, new.users)):
            if before and not now:
                what = f"it would take away {name}; if that is meant, restart the exporter"
                return SettingsError(f"{_line(self._path)}: {what}")
        return new

    def _read(self) -> tuple[_Watch, Policy | SettingsError]:
        """Read everything; note beforehand how the files look, so that a change meanwhile is seen at the next look."""
        folder, watch = self._path.parent, _watch([self._path])
        try:
            settings = parse(self._path)
            named = _watch(tls.files(settings.tls_server_config, folder))
            watch = _Watch(watch.files + named.files, watch.stamps + named.stamps)
            return watch, _policy(settings, folder, self._passwords)
        except SettingsError as error:
            return watch, SettingsError(f"{_line(self._path)}: {error}")


def parse(path: Path) -> WebSettings:
    """Read and check the file, but not the files that it names; raise SettingsError for the first problem."""
    try:
        return WebSettings.model_validate(_load(tls.content(path)))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SettingsError(_described(problems[0]) + more)


def _load(text: bytes) -> object:
    try:
        loaded = yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # The library's own words quote the file.
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise SettingsError(f"{where}it is not YAML; look at indentation and quotes") from None
    if not isinstance(loaded, dict | None):
        raise SettingsError(f"it must hold keys; the known ones are {', '.join(_known(WebSettings))}")
    return loaded or {}


def _described(problem: ErrorDetails) -> str:
    """Make one line of a finding of pydantic's, without what the file says."""
    place = problem["loc"]
    text = WRONG_TYPE.get(problem["type"]) or problem["msg"].replace("Input should be", "it must be")
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
    if problem["type"] == "extra_forbidden":
        text = f"there is no such key; the nearest one is {tls.nearest(str(place[-1]), _known(MODELS[place[:-1]]))}"
    return f"{'.'.join(_shown(str(part)) for part in place if part != '[key]')}: {text}"


def _known(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items() if name != "rate_limit"]


def _line(path: Path) -> str:
    return repr(str(path))[1:-1]


def _shown(key: str) -> str:
    return key if _SHOWN_KEY.fullmatch(key) else UNSHOWN


def _policy(settings: WebSettings, folder: Path, passwords: Passwords) -> Policy:
    headers, sans = settings.http_server_config.headers, settings.tls_server_config.client_allowed_sans
    hashes = {name.encode(): known.get_secret_value().encode() for name, known in settings.basic_auth_users.items()}
    return Policy(
        tls=tls.new_context(settings.tls_server_config, folder),
        headers=headers.model_dump(by_alias=True, exclude_none=True) if headers else {},
        allowed_sans=None if sans is None else frozenset(sans),
        users=hashes,
        passwords=passwords,
        decoy=users.decoy(hashes) if hashes else b"",
    )


def _watch(files: Iterable[Path]) -> _Watch:
    names = tuple(map(str, files))
    return _Watch(names, _stamps(names))


def _stamps(files: Iterable[str]) -> Stamps:
    return tuple(map(_stamp, files))


def _stamp(file: str) -> tuple[int, ...] | None:
    """Return what changes when a file is written, replaced (also by its folder's link) or given to somebody else."""
    try:
        found = os.stat(file)  # noqa: PTH116 - half the time of pathlib's
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
