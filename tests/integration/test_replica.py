"""Lists are read from a streaming standby, and nobody misses what they wrote, waits or fails because of it."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import psutil
import pytest
from test_console_access import browser
from test_console_processes import WELL, overview

from api_client import Client, Person, running_api
from comanda import telemetry
from comanda.db import Tx, migrations
from shop import until
from standby import Standby, replicated

LAG = 2.0
LONG = 600.0
HEALTH = "/api/v1/health/detailed"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Standby]]:
    """A migrated primary and its standby."""
    with asyncio.Runner() as runner:
        opened = replicated(tmp_path_factory.mktemp("replicated"))
        url, standby = runner.run(opened.__aenter__())
        try:
            runner.run(migrations.apply(url))
            yield url, standby
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
async def standby(pair: tuple[str, Standby]) -> AsyncIterator[Standby]:
    """Running and following, before and after."""
    standby = pair[1]
    yield standby
    if standby.running is None:
        await standby.start()
    await standby.resume()


@asynccontextmanager
async def _api(pair: tuple[str, Standby], redis_url: str, lag: float = LAG, **settings: Any) -> AsyncIterator[Client]:
    chosen = {"database_replica_url": pair[1].url, "replica_lag_seconds": lag, **settings}
    async with running_api(pair[0], redis_url, **chosen) as client:
        yield client


@pytest.fixture
async def api(pair: tuple[str, Standby], standby: Standby, redis_url: str) -> AsyncIterator[Client]:
    assert standby.running is not None
    async with _api(pair, redis_url) as client:
        await _until(client, is_used=True)
        yield client


async def _trusted(api: Client) -> None:
    """As if marks had been made, and remembered, for longer than the replica may be behind."""

    async def look() -> bool:
        return api.lists._memory is not None

    await until(look)
    api.lists._remembers_since = -math.inf


async def _replica(api: Client) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(HEALTH)).body["replica"]
    return found


async def _until(api: Client, *, is_used: bool) -> None:
    async def look() -> bool:
        return bool((await _replica(api))["isUsed"] is is_used)

    await until(look)


async def _from(api: Client, path: str, token: str | None = None) -> tuple[str, Any]:
    """Which server a list came from, and the list."""
    before = _read("replica")
    reply = await api.get(path, token=token)
    assert reply.status == 200, reply
    return ("replica" if _read("replica") > before else "primary"), reply.body


def _read(server: str) -> float:
    return float(telemetry.LISTS.labels(server)._value.get())


async def _until_from(
    api: Client, server: str, path: str, token: str | None = None, *, is_trusting: bool = False
) -> Any:
    """Trusting: a look that came too late, as on a busy machine, has marks distrusted for as long as they live."""

    async def look() -> Any:
        if is_trusting:
            await _trusted(api)
        found, body = await _from(api, path, token)
        return (body,) if found == server else None

    return (await until(look))[0]


async def _order(api: Client, who: Person, product: dict[str, Any]) -> str:
    reply = await api.post("/api/v1/orders", {"items": [{"productId": product["id"], "quantity": 1}]}, token=who.token)
    assert reply.status == 202, reply
    return str(reply.body["orderId"])


async def _category(api: Client, admin: Person) -> str:
    reply = await api.post("/api/v1/categories", {"name": uuid4().hex, "slug": uuid4().hex}, token=admin.token)
    assert reply.status == 201, reply
    return str(reply.body["id"])


def _ids(body: Any, name: str = "id") -> list[str]:
    return [one[name] for one in body["items"]]


async def test_every_list_is_read_from_the_replica(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    hook = await api.post("/api/v1/webhooks", {"url": "http://127.0.0.1:1/"}, token=admin.token)
    other = await api.person("admin")  # who has written nothing
    for path, token in {
        "orders": customer.token, "products?limit=3": None, "products/search?q=tea": None, "categories": None,
        "categories/tree": None, "inventory": None, "inventory/low-stock": None, "inventory/out-of-stock": None,
        "inventory/stats": other.token, "inventory/movements": other.token, "mailbox": other.token,
        "users": other.token, "webhooks": other.token, f"webhooks/{hook.body['id']}/deliveries": other.token,
        "products?status=deleted": other.token,
    }.items():  # fmt: skip
        await _until_from(api, "replica", f"/api/v1/{path}", token)


async def test_who_has_just_written_sees_it_in_every_process_and_others_see_it_later(
    api: Client, pair: tuple[str, Standby], standby: Standby, redis_url: str
) -> None:
    async with _api(pair, redis_url, LONG) as here, _api(pair, redis_url, LONG) as elsewhere:
        for one in (here, elsewhere):
            await _until(one, is_used=True)
            await _trusted(one)
        admin, other, buyer = await api.person("admin"), await api.person("admin"), await api.person()
        product = await api.product(other)
        orders, categories = "/api/v1/orders", "/api/v1/categories?limit=100"
        for person in (admin, buyer):
            assert await _until_from(elsewhere, "replica", orders, person.token, is_trusting=True) is not None
        await standby.pause()
        order, category = await _order(here, buyer, product), await _category(here, admin)
        for one in (here, elsewhere):
            server, body = await _from(one, orders, buyer.token)
            assert (server, order in _ids(body, "orderId")) == ("primary", True)
            server, body = await _from(one, categories, admin.token)
            assert (server, category in _ids(body)) == ("primary", True)
            seen = await _until_from(one, "replica", categories, buyer.token, is_trusting=True)
            assert category not in _ids(seen)
        # The catalogue goes by its version: what somebody has changed, anybody sees.
        made = await here.product(admin)
        server, body = await _from(elsewhere, "/api/v1/products?limit=1")
        assert (server, _ids(body)) == ("primary", [made["id"]])
        # What can't be known is read from the primary.
        elsewhere.lists._memory = "another run of Redis, which remembers nothing"
        server, body = await _from(elsewhere, categories, buyer.token)
        assert (server, category in _ids(body)) == ("primary", True)
        await standby.resume()
        for one in (here, elsewhere):
            await until(partial(_with, one, categories, category))


async def _with(api: Client, path: str, wanted: str) -> bool:
    server, body = await _from(api, path)
    return server == "replica" and wanted in _ids(body)


async def test_nobody_sees_what_is_older_than_the_bound(api: Client, standby: Standby) -> None:
    admin = await api.person("admin")
    categories = "/api/v1/categories?limit=100"
    await standby.pause()
    category = await _category(api, admin)
    await _until(api, is_used=False)
    shown = await _replica(api)
    assert shown["lagSeconds"] >= LAG
    assert shown["why"] == "it is too far behind"
    server, body = await _from(api, categories)
    assert (server, category in _ids(body)) == ("primary", True)
    await standby.resume()
    assert category in _ids(await _until_from(api, "replica", categories))


async def test_without_redis_who_is_signed_in_reads_from_the_primary(
    pair: tuple[str, Standby], standby: Standby
) -> None:
    assert standby.running is not None
    async with _api(pair, NOWHERE) as api:
        await _until(api, is_used=True)
        customer = await api.person()
        assert (await _from(api, "/api/v1/orders", customer.token))[0] == "primary"
        assert (await _from(api, "/api/v1/categories"))[0] == "replica"


async def test_a_replica_that_goes_away_fails_no_request(api: Client, standby: Standby) -> None:
    over = asyncio.Event()
    statuses: list[int] = []

    async def ask() -> None:
        while not over.is_set():
            statuses.append((await api.get("/api/v1/categories")).status)

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    await standby.stop()
    await _until(api, is_used=False)
    assert (await _from(api, "/api/v1/categories"))[0] == "primary"
    await standby.start()
    await _until_from(api, "replica", "/api/v1/categories")
    over.set()
    await asyncio.gather(*asking)
    assert set(statuses) == {200}


async def test_a_replica_that_says_nothing_fails_no_request(
    pair: tuple[str, Standby], standby: Standby, redis_url: str
) -> None:
    async with _api(pair, redis_url, request_seconds=2.5) as api:
        await _until(api, is_used=True)
        assert standby.running is not None
        frozen = postgres_of(standby.running.pid)
        for process in frozen:
            process.suspend()
        try:
            answers = await asyncio.gather(*(api.get("/api/v1/categories") for _ in range(20)))
            assert {one.status for one in answers} == {200}
            await _until(api, is_used=False)
        finally:
            for process in frozen:
                process.resume()
        await _until_from(api, "replica", "/api/v1/categories")


def postgres_of(pid: int) -> list[psutil.Process]:
    """A server and all that works for it."""
    server = psutil.Process(pid)
    return [server, *server.children(recursive=True)]


async def test_a_read_that_fails_there_is_read_from_the_primary(api: Client) -> None:
    """As while a migration has reached the primary and not yet the replica."""

    async def read(tx: Tx) -> bool:
        if await tx.fetchval("SELECT pg_is_in_recovery()"):
            await tx.execute("SELECT nothing FROM nowhere")
        return True

    assert await api.lists.read(None, read)
    assert (await _replica(api))["isUsed"]


async def test_another_database_is_no_replica(pair: tuple[str, Standby], database_url: str, redis_url: str) -> None:
    """Nor is the primary itself."""
    for url in (pair[0], database_url):
        async with running_api(pair[0], redis_url, database_replica_url=url) as api:

            async def judged(api: Client = api) -> bool:
                return bool("no standby" in ((await _replica(api))["why"] or ""))

            await until(judged)
            assert (await _from(api, "/api/v1/categories"))[0] == "primary"


async def test_without_a_replica_nothing_is_shown_of_it(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api:
        assert await _replica(api) is None
        assert (await _from(api, "/api/v1/categories"))[0] == "primary"


async def test_the_console_says_whether_the_replica_is_used_and_how_far_it_is(api: Client, standby: Standby) -> None:
    unused = "The replica is not used: lists are read from the primary"
    async with browser(api, "viewer") as one:
        page = await overview(one, ">used</span> · at most")
        assert unused not in page
        await standby.pause()
        page = await overview(one, unused, ">not used</span>")
        assert WELL not in page


async def test_where_there_is_no_replica_the_console_says_nothing_of_one(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api, browser(api, "viewer") as one:
        assert "replica" not in await overview(one, "API processes")
