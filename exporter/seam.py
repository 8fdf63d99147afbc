"""Where the live counters begin, and with what: what the state file tells to those who write the time before."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.counters import check_anchor, scope
from exporter.dates import moment
from exporter.errors import OtherOrganizationError, SettingsError
from exporter.ledger.codec import MONEY
from exporter.ledger.place import MEMORY, Place
from exporter.ledger.schema import look
from exporter.ledger.state import check_scope
from exporter.model import Organization
from exporter.settings import Settings


@dataclass(frozen=True, slots=True)
class Seam:
    """The usage time ``anchor`` (Unix seconds) at which the live counters begin.

    Counters that reach back are 0 at the usage time ``since``, which is None if none do. ``models`` are the names that
    were decided on for models that the bill calls otherwise.
    """

    path: str
    anchor: int
    since: int | None
    organization: str | None
    models: Mapping[str, str]

    def check(self, organization: Organization | None) -> None:
        """Raise OtherOrganizationError if the key is of another organisation than the state; None is not known."""
        if organization and self.organization and organization.id != self.organization:
            raise OtherOrganizationError(
                f"the state file {self.path} counts organisation {self.organization}, but the key is of "
                f"{organization.id}; use a key of that organisation, or choose another --state.path"
            )

    def check_first(self, first: int, settled: int) -> None:
        """Raise SettingsError if history cannot begin at ``first``, where usage shows ``settled`` seconds after it."""
        if self.since is not None and first < self.since:
            raise SettingsError(
                f"--from is before {moment(self.since)}, where the counters are 0; begin there, or later"
            )
        if first + settled >= self.anchor:
            raise SettingsError(f"the live counters begin at {moment(self.anchor)}; choose an earlier day as --from")


def find(settings: Settings) -> Seam:
    """Read the state file, whoever writes it meanwhile; raise SettingsError if it does not go with the settings."""
    path = Place(settings.state.path).path
    remedy = "start the exporter first, with the same settings, and let it poll once: history ends where it begins"
    if path == MEMORY:
        raise SettingsError("state.path is ':memory:', which nobody else can read; give the exporter a file")
    if not Path(path).is_file():
        raise SettingsError(f"state.path is {settings.state.path!r}: there is no such file; {remedy}")
    notes, ledgers, _ = look(path)
    if not {"usage", "estimate"} <= ledgers.keys():
        raise SettingsError(f"the state file {path} does not count anything yet; {remedy}")
    check_scope(path, notes.get("scope", {}), scope(settings))
    usage, anchor = ledgers["usage"].anchor, ledgers["estimate"].anchor
    check_anchor(settings, "usage", usage, path)
    models = notes.get(f"{MONEY}models", {})
    return Seam(path, anchor, usage if usage < anchor else None, notes.get("organization"), models)
