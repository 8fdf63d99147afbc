"""Whose usage is read: one organisation, for as long as a state file lives."""

import logging
from collections.abc import Callable

from exporter.errors import BadRequestError, OtherOrganizationError, PermissionDeniedError
from exporter.model import Bucket, Number, Organization, Window

logger = logging.getLogger(__name__)


class Identity:
    """The organisation that the counters belong to: ``known`` from the state, or else the first that is heard of.

    ``ask`` reads the key's organisation and ``key`` returns the key, which may change. ``where`` names the state, and
    ``abort`` hears of the one thing that nothing can mend: a key of another organisation.
    """

    def __init__(
        self,
        known: str | None,
        *,
        ask: Callable[[], Organization],
        key: Callable[[], str],
        where: str,
        abort: Callable[[OtherOrganizationError], None],
    ) -> None:
        self.known = known
        self._ask = ask
        self._key = key
        self._where = where
        self._abort = abort
        self._heard: tuple[str, str] | None = None
        self._checked: str | None = None

    def heard(self, organization_id: str | None) -> None:
        """Take note of whose data an answer says it is."""
        if organization_id:
            self._heard = self._key(), organization_id

    def guard(self, read: Callable[[Window], list[Bucket[Number]]]) -> Callable[[Window], list[Bucket[Number]]]:
        """Return ``read`` as it may be merged: never before the key is checked, never from another organisation."""

        def guarded(window: Window) -> list[Bucket[Number]]:
            self._check()
            found = read(window)
            self._check()
            return found

        return guarded

    def organization(self) -> Organization:
        """Return the key's organisation, which has to be the known one."""
        key = self._key()
        found = self._ask()
        self._compare(found.id, key)
        return found

    def _check(self) -> None:
        """Make sure of the key: by what was heard with it, else by asking, if there is something to compare with."""
        key = self._key()
        if self._heard and self._heard[0] == key:
            self._compare(self._heard[1], key)
        elif self.known is not None and self._checked != key:
            try:
                self.organization()
            except (PermissionDeniedError, BadRequestError) as error:
                logger.warning(
                    "the key may not tell its organisation; that it is the same one stays unchecked",
                    extra={"fields": {"error": str(error)}},
                )
                self._checked = key

    def _compare(self, organization_id: str, key: str) -> None:
        self.known = self.known or organization_id
        if organization_id != self.known:
            error = OtherOrganizationError(
                f"the state file {self._where} counts organisation {self.known}, but the key is of {organization_id}; "
                "use a key of that organisation, or choose another --state.path"
            )
            self._abort(error)
            raise error
        self._checked = key
