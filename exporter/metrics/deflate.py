"""Text into gzip while it is being written."""

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

LEVEL = 1
"""The quickest: a page of a million series is 16 times smaller than plain, and 21 times at 6 times the cost."""

GZIP = 31
"""zlib's word for a window of 32 KiB inside a gzip member."""

CHUNK = 256 * 1024
"""Bytes to compress at once: enough to be worth a thread's while, and little enough to hold two of."""


def deflated(texts: Iterable[bytes]) -> tuple[list[bytes], int]:
    """Return texts as one gzip member, in chunks, and their size in bytes.

    One chunk is compressed, which needs no interpreter, while the next one is written.
    """
    member = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
    found: list[bytes] = []
    size = 0
    with ThreadPoolExecutor(1, "gzip") as compressor:
        last: Future[bytes] | None = None
        for chunk in _chunks(texts):
            size += len(chunk)
            if last:
                found.append(last.result())
            last = compressor.submit(member.compress, chunk)
        if last:
            found.append(last.result())
    found.append(member.flush())
    return [chunk for chunk in found if chunk], size


def _chunks(texts: Iterable[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    length = 0
    for text in texts:
        waiting.append(text)
        length += len(text)
        if length >= CHUNK:
            yield b"".join(waiting)
            waiting, length = [], 0
    yield b"".join(waiting)
