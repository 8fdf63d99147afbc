"""How values look: units, colours and lines.

No colour depends on an amount of money, because what is much for one organisation is little for another.
"""

from collections.abc import Sequence
from typing import Any

NEUTRAL = ((None, "text"),)
USD, EXACT_USD, SHARE = "currencyUSD", "currency:financial:$", "percentunit"
COUNT, SECONDS, DAYS = "short", "s", "suffix: days"
BARS = {"drawStyle": "bars", "fillOpacity": 70}

Json = dict[str, Any]
Steps = Sequence[tuple[float | None, str]]
"""Colours by the value from which on they hold; the first one has no value."""

USED: Steps = ((None, "green"), (0.8, "orange"), (1.0, "red"))
"""How much of a budget is spent."""


def override(name: str, **properties: Any) -> Json:
    """Return what holds for the field called ``name`` only; ``custom_x`` stands for ``custom.x``."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key.replace("custom_", "custom."), "value": value} for key, value in properties.items()],
    }


def drawn(name: str, color: str, **style: Any) -> Json:
    """Return that the line called ``name`` has a colour of its own, and its style."""
    fixed = {"mode": "fixed", "fixedColor": color}
    return override(name, color=fixed, **{f"custom_{key}": value for key, value in style.items()})


def dashed(name: str, color: str) -> Json:
    """Return that the line called ``name`` is a plan or a limit, not a measurement."""
    return drawn(name, color, lineStyle={"fill": "dash", "dash": [8, 6]})


def band(low: str, high: str, color: str) -> list[Json]:
    """Return that what lies between the lines ``low`` and ``high`` is shaded, and they are not drawn."""
    hide = {"legend": True, "tooltip": False, "viz": False}
    return [
        drawn(low, color, lineWidth=0, hideFrom=hide),
        drawn(high, color, lineWidth=0, hideFrom=hide, fillOpacity=15, fillBelowTo=low),
    ]


def thresholds(steps: Steps) -> Json:
    """Return colours by value."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}


def coloured(steps: Steps) -> Json:
    """Return that the figures of a table's column have colours."""
    return {"custom_cellOptions": {"type": "color-text"}, "thresholds": thresholds(steps)}
