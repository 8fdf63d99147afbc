"""List prices, or an operator's own: dated prices by exact model id, and factors; ``list_prices.toml`` shows how."""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, DecimalException
from typing import Any, NamedTuple

from exporter.families import SERVER_TOOLS, TOKEN_TYPES
from exporter.model import DAY, NOT_APPLICABLE, PriceKey

DIMENSIONS = ("service_tier", "context_window", "inference_geo", "speed")

_NO_GUESS = ("service_tier", "speed")
"""Their values differ by half or double, so that one without a factor has no price."""

_PLAIN = ("standard", NOT_APPLICABLE)
_EVERY_MODEL = ""
_FINEST = Decimal("1e-12")
_DATE_SUFFIX = re.compile(r"-20[0-9]{6}\Z")
_WORDS = {dict: "a table", list: "a list", type(None): "missing"}

_Table = dict[str, Any]
_Factors = Mapping[tuple[str, str], Mapping[str, Decimal]]


class PriceListError(ValueError):
    """A price list cannot be used; the message is one line that names the culprit and the remedy."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"{where}{where and ': '}{problem}; {remedy}")


class Rate(NamedTuple):
    """USD for one token or request, from ``since`` (Unix seconds) on, for these values of dimensions only."""

    usd: Decimal
    since: int
    only: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PriceList:
    """Rates of tokens by model id and token type and of requests by tool, those that win first.

    ``factors`` are by dimension and value, then by model id; an empty id stands for every other model. ``checked`` is
    the day on which somebody compared the list with its source.
    """

    tokens: Mapping[str, Mapping[str, Collection[Rate]]]
    requests: Mapping[str, Collection[Rate]]
    factors: _Factors
    checked: date | None

    def usd_per_token(self, key: PriceKey, day: int, **further: str) -> Decimal | None:
        """Return the exact USD for one token on a UTC day (Unix seconds of its start), or None if none is listed.

        ``further`` are values of dimensions that the key lacks. A geography or context window without a factor costs
        what any other does; a tier or speed without one has no price.
        """
        rates = next((self.tokens[name] for name in _names(key.model) if name in self.tokens), {})
        asked = key._asdict() | further
        rate = _first(rates.get(key.token_type, ()), day, asked)
        if rate is None:
            return None
        usd = rate.usd
        for dimension in DIMENSIONS:
            if dimension in asked and dimension not in rate.only:
                factor = self._factor(dimension, asked[dimension], key.model)
                if factor is None:
                    return None
                usd *= factor
        return usd

    def usd_per_request(self, tool: str, day: int) -> Decimal | None:
        """Return the USD for one request of a server tool on a UTC day, or None if none is listed."""
        rate = _first(self.requests.get(tool, ()), day, {})
        return None if rate is None else rate.usd

    def _factor(self, dimension: str, value: str, model: str) -> Decimal | None:
        by_model = self.factors.get((dimension, value), {})
        for name in (*_names(model), _EVERY_MODEL):
            if name in by_model:
                return by_model[name]
        return Decimal(1) if value in _PLAIN or dimension not in _NO_GUESS else None


def parse(text: str, *, base: PriceList | None = None) -> PriceList:
    """Read a price list; raise ``PriceListError``.

    Without ``base`` every entry must have all five token types. With it a list has the prices that are written in it
    and no others, but ``base``'s factors for the values of dimensions that it gives none of its own.
    """
    content = _loaded(text)
    _refuse_unknown("", content, ("checked", "source", "factor", "request", "model"))
    tokens = _tokens(content, whole=base is None)
    requests: dict[str, list[Rate]] = {}
    for where, entry in _entries(content, "request"):
        _refuse_unknown(where, entry, ("since", *SERVER_TOOLS))
        _add(where, _rates(where, entry, SERVER_TOOLS, 1), requests)
    if not tokens and not requests:
        raise PriceListError("", "it has no prices", "add a [[model]] or a [request] table")
    factors, inherited = _factors(content), base.factors if base else {}
    merged = {key: own if _EVERY_MODEL in own else {**inherited.get(key, {}), **own} for key, own in factors.items()}
    return PriceList(tokens, requests, {**inherited, **merged}, _day("", content, "checked"))


def _names(model: str) -> tuple[str, str]:
    return model, _DATE_SUFFIX.sub("", model)


def _first(rates: Iterable[Rate], day: int, asked: Mapping[str, str]) -> Rate | None:
    return next((rate for rate in rates if rate.since <= day and rate.only.items() <= asked.items()), None)


def _loaded(text: str) -> _Table:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        last = text.count("\n") + 1
        problem = str(error).replace("at end of document", f"at line {last}")
    except RecursionError:
        problem = "it is nested too deeply"
    except (ValueError, DecimalException):
        problem = "a number has too many digits"
    raise PriceListError("it is not valid TOML", problem, "correct it there")


def _tokens(content: _Table, *, whole: bool) -> dict[str, dict[str, list[Rate]]]:
    listed: dict[str, dict[str, list[Rate]]] = {}
    for number, entry in _entries(content, "model"):
        ids = _ids(number, entry)
        where = f"{number} ({ids[0]})"
        _refuse_unknown(where, entry, ("ids", "since", *DIMENSIONS, *TOKEN_TYPES))
        missing = [token_type for token_type in TOKEN_TYPES if token_type not in entry]
        if missing and (whole or len(missing) == len(TOKEN_TYPES)):
            raise _wrong(where, missing[0], None, "give its USD per million tokens")
        for model in ids:
            _add(where, _rates(where, entry, TOKEN_TYPES, 1_000_000), listed.setdefault(model, {}))
    return listed


def _rates(where: str, entry: _Table, kinds: Iterable[str], units: int) -> Iterator[tuple[str, Rate]]:
    """Yield an entry's rates; its prices are for so many units, one of which costs 1 USD at most."""
    since = _day(where, entry, "since") or date.min
    only = {dimension: entry[dimension] for dimension in DIMENSIONS if dimension in entry}
    for dimension, value in only.items():
        if not isinstance(value, str) or not value:
            raise _wrong(where, dimension, value, "write one value, in quotes, as the usage report does")
    for kind in kinds:
        if kind in entry:
            usd = _number(where, kind, entry[kind], units) / units
            yield kind, Rate(usd, (since - date(1970, 1, 1)).days * DAY, only)


def _add(where: str, rates: Iterable[tuple[str, Rate]], listed: dict[str, list[Rate]]) -> None:
    for kind, rate in rates:
        known = listed.setdefault(kind, [])
        if any((other.since, other.only) == (rate.since, rate.only) for other in known):
            raise PriceListError(where, f"{kind} is listed before for the same days", "remove it or change its since")
        known.append(rate)
        known.sort(key=lambda rate: (len(rate.only), rate.since), reverse=True)


def _factors(content: _Table) -> dict[tuple[str, str], dict[str, Decimal]]:
    dimensions = _table("factor", content.get("factor", {}))
    _refuse_unknown("factor", dimensions, DIMENSIONS)
    factors: dict[tuple[str, str], dict[str, Decimal]] = {}
    for dimension, values in dimensions.items():
        for value, given in _table(f"factor.{dimension}", values).items():
            where = f"factor.{dimension}, {value[:60]!r}"
            by_model = given if isinstance(given, dict) else {_EVERY_MODEL: given}
            factors[dimension, value] = {
                model: _number(where, repr(model[:60]) if model else "the factor", factor, 1000, Decimal("0.001"))
                for model, factor in by_model.items()
            }
    return factors


def _ids(where: str, entry: _Table) -> list[str]:
    ids = entry.get("ids")
    if not isinstance(ids, list) or not ids:
        raise _wrong(where, "ids", ids or None, 'write them as a list, ids = ["MODEL", ...]')
    for model in ids:
        if not isinstance(model, str) or not re.fullmatch(r"[!-~]{1,200}", model):
            raise _wrong(where, "an id", model, "write the model's id as the usage report does")
    return ids


def _number(where: str, name: str, value: object, most: int, least: Decimal = Decimal(0)) -> Decimal:
    # A whole number is cut first: a huge one would take minutes to convert.
    number = Decimal(max(-1, min(value, most + 1))) if type(value) is int else value
    if isinstance(number, Decimal) and number.is_finite() and least <= number <= most:
        if number == number.quantize(_FINEST):
            return abs(number)
        raise _wrong(where, name, value, "leave out what is beyond 12 decimals")
    raise _wrong(where, name, value, f"write a number from {least} to {most}")


def _day(where: str, table: _Table, name: str) -> date | None:
    value = table.get(name)
    if isinstance(value, datetime) or not isinstance(value, date | None):
        raise _wrong(where, name, value, "write it as YYYY-MM-DD, without quotes")
    return value


def _table(name: str, value: object) -> _Table:
    if not isinstance(value, dict):
        raise _wrong("", name, value, "write it as a table")
    return value


def _entries(content: _Table, name: str) -> Iterator[tuple[str, _Table]]:
    found = content.get(name, [])
    entries = [found] if name == "request" and isinstance(found, dict) else found
    if not isinstance(entries, list):
        raise _wrong("", name, found, f"write it as [[{name}]] tables")
    for number, entry in enumerate(entries, 1):
        yield f"{name} {number}", _table(f"{name} {number}", entry)


def _refuse_unknown(where: str, table: _Table, known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            nearest = difflib.get_close_matches(key[:60], known, n=1, cutoff=0.0)[0]
            raise PriceListError(where, f"{key[:60]!r} is not known", f"did you mean {nearest}?")


def _wrong(where: str, name: str, value: object, remedy: str) -> PriceListError:
    huge = isinstance(value, int) and value.bit_length() > 200
    words = "a huge number" if huge else _WORDS.get(type(value)) or str(value).lower()
    return PriceListError(where, f"{name} is {repr(value[:60]) if isinstance(value, str) else words[:60]}", remedy)
