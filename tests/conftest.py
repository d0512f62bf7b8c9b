"""Real engines for every test: one PostgreSQL and one Valkey for each xdist worker, one database for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from api_client import Client, running_api
from comanda import telemetry
from comanda.db import Database, migrations
from comanda.db.database import connect
from comanda.engines import postgres, valkey
from comanda.engines.child import Running

_TEMPLATE = "comanda_template"


@pytest.fixture(scope="session")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server whose template holds the migrated schema."""
    running = asyncio.run(postgres.start(_folder(tmp_path_factory, "postgres")))
    try:
        asyncio.run(_make_template(running.url))
        yield running.url
    finally:
        asyncio.run(running.stop())


@pytest.fixture(scope="session")
def _valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = asyncio.run(valkey.start(_folder(tmp_path_factory, "valkey")))
    try:
        yield running
    finally:
        asyncio.run(running.stop())


def _folder(factory: pytest.TempPathFactory, name: str) -> Path:
    folder: Path = factory.mktemp(name)
    return folder


async def _make_template(url: str) -> None:
    await _execute(url, f"CREATE DATABASE {_TEMPLATE}")
    await migrations.apply(_with_path(url, _TEMPLATE))


async def _execute(url: str, statement: str) -> None:
    connection = await connect(url, name="tests")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _with_path(url: str, path: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{path}"))


@pytest.fixture
async def database_url(_postgres: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = f"t_{uuid4().hex}"
    await _execute(_postgres, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield _with_path(_postgres, name)
    await _execute(_postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the test's own database."""
    database = await Database.open(database_url, name="tests", size=10)
    yield database
    await database.close()


@pytest.fixture
async def redis_url(_valkey: Running) -> str:
    """An empty Valkey."""
    client = Redis.from_url(_valkey.url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
    return _valkey.url


@pytest.fixture(scope="session")
def _logs() -> None:
    telemetry.configure(level="warning", directory=None, process="tests")


@pytest.fixture
async def api(_logs: None, database_url: str, redis_url: str) -> AsyncIterator[Client]:
    """The API as a client meets it. Orders are accepted, and nothing works on them."""
    async with running_api(database_url, redis_url) as client:
        yield client
