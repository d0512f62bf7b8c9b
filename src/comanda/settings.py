"""What can be set from outside: environment variables with the prefix `COMANDA_`."""

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from comanda.errors import ConfigurationFault
from comanda.networks import Network
from comanda.telemetry import REQUEST_BUCKETS, SAGA_BUCKETS

MINIMUM_SECRET_BYTES = 32
MINIMUM_ADMIN_PASSWORD = 12  # characters, in production
# What examples and guides leave in a key; by chance in none that was made from random bytes.
_LEFT_IN_KEYS = ("changeme", "changethis", "secret", "password", "example", "insecure", "default", "0123456789abcdef")
# What guessers try first, and what this project's own tests and figures sign in with; as `_plain` writes it.
_TRIED_FIRST = {
    "adminadminadmin", "administrator", "benchmarkpassword", "changemechangeme", "changemeplease", "changethispassword",
    "comandacomanda", "comandapassword", "correcthorsebattery", "correcthorsebatterystaple", "defaultpassword",
    "letmeinletmein", "passwordpassword", "qwertyuiop", "welcometocomanda",
}  # fmt: skip
# As browsers write one: lower-case, without a path, without the port that its scheme has anyway.
_ORIGIN = re.compile(
    r"(?:https://(?!.*:443$)|http://(?!.*:80$))(?:[a-z0-9.-]*[a-z0-9]|\[[0-9a-f:.]+\])(?::[1-9]\d{0,4})?"
)
_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        if value and not value.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return value

    return AfterValidator(check)


def _range(value: object) -> object:
    """`100-2000` as (100, 2000); `0` as (0, 0)."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", value.strip())
    if not found:
        raise ValueError("must read like 100-2000 (milliseconds)")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise ValueError("must not start above its end")
    return low, high


def _outcomes(value: object) -> object:
    """`80/15/5`: success, retryable failure, permanent decline, in per cent."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d{1,3})/(\d{1,3})/(\d{1,3})", value.strip())
    if not found or sum(map(int, found.groups())) != 100:
        raise ValueError("must read like 80/15/5 and add up to 100")
    return tuple(map(int, found.groups()))


def _rate(value: object) -> object:
    """`600/60`: so many requests in so many seconds."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"([1-9]\d{0,6})/([1-9]\d{0,4})", value.strip())
    if not found:
        raise ValueError("must read like 600/60 (requests in seconds)")
    return int(found[1]), int(found[2])


def _objective(*buckets: float) -> BeforeValidator:
    """`99.9/0.1`: that share in per cent within so many seconds, which are one of the buckets that are counted by."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d{1,2}(?:\.\d{1,4})?)/(\d{1,5}(?:\.\d{1,4})?)", value.strip())
        if not found or not 0 < float(found[1]) < 100:
            raise ValueError("must read like 99.9/0.1 (per cent within seconds)")
        if float(found[2]) not in buckets:
            raise ValueError(
                f"is counted in buckets: the seconds are one of {', '.join(f'{one:g}' for one in buckets)}"
            )
        return float(found[1]), float(found[2])

    return BeforeValidator(read)


def _networks(value: object) -> object:
    """`10.1.0.0/16,fd00::/8`, or `none`."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(one.strip()) for one in value.split(",") if one.strip() not in {"", "none"})
    except ValueError as wrong:
        raise ValueError(f"must read like 10.1.0.0/16,fd00::/8 or none: {wrong}") from None


def _origins(value: object) -> object:
    """`https://shop.example,https://www.shop.example`, `none`, or `*`."""
    if not isinstance(value, str):
        return value
    named = tuple(dict.fromkeys(one.strip() for one in value.split(",") if one.strip() not in {"", "none"}))
    if named == ("*",):
        return named
    wrong = [one for one in named if not _ORIGIN.fullmatch(one)]
    if wrong:
        raise ValueError(f"must read like https://shop.example,http://localhost:3000 or none: {wrong[0]}")
    return named


def _plain(secret: str) -> str:
    """Letters and digits alone, small: Change-Me and changeme are one."""
    return "".join(one for one in secret.casefold() if one.isalnum())


def _weak_key(key: str) -> str | None:
    """What is wrong with it in production, and what to do."""
    if not key:
        return "must be set in production (32 bytes or more, from a secret store)"
    if len(set(key)) < 8:
        return "must not be a repeated letter: make one with `openssl rand -hex 32`"
    if any(left in _plain(key) for left in _LEFT_IN_KEYS):
        return "is an example's: make one with `openssl rand -hex 32`"
    return None


def _weak_password(password: str) -> str | None:
    """The same of the first admin's password; without one no admin is made."""
    if password and len(password) < MINIMUM_ADMIN_PASSWORD:
        least = f"at least {MINIMUM_ADMIN_PASSWORD} characters in production"
        return f"must have {least}: make one with `openssl rand -hex 16`"
    plain = _plain(password)
    if password and (len(set(plain)) < 5 or plain.rstrip("0123456789") in _TRIED_FIRST | {""}):
        return "is among the first to be guessed: make one with `openssl rand -hex 16`"
    return None


PostgresUrl = Annotated[str, _url_of("postgresql", "postgres")]
RedisUrl = Annotated[str, _url_of("redis", "rediss", "unix")]
HttpUrl = Annotated[str, _url_of("http", "https")]
Rate = Annotated[tuple[int, int], NoDecode, BeforeValidator(_rate)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]


class Settings(BaseSettings):
    """One instance, made at the edge and passed on."""

    model_config = SettingsConfigDict(env_prefix="COMANDA_", frozen=True, extra="ignore")

    database_url: PostgresUrl = ""
    database_replica_url: PostgresUrl = ""
    replica_lag_seconds: Annotated[float, Field(ge=1, le=3600)] = 5
    redis_url: RedisUrl = ""
    secret_key: SecretStr = SecretStr("")
    admin_email: str = "admin@example.com"
    admin_password: SecretStr = SecretStr("")

    gateway: Literal["mock", "instant"] = "mock"
    gateway_url: HttpUrl = ""
    gateway_latency_ms: Annotated[tuple[int, int], NoDecode, BeforeValidator(_range)] = (100, 2000)
    gateway_outcomes: Annotated[tuple[int, int, int], NoDecode, BeforeValidator(_outcomes)] = (80, 15, 5)
    gateway_seed: int | None = None
    gateway_timeout_seconds: Seconds = 5

    payment_patience_seconds: Seconds = 900
    reservation_ttl_seconds: Seconds = 1800
    lease_seconds: Seconds = 10
    alert_webhook_url: HttpUrl = ""
    webhook_networks: Annotated[tuple[Network, ...] | None, NoDecode, BeforeValidator(_networks)] = None
    webhook_timeout_seconds: Seconds = 15
    retry_base_seconds: Seconds = 2
    max_open_orders: Annotated[int, Field(ge=1)] = 1000
    request_seconds: Seconds = 2.5
    pool_size: Annotated[int | None, Field(ge=2, le=1000)] = None
    max_backlog: Annotated[int, Field(ge=1)] = 20_000
    import_max_bytes: Annotated[int, Field(ge=1, le=2**30)] = 64 * 2**20
    rate_limits: Literal["on", "off"] = "on"
    rate_auth: Rate = (120, 60)
    rate_orders: Rate = (600, 60)
    rate_status: Rate = (1200, 60)
    rate_read: Rate = (1200, 60)
    rate_write: Rate = (600, 60)
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = ()
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = ()
    console: Literal["on", "read-only", "off"] = "on"
    reconcile_seconds: Seconds = 60
    slo_accept: Annotated[tuple[float, float], NoDecode, _objective(*REQUEST_BUCKETS)] = (99.9, 0.1)
    slo_confirmed: Annotated[tuple[float, float], NoDecode, _objective(*SAGA_BUCKETS)] = (99, 30)
    slo_webhook: Annotated[tuple[float, float], NoDecode, _objective(*SAGA_BUCKETS)] = (99, 60)
    bulk_rate: Annotated[int, Field(ge=1, le=1000)] = 100

    check_seconds: Annotated[float, Field(ge=0, le=31_536_000)] = 60
    import_days: Annotated[int, Field(ge=0)] = 90
    audit_days: Annotated[int, Field(ge=0)] = 0
    log_dir: Path | None = None
    failpoints: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    environment: Literal["development", "production"] = "development"
    access_token_seconds: Annotated[int, Field(ge=900)] = 3600
    refresh_token_seconds: Annotated[int, Field(ge=900)] = 30 * 86400
    require_verified_email: Literal["on", "off"] = "off"

    @property
    def lease(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds)

    @property
    def webhook_allowed(self) -> tuple[Network, ...]:
        """Networks that webhooks may reach though they are not public; for developers their own machine."""
        if self.webhook_networks is not None:
            return self.webhook_networks
        return _LOOPBACK if self.environment == "development" else ()

    @model_validator(mode="after")
    def _production_is_strict(self) -> Self:
        key = self.secret_key.get_secret_value()
        if key and len(key.encode()) < MINIMUM_SECRET_BYTES:
            raise ValueError(f"COMANDA_SECRET_KEY must have at least {MINIMUM_SECRET_BYTES} bytes")
        if self.environment == "production" and (why := _weak_key(key)):
            raise ValueError(f"COMANDA_SECRET_KEY {why}")
        if self.environment == "production" and (why := _weak_password(self.admin_password.get_secret_value())):
            raise ValueError(f"COMANDA_ADMIN_PASSWORD {why}")
        if self.environment == "production" and self.gateway == "instant":
            raise ValueError("COMANDA_GATEWAY=instant remembers nothing and charges nobody: benchmarks only")
        if self.environment == "production" and "*" in self.cors_origins:
            raise ValueError("COMANDA_CORS_ORIGINS=* lets every page in: name the origins of yours")
        if self.environment == "production" and self.failpoints:
            raise ValueError("COMANDA_FAILPOINTS makes processes die where they are told to: crash tests only")
        return self


_NOT_SETTINGS = {"COMANDA_PROCESS_NAME", "COMANDA_API"}  # of `comanda up` for its children; of the doctor's proposals


def strangers(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none."""
    known = {f"COMANDA_{name.upper()}" for name in Settings.model_fields}
    found = []
    for name in sorted(environment):
        if name.startswith("COMANDA_") and name not in known | _NOT_SETTINGS:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            found.append(f"{name} is no setting{f': is {near[0]} meant?' if near else ''}")
    return found


def load() -> Settings:
    """Read the environment.

    Raises:
        ConfigurationFault: with one sentence for each wrong setting.
    """
    try:
        return Settings()
    except ValidationError as refused:
        sentences = []
        for error in refused.errors():
            name = "COMANDA_" + "_".join(str(part) for part in error["loc"][:1]).upper() if error["loc"] else ""
            text = error["msg"].removeprefix("Value error, ")
            sentences.append(f"{name}: {text}" if name else text)
        raise ConfigurationFault("; ".join(sentences)) from None
