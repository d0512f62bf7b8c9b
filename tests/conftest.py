"""Real engines for every test: a PostgreSQL and a Redis for each xdist worker, one database for each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

import servers
from api_client import Client, running_api
from comanda import telemetry
from comanda.db import Database, migrations
from comanda.messaging.streams import Streams

_TEMPLATE = f"comanda_template_{servers.WORKER}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=2, help="how many seeds the tests of races are run with")
    parser.addoption("--examples", type=int, default=42, help="requests to each route that schemathesis makes up")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whoever takes `each_seed` is run with each of them."""
    if "each_seed" in metafunc.fixturenames:
        metafunc.parametrize("each_seed", range(metafunc.config.getoption("seeds")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that nobody waits for it in the end."""
    items.sort(key=lambda item: "test_fuzz" not in item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_set() -> Iterator[None]:
    """The shell's own settings mean the servers of `servers.py`, and nothing to the code under test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COMANDA_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a server whose template holds the migrated schema."""
    with servers.postgres_url() as url:
        asyncio.run(_make_template(url))
        yield url
        asyncio.run(servers.drop(url, _TEMPLATE))


@pytest.fixture(scope="session")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.redis_url(tmp_path_factory.mktemp("valkey")) as url:
        yield url


async def _make_template(url: str) -> None:
    await servers.create_anew(url, _TEMPLATE)
    await migrations.apply(servers.with_database(url, _TEMPLATE))


@pytest.fixture
async def database_url(server_url: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = f"t_{uuid4().hex}"
    await servers.execute(server_url, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
    yield servers.with_database(server_url, name)
    await servers.drop(server_url, name)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool on the test's own database."""
    database = await Database.open(database_url, name="tests", size=10)
    yield database
    await database.close()


@pytest.fixture
async def redis_url(_redis: str) -> str:
    """An empty Redis database."""
    await servers.empty(_redis)
    return _redis


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[Streams]:
    streams = Streams.open(redis_url, name="test")
    yield streams
    await streams.close()


@pytest.fixture(scope="session", autouse=True)
def _logs() -> None:
    """As the processes write them. The library's own way draws each fault with all that is around it, for seconds."""
    telemetry.configure(level="warning", directory=None, process="tests")


@pytest.fixture
async def api(database_url: str, redis_url: str) -> AsyncIterator[Client]:
    """The API as a client meets it. Orders are accepted, and nothing works on them."""
    async with running_api(database_url, redis_url) as client:
        yield client
