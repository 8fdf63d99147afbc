"""Who may read: user names and passwords as in RFC 7617, checked against bcrypt hashes one at a time."""

import base64
import os
import re
import secrets
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple

import bcrypt

Check = Callable[[bytes, bytes], bool]
"""Whether a password has this hash."""

WAITING = 16
"""Passwords that may wait to be checked; at bcrypt's usual cost that is a second or two."""

REMEMBERED = 100
"""Verdicts that are kept of each kind."""

NICENESS = 10

LONGEST = 72
"""Bytes of a password that bcrypt looks at; Go's implementation ignores the rest, the Python one refuses it."""

_HASH = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


class _Job(NamedTuple):
    key: bytes
    password: bytes
    expected: bytes
    known: bool
    verdict: "Future[bool]"


def is_hash(text: str) -> bool:
    """Whether the text is what ``htpasswd -B`` or another bcrypt tool writes."""
    return _HASH.fullmatch(text) is not None


def decoy(hashes: Mapping[bytes, bytes]) -> bytes:
    """Return a hash that no password has, as costly as the costliest of ``hashes``: it stands in for unknown users."""
    return max(hashes.values(), key=lambda known: known[4:6])[:7] + b"." * 53


def credentials(authorization: str | None) -> tuple[bytes, bytes] | None:
    """Read an Authorization header; None if it is not of the Basic scheme. The password may hold colons."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if colon else None


class Passwords:
    """Checks passwords in one thread of low priority, so that a flood of wrong ones leaves the processors to scrapes.

    The thread lives as long as there is work. What waits beyond ``waiting`` is refused unchecked. Right and wrong
    verdicts are remembered apart: wrong ones cannot push out those of honest clients.
    """

    def __init__(self, check: Check = bcrypt.checkpw, *, waiting: int = WAITING, remembered: int = REMEMBERED) -> None:
        self._check, self._waiting, self._remembered = check, waiting, remembered
        # A verdict's key cannot be computed, nor a password guessed from it, outside of this process.
        self._secret = secrets.token_bytes(32)
        self._verdicts: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._jobs: deque[_Job] = deque()
        self._pending: dict[bytes, Future[bool]] = {}
        self._lock = threading.Lock()

    def verdict(
        self, user: bytes, password: bytes, hashes: Mapping[bytes, bytes], stand_in: bytes
    ) -> "bool | Future[bool]":
        """Return at once what is known, else a future; an unknown user's password is checked against ``stand_in``."""
        password, expected = password[:LONGEST], hashes.get(user, stand_in)
        key = self._key(user, expected, password)
        with self._lock:
            remembered = self._recall(key)
            if remembered is not None:
                return remembered
            if key in self._pending:
                return self._pending[key]
            if len(self._jobs) >= self._waiting:
                return False
            return self._enqueue(_Job(key, password, expected, user in hashes, Future()))

    def _key(self, *parts: bytes) -> bytes:
        digest = blake2b(key=self._secret, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def _recall(self, key: bytes) -> bool | None:
        for verdict, keys in self._verdicts.items():
            if key in keys:
                keys.move_to_end(key)
                return verdict
        return None

    def _enqueue(self, job: _Job) -> "Future[bool]":
        # Several requests may wait for it: one that is given up must not cancel it for the others.
        job.verdict.set_running_or_notify_cancel()
        idle = not self._pending
        self._pending[job.key] = job.verdict
        self._jobs.append(job)
        if idle:
            # A daemon: the program's end does not wait for a password.
            threading.Thread(target=self._work, name="passwords", daemon=True).start()
        return job.verdict

    def _work(self) -> None:
        if sys.platform == "linux":
            # There, threads have a niceness each: on one processor, scrapes go first.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        working = True
        while working:
            with self._lock:
                job = self._jobs.popleft()
            verdict = self._judge(job)
            with self._lock:
                del self._pending[job.key]
                self._remember(job.key, verdict)
                working = bool(self._pending)
            job.verdict.set_result(verdict)

    def _judge(self, job: _Job) -> bool:
        try:
            return self._check(job.password, job.expected) and job.known
        except ValueError:
            return False

    def _remember(self, key: bytes, verdict: bool) -> None:  # noqa: FBT001 - it is what is remembered
        keys = self._verdicts[verdict]
        keys[key] = None
        if len(keys) > self._remembered:
            keys.popitem(last=False)
