"""`comanda up` on servers that are there already: it uses them, starts none, and leaves them running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import redis.asyncio
from aiohttp import web

from comanda.engines import postgres, valkey
from comanda.engines.child import Running
from up import running


@contextlib.asynccontextmanager
async def engines(folder: Path) -> AsyncIterator[tuple[Running, Running]]:
    database, index = await asyncio.gather(postgres.start(folder), valkey.start(folder))
    try:
        yield database, index
    finally:
        await asyncio.gather(database.stop(), index.stop())


@contextlib.asynccontextmanager
async def gateway() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A gateway that captures everything; where it is, and what it was asked, with the correlation id."""
    asked: list[dict[str, Any]] = []

    async def charge(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append({**body, "correlationId": request.headers["X-Correlation-Id"]})
        return web.json_response({"id": f"theirs-{len(asked)}", "key": body["key"], "status": "captured"})

    app = web.Application()
    app.router.add_post("/charges", charge)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}", asked
    finally:
        await runner.cleanup()


async def answer(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_servers_of_ones_own_are_used_and_left_alone(tmp_path: Path) -> None:
    async with engines(tmp_path / "theirs") as (database, index), gateway() as (gateway_url, asked):
        urls = {"DATABASE_URL": database.url, "REDIS_URL": index.url, "GATEWAY_URL": gateway_url}
        async with running(tmp_path / "data", "--api", "2", **urls) as up:
            assert (up.facts["databaseUrl"], up.facts["redisUrl"]) == (database.url, index.url)
            assert up.facts["gateway"] == gateway_url
            assert sorted(up.processes) == ["api-1", "api-2", "relay", "worker-1", "worker-2"]
            names = {psutil.Process(pid).name() for pid in up.pids()}
            assert not [name for name in names if "postgres" in name or "valkey" in name]
            assert not [one for one in ("postgres", "valkey", "gateway") if (up.folder / one).exists()]

            admin = await up.signed_in()
            product = await admin.product(price=500)
            order_id = await admin.order(product, X_Correlation_Id="from-the-outside")
            (end,) = await admin.ended(order_id)
            assert end["status"] == "CONFIRMED"
            (charge,) = asked
            assert (charge["orderId"], charge["amount"]) == (order_id, 500)
            assert charge["correlationId"] == "from-the-outside"
            assert await answer(database.url, "SELECT count(*) FROM orders") == 1
            async with redis.asyncio.Redis.from_url(index.url) as client:
                assert await client.exists("comanda:events")
            assert await up.stop() == 0
        assert await answer(database.url, "SELECT state FROM orders") == "CONFIRMED"
        async with redis.asyncio.Redis.from_url(index.url) as client:
            assert await client.ping()
