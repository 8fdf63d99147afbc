"""Where price lists come from: the one that is shipped, and a file of the operator's own."""

from importlib import resources
from pathlib import Path

from exporter.errors import SettingsError
from exporter.money import pricelist
from exporter.money.pricelist import PriceList, PriceListError

SIZE_LIMIT = 1024 * 1024
"""Bytes of the largest file; the shipped list has some thousands."""


def shipped() -> PriceList:
    """Return the list prices as published."""
    return pricelist.parse(resources.files("exporter.money").joinpath("list_prices.toml").read_text("utf-8"))


def override(path: Path | None, base: PriceList) -> PriceList | None:
    """Read the operator's own prices, whose factors are ``base``'s where the file gives none; raise SettingsError."""
    if path is None:
        return None
    try:
        return pricelist.parse(_text(path), base=base)
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); give a file that the exporter's user may read"
    except UnicodeDecodeError:
        problem = "it is not UTF-8; save it as UTF-8"
    except PriceListError as error:
        problem = str(error)
    raise SettingsError(f"prices.file is {str(path)[:100]!r}: {problem}")


def _text(path: Path) -> str:
    # A pipe would be waited for, and a device never ends.
    if not path.is_file():
        there = "that is not a file" if path.exists() else "there is no such file"
        raise PriceListError("", there, "give the path of a TOML file that can be read")
    with path.open("rb") as file:
        content = file.read(SIZE_LIMIT + 1)
    if len(content) > SIZE_LIMIT:
        raise PriceListError("", "it is larger than 1 MiB", "give a file of prices only")
    return content.decode("utf-8-sig")
