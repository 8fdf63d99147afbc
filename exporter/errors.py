"""Every error of the program, and the word that metrics use for it.

ExporterError
├── SettingsError              the operator's input: one line, exit status 2
├── StartError                 the program cannot run here: one line, exit status 1
└── PollError                  ``reason`` is a label value of poll_failures_total
    ├── StateError             what was read cannot be kept
    │   └── OtherOrganizationError  the key is of another organisation than the state
    └── ApiError
        ├── AuthError              401
        ├── PermissionDeniedError  403
        ├── BadRequestError        any other 4xx
        ├── BadResponseError       an answer that is not of the promised shape
        └── TransientError         worth asking again; ``retry_after`` is the server's wish
            ├── RateLimitedError   429
            ├── ServerError        5xx
            ├── NoAnswerError      timeout
            └── NoConnectionError  refused, reset, unresolvable
"""

from typing import ClassVar


class ExporterError(Exception):
    """Root of all errors raised on purpose; ``str()`` is one line for a person."""


class SettingsError(ExporterError):
    """A setting is missing, unknown or out of range; the message names it and the remedy."""


class StartError(ExporterError):
    """The settings are fine, but the program cannot start here (a port in use, a full disk)."""


class PollError(ExporterError):
    """A poll did not come to its end."""

    reason: ClassVar[str]


class StateError(PollError):
    """What was read cannot be kept; nothing of it is served."""

    reason = "state"


class OtherOrganizationError(StateError):
    """The key is of another organisation than the state; going on would mix two bills."""


class ApiError(PollError):
    """A request to the Admin API did not give what was asked for."""


class AuthError(ApiError):
    """401: the key is unknown, expired or not an admin key."""

    reason = "auth"


class PermissionDeniedError(ApiError):
    """403: the key is known but may not read this."""

    reason = "permission"


class BadRequestError(ApiError):
    """Any other 4xx: the API does not understand what we ask."""

    reason = "bad_request"


class BadResponseError(ApiError):
    """The answer is not of the promised shape; nothing of it is used."""

    reason = "bad_response"


class TransientError(ApiError):
    """The same request may succeed later."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the server asks us to wait, if it said so."""


class RateLimitedError(TransientError):
    """429."""

    reason = "rate_limited"


class ServerError(TransientError):
    """5xx, 529 included."""

    reason = "server"


class NoAnswerError(TransientError):
    """No complete answer within the timeout."""

    reason = "timeout"


class NoConnectionError(TransientError):
    """The connection could not be made or broke."""

    reason = "connection"
