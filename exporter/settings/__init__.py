"""Every setting, once: its type, default, limits and meaning.

A setting has one name as flag, environment variable and TOML key: ``--usage.poll-interval`` is
``ANTHROPIC_EXPORTER_USAGE_POLL_INTERVAL`` is ``[usage] poll_interval``. A flag wins over the
environment, the environment over the file. Every error is one line that names the culprit as the
operator wrote it, and the remedy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.errors import SettingsError
from exporter.settings import values
from exporter.settings.options import Option
from exporter.settings.sources import KEY_FILE_VARIABLE, KEY_VARIABLE, PREFIX, Row, Sources, read, split_command, table

FOREIGN_POLL_INTERVAL = 60
"""The Admin API asks for one request a minute; only a loopback API is polled more often."""

Seconds = Annotated[float, Field(ge=1, le=366 * 86400, allow_inf_nan=False), BeforeValidator(values.number)]
Dollars = Annotated[Decimal, Field(ge=0)]
Words = Annotated[tuple[str, ...], BeforeValidator(values.words)]
FileName = Annotated[str, Field(min_length=1)]
Day = Annotated[date, BeforeValidator(values.day)]
BaseUrl = Annotated[str, AfterValidator(values.base_url)]
ListenAddress = Annotated[str, AfterValidator(values.listen_address)]
TelemetryPath = Annotated[str, AfterValidator(values.telemetry_path)]
WorkspaceIds = Annotated[Words, AfterValidator(values.no_default_workspace)]
Budgets = Annotated[dict[str, Dollars], BeforeValidator(values.amounts)]
Key = Annotated[SecretStr, AfterValidator(values.key)]


def _setting(default: Any, description: str) -> Any:
    return Field(default=default, description=description)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Config(_Section):
    """Where the settings are."""

    file: Path | None = _setting(None, "TOML file with settings")


class Api(_Section):
    """How the Admin API is reached."""

    base_url: BaseUrl = _setting("https://api.anthropic.com", "address of the Admin API; http:// on loopback only")
    timeout: Seconds = _setting(30.0, "seconds that one request may take")
    poll_deadline: Seconds = _setting(120.0, "seconds that one poll may take, retries included")


class Usage(_Section):
    """The usage report and its counters."""

    poll_interval: Seconds = _setting(60.0, "seconds between polls of the usage report, at least 60")
    settle: Seconds = _setting(300.0, "seconds that usage must be old before it counts; 1.5 poll intervals at least")
    hold: Seconds = _setting(150.0, "seconds that a new series is shown as 0; above twice the scrape interval")
    anchor: Day | None = _setting(None, "count from this UTC day on (YYYY-MM-DD), instead of from the first start")
    by_api_key: bool = _setting(True, "count usage and cost by API key, too (true or false)")
    api_key_poll_interval: Seconds = _setting(300.0, "seconds between polls of the usage by API key, at least 60")
    workspace_ids: WorkspaceIds = _setting(
        (), "count usage of these workspaces only, comma-separated; cost stays organisation-wide"
    )
    models: Words = _setting((), "count usage of these models only, comma-separated; cost stays organisation-wide")
    service_tiers: Words = _setting(
        (), "count usage of these service tiers only, comma-separated; cost stays organisation-wide"
    )


class Cost(_Section):
    """The cost report."""

    poll_interval: Seconds = _setting(3600.0, "seconds between polls of the cost report, at least 60")


class Names(_Section):
    """The names of workspaces, keys and the organisation."""

    poll_interval: Seconds = _setting(3600.0, "seconds between polls of workspace and key names, at least 60")


class Limits(_Section):
    """The rate limits."""

    poll_interval: Seconds = _setting(900.0, "seconds between polls of the rate limits, at least 60")


class Prices(_Section):
    """Prices that differ from the bill's and the list's."""

    file: Path | None = _setting(None, "TOML file with prices that override the bill's and the list's")


class Budget(_Section):
    """Monthly budgets."""

    monthly_usd: Dollars | None = _setting(None, "monthly budget of the organisation in USD")
    workspaces: Budgets = _setting({}, "monthly budgets of workspaces in USD: id=amount,...")


class Metrics(_Section):
    """What /metrics may hold."""

    max_series: int = Field(
        default=20000,
        ge=1,
        description="series per metric family before new ones fold into `other`",
    )


class State(_Section):
    """The state file."""

    path: FileName = _setting("./anthropic-exporter.db", "file that keeps the counters; :memory: for none")


class Web(_Section):
    """What the exporter serves."""

    listen_address: ListenAddress = _setting("127.0.0.1:10017", "host:port to serve on; :port means every interface")
    telemetry_path: TelemetryPath = _setting("/metrics", "path of the metrics")
    config_file: Path | None = _setting(None, "YAML file with TLS, users and headers, as exporter-toolkit has it")


class Demo(_Section):
    """The simulated organisation."""

    history: Path | None = _setting(None, "folder for the five weeks before a `demo`, written once, for promtool")


class Log(_Section):
    """Logging to standard error."""

    level: Literal["debug", "info", "warning", "error"] = _setting("info", "debug, info, warning or error")
    format: Literal["logfmt", "json"] = _setting("logfmt", "logfmt or json")


class Settings(BaseSettings):
    """All settings; made by ``load``, never changed."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        enable_decoding=False,
    )

    config: Config = Config()
    api: Api = Api()
    usage: Usage = Usage()
    cost: Cost = Cost()
    names: Names = Names()
    limits: Limits = Limits()
    prices: Prices = Prices()
    budget: Budget = Budget()
    metrics: Metrics = Metrics()
    state: State = State()
    web: Web = Web()
    demo: Demo = Demo()
    log: Log = Log()
    api_key: Key | None = Field(default=None, validation_alias=KEY_VARIABLE)
    api_key_file: Path | None = Field(default=None, validation_alias=KEY_FILE_VARIABLE)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed in only: ``load`` has merged the sources, to know who said what."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def rows() -> tuple[Row, ...]:
    """List every setting but the key, in declared order, for --help and the README's table."""
    return table(Settings)


def command(argv: Sequence[str], options: Iterable[Option] = ()) -> tuple[str | None, list[str]]:
    """Return the command, wherever it stands, and the arguments without it; some commands have ``options``."""
    return split_command(rows(), argv, options)


def load(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    today: date,
    defaults: Mapping[str, Any] | None = None,
    needs_key: bool = True,
    options: Iterable[Option] = (),
) -> Settings:
    """Read the settings from flags, environment and file; raise SettingsError for the first problem.

    ``defaults`` (by section) stand below all three. Without ``needs_key`` no key is looked at or kept. ``options`` are
    what else may be given, and was taken out of ``argv`` already.
    """
    secret = env.get(KEY_VARIABLE, "")
    if not needs_key:
        env = {name: value for name, value in env.items() if name not in {KEY_VARIABLE, KEY_FILE_VARIABLE}}
    try:
        sources = read(Settings, argv, env, defaults or {}, options)
    except SettingsError as error:
        problems = [str(error)]
    else:
        settings, invalid = _validated(sources)
        problems = [*sources.unknown, *invalid]
        if settings is not None:
            problems += [*_contradictions(settings, sources, today), *_key_problems(settings, needs_key=needs_key)]
            if not problems:
                return settings
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SettingsError(values.one_line(problems[0], secret) + more)


def _validated(sources: Sources) -> tuple[Settings | None, list[str]]:
    try:
        return Settings(**sources.nested()), []
    except ValidationError as error:
        return None, [_described(sources, detail) for detail in error.errors(include_url=False)]


def _described(sources: Sources, detail: ErrorDetails) -> str:
    name = ".".join(map(str, detail["loc"][:2]))
    reason = detail.get("ctx", {}).get("error", detail["msg"])
    remedy = values.REMEDIES.get(detail["type"]) or str(reason).replace("Input should", "it must")
    if name in {KEY_VARIABLE, KEY_FILE_VARIABLE}:
        return f"{name}: {remedy}"
    return _problem(sources, name, remedy)


def _problem(sources: Sources, name: str, remedy: str) -> str:
    return f"{sources.where(name)} is {values.shown(sources.values.get(name))}: {remedy}"


def _contradictions(settings: Settings, sources: Sources, today: date) -> Iterator[str]:
    """Check what no single setting can know."""
    if not values.is_loopback(settings.api.base_url):
        remedy = f"it must be at least {FOREIGN_POLL_INTERVAL} (less is for an API on loopback only)"
        names = [row.name for row in rows() if row.name.endswith("poll_interval")]
        quick = [name for name in names if _get(settings, name) < FOREIGN_POLL_INTERVAL]
        yield from (_problem(sources, name, remedy) for name in quick)
    if settings.usage.anchor is not None and settings.usage.anchor > today:
        yield _problem(sources, "usage.anchor", f"it must not be in the future; today is {today} (UTC)")


def _key_problems(settings: Settings, *, needs_key: bool) -> Iterator[str]:
    if settings.api_key is not None and settings.api_key_file is not None:
        yield f"{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set; remove one of them"
    elif settings.api_key_file is not None:
        problem = values.key_file_problem(settings.api_key_file)
        yield from [f"{KEY_FILE_VARIABLE} is {str(settings.api_key_file)!r}: {problem}"] if problem else []
    elif settings.api_key is None and needs_key:
        yield f"no key: set {KEY_VARIABLE}, or {KEY_FILE_VARIABLE} to a file that holds it"


def _get(settings: Settings, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(settings, section), key)
