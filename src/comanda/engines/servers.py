"""Servers that somebody else runs: do they answer, and are they new enough."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from comanda.errors import DatabaseFault, RedisFault

PATIENCE_SECONDS = 5.0
OLDEST_POSTGRES = 15
OLDEST_REDIS = 7


async def check_postgres(url: str, patience: float = PATIENCE_SECONDS) -> None:
    """See that PostgreSQL answers, within `patience` seconds.

    Raises:
        DatabaseFault: it does not, refuses us, or is too old.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS)
            break
        except (
            asyncpg.InvalidAuthorizationSpecificationError,  # the parent of a wrong password
            asyncpg.InvalidCatalogNameError,
            asyncpg.ClientConfigurationError,
            ValueError,
        ) as refused:
            raise DatabaseFault(f"COMANDA_DATABASE_URL: {_where(url)} refuses it: {refused}") from None
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as silent:
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseFault(
                    f"COMANDA_DATABASE_URL: PostgreSQL at {_where(url)} does not answer ({_words(silent)})"
                ) from None
            await asyncio.sleep(0.2)
    try:
        number = int(await connection.fetchval("SHOW server_version_num"))
    finally:
        await connection.close(timeout=PATIENCE_SECONDS)
    if number < OLDEST_POSTGRES * 10_000:
        raise DatabaseFault(
            f"COMANDA_DATABASE_URL: PostgreSQL {number // 10_000} is too old, Comanda needs {OLDEST_POSTGRES} or later"
        )


async def check_redis(url: str, patience: float = PATIENCE_SECONDS) -> None:
    """See that Redis (or Valkey) answers, within `patience` seconds.

    Raises:
        RedisFault: it does not, refuses us, or is too old.
    """
    try:
        client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as wrong:
        raise RedisFault(f"COMANDA_REDIS_URL: {wrong}") from None
    try:
        version = await _redis_version(client, _where(url), patience)
    finally:
        await client.aclose()
    if int(version.split(".", 1)[0]) < OLDEST_REDIS:
        raise RedisFault(f"COMANDA_REDIS_URL: Redis {version} is too old, Comanda needs {OLDEST_REDIS} or later")


async def _redis_version(client: redis.asyncio.Redis, where: str, patience: float) -> str:
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return str((await client.info("server"))["redis_version"])
        except (AuthenticationError, ResponseError) as refused:
            raise RedisFault(f"COMANDA_REDIS_URL: {where} refuses it: {refused}") from None
        except (RedisError, OSError, TimeoutError) as silent:
            if asyncio.get_running_loop().time() > deadline:
                raise RedisFault(f"COMANDA_REDIS_URL: Redis at {where} does not answer ({_words(silent)})") from None
            await asyncio.sleep(0.2)


def _where(url: str) -> str:
    """The URL's host and port, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2] or "its socket"


def _words(fault: BaseException) -> str:
    return str(fault).splitlines()[0] if str(fault) else type(fault).__name__
