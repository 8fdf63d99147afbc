"""What a page is asked and answers, and the small pages."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar


class Request(NamedTuple):
    """What a page may want to know: the Accept header, the query's ``name[]``, and GET or HEAD."""

    accept: str
    names: frozenset[str]
    method: str


class Rendering(Protocol):
    """A body that was made once for all who asked: one gzip member in chunks, and the bytes that it holds."""

    @property
    def content_type(self) -> str: ...  # noqa: D102 - a field
    @property
    def gzip(self) -> Sequence[bytes]: ...  # noqa: D102 - a field
    @property
    def size(self) -> int: ...  # noqa: D102 - a field


R = TypeVar("R", bound=Rendering)


@dataclass(frozen=True)
class Answer:
    """``body`` None is that of a HEAD whose GET would have made a ``Rendering``."""

    content_type: str
    body: bytes | Rendering | None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[Request], Answer | Future[Answer]]
"""It never blocks: what takes longer returns a future."""


def plain(status: int, body: str, *headers: tuple[str, str]) -> Answer:
    """Return an answer of plain text."""
    return Answer("text/plain; charset=utf-8", body.encode(), status, headers)


def text(body: str, content_type: str = "text/plain") -> Page:
    """Return a page that always answers the same."""
    answer = Answer(f"{content_type}; charset=utf-8", body.encode())
    return lambda _request: answer


def health(alive: Callable[[], bool]) -> Page:
    """Return the page that says whether the process and its schedule are alive; it says nothing of the API."""
    return lambda _request: plain(200, "Healthy.\n") if alive() else plain(503, "Polls have stopped.\n")


def ready() -> Page:
    """Return the page that says that we listen."""
    return text("Ready.\n")


def metrics(scrape: Callable[[str, frozenset[str]], Future[R]], content_type: Callable[[str], str]) -> Page:
    """Return the page of what ``scrape`` renders; for HEAD, nothing is rendered."""

    def page(request: Request) -> Answer | Future[Answer]:
        if request.method == "HEAD":
            return Answer(content_type(request.accept), None)
        return _then(scrape(request.accept, request.names), lambda made: Answer(made.content_type, made))

    return page


def _then(made: Future[R], wrap: Callable[[R], Answer]) -> Future[Answer]:
    answer: Future[Answer] = Future()

    def pass_on(done: Future[R]) -> None:
        try:
            answer.set_result(wrap(done.result()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's to handle
            answer.set_exception(error)

    made.add_done_callback(pass_on)
    return answer
