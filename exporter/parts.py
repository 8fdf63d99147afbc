"""The parts that the settings describe, made by them: for the meter and for ``check``."""

from collections.abc import Callable

from exporter import pricefiles
from exporter.api.admin import AdminApi
from exporter.api.client import Client, Listener, Timing, Transport
from exporter.api.credentials import Credentials
from exporter.model import Report
from exporter.money.money import Filters, Money
from exporter.settings import Settings
from exporter.settings.values import is_loopback


def new_api(
    settings: Settings,
    credentials: Credentials,
    timing: Timing,
    listener: Listener,
    drift: Callable[[str, int], None],
    transport: Transport | None = None,
) -> AdminApi:
    """Return the Admin API as the settings describe it."""
    client = Client(
        settings.api.base_url,
        credentials,
        timeout=settings.api.timeout,
        listener=listener,
        timing=timing,
        transport=transport,
        direct=is_loopback(settings.api.base_url),
    )
    usage = settings.usage
    filters = {"workspace_ids[]": usage.workspace_ids, "models[]": usage.models, "service_tiers[]": usage.service_tiers}
    return AdminApi(client, filters, drift)


def new_credentials(settings: Settings) -> Credentials:
    """Return the key that the settings name."""
    return Credentials(settings.api_key.get_secret_value() if settings.api_key else None, settings.api_key_file)


def poll_interval(settings: Settings, report: Report) -> float:
    """Return the seconds between two polls of ``report``."""
    intervals: dict[Report, float] = {
        "usage": settings.usage.poll_interval,
        "api_key_usage": settings.usage.api_key_poll_interval,
        "cost": settings.cost.poll_interval,
        "names": settings.names.poll_interval,
        "limits": settings.limits.poll_interval,
    }
    return intervals[report]


def new_money(settings: Settings) -> Money:
    """Return money without any figures yet; raise SettingsError if the price file cannot be used."""
    listed = pricefiles.shipped()
    usage = settings.usage
    filters = Filters(usage.workspace_ids, usage.models, usage.service_tiers)
    return Money(listed, pricefiles.override(settings.prices.file, listed), filters)
