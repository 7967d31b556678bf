"""Settings: one class, read from the environment and `.env`. Units are in the names."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from reindexer import registry
from reindexer.core.breaker import BreakerPolicy
from reindexer.core.broker_url import REDIS_SCHEMES, BrokerUrl, read_broker_url
from reindexer.core.errors import UsageError
from reindexer.core.event import Bounds, SendingRules
from reindexer.core.price import PriceList, read_price_list
from reindexer.core.queues import DEFAULT_PREFIX, PREFIX_PATTERN, Names
from reindexer.core.retry import RetryPolicy
from reindexer.core.text.batching import RequestLimits
from reindexer.core.wording import refusal
from reindexer.ports import IndexConfig
from reindexer.postgres.connect import describe, first_line
from reindexer.running_stack import default_directory, reach_own_servers, running_stack
from reindexer.variables import renamed, require_usable_urls, unknown

PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]
Port = Annotated[int, Field(ge=1, le=65_535)]
DAY_S = 86_400
QDRANT = "qdrant"
"""The index that the settings QDRANT_… are for."""
Seconds = Annotated[float, Field(gt=0, le=DAY_S)]


FORMER_NAMES: Mapping[str, str] = {
    "REINDEXER_BELL": "REINDEXER_NOTIFY",
    "REINDEXER_TICK_S": "REINDEXER_POLL_INTERVAL_S",
    "REINDEXER_QUIET_S": "REINDEXER_IDLE_AFTER_S",
    "REINDEXER_WATCH_S": "REINDEXER_TRIGGER_CHECK_S",
    "REINDEXER_HEALING_MINUTE_S": "REINDEXER_RETRY_SCHEDULE_S",
    "REINDEXER_RECHECK_HOUR_S": "REINDEXER_RECHECK_SCHEDULE_S",
}
"""Today's name of a setting by its former one, which works for one release."""

FOR_TESTS = frozenset({"REINDEXER_RETRY_SCHEDULE_S", "REINDEXER_RECHECK_SCHEDULE_S"})
"""Settings that shorten hours to seconds. They are accepted, and not offered."""


def _renamed(name: str) -> AliasChoices:
    return AliasChoices(name, *(old for old, new in FORMER_NAMES.items() if new == name))


class Settings(BaseSettings):
    """Everything that can be set. Names without the prefix `REINDEXER_` are shared with other programs."""

    model_config = SettingsConfigDict(env_prefix="REINDEXER_", env_file=".env", extra="ignore", populate_by_name=True)

    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    listen_database_url: SecretStr | None = None
    postgres_timeout_s: Annotated[float, Field(ge=0.5, le=DAY_S)] = 20.0
    celery_broker_url: SecretStr | None = Field(default=None, validation_alias="CELERY_BROKER_URL")
    celery_result_backend: SecretStr | None = Field(default=None, validation_alias="CELERY_RESULT_BACKEND")
    result_expires_s: PositiveInt = 86_400
    redis_url: SecretStr | None = Field(default=None, validation_alias="REDIS_URL")
    broker_ca_file: Path | None = None
    prefix: str = DEFAULT_PREFIX

    qdrant_url: str | None = Field(default=None, validation_alias="QDRANT_URL")
    qdrant_api_key: SecretStr | None = Field(default=None, validation_alias="QDRANT_API_KEY")
    qdrant_grpc: bool = False
    qdrant_grpc_port: Port = 6334
    qdrant_timeout_s: Seconds = 10.0
    index: str = "qdrant"
    index_url: str | None = None
    index_api_key: SecretStr | None = None
    index_options: Annotated[dict[str, Any] | None, NoDecode] = None
    instance: str | None = None

    embedder: str | None = None
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    embedding_model: str | None = None
    embedding_dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    embedding_timeout_s: Seconds = 20.0
    embedding_max_inputs: PositiveInt = 2048
    embedding_max_tokens: PositiveInt = 300_000
    embedding_max_input_tokens: Annotated[int, Field(ge=16, le=2**31 - 1)] = 8192
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    price_per_million_tokens: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    prices: Path | None = None

    admin_api_key: SecretStr | None = None
    search_open: bool = False
    search_degrades: bool = True
    metrics_open: bool = True
    bulk_max_ids: PositiveInt = 1000

    max_retries: Annotated[int, Field(ge=0, le=1000)] = 3
    retry_base_s: Seconds = 1.0
    retry_max_s: Seconds = 60.0
    retry_schedule_s: Seconds = Field(default=60.0, validation_alias=_renamed("REINDEXER_RETRY_SCHEDULE_S"))
    recheck_schedule_s: Seconds = Field(default=3600.0, validation_alias=_renamed("REINDEXER_RECHECK_SCHEDULE_S"))

    batch_size: PositiveInt = 256
    claims_in_flight: Annotated[int, Field(ge=0, le=100)] = 2
    lease_s: Annotated[float, Field(ge=2, le=300)] = 60.0
    max_messages: PositiveInt = 16
    notify: Literal["auto", "on", "off"] = Field(default="auto", validation_alias=_renamed("REINDEXER_NOTIFY"))
    poll_interval_s: Seconds = Field(default=0.005, validation_alias=_renamed("REINDEXER_POLL_INTERVAL_S"))
    idle_after_s: Seconds = Field(default=0.05, validation_alias=_renamed("REINDEXER_IDLE_AFTER_S"))
    trigger_check_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=10.0, validation_alias=_renamed("REINDEXER_TRIGGER_CHECK_S")
    )

    events_max: PositiveInt = 100_000
    events_keep_s: Annotated[float, Field(gt=0, le=366 * DAY_S)] = 3 * DAY_S
    events_timeout_s: Seconds = 10.0
    events_retry_max_s: Seconds = 300.0

    standby_for_s: Annotated[float, Field(gt=0, le=366 * DAY_S)] = DAY_S
    sources: Path | None = None
    data_dir: Path | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] = "console"

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: Any) -> Any:
        """`NAME=` in an environment file means "not set"."""
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("holds bytes that are not UTF-8")
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator("index_options", mode="before")
    @classmethod
    def _options_are_json(cls, value: Any) -> Any:
        try:
            value = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            value = ""
        if value is not None and not isinstance(value, dict):
            raise ValueError('is no JSON object, like {"table": "vectors"}')
        return value

    @field_validator("embedder", "index")
    @classmethod
    def _plugin_is_known(cls, value: str | None, info: Any) -> str | None:
        """A built-in one is known without a search for others."""
        if value is not None:
            try:
                (registry.INDEXES if info.field_name == "index" else registry.EMBEDDERS).require(value)
            except UsageError as exc:
                raise ValueError(str(exc)) from None
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix_is_fit(cls, value: str) -> str:
        if not PREFIX_PATTERN.fullmatch(value):
            raise ValueError("letters, digits, dots, hyphens and underscores, 100 at most")
        return value

    @classmethod
    def load(cls) -> Settings:
        """Read the environment. If it names neither broker nor Qdrant, or names the database of a running `up`, the
        settings that it leaves open come from that `up`.

        Raises UsageError that names the setting.
        """
        settings = cls.from_environment()
        if not settings.database_url and (settings.celery_broker_url or settings.qdrant_url):
            return settings
        running = running_stack(settings.data_dir or default_directory())
        if not running or not _is_of(settings.database_url, running):
            return settings
        reach_own_servers(postgres=running.get("postgres") == "embedded")
        return settings.model_copy(update=_found(settings, running))

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment alone. Raises UsageError that names the setting."""
        try:
            settings = cls()
        except ValidationError as exc:
            first = exc.errors()[0]
            name = str(first["loc"][0])
            name = name if name.isupper() else f"REINDEXER_{name.upper()}"
            raise UsageError(f"{name}: {refusal(first)}") from None
        except (OSError, UnicodeError) as exc:
            raise UsageError(f"the file .env can't be read: {type(exc).__name__}; it is text in UTF-8") from None
        settings._require_usable_urls()  # guard settings-url-validation
        settings.price_list  # noqa: B018  a wrong file is told at the start
        return settings

    def _require_usable_urls(self) -> None:
        urls: dict[str, SecretStr | str | None] = {
            "DATABASE_URL": self.database_url,
            "REINDEXER_LISTEN_DATABASE_URL": self.listen_database_url,
            "CELERY_BROKER_URL": self.celery_broker_url,
            "CELERY_RESULT_BACKEND": self.celery_result_backend,
            "REDIS_URL": self.redis_url,
            "QDRANT_URL": self.qdrant_url,
            "OPENAI_BASE_URL": self.openai_base_url,
        }
        given = {name: value for name, value in urls.items() if value is not None}
        require_usable_urls({n: v.get_secret_value() if isinstance(v, SecretStr) else v for n, v in given.items()})
        for read in (self.broker, self.result_backend, self.rate_limiter_server):
            for key, path in (read.tls if read else {}).items():
                if key in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not Path(path).is_file():
                    raise UsageError(f"there is no file {path}, which {key} or REINDEXER_BROKER_CA_FILE names")

    @classmethod
    def variables(cls) -> frozenset[str]:
        """Every variable that is read under its name of today."""
        aliases = [each.validation_alias for each in cls.model_fields.values()]
        shared = {each for each in aliases if isinstance(each, str)}
        return frozenset(shared | {f"REINDEXER_{name.upper()}" for name in cls.model_fields})

    @classmethod
    def unknown_variables(cls) -> list[str]:
        """A line for each variable that looks like a setting and is none. A process logs them once, at its start."""
        return [
            *unknown(cls.variables() - FOR_TESTS, ignored=FOR_TESTS | FORMER_NAMES.keys()),
            *renamed(FORMER_NAMES),
        ]

    @property
    def embedder_name(self) -> str | None:
        """The embedder that is set, else `openai` where there is a key; None: no embedder is set."""
        return self.embedder or ("openai" if self.openai_api_key else None)  # guard embedder-explicit-choice

    def require_embedder(self) -> str:
        """The embedder, or UsageError: a guessed embedder would make vectors that mean something else."""
        if self.embedder_name is None:
            raise UsageError(
                "no embedder is set: give this process what the workers have, OPENAI_API_KEY, or OPENAI_BASE_URL and "
                "REINDEXER_EMBEDDER=openai for a server without a key; to try without any, REINDEXER_EMBEDDER=static"
            )
        return self.embedder_name

    @property
    def request_limits(self) -> RequestLimits:
        """The limits of one request to the provider."""
        return RequestLimits(self.embedding_max_inputs, self.embedding_max_tokens, self.embedding_max_input_tokens)

    @property
    def price_list(self) -> PriceList:
        """The prices of a user's own file. Raises UsageError."""
        return _price_list(self.prices) if self.prices else PriceList()

    @property
    def retry_policy(self) -> RetryPolicy:
        """When failed items are retried."""
        return RetryPolicy(
            self.max_retries, self.retry_base_s, self.retry_max_s, self.retry_schedule_s, self.recheck_schedule_s
        )

    @property
    def sending_rules(self) -> SendingRules:
        """How events are sent."""
        return SendingRules(
            Bounds(self.events_max, self.events_keep_s),
            RetryPolicy(base_s=self.retry_base_s, max_s=self.events_retry_max_s),
            self.events_timeout_s,
        )

    @property
    def breaker_policy(self) -> BreakerPolicy:
        """How long the breaker stays open before the next probe."""
        return BreakerPolicy(base_s=self.retry_base_s, max_s=self.retry_max_s / 2)

    def require_database_url(self) -> str:
        """The database, or UsageError."""
        return _required(self.database_url, "DATABASE_URL", "postgresql://user:password@host:5432/dbname")

    def require_listen_database_url(self) -> str:
        """A direct connection to the database, or UsageError."""
        return self.listen_database_url.get_secret_value() if self.listen_database_url else self.require_database_url()

    def require_broker_url(self) -> str:
        """The broker, or UsageError."""
        return _required(self.celery_broker_url, "CELERY_BROKER_URL", "redis://host:6379/0")

    @property
    def names(self) -> Names:
        """The names of queues and keys in the broker."""
        return Names(self.prefix)

    @property
    def broker(self) -> BrokerUrl | None:
        """The broker; None: not set. Raises UsageError."""
        return self._server("CELERY_BROKER_URL", self.celery_broker_url)

    @property
    def result_backend(self) -> BrokerUrl | None:
        """Where Celery stores results: as set, else the broker if that is Redis. Raises UsageError."""
        if self.celery_result_backend:
            return self._server("CELERY_RESULT_BACKEND", self.celery_result_backend)
        return _if_redis(self.broker)

    @property
    def rate_limiter_server(self) -> BrokerUrl | None:
        """The Redis of the shared rate limiter: as set, else the broker or the result backend if that is Redis.

        Raises UsageError.
        """
        return (
            _if_redis(self._server("REDIS_URL", self.redis_url))
            or _if_redis(self.broker)
            or _if_redis(self.result_backend)
        )

    def _server(self, name: str, url: SecretStr | None) -> BrokerUrl | None:
        ca_file = str(self.broker_ca_file) if self.broker_ca_file else None
        return read_broker_url(name, url.get_secret_value(), ca_file=ca_file) if url else None

    @property
    def index_config(self) -> IndexConfig:
        """What the index is made from. Raises UsageError if it is Qdrant and has no URL."""
        self.require_index()
        if self.index != QDRANT:
            key = self.index_api_key.get_secret_value() if self.index_api_key else None
            return IndexConfig(self.index_url, key, self.qdrant_timeout_s, self.index_options or {})
        key = self.qdrant_api_key.get_secret_value() if self.qdrant_api_key else None
        grpc_port = self.qdrant_grpc_port if self.qdrant_grpc else None
        return IndexConfig(self.qdrant_url, key, self.qdrant_timeout_s, {"grpc_port": grpc_port})

    def require_index(self) -> None:
        """Raises UsageError if the index is Qdrant and has no URL. Another index judges its settings itself."""
        if self.index == QDRANT:
            _required(self.qdrant_url, "QDRANT_URL", "http://host:6333")


@cache
def _price_list(path: Path) -> PriceList:
    try:
        return read_price_list(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise UsageError(f"REINDEXER_PRICES: {path} can't be read: {exc.strerror}") from None
    except ValueError as exc:  # of TOML, of UTF-8, and of what it says
        raise UsageError(f"REINDEXER_PRICES: {path}: {first_line(exc)}") from None


def _found(settings: Settings, running: dict[str, str]) -> dict[str, Any]:
    """The settings that a running `up` adds: only those that are not set otherwise."""
    found: dict[str, Any] = {}
    if running.get("qdrant_url") and not settings.qdrant_url:
        found["qdrant_url"] = running["qdrant_url"]
    for name in ("database_url", "celery_broker_url", "admin_api_key"):
        if running.get(name) and not getattr(settings, name):
            found[name] = SecretStr(running[name])
    for name in ("embedder", "embedding_model", "embedding_dimensions", "openai_base_url"):
        if running.get(name) and getattr(settings, name) == Settings.model_fields[name].default:
            found[name] = running[name]
    return found


def _is_of(url: SecretStr | None, running: Mapping[str, str]) -> bool:
    """Whether the URL names the database of a running `up`. None contradicts no database."""
    if url is None:
        return True
    try:
        return "database_url" in running and _place(url.get_secret_value()) == _place(running["database_url"])
    except UsageError:
        return False


def _place(url: str) -> str:
    return describe(url).replace("localhost:", "127.0.0.1:")


def _if_redis(server: BrokerUrl | None) -> BrokerUrl | None:
    return server if server and server.scheme in REDIS_SCHEMES else None


def _required(value: SecretStr | str | None, name: str, example: str) -> str:
    if value is None:
        raise UsageError(f"{name} is not set; for example {name}={example}; or run `reindexer up` beside this")
    return value.get_secret_value() if isinstance(value, SecretStr) else value
