"""Where tests find PostgreSQL and Redis: at both URLs of the settings if they are set, else each worker starts its own.

Servers that are given are shared by all workers of xdist: each has databases of its own on them, and Redis numbers,
three from that of the URL on. What they hold is deleted. The tests of engines, and of crashes of them, start theirs.
"""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from comanda.db.database import connect
from comanda.engines import postgres, valkey

# Read once: a fixture takes the settings away, so that no test finds servers by itself.
DATABASE_URL = os.environ.get("COMANDA_DATABASE_URL", "")
REDIS_URL = os.environ.get("COMANDA_REDIS_URL", "")
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_NUMBERS = 3  # of Redis databases for a worker: its tests', its shared `comanda up`'s, and that of a test's own one

_MEMORY = Path("/dev/shm")
_ROOM = 8 * 2**30  # bytes that have to be free there

if bool(DATABASE_URL) != bool(REDIS_URL):
    raise pytest.UsageError("Set both COMANDA_DATABASE_URL and COMANDA_REDIS_URL, or none of them")


@contextmanager
def postgres_url() -> Iterator[str]:
    """A server on which databases can be made; one that is started lives in a folder that is deleted."""
    if DATABASE_URL:
        yield DATABASE_URL
        return
    with tempfile.TemporaryDirectory(prefix="comanda-tests-", dir=_memory()) as folder:
        running = asyncio.run(postgres.start(Path(folder)))
        try:
            yield running.url
        finally:
            asyncio.run(running.stop())


def _memory() -> Path | None:
    """Where files are made soonest, if there is room: a database for each test is six hundred of them."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None


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
def settings_for_up(*, is_shared: bool = False) -> Iterator[dict[str, str]]:
    """What a `comanda up` is told to work on the servers that are given, and on nothing there that others use.

    `is_shared`: the one of many tests, which goes on while a test has one of its own.
    """
    if not DATABASE_URL:
        yield {}
        return
    name, index = (f"comanda_up_{WORKER}", _numbered(1)) if is_shared else (f"comanda_own_{WORKER}", _numbered(2))
    asyncio.run(_fresh(name, index))
    try:
        yield {"DATABASE_URL": with_database(DATABASE_URL, name), "REDIS_URL": index}
    finally:
        asyncio.run(drop(DATABASE_URL, name))


async def _fresh(name: str, index: str) -> None:
    await create_anew(DATABASE_URL, name)
    await empty(index)


async def create_anew(url: str, name: str) -> None:
    """An empty database, also where an earlier run was killed and left one."""
    await drop(url, name)
    await execute(url, f"CREATE DATABASE {name}")


async def drop(url: str, name: str) -> None:
    """Drop a database if it is there, whichever of our sessions still use it.

    WITH (FORCE) would be refused to a role without rights while autovacuum works there.
    """
    ours = f"datname = '{name}' AND usename = current_user"
    await execute(
        url,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}",
        f"DROP DATABASE IF EXISTS {name}",
    )


async def empty(url: str) -> None:
    """Delete what is in this Redis database, and in no other."""
    async with Redis.from_url(url) as client:
        await client.flushdb()


async def execute(url: str, *statements: str) -> None:
    """Each in a transaction of its own."""
    connection = await connect(url, name="tests")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def with_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return re.sub(r"^(\w+://[^/?]*)[^?]*", rf"\1/{name}", url)


def _numbered(which: int) -> str:
    """REDIS_URL with a number of this worker's own: in the query, where it counts before one in the path."""
    first = Redis.from_url(REDIS_URL).connection_pool.connection_kwargs.get("db") or 0
    number = int(first) + WORKER * _NUMBERS + which
    address, _, options = REDIS_URL.partition("?")
    kept = [option for option in options.split("&") if option and not option.startswith("db=")]
    return f"{address}?{'&'.join([*kept, f'db={number}'])}"
