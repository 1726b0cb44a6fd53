"""All settings. Each comes from an environment variable TRACKER_<NAME>; docs/operations.md has them in one table."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracker_server import limits
from tracker_server.errors import BadSetting

_API_KEY = re.compile(r"[!-~]+")


class Settings(BaseSettings):
    """The settings of one process, checked against each other."""

    model_config = SettingsConfigDict(env_prefix="TRACKER_", frozen=True, extra="ignore")

    listen: str = Field("127.0.0.1:50051", description="Address of the gRPC server; port 0 picks a free one.")
    share_port: bool = Field(
        False, description="Whether other servers of this machine may listen on the same port; all must say so."
    )
    api_keys: str = Field(
        "", repr=False, description="Keys of which a caller must send one, separated by commas; empty: open to all."
    )
    tls_cert: str = Field("", description="PEM file of the server's certificate and its chain; empty: plaintext.")
    tls_key: str = Field("", description="PEM file of the certificate's key, unencrypted.")
    broker_url: str = Field("memory://", description="memory:// (in process) or amqp://user:password@host:port/vhost.")
    cache_url: str = Field("memory://", description="memory:// (in process) or redis://host:port/db.")
    database_url: str = Field(
        "sqlite:///./tracker.db", description="sqlite:///PATH or postgresql+psycopg2://user:password@host:port/db."
    )
    partitions: int = Field(
        8,
        ge=1,
        le=limits.MAX_PARTITIONS,
        description="Queues that runs are spread over. Fixed once a database has been migrated.",
    )
    health_listen: str = Field("", description="Where `consume` answers grpc.health.v1; empty: nowhere.")
    grace_seconds: float = Field(10.0, gt=0, description="How long a stop may take to finish what is in flight.")
    queue_max_bytes: int = Field(
        4 * 1024**3,
        ge=1024**2,
        description="Length limit of each ingest queue, in bytes; beyond it writes are refused.",
    )
    queue_max_messages: int = Field(
        1_000_000, ge=1, description="Length limit of each ingest queue, in messages; beyond it writes are refused."
    )
    flush_points: int = Field(500_000, ge=1, description="A consumer flushes at so many points.")
    flush_bytes: int = Field(16 * 1024**2, ge=1, description="A consumer flushes at so many bytes.")
    flush_seconds: float = Field(0.25, gt=0, le=60, description="A consumer flushes at this age of its oldest write.")
    compaction: bool = Field(True, description="Whether a consumer merges small chunks of its runs into large ones.")
    restore_days: float = Field(
        7.0,
        ge=0,
        le=36_500,
        description="Days for which a deleted run or experiment can be restored; then it is purged.",
    )
    purge_seconds: float = Field(
        60.0,
        ge=0,
        description="How often a consumer looks for runs to purge, and applies retention; 0: never, see `purge`.",
    )
    database_connections: int = Field(8, ge=2, le=200, description="Connections, and threads, for reads in a server.")
    max_watchers: int = Field(
        200, ge=0, le=10_000, description="Streams of WatchRuns that a server keeps; beyond it more are refused."
    )
    transaction_timeout_seconds: float = Field(
        30.0, gt=0, description="The database ends a transaction that stands still for so long, or a dead connection."
    )
    assignment_seconds: float = Field(
        1.0,
        gt=0,
        le=60,
        description="How often a consumer renews its registration and looks at its share of partitions.",
    )
    broker_heartbeat_seconds: int = Field(10, ge=1, le=600, description="AMQP heartbeat.")
    lease_seconds: int = Field(
        limits.LEASE_SECONDS,
        ge=4,
        le=86_400,
        description="How long a run counts as alive after a sign of life. The same for all servers and consumers.",
    )
    log_format: str = Field("console", pattern="^(console|json)$", description="console or json.")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="Least level that is logged.")

    @property
    def api_key_list(self) -> tuple[str, ...]:
        """The API keys; empty: open to all."""
        return tuple(key for key in map(str.strip, self.api_keys.split(",")) if key)

    @property
    def restore_ms(self) -> int:
        """How long what was deleted can be restored, in milliseconds."""
        return round(self.restore_days * 86_400_000)

    @property
    def broker_is_memory(self) -> bool:
        """True when writes are handed over inside this process."""
        return self.broker_url.startswith("memory:")

    @property
    def cache_is_memory(self) -> bool:
        """True when cached answers live inside this process."""
        return self.cache_url.startswith("memory:")

    @property
    def database_is_sqlite(self) -> bool:
        """True for the embedded database."""
        return self.database_url.startswith("sqlite:")

    @property
    def embedded(self) -> bool:
        """True when nothing outside this process is needed."""
        return self.broker_is_memory and self.cache_is_memory and self.database_is_sqlite

    @model_validator(mode="after")
    def _check(self) -> Self:
        allowed = {
            "broker_url": ("memory:", "amqp:", "amqps:"),
            "cache_url": ("memory:", "redis:", "rediss:"),
            "database_url": ("sqlite:", "postgresql+psycopg2:", "postgresql:"),
        }
        for name, schemes in allowed.items():
            value = getattr(self, name)
            if not value.startswith(schemes):
                message = f"{name} is {value!r}; it must begin with one of {', '.join(schemes)}"
                raise ValueError(message)
        # Told without the keys.
        if not all(_API_KEY.fullmatch(key) for key in self.api_key_list):
            message = "api_keys must be visible ASCII characters, without spaces, separated by commas"
            raise ValueError(message)
        if self.api_keys.strip() and not self.api_key_list:
            message = "api_keys has commas but no key; leave it empty to let everybody in"
            raise ValueError(message)
        if bool(self.tls_cert) is not bool(self.tls_key):
            message = f"tls_cert is {self.tls_cert!r} and tls_key is {self.tls_key!r}; give both, or neither"
            raise ValueError(message)
        if self.database_is_sqlite and not self.broker_is_memory:
            message = "database_url is SQLite, which one process owns; with an amqp broker_url it must be PostgreSQL"
            raise ValueError(message)
        return self


def load_settings(**overrides: object) -> Settings:
    """Reads the environment. Raises BadSetting that names each wrong variable, its value and what would be right."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks each value itself
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"])
            variable = f"TRACKER_{name.upper()}: " if name else ""
            given = f" (given: {problem['input']!r})" if name else ""
            lines.append(f"{variable}{problem['msg']}{given}")
        raise BadSetting("; ".join(lines)) from None


def check_roles(settings: Settings, *, all_in_one: bool) -> None:
    """Refuses memory:// where several processes would each have a memory of their own."""
    if all_in_one:
        return
    wrong = [
        name
        for name, value in (
            ("TRACKER_BROKER_URL", settings.broker_is_memory),
            ("TRACKER_CACHE_URL", settings.cache_is_memory),
            ("TRACKER_DATABASE_URL", settings.database_is_sqlite),
        )
        if value
    ]
    if wrong:
        message = (
            f"{', '.join(wrong)}: the embedded form works in one process only. Use `tracker_server up`, "
            "or give amqp://, redis:// and postgresql:// URLs."
        )
        raise BadSetting(message)
