"""How the text of a setting becomes its value; a ValueError's text is the remedy."""

import ipaddress
import re
from datetime import date, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from exporter.model import DEFAULT_WORKSPACE

KEY_FILE_LIMIT = 4096
"""Bytes of a key file that are read; a key is far shorter."""

SHORTEST_SECRET = 8
"""Characters below which a key is not looked for in messages: it would be found in ordinary words."""

REMEDIES = {
    "bool_parsing": "it must be true or false",
    "decimal_parsing": "it must be a number",
    "dict_type": "write it as id=amount,id=amount or as a table",
    "float_parsing": "it must be a number",
    "int_parsing": "it must be a whole number",
    "tuple_type": "write it as a list",
}
"""By the type of pydantic's error, where its own words are too long."""

_RESERVED_PATHS = ("/-/healthy", "/-/ready")


def number(value: object) -> object:
    """Refuse true and false, which would pass for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(REMEDIES["float_parsing"])  # noqa: TRY004 - pydantic wants a ValueError
    return value


def words(value: object) -> object:
    """Split a comma-separated list; a TOML array passes."""
    if not isinstance(value, str):
        return value
    return tuple(word for part in value.split(",") if (word := part.strip()))


def amounts(value: object) -> object:
    """Read ``id=amount,...``; a TOML table passes."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    budgets = {name.strip(): amount.strip() for name, _, amount in pairs}
    if len(budgets) < len(pairs) or not all(name and amount for name, amount in budgets.items()):
        raise ValueError("write it as id=amount,id=amount, each id once")
    return budgets


def day(value: object) -> object:
    """Read YYYY-MM-DD; a TOML date passes."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    text = str(value) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)) else ""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("write it as a day of the calendar, YYYY-MM-DD") from None


def no_default_workspace(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse the default workspace, which has no id to filter on."""
    if DEFAULT_WORKSPACE in ids:
        raise ValueError(f"the API cannot filter on the {DEFAULT_WORKSPACE!r} workspace; remove it from the list")
    return ids


def base_url(text: str) -> str:
    """Check that the key can be sent there safely; drop trailing slashes."""
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port
    except ValueError:
        host = None
    if not host or not re.fullmatch(r"[!-~]+", text):
        raise ValueError("write it as https://host[:port]")
    if url.username is not None or url.query or url.fragment or re.search(r"[?#]$", text):
        raise ValueError("remove user, password, query and fragment from it")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(text)):
        raise ValueError("use https:// (http:// is for an API on loopback only)")
    return text.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen_address(text: str) -> str:
    """Check that the address can be parsed."""
    parse_listen_address(text)
    return text


def parse_listen_address(text: str) -> tuple[str, int]:
    """Split ``host:port``, ``[::1]:port`` or ``:port``; an empty host means every interface."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]*)):([0-9]{1,5})", text, re.ASCII)
    if found is None or int(found[3]) > 65535:
        raise ValueError("write it as host:port, [IPv6]:port or :port, the port being 0 to 65535")
    if found[1]:
        try:
            ipaddress.IPv6Address(found[1])
        except ValueError:
            raise ValueError("the text in brackets must be an IPv6 address") from None
    return found[1] or found[2] or "", int(found[3])


def telemetry_path(text: str) -> str:
    """Check that the path can be served and is not taken."""
    if not re.fullmatch(r"(/[\w.~-]+)+", text, re.ASCII):
        raise ValueError("write it as /path, with letters, digits and ._~- only")
    if text in _RESERVED_PATHS:
        raise ValueError("the health checks are served there; take another path")
    return text


def key(secret: SecretStr) -> SecretStr:
    """Strip a key and check that it can be sent in a header."""
    text = secret.get_secret_value().strip()
    if not text:
        raise ValueError("it is empty; put the key there")
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("it must hold the key and nothing else: one line of printable ASCII, no spaces")
    return SecretStr(text)


def key_file_problem(path: Path) -> str:
    """Say what is wrong with a key file and what to do, or nothing; never its content."""
    try:
        # A folder that cannot be entered makes exists() fail before Python 3.12.
        if path.exists() and not (path.is_file() or path.is_dir()):
            return "it is not a regular file; give one, it is read again when it changes"
        with path.open("rb") as file:
            key(SecretStr(file.read(KEY_FILE_LIMIT).decode("utf-8", "replace")))
    except OSError as error:
        return f"it cannot be read ({error.strerror}); give a file that the exporter's user may read"
    except ValueError as error:
        return str(error)
    return ""


def shown(value: object) -> str:
    """Return a value for an error message: quoted, short, and without the userinfo of a URL."""
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)[:100]
    if "://" in value and "@" in value:
        value = "[redacted]@" + value.rpartition("@")[2]
    return repr(value[:100])


def one_line(text: str, secret: str) -> str:
    """Return an error as one line without the secret, nor anything else that looks like a key."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    secret = secret.strip()
    if len(secret) >= SHORTEST_SECRET:
        line = line.replace(secret, "[redacted]").replace(repr(secret)[1:-1], "[redacted]")
    return re.sub(r"sk-ant-[^\s'\"/]+", "[redacted]", line)
