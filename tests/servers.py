"""Where tests find PostgreSQL and Redis: at both URLs of the settings if they are set, else each worker starts its own.

Servers that are given are shared by all workers of xdist: each has databases and Redis numbers of its own on them, two
numbers from that of the URL on. What they hold is deleted. The tests of engines, and of crashes of them, start theirs.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis

from comanda.db.database import connect
from comanda.engines import postgres, valkey

# Read once: a fixture takes the settings away, so that no test finds servers by itself.
DATABASE_URL = os.environ.get("COMANDA_DATABASE_URL", "")
REDIS_URL = os.environ.get("COMANDA_REDIS_URL", "")
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_NUMBERS = 2  # of Redis databases for a worker: its tests', and its `comanda up`'s

if bool(DATABASE_URL) != bool(REDIS_URL):
    raise pytest.UsageError("Set both COMANDA_DATABASE_URL and COMANDA_REDIS_URL, or none of them")


@contextmanager
def postgres_url(folder: Path) -> Iterator[str]:
    """A server on which databases can be made; one that is started lives in `folder`."""
    if DATABASE_URL:
        yield DATABASE_URL
        return
    running = asyncio.run(postgres.start(folder))
    try:
        yield running.url
    finally:
        asyncio.run(running.stop())


@contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    """A Redis database of this worker's own; a server that is started lives in `folder`."""
    if REDIS_URL:
        yield _numbered(0)
        return
    running = asyncio.run(valkey.start(folder))
    try:
        yield running.url
    finally:
        asyncio.run(running.stop())


@contextmanager
def settings_for_up() -> Iterator[dict[str, str]]:
    """What a `comanda up` is told to work on the servers that are given, and on nothing there that others use."""
    if not DATABASE_URL:
        yield {}
        return
    name, index = f"comanda_up_{WORKER}", _numbered(1)
    asyncio.run(_fresh(name, index))
    try:
        yield {"DATABASE_URL": with_database(DATABASE_URL, name), "REDIS_URL": index}
    finally:
        asyncio.run(execute(DATABASE_URL, f"DROP DATABASE {name} WITH (FORCE)"))


async def _fresh(name: str, index: str) -> None:
    await create_anew(DATABASE_URL, name)
    await empty(index)


async def create_anew(url: str, name: str) -> None:
    """An empty database, also where an earlier run was killed and left one."""
    await execute(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await execute(url, f"CREATE DATABASE {name}")


async def empty(url: str) -> None:
    """Delete what is in this Redis database, and in no other."""
    async with Redis.from_url(url) as client:
        await client.flushdb()


async def execute(url: str, statement: str) -> None:
    connection = await connect(url, name="tests")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _numbered(which: int) -> str:
    """REDIS_URL with a number of this worker's own; in the query, where it counts for sockets too."""
    parts = urlsplit(REDIS_URL)
    first = Redis.from_url(REDIS_URL).connection_pool.connection_kwargs.get("db") or 0
    number = int(first) + WORKER * _NUMBERS + which
    query = [pair for pair in parse_qsl(parts.query) if pair[0] != "db"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("db", number)])))
