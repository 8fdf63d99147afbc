"""Logging to one stream, as logfmt or JSON: one record is one line, and no line holds a secret.

Structured fields are passed as ``logger.info("text", extra={"fields": {...}})``.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

REDACTED = "[redacted]"
_HANDLER = "anthropic-exporter"
_BARE = re.compile(r"[^\s\"=\\]+")
_LINE_BREAKING = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What JSON leaves as it is, but some readers take for the end of a line, or cannot encode."""


def configure(
    level: str,
    format: Literal["logfmt", "json"],  # noqa: A002 - the setting's name
    *,
    stream: TextIO | None = None,
    secrets: Callable[[], Collection[str]] = tuple,
) -> None:
    """Send all logging to ``stream`` (standard error); ``secrets`` are asked for at every record."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.set_name(_HANDLER)
    handler.setFormatter(_Json() if format == "json" else _Logfmt())
    handler.addFilter(_Redaction(secrets))
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == _HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # A record that cannot be written must not end as a traceback that quotes its arguments.
    logging.raiseExceptions = False
    quiet = max(logging.WARNING, root.level)
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(quiet)
    logging.getLogger("tornado.general").addFilter(_demoted)
    logging.getLogger("apscheduler").setLevel(logging.DEBUG if level == "debug" else logging.ERROR)


def _demoted(record: logging.LogRecord) -> bool:
    """Make debug lines of what tornado notes about its clients: a flood of bad requests must not flood the log."""
    if record.levelno < logging.ERROR:
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return logging.getLogger().isEnabledFor(record.levelno)


class _Redaction(logging.Filter):
    """Makes plain text of a record and replaces the secrets in it."""

    def __init__(self, secrets: Callable[[], Collection[str]]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        fields = {str(name): self._plain(value) for name, value in getattr(record, "fields", {}).items()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = self._clean(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}")
            fields["traceback"] = self._clean(logging.Formatter().formatException(record.exc_info))
        record.__dict__["fields"] = fields
        record.msg, record.args = self._clean(_message(record)), ()
        record.exc_info = record.exc_text = None
        return True

    def _clean(self, text: str) -> str:
        for secret in filter(None, self._secrets()):
            text = text.replace(secret, REDACTED).replace(repr(secret)[1:-1], REDACTED)
        return text

    def _plain(self, value: object) -> object:
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        return value if value is None or is_number else self._clean(str(value))


class _Logfmt(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{_name(name)}={_logfmt(value)}" for name, value in _entry(record).items())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _dumps(_entry(record))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args}"


def _entry(record: logging.LogRecord) -> Mapping[str, object]:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    entry = {"ts": time.replace("+00:00", "Z"), "level": record.levelname.lower(), "msg": record.msg}
    fields: Mapping[str, object] = getattr(record, "fields", {})
    return entry | {name: value for name, value in fields.items() if name not in entry}


def _dumps(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _LINE_BREAKING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _name(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII) or "_"


def _logfmt(value: object) -> str:
    text = _dumps(value)
    if isinstance(value, str) and text == f'"{value}"' and _BARE.fullmatch(value):
        return value
    return text
