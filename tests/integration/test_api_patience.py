"""Whatever hangs behind the API, whoever asked is answered in seconds, and nothing is lost or done twice."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from api_client import Client, running_api
from comanda.proof.chaos.proxy import PostgresProxy

PATIENCE = 2.5  # seconds
ANSWERED_WITHIN = 10.0  # with what a busy machine adds


@pytest.fixture
async def api(database_url: str, redis_url: str) -> AsyncIterator[Client]:
    async with running_api(database_url, redis_url, request_seconds=PATIENCE) as client:
        yield client


async def test_a_request_behind_a_lock_is_answered_and_its_repeat_finds_one_order(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = await api.product(admin)
    body = {"items": [{"productId": product["id"], "quantity": 1}]}
    key = {"Idempotency-Key": uuid4().hex}
    async with api.database.transaction() as tx:
        await tx.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await tx.execute("LOCK TABLE orders, products IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(ANSWERED_WITHIN):
            placing = api.post("/api/v1/orders", body, token=customer.token, headers=key)
            refused = await asyncio.gather(placing, api.get(f"/api/v1/products/{product['id']}"))
        assert [reply.status for reply in refused] == [503, 503]
        assert {reply.body["code"] for reply in refused} == {"UNAVAILABLE"}
        assert all(reply.headers["Retry-After"] for reply in refused)
    placed = await api.post("/api/v1/orders", body, token=customer.token, headers=key)
    assert placed.status == 202
    listed = await api.get("/api/v1/orders", token=customer.token)
    assert [one["orderId"] for one in listed.body["items"]] == [placed.body["orderId"]]


async def test_a_database_that_falls_silent_keeps_nobody_waiting(database_url: str, redis_url: str) -> None:
    """Half-open TCP: no packet comes, and no end either."""
    parts = urlsplit(database_url)
    proxy = PostgresProxy(lambda: (parts.hostname or "", parts.port or 0), name="postgres")
    port = await proxy.start()
    netloc = parts.netloc.rpartition(":")[0] + f":{port}"
    try:
        url = urlunsplit(parts._replace(netloc=netloc))
        async with running_api(url, redis_url, request_seconds=PATIENCE) as api:
            customer = await api.person()
            await _answered(api, customer.token)
            proxy.swallow(is_swallowing=True)
            async with asyncio.timeout(ANSWERED_WITHIN):
                replies = await asyncio.gather(
                    *(api.get("/api/v1/orders", token=customer.token) for _ in range(20)),
                    api.get("/api/v1/health/ready"),
                )
            assert {reply.status for reply in replies} == {503}
            assert (await api.get("/api/v1/health/live")).status == 200
            proxy.swallow(is_swallowing=False)
            await _answered(api, customer.token)
    finally:
        await proxy.stop()


async def _answered(api: Client, token: str) -> None:
    """A first connection may take a busy machine longer than so short a patience: 503s before the 200 are fine."""
    async with asyncio.timeout(20):
        while (await api.get("/api/v1/orders", token=token)).status != 200:
            await asyncio.sleep(0.05)
