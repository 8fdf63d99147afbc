from typing import Any

import httpx
import pytest

from exporter.api.admin import AdminApi
from exporter.demo.faults import Fault, FaultKind
from exporter.errors import ApiError, BadResponseError, PermissionDeniedError
from exporter.model import RateLimits
from tests.unit.test_api_reports import ABSENT, SPOILED, Canned, Json, Simulated, client, only


def limit(value: object, word: object = "requests_per_minute") -> Json:
    return only({"type": word, "value": value})


def item(**changes: object) -> Json:
    """Return a model group's limits as the API reference shows them."""
    shown = {
        "type": "rate_limit",
        "id": "rl_1",
        "group_type": "model_group",
        "group": {"id": "rlg_1", "type": "model_group", "display_name": "Claude Opus Active"},
        "models": ["claude-opus-5-5", "claude-opus-4-8"],
        "limits": [limit(4000), limit(2_000_000, "input_tokens_per_minute")],
    }
    return only(shown | changes)


def limits_page(*items: Json, following: object = None) -> Json:
    return only({"data": list(items), "next_page": following})


def limits(*items: Json) -> RateLimits:
    return Canned(limits_page(*items)).api.rate_limits()


def groups(*items: Json) -> set[str]:
    return {group for group, _ in limits(*items).values}


class SmallPages(httpx.BaseTransport):
    """The simulated API where each page holds ``entries`` whatever is asked for."""

    def __init__(self, world: Simulated, entries: int) -> None:
        self._entries = entries
        self._inner = httpx.WSGITransport(app=world.server)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_set_param("limit", self._entries)
        return self._inner.handle_request(request)


def cut(world: Simulated, entries: int) -> AdminApi:
    return AdminApi(client(SmallPages(world, entries)), retry=False)


# --- what is asked for, and pages


def test_rate_limits_are_asked_for_all_at_once() -> None:
    canned = Canned(limits_page(item()))
    canned.api.rate_limits()
    assert canned.paths == ["/v1/organizations/rate_limits"]
    assert canned.asked[0].multi_items() == []


def test_rate_limits_are_those_of_the_organisation() -> None:
    world = Simulated()
    found = world.api.rate_limits()
    assert found.values["rlg_claude_opus", "input_tokens_per_minute"] == 2_000_000
    assert found.values["batch", "enqueued_batch_requests"] == 500_000
    assert found.values["web_search", "requests_per_minute"] == 1800
    assert {group for group, _ in found.values} == {
        "rlg_claude_opus", "rlg_claude_sonnet", "rlg_claude_haiku", "rlg_claude_fable", "batch", "web_search",
    }  # fmt: skip
    assert {group for model, group in found.models if model == "claude-opus-4-8"} == {"rlg_claude_opus"}
    assert world.server.requests == {"rate_limits": 1}


@pytest.mark.parametrize(("entries", "requests"), [(1, 6), (2, 3), (4, 2), (5, 2), (6, 1), (1000, 1)])
def test_rate_limits_are_the_same_however_the_pages_are_cut(entries: int, requests: int) -> None:
    world = Simulated()
    assert cut(world, entries).rate_limits() == Simulated().api.rate_limits()
    assert world.server.requests["rate_limits"] == requests


def test_pages_of_rate_limits_are_followed_with_their_cursors() -> None:
    cursors = ["page_MjAy+/==", "2"]
    pages = [limits_page(item(group={"id": f"rlg_{cursor}"}), following=cursor) for cursor in cursors]
    canned = Canned(*pages, limits_page(item()))
    assert {group for group, _ in canned.api.rate_limits().values} == {"rlg_page_MjAy+/==", "rlg_2", "rlg_1"}
    assert [asked.multi_items() for asked in canned.asked] == [[], *([("page", cursor)] for cursor in cursors)]


@pytest.mark.parametrize("following", [None, "", ABSENT])
def test_rate_limits_end_where_no_page_is_named(following: object) -> None:
    canned = Canned(limits_page(item(), following=following))
    assert len(canned.api.rate_limits().values) == 2
    assert len(canned.asked) == 1


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"], ["a", "b", "b"]])
def test_a_repeated_cursor_of_rate_limits_is_an_error(cursors: list[str]) -> None:
    canned = Canned(*(limits_page(item(), following=cursor) for cursor in cursors), limits_page())
    with pytest.raises(BadResponseError, match=r"rate_limits: .*cursor"):
        canned.api.rate_limits()
    assert len(canned.asked) == len(cursors)


def test_endless_rate_limits_are_an_error() -> None:
    canned = Canned(*(limits_page(following=str(number)) for number in range(2000)))
    with pytest.raises(BadResponseError, match="more than"):
        canned.api.rate_limits()
    assert len(canned.asked) <= 1000


BREAKING = [(kind, error) for kind, error in SPOILED if kind != "missing_next_page"]


@pytest.mark.parametrize(("kind", "error"), BREAKING)
@pytest.mark.parametrize("after_pages", [0, 1])
def test_rate_limits_that_cannot_be_read_to_the_end_are_an_error_and_the_next_read_is_whole(
    after_pages: int, kind: FaultKind, error: type[ApiError]
) -> None:
    world = Simulated()
    api = cut(world, 2)
    fault = Fault(kind=kind, endpoint="rate_limits", after_pages=after_pages)
    world.server.faults.add(fault)
    with pytest.raises(error):
        api.rate_limits()
    assert world.server.requests["rate_limits"] > after_pages
    world.server.faults.clear()
    assert api.rate_limits() == Simulated().api.rate_limits()


def test_a_key_that_may_not_read_rate_limits_is_told_so() -> None:
    with pytest.raises(PermissionDeniedError, match=r"^rate_limits: "):
        Canned(403).api.rate_limits()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"data": [', b"<!DOCTYPE html><html></html>", b"upstream connect error", b"null", b"[]", b"{}",
     b'{"data": null}', b'{"data": {}}', b'{"data": [1]}', b'{"data": [[]]}', b'{"data": ["x"]}', b"\xff\xfe",
     b'{"data": [], "next_page": 1}', b'{"data": []} trailing', b'{"data": [{"group": []}]}',
     b'{"data": [{"group": "batch"}]}', b'{"data": [{"id": 1}]}', b'{"data": [{"group_type": true}]}',
     b'{"data": [{"models": "claude"}]}', b'{"data": [{"models": [1]}]}', b'{"data": [{"limits": {}}]}',
     b'{"data": [{"limits": [1]}]}', b'{"data": [{"limits": [{"type": 1}]}]}', b'{"data": [{"id": "\xff"}]}'],
)  # fmt: skip
def test_what_is_not_the_shape_of_rate_limits_is_an_error(body: bytes) -> None:
    with pytest.raises(BadResponseError, match=r"^rate_limits: ") as caught:
        Canned(body).api.rate_limits()
    assert "\n" not in str(caught.value)


# --- groups


def test_a_model_group_is_called_by_its_id_and_says_which_models_it_is_for() -> None:
    found = limits(item())
    assert found.values == {
        ("rlg_1", "requests_per_minute"): 4000,
        ("rlg_1", "input_tokens_per_minute"): 2_000_000,
    }
    assert list(found.models) == [("claude-opus-5-5", "rlg_1"), ("claude-opus-4-8", "rlg_1")]


def test_another_display_name_changes_nothing() -> None:
    renamed = {"id": "rlg_1", "type": "model_group", "display_name": "Claude Opus 5.x"}
    assert limits(item(group=renamed)) == limits(item())


@pytest.mark.parametrize("word", ["batch", "files", "skills", "token_count", "web_search", "teleport"])
def test_any_other_group_is_called_by_its_type(word: str) -> None:
    other = item(group_type=word, group={"id": f"rlg_{word}", "type": word}, models=None)
    found = limits(other)
    assert {group for group, _ in found.values} == {word}
    assert not found.models


NAMELESS: list[Any] = [None, "", ABSENT]


@pytest.mark.parametrize("nothing", NAMELESS)
@pytest.mark.parametrize("word", ["batch", "model_group"])
def test_either_place_of_the_type_is_enough(word: str, nothing: object) -> None:
    name = "rlg_1" if word == "model_group" else word
    assert groups(item(group_type=nothing, group={"id": "rlg_1", "type": word})) == {name}
    assert groups(item(group_type=word, group=only({"id": "rlg_1", "type": nothing}))) == {name}


def test_the_newer_place_of_the_type_decides() -> None:
    assert groups(item(group_type="batch", group={"id": "rlg_1", "type": "files"})) == {"files"}


@pytest.mark.parametrize("nothing", NAMELESS)
def test_a_group_without_a_type_is_called_by_its_id(nothing: object) -> None:
    group = only({"id": "rlg_1", "type": nothing})
    assert groups(item(group_type=nothing, group=group)) == {"rlg_1"}


@pytest.mark.parametrize("group", [None, ABSENT, {}, {"id": None}, {"id": ""}, {"type": "model_group"}])
@pytest.mark.parametrize("group_type", ["model_group", None, ABSENT])
def test_a_group_without_an_id_is_called_by_that_of_its_entry(group_type: object, group: object) -> None:
    assert groups(item(group_type=group_type, group=group)) == {"rl_1"}


@pytest.mark.parametrize("nothing", NAMELESS)
def test_a_group_without_any_name_is_left_out(nothing: object) -> None:
    nameless = item(id=nothing, group_type=ABSENT, group=ABSENT)
    assert limits(nameless, item()) == limits(item())


# --- limits and models


def test_unknown_fields_and_types_of_limits_pass() -> None:
    new = limit(7, "dreams_per_night") | {"org_limit": None, "burst": {"value": 1}}
    assert limits(item(limits=[new], created_at=5)).values == {("rlg_1", "dreams_per_night"): 7}


@pytest.mark.parametrize(("value", "whole"), [(0, 0), (1, 1), (5.0, 5), (1e6, 1_000_000), (2**63 - 1, 2**63 - 1)])
def test_a_whole_number_is_a_limit(value: object, whole: int) -> None:
    found = limits(item(limits=[limit(value)])).values
    assert found == {("rlg_1", "requests_per_minute"): whole}
    assert all(type(figure) is int for figure in found.values())


@pytest.mark.parametrize(
    "value",
    [None, ABSENT, 1.5, True, False, "4000", "unlimited", [], [1], {}, {"value": 1}, -1, -5.0, 2**63, 1e300, 10**400],
)
def test_a_limit_that_is_no_whole_number_is_left_out(value: object) -> None:
    found = limits(item(limits=[limit(value), limit(5, "output_tokens_per_minute")]))
    assert found.values == {("rlg_1", "output_tokens_per_minute"): 5}
    assert found.models


@pytest.mark.parametrize("nothing", NAMELESS)
def test_a_limit_without_a_type_is_left_out(nothing: object) -> None:
    assert not limits(item(limits=[limit(4000, nothing)])).values


@pytest.mark.parametrize("nothing", [None, [], ABSENT])
def test_a_group_may_have_no_limits_or_no_models(nothing: object) -> None:
    assert limits(item(limits=nothing)) == RateLimits({}, limits(item()).models)
    assert limits(item(models=nothing)) == RateLimits(limits(item()).values, ())
    assert limits(item(models=[None, ""])) == limits(item(models=nothing))


def test_a_group_that_the_list_holds_twice_comes_once() -> None:
    assert limits(item(), item()) == limits(item())


def test_of_two_values_for_a_limit_the_smaller_one_counts() -> None:
    entries = [item(limits=[limit(value)]) for value in (3, 2, 4)]
    assert limits(*entries) == limits(*reversed(entries)) == limits(entries[1])
