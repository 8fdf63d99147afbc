"""PromQL taken apart: the selectors of an expression and the metrics they name."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql

from exporter.metrics.catalog import BY_NAME


def nodes(node: Any, *around: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield each part of a parsed expression with those that it is inside of, the outermost first."""
    yield node, around
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        found = getattr(node, name, None)
        for part in found if isinstance(found, list) else [found]:
            if part is not None:
                yield from nodes(part, *around, node)


def selectors(expr: str) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    for node, around in nodes(promql.parse(expr)):
        if isinstance(node, promql.VectorSelector):
            yield node, around


def metrics_of(selector: Any) -> set[str]:
    """Return the metrics that a selector names, a list of them in ``__name__`` included."""
    if selector.name:
        return {selector.name}
    return {name for match in selector.matchers.matchers if match.name == "__name__" for name in match.value.split("|")}


def family(name: str) -> str:
    found = re.sub(r"_(bucket|sum|count)$", "", name)
    return found if found in BY_NAME and BY_NAME[found].type == "histogram" else name
