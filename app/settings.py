"""The settings: one frozen value, read from `GATEWAY_*` variables once, at the start."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self, TypeVar
from urllib.parse import SplitResult, quote, unquote, urlsplit

from limits import parse_many
from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator, Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain import is_origin
from app.errors import StartRefused

__all__ = ["PREFIX", "CallerRate", "Environment", "LogFormat", "LogLevel", "Settings", "is_rate", "load_settings", "unknown_variables"]

T = TypeVar("T")

PREFIX = "GATEWAY_"
SHIPPED_CATALOGUE = Path(__file__).parent / "catalogue" / "flxpoint.yaml"
SQLITE = "sqlite+aiosqlite:///"
POSTGRESQL = "postgresql+asyncpg://"
VALKEY = re.compile(r"(?:valkeys?|rediss?)(?:\+sentinel)?://.")
HOST = re.compile(r"(?:\*\.)?[\w-]+(?:\.[\w-]+)*|\[[0-9A-Fa-f:.]+\]", re.ASCII)


class Environment(StrEnum):
    """Where the process runs; production refuses what is only fit for trying out."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class LogFormat(StrEnum):
    """How log lines look: `json` for collectors, `console` for people."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least severe line that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def is_rate(value: str) -> bool:
    """Whether the text is one limit of at least one, in slowapi's syntax."""
    try:
        limits = parse_many(value)
    except ValueError:
        return False
    return len(limits) == 1 and limits[0].amount >= 1


def _rate(value: str) -> str:
    if not is_rate(value):
        message = "must be one limit of at least one, such as 100/second"
        raise ValueError(message)
    return value


CallerRate = Annotated[str, AfterValidator(_rate)]
"""A limit in slowapi's syntax, such as `100/second`."""


def _origin(value: str) -> str:
    if not is_origin(value):
        message = "must be origins as browsers send them, such as https://shop.example"
        raise ValueError(message)
    return value


Origin = Annotated[str, AfterValidator(_origin)]
"""Whose pages may call: scheme, host, and a port where it isn't the scheme's own."""


def _parts(value: object) -> object:
    """A list is written with commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_parts)]
"""Several values in one variable, with commas between them."""


def _issuer(value: str) -> str:
    """An issuer is compared letter by letter, so it stays as it was written."""
    try:
        parts = urlsplit(value)
        plain = parts.hostname and parts.port != 0 and "@" not in parts.netloc and not set("?#\\") & set(value)
    except ValueError:
        plain = False
    if not plain or not value.isascii() or not value.isprintable() or " " in value:
        message = "must be a URL without user, password, query and fragment"
        raise ValueError(message)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts)):
        message = "must begin with https:// (http:// only on the loopback address)"
        raise ValueError(message)
    return value


def _host(value: str) -> str:
    if not HOST.fullmatch(value):
        message = "must be names without a scheme and a port, such as gateway.example.com or *.example.com"
        raise ValueError(message)
    return value


def _is_loopback(parts: SplitResult) -> bool:
    try:
        return parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


Issuer = Annotated[str, AfterValidator(_issuer)]
"""An OpenID Connect issuer (Discovery 1.0, section 3)."""


Host = Annotated[str, AfterValidator(_host)]
"""What the header `Host` may be, without a port; `*.` stands for every name below."""


def _nameable(value: str) -> str:
    try:
        value.encode("idna")
    except UnicodeError:
        message = "must be an address or a host's name"
        raise ValueError(message) from None
    return value


ListeningHost = Annotated[str, AfterValidator(_nameable)]
"""What the resolver can be asked for (RFC 5890): no empty and no overlong labels."""


def _database(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not url.startswith(SQLITE) and not _names_database(url):
        message = f"must be {SQLITE}<path> or {POSTGRESQL}<user>:<password>@<host>/<database>, with what is special in them as %xx"
        raise ValueError(message)
    return value


def _names_database(url: str) -> bool:
    """Whether it is the address of a database of a PostgreSQL server; no part of a password can be taken for another's."""
    try:
        parts = urlsplit(url)
        whole = url.isprintable() and parts.netloc.count("@") <= 1 and not parts.fragment and parts.port != 0
    except ValueError:
        return False
    return whole and url.startswith(POSTGRESQL) and bool(parts.hostname) and len(parts.path) > 1


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]
"""Where the database is; with user and password, so that it isn't shown."""


def _stream(value: str) -> str:
    if value not in {"none", "stdout"} and not (value.startswith("file:") and value != "file:"):
        message = "must be stdout, file:PATH or none"
        raise ValueError(message)
    return value


def _command(value: str) -> str:
    try:
        words = shlex.split(value)
    except ValueError:
        words = []
    if value and not (words and words[0]):
        message = "must be a program and its arguments, quoted as for a shell"
        raise ValueError(message)
    return value


def _valkey(value: SecretStr) -> SecretStr:
    if not VALKEY.match(value.get_secret_value()):
        message = "must begin with valkey:// or redis://, or with valkeys:// or rediss:// for TLS; valkey+sentinel:// for Sentinel"
        raise ValueError(message)
    return value


ValkeyUrl = Annotated[SecretStr, AfterValidator(_valkey)]
"""Where Valkey or Redis is, or its Sentinels; with user and password, so that it isn't shown."""

AuditStream = Annotated[str, AfterValidator(_stream)]
"""Where the audit stream goes."""

Command = Annotated[str, AfterValidator(_command)]
"""A program and its arguments, quoted as for a shell."""


class Settings(BaseSettings):
    """Everything an operator can set. Each field is the variable `GATEWAY_<NAME>`; times are in seconds.

    Raises:
        pydantic.ValidationError: a value is not what its field says. `load_settings` makes one line of it.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    environment: Environment = Field(Environment.DEVELOPMENT, description="`production` refuses to start without a master key of your own")
    host: ListeningHost = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    tls_cert: Path | None = Field(None, description="PEM file of the gateway's own certificate and its chain; with it, only TLS is spoken")
    tls_key: Path | None = Field(None, description="PEM file of its private key, without a password")
    state_dir: Path = Field(Path("data"), description="folder of the embedded database, the master key file and the lock")
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="`sqlite+aiosqlite:///<path>` or `postgresql+asyncpg://<user>:<password>@<host>/<database>`; "
        "empty: `gateway.db` in the state folder",
    )
    valkey_url: ValkeyUrl | None = Field(
        None, description="`valkey://…` or, with TLS, `rediss://…`: where several processes agree on whose turn it is; empty: there is one"
    )
    master_keys: SecretStr | None = Field(None, description="`id:base64,…`, 32 bytes each; the first seals, all open")
    master_keys_file: Path | None = Field(
        None, description="file that holds the same; default: `master.keys` in the state folder, made on first start"
    )
    upstream_url: AnyHttpUrl = Field(AnyHttpUrl("https://api.flxpoint.com"), description="where calls are sent")
    catalogue: Path = Field(SHIPPED_CATALOGUE, description="the operations that may be called, as OpenAPI with extensions")
    default_wait: float = Field(30, gt=0, le=3600, description="how long a caller waits in all, unless it prefers otherwise")
    max_wait: float = Field(120, gt=0, le=3600, description="the longest wait that a caller may prefer")
    lane_depth: int = Field(1000, ge=1, le=1_000_000, description="waiting calls a token, at most")
    caller_depth: int = Field(200, ge=1, le=1_000_000, description="waiting calls of one caller for one token, at most")
    coalesce: bool = Field(
        default=False, description="send waiting calls together where the catalogue says that their results can be told apart"
    )
    caller_rate: CallerRate = Field("100/second", description="the gateway's own limit on a caller, unless the caller has one of its own")
    jobs_per_caller: int = Field(100, ge=1, le=1_000_000, description="jobs of one caller that aren't finished, at most")
    job_ids_per_caller: int = Field(1_000_000, ge=1, le=1_000_000_000, description="IDs that wait in them, at most")
    trusted_proxies: Listed[IPvAnyNetwork] = Field(
        (), description="networks of the proxies in front, with commas; only they are believed what `X-Forwarded-For` says"
    )
    allowed_hosts: Listed[Host] = Field((), description="names that the header `Host` may have, with commas; none: any")
    cors_origins: Listed[Origin] = Field((), description="origins of pages whose callers have none of their own, with commas")
    oidc_issuer: Issuer | None = Field(None, description="the company's identity provider, whose JWTs are taken; exactly as its `iss`")
    oidc_audience: str = Field("", description="the audience that its JWTs must be for; needed with the issuer")
    config_file: Path | None = Field(None, description="YAML file that declares callers and tokens")
    audit_retention: int | None = Field(None, ge=1, le=36_500, description="days that audit records are kept; empty: for ever")
    audit_archive_dir: Path | None = Field(None, description="folder to which audit records are exported before they are removed")
    job_retention: int = Field(7, ge=1, le=36_500, description="days that finished jobs are kept")
    shutdown_grace: float = Field(25, ge=0, le=600, description="how long waiting calls go on after SIGTERM")
    audit_stream: AuditStream = Field("none", description="where records are written as JSON lines: `stdout`, `file:PATH` or `none`")
    audit_anchor_command: Command = Field("", description="program that gets each checkpoint of the record on standard input")
    log_format: LogFormat = Field(LogFormat.JSON, description="`json` or `console`")
    log_level: LogLevel = Field(LogLevel.INFO, description="`DEBUG`, `INFO`, `WARNING` or `ERROR`")

    @model_validator(mode="after")
    def _waits_agree(self) -> Self:
        if self.default_wait > self.max_wait:
            message = f"default_wait must not exceed {PREFIX}MAX_WAIT: {self.default_wait:g} s against {self.max_wait:g} s"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _no_credentials_in_the_address(self) -> Self:
        if self.upstream_url.username or self.upstream_url.password:
            message = "upstream_url must hold no user and no password: it is logged"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _issuer_and_audience(self) -> Self:
        if self.oidc_issuer and not self.oidc_audience:
            message = f"oidc_audience must be set, since {PREFIX}OIDC_ISSUER is: JWTs for others would be taken"
            raise ValueError(message)
        if self.oidc_audience and not self.oidc_issuer:
            message = f"oidc_issuer must be set, since {PREFIX}OIDC_AUDIENCE is"
            raise ValueError(message)
        if self.environment is Environment.PRODUCTION and not (self.oidc_issuer or "https:").startswith("https:"):
            message = "oidc_issuer must begin with https:// in production"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if self.tls_cert and not self.tls_key:
            message = f"tls_key must be set, since {PREFIX}TLS_CERT is"
            raise ValueError(message)
        if self.tls_key and not self.tls_cert:
            message = f"tls_cert must be set, since {PREFIX}TLS_KEY is"
            raise ValueError(message)
        return self

    @property
    def anchor_command(self) -> list[str]:
        """The program that gets each checkpoint, and its arguments; empty: none."""
        return shlex.split(self.audit_anchor_command)

    @property
    def database(self) -> str:
        """The database's address, as SQLAlchemy takes it; with its password."""
        return self.database_url.get_secret_value() or f"{SQLITE}{quote(str(self.state_dir.resolve() / 'gateway.db'))}"

    @property
    def is_embedded(self) -> bool:
        """Whether the database is a file of this machine, which one process at a time may serve from."""
        return self.database.startswith(SQLITE)

    @property
    def database_path(self) -> Path:
        """The database's file, where it is embedded."""
        return Path(unquote(self.database.removeprefix(SQLITE)))

    @property
    def keys_file(self) -> Path:
        """Where the master keys are read from, or made."""
        return self.master_keys_file or self.state_dir / "master.keys"

    @property
    def spool_file(self) -> Path:
        """Where records are kept while the database doesn't take them."""
        return self.state_dir / "audit.spool"


def load_settings(**given: object) -> Settings:
    """Read the settings from the environment; `given` values come first.

    Raises:
        StartRefused: in one line, the variable and what it should be. The wrong value itself isn't shown.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise StartRefused(_one_line(error)) from None


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """The `GATEWAY_*` variables that name no setting: most often a slip of the pen."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + "URL", PREFIX + "KEY"}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    reason = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        name, _, reason = reason.partition(" ")
        return f"{PREFIX}{name.upper()}: {reason}"
    return f"{PREFIX}{str(first['loc'][0]).upper()}: {reason}"
