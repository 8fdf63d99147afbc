"""The ``check`` command: try each endpoint once, and say in plain words what was found."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

from exporter.api.admin import AdminApi
from exporter.api.client import Listener, Timing, Transport
from exporter.dates import day_of, moment
from exporter.errors import ApiError, AuthError, PermissionDeniedError, SettingsError
from exporter.model import DAY, HOUR, MINUTE, Bucket, Window
from exporter.money.budget import unknown_workspaces
from exporter.parts import new_api, new_credentials, new_money
from exporter.polling.windows import floor
from exporter.settings import Settings
from exporter.settings.values import one_line
from exporter.web.config import Door

Say = Callable[[str], None]


def check(
    settings: Settings, *, say: Say = print, timing: Timing | None = None, transport: Transport | None = None
) -> int:
    """Report on the key, on every endpoint and on the budgets; return 0 if all is well, else 1.

    Raise SettingsError for what ``serve`` would not start with.
    """
    timing = timing or Timing()
    credentials = new_credentials(settings)
    if not credentials.key().startswith("sk-ant-admin"):
        say("warning       the key does not begin with sk-ant-admin; the Admin API may refuse it")
    new_money(settings)
    if settings.web.config_file:
        Door(settings.web.config_file)
    api = replace(
        new_api(settings, credentials, timing, Listener(), lambda _field, _rows: None, transport), retry=False
    )
    say(f"API           {settings.api.base_url}")
    failed, findings = [], dict(_findings(api, settings, timing.clock()))
    for name, finding in findings.items():
        well, text = _tried(name, finding)
        # The API's words could break the line, or repeat the key.
        say(f"{name:<14}{one_line(text, credentials.current)}")
        if not well:
            failed.append(name)
    say(
        f"result        {len(failed)} of {len(findings)} checks failed: {', '.join(failed)}"
        if failed
        else "result        all is well"
    )
    return 1 if failed else 0


def _tried(name: str, finding: Callable[[], str]) -> tuple[bool, str]:
    """Return whether an endpoint answered, and what there is to say about it."""
    try:
        return True, finding()
    except AuthError as error:
        return False, f"FAILED: {error}; is this an Admin API key, and has it not expired?"
    except PermissionDeniedError as error:
        return False, f"MISSING PERMISSION: {error}; give the key the right to read {name}"
    except SettingsError as error:
        return False, f"FAILED: {error}"
    except ApiError as error:
        return False, f"FAILED ({error.reason}): {error}"


def _findings(api: AdminApi, settings: Settings, now: float) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "organization", lambda: _organization(api)
    yield "workspaces", lambda: _workspaces(api)
    yield "api_keys", lambda: _api_keys(api)
    yield "usage", lambda: _usage(api.usage, now)
    if settings.usage.by_api_key:
        yield "usage by key", lambda: _usage(api.api_key_usage, now)
    yield "cost", lambda: _cost(api, now)
    yield "rate_limits", lambda: _rate_limits(api)
    if settings.budget.workspaces:
        yield "budgets", lambda: _budgets(api, settings.budget.workspaces)


def _organization(api: AdminApi) -> str:
    found = api.organization()
    return f"{found.name} ({found.id})"


def _workspaces(api: AdminApi) -> str:
    found, _ = api.workspaces()
    states = Counter(workspace.state for workspace in found)
    return f"{len(found)} with the default one, {states['archived']} of them archived"


def _api_keys(api: AdminApi) -> str:
    found = api.api_keys((), None)
    states = Counter(key.status for key in found)
    return f"{len(found)}" + (
        f" ({', '.join(f'{count} {state}' for state, count in sorted(states.items()))})" if found else ""
    )


def _usage(read: Callable[[Window], list[Bucket[int]]], now: float) -> str:
    window = Window(MINUTE, floor(now - HOUR, MINUTE), floor(now, MINUTE) + MINUTE)
    used = {bucket.start: bucket.counts for bucket in read(window) if bucket.counts}
    if not used:
        return "readable; no usage in the last hour"
    newest = max(used)
    labels = {series.labels for counts in used.values() for series in counts}
    return f"newest minute with usage {moment(newest)}; {len(labels)} label sets in the last hour"


def _cost(api: AdminApi, now: float) -> str:
    today = floor(now, DAY)
    billed = api.cost(Window(DAY, today - 31 * DAY, today))
    if not billed:
        return "readable; no finished day has a bill in the last 31 days"
    newest = billed[-1]
    amount = sum(sum(counts) for counts in newest.counts.values())
    return f"newest finished day {day_of(newest.start)}, {amount:.2f} USD"


def _rate_limits(api: AdminApi) -> str:
    found = api.rate_limits()
    return f"{len(found.values)} of {len({group for group, _ in found.values})} groups"


def _budgets(api: AdminApi, budgets: Mapping[str, Decimal]) -> str:
    workspaces, _ = api.workspaces()
    if unknown := unknown_workspaces(budgets, workspaces):
        raise SettingsError(unknown)
    return f"{len(budgets)}, all for workspaces that exist"
