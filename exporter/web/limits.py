"""What a client may take of us, and why that much."""

import contextlib
import resource
from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024
DESCRIPTORS = 65536
"""Where the hard limit is higher, as many are asked for; beyond that, tables in the kernel cost memory."""
RESERVE = 128
"""Descriptors that are left for the state file, the API, the log and the libraries."""


@dataclass(frozen=True)
class Limits:
    """Times are seconds, sizes are bytes."""

    connections: int = 4096
    """Some 15 KB each: beyond that many, who waits longest without asking is sent away for who comes."""

    header_seconds: float = 35
    """From one answer to the end of the next request's head: longer than the usual scrape intervals of 15 and 30."""

    write_seconds: float = 30
    """Until a client has taken a chunk."""

    body_seconds: float = 5
    """Until a body, which nobody reads, has come."""

    target: int = 8 * KIB
    """The path and the query: more than a hundred ``name[]``."""

    head: int = 16 * KIB
    """The request's line and headers."""

    body: int = 4 * KIB
    """GET and HEAD have none; a small one is read and ignored, so that the connection can be kept."""

    send_buffer: int = 256 * KIB
    """Per connection, in the kernel, which would take megabytes for a client that does not read."""

    held: int = 64 * MIB
    """Renderings that clients have not taken yet, all together; beyond that, who waits for the oldest is cut."""


LIMITS = Limits()


def raise_descriptor_limit(most: int) -> int:
    """Let this process open as many files as it may, and return how many connections of at most ``most`` that allows.

    The usual soft limit of 1024 would be all gone with a thousand slow clients.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return most if soft == resource.RLIM_INFINITY else max(1, min(most, soft - RESERVE))
