"""From the wire's rate limits to the domain's; pure."""

from collections.abc import Iterable, Iterator

from exporter.api.wire import RateLimitGroup, RateLimitItem
from exporter.model import RateLimits

MODEL_GROUP = "model_group"
MOST = 2**63 - 1


def limits_of(items: Iterable[RateLimitItem]) -> RateLimits:
    """Return the limits by group and type.

    What has no name, or is no whole number from 0 to ``MOST``, is left out. Of two values for the same limit the
    smaller one counts: it is reached first.
    """
    values: dict[tuple[str, str], int] = {}
    models: dict[tuple[str, str], None] = {}
    for item in items:
        if group := _group_of(item):
            models |= {(model, group): None for model in item.models or () if model}
            for limit, value in _values(item):
                values[group, limit] = min(value, values.get((group, limit), value))
    return RateLimits(values, tuple(models))


def _group_of(item: RateLimitItem) -> str | None:
    """Return what a group is called: by its id if it is of models, or if nobody tells what it is of; else by its type.

    Never by its display name: that may change, and a series must not end with it.
    """
    group = item.group or RateLimitGroup()
    kind = group.type or item.group_type or MODEL_GROUP
    return (group.id or item.id) if kind == MODEL_GROUP else kind


def _values(item: RateLimitItem) -> Iterator[tuple[str, int]]:
    """Yield the item's limit types and their values."""
    for limit in item.limits or ():
        value = _whole(limit.value)
        if limit.type and value is not None:
            yield limit.type, value


def _whole(value: object) -> int | None:
    # A number below 0 would stand for something else, such as no limit; one of hundreds of digits breaks a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        return None
    return int(value) if value == int(value) else None
