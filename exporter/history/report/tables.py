"""A report for people: tables of short text."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from exporter.history.report.document import day, month
from exporter.history.report.spending import RECENT, Cost
from exporter.history.report.summary import About, Move, Part, Summary, Used, added, moves, total
from exporter.model import DAY

MOST_DAYS = 62
"""Days that are shown one by one; more of them are shown by the month."""
MOST_PARTS = 15
MOST_MOVES = 10

KINDS = {"models": "model", "workspaces": "workspace", "api_keys": "API key"}
UNITS = (" ", " K", " M", " B", " T")


class Table(NamedTuple):
    """A table, of figures but for its first column; figures of ``signed`` columns begin with their sign.

    ``note`` explains the figures; without rows, why there are none.
    """

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    total: Sequence[str] = ()
    signed: Collection[str] = ()
    note: str = ""


def headline(about: About) -> str:
    """Return what the report is about, in a line."""
    whose = about.organization.name if about.organization else "Organisation"
    first, last = day(about.start), day(about.end - DAY)
    running = "; the last one is not over" if about.end > about.now else ""
    return plain(f"{whose}: usage and cost, {first} to {last} (UTC days{running})")


def filters(about: About) -> str:
    """Return what narrows usage down, in a line, or nothing."""
    found = "; ".join(f"{name} {', '.join(values)}" for name, values in about.filters.items())
    return plain(f"Usage is of {found} only; cost is of the whole organisation") if found else ""


def tables(about: About, summary: Summary) -> Iterator[Table]:
    """Yield the tables."""
    yield _days(summary)
    if summary.cost is None:
        yield Table("Cost", note=about.missing.get("cost", ""))
    else:
        yield _cost(summary.cost, about.budget)
        yield _cost_types(summary.cost)
    for kind, parts in summary.parts.items():
        title = f"By {KINDS[kind]}"
        yield Table(title, note=about.missing.get(kind, "")) if parts is None else _parts(about, summary, kind, parts)
    for kind, parts in summary.parts.items():
        if parts is not None:
            yield _moves(about, kind, parts)
    for model, tokens in summary.unpriced.items():
        yield Table("Without a price", note=plain(f"{short(tokens)} tokens of {model} are in no estimate"))


def plain(text: str) -> str:
    """Return text as one line that does nothing to a terminal."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def short(count: int) -> str:
    """Return a count with three digits and its unit: 1.23 M."""
    size, unit = float(count), 0
    while abs(size) >= 999.5 and unit < len(UNITS) - 1:
        size, unit = size / 1000, unit + 1
    digits = 0 if not unit or abs(size) >= 99.95 else 1 if abs(size) >= 9.995 else 2
    return f"{size:.{digits}f}{UNITS[unit]}".rstrip()


def dollars(usd: Decimal) -> str:
    """Return USD with two decimals."""
    return f"{usd:z,.2f}"


def percent(ratio: float | None) -> str:
    """Return a part of 1."""
    return "-" if ratio is None else f"{ratio:.1%}"


def _days(summary: Summary) -> Table:
    by_month = len(summary.days) > MOST_DAYS
    periods: defaultdict[str, list[Used]] = defaultdict(list)
    for start, used in summary.days.items():
        periods[month(start) if by_month else day(start)].append(used)
    what = "month" if by_month else "day"
    return Table(
        f"Usage by {what} (tokens)",
        (what, "input", "cache read", "cache write", "output", "total", "cached", "searches"),
        [_usage(name, total(used)) for name, used in periods.items()],
        _usage("total", summary.total),
        note="input: neither read from a cache nor written to one; cached: part of all input that a cache had",
    )


def _usage(name: str, used: Used) -> Sequence[str]:
    counts = (used.uncached_input, used.cache_read, used.cache_creation, used.output, used.tokens)
    return (name, *map(short, counts), percent(used.cache_efficiency), f"{used.web_searches:,}")


def _cost(cost: Cost, budget: Decimal | None) -> Table:
    this, previous = cost.month, cost.previous
    lines = [
        (f"billed, {cost.billed_days} of {cost.finished} days", cost.billed),
        ("average of a billed day", cost.average or Decimal(0)),
        (f"{month(this.start)} so far", this.so_far),
        (f"  billed, {_count(this.billed_days)}", this.billed),
        (f"  estimated, {_count(this.estimated_days)} not billed yet", this.estimated),
        (f"{month(this.start)} forecast", cost.forecast),
        (f"{month(previous.start)} billed, {previous.billed_days} of {previous.days} days", previous.billed),
    ]
    rows: list[tuple[str, ...]] = [(what, dollars(usd)) for what, usd in lines]
    if budget:
        ratios = {2: this.so_far / budget, 5: cost.forecast / budget}
        rows = [(*row, percent(float(ratios[place])) if place in ratios else "") for place, row in enumerate(rows)]
        rows.append(("monthly budget", dollars(budget), ""))
    recent = f"the last {cost.recent} days'" if cost.recent < RECENT else "last week's"
    forecast = f"so far + {recent} average of {dollars(cost.daily)} x {cost.days_left:.1f} days left"
    return Table("Cost", ("UTC days", "USD", "of budget")[: len(rows[0])], rows, note=f"forecast: {forecast}")


def _count(days: int) -> str:
    return f"{days} day" if days == 1 else f"{days} days"


def _cost_types(cost: Cost) -> Table:
    found = sorted(cost.by_type.items(), key=lambda line: -line[1])
    rows = [(plain(word), dollars(usd), _share(usd, cost.billed)) for word, usd in found]
    return Table("Cost by type", ("type", "billed USD", "share"), rows, ("total", dollars(cost.billed), ""))


def _share(part: Decimal | int, whole: Decimal | int) -> str:
    return percent(float(part / whole) if whole else None)


def _parts(about: About, summary: Summary, kind: str, parts: Sequence[Part]) -> Table:
    parts = [part for part in parts if part.is_in]
    labels, tokens = _labels(about, [part.id for part in parts]), summary.total.tokens
    top = parts if len(parts) <= MOST_PARTS + 1 else parts[:MOST_PARTS]
    rest = parts[len(top) :]
    lines = [*top, added(rest, f"others ({len(rest)})")] if rest else top
    whole = added(parts, "total")
    return Table(
        f"By {KINDS[kind]}",
        (KINDS[kind], "tokens", "share", "cached", "estimated USD" if whole.billed is None else "billed USD"),
        [_part(labels.get(part.id, part.id), part, tokens) for part in lines],
        _part("total", whole, tokens),
        note=_told_apart(kind, whole) if parts else "nothing",
    )


def _told_apart(kind: str, whole: Part) -> str:
    is_told = kind == "models" and whole.billed is not None
    return "tools are billed without a model; estimates have web searches with their model" if is_told else ""


def _part(label: str, part: Part, tokens: int) -> Sequence[str]:
    used = part.used
    return label, short(used.tokens), _share(used.tokens, tokens), percent(used.cache_efficiency), dollars(part.usd)


def _labels(about: About, ids: Sequence[str]) -> Mapping[str, str]:
    """Return what to call each; a name that several have is followed by the id."""
    names = {id_: plain(about.name(id_)) for id_ in ids}
    times = Counter(names.values())
    return {id_: name if times[name] == 1 else f"{name} ({id_})" for id_, name in names.items()}


def _moves(about: About, kind: str, parts: Sequence[Part]) -> Table:
    unit, found = moves(parts)
    labels = _labels(about, [part.id for part in parts])
    what, write = ("estimated USD", dollars) if unit == "usd" else ("tokens", _short)
    return Table(
        f"Top movers, {what} by {KINDS[kind]}",
        (KINDS[kind], "before", "now", "change", "%"),
        [
            (labels[move.id], write(move.before), write(move.now), _signed(move, write(move.change)), _ratio(move))
            for move in found[:MOST_MOVES]
        ],
        signed=("change", "%"),
        note=_before(about) if found else "nothing changed",
    )


def _before(about: About) -> str:
    running = "; the last day now is not over" if about.end > about.now else ""
    return f"before: {day(2 * about.start - about.end)} to {day(about.start - DAY)}{running}"


def _short(tokens: Decimal) -> str:
    return short(int(tokens))


def _signed(move: Move, change: str) -> str:
    return f"+{change}" if move.change > 0 else change


def _ratio(move: Move) -> str:
    return "new" if move.ratio is None else f"{move.ratio:+.1%}"
