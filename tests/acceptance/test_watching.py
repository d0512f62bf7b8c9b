"""Watching an order: server-sent events that can be cut and resumed, and a status that waits for news."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import redis.asyncio

from up import Up, Visitor, eventually, running

LAST = {"OrderConfirmed", "OrderCancelled"}


class Events:
    """A stream that is read: (id, type, data) each."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, str, dict[str, object]] | None:
        """None: the server has ended it."""
        fields: dict[str, str] = {}
        while line := await self.response.content.readline():
            text = line.decode().rstrip("\n")
            if not text and "data" in fields:
                return fields["id"], fields["event"], json.loads(fields["data"])
            name, _, value = text.partition(": ")
            fields[name] = value
        return None

    async def until_ended(self) -> list[tuple[str, str]]:
        found = []
        async with asyncio.timeout(30):
            while (event := await self.next()) is not None:
                found.append((event[0], event[1]))
                if event[1] in LAST:
                    break
        return found


@asynccontextmanager
async def stream(who: Visitor, order_id: str, last: str | None = None) -> AsyncIterator[Events]:
    headers = who.headers | ({"Last-Event-ID": last} if last else {})
    async with who.session.get(f"{who.api}/api/v1/orders/{order_id}/events", headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Events(response)


async def test_head_of_a_stream_holds_nobody_up(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    order_id = await customer.order(await admin.product())
    url = f"{customer.api}/api/v1/orders/{order_id}"
    one = aiohttp.TCPConnector(limit=1)
    async with asyncio.timeout(30), aiohttp.ClientSession(connector=one, headers=customer.headers) as session:
        async with session.head(f"{url}/events") as told:
            assert (told.status, told.content_type) == (200, "text/event-stream")
        async with session.get(url) as after:
            assert after.status == 200


async def test_an_order_is_watched_from_its_beginning_to_its_end(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    product = await admin.product()
    order_id = await customer.order(product, method="pm_slow_300")
    async with stream(customer, order_id) as events:
        found = await events.until_ended()
    kinds = [kind for _, kind in found]
    assert kinds[0] == "OrderCreated"
    assert kinds[-1] == "OrderConfirmed"
    assert {"InventoryReserved", "PaymentInitiated", "PaymentProcessed", "ReservationConfirmed"} <= set(kinds)
    assert len(set(found)) == len(found)
    async with stream(customer, order_id) as again:
        assert await again.until_ended() == found, "whenever it is asked for"


async def test_a_cut_stream_goes_on_where_it_was_cut(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    product = await admin.product()
    for cut in range(1, 6):
        order_id = await customer.order(product, method="pm_slow_100")
        seen: list[tuple[str, str]] = []
        while not seen or seen[-1][1] not in LAST:
            async with stream(customer, order_id, seen[-1][0] if seen else None) as events, asyncio.timeout(20):
                for _ in range(cut):
                    event = await events.next()
                    assert event is not None
                    seen.append((event[0], event[1]))
                    if event[1] in LAST:
                        break
        async with stream(customer, order_id) as whole:
            assert seen == await whole.until_ended(), "no gap, no repeat"


async def test_nobody_watches_the_order_of_another(up: Up, admin: Visitor) -> None:
    customer, stranger = await up.registered(), await up.registered()
    order_id = await customer.order(await admin.product())
    for path in (f"/orders/{order_id}/events", f"/orders/{uuid4()}/events", f"/orders/{order_id}/status?wait=5"):
        reply = await stranger.ask("GET", path)
        assert (reply.status, reply.body["code"]) == (404, "ORDER_NOT_FOUND")


async def test_a_status_waits_until_the_order_has_ended(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    product = await admin.product()
    order_id = await customer.order(product, method="pm_slow_700")
    early = await customer.ask("GET", f"/orders/{order_id}/status?wait=0.05")
    assert early.body["status"] != "CONFIRMED"
    tag = early.headers["ETag"]
    same = await customer.ask("GET", f"/orders/{order_id}/status", If_None_Match=tag)
    assert same.status in {200, 304}
    ended = await customer.ask("GET", f"/orders/{order_id}/status?wait=20")
    assert ended.body["status"] == "CONFIRMED"
    now = ended.headers["ETag"]
    assert (await customer.ask("GET", f"/orders/{order_id}/status", If_None_Match=now)).status == 304
    waiting = asyncio.create_task(customer.ask("GET", f"/orders/{order_id}/status?wait=20", If_None_Match=now))
    await admin.made(f"/orders/{order_id}/shipments", {})
    assert (await waiting).body["status"] == "SHIPPED"


async def test_streams_outlive_redis_and_are_handed_on_when_a_process_is_replaced(
    tmp_path: Path, urls: dict[str, str]
) -> None:
    async with running(tmp_path / "data", "--json", **urls) as up:
        admin, customer = await up.signed_in(), await up.registered()
        product = await admin.product()
        order_id = await customer.order(product, method="pm_slow_1500")
        async with stream(customer, order_id) as events:
            assert await events.next() is not None
            client = redis.asyncio.Redis.from_url(up.facts["redisUrl"])
            await client.flushdb()
            await client.aclose()
            found = await events.until_ended()
            assert found[-1][1] == "OrderConfirmed"
        waiting = await customer.order(product)
        await customer.ended(waiting)
        async with stream(customer, waiting) as events:
            first = await events.until_ended()
            ran = await up.comanda("restart", "--only", "api")
            assert ran.code == 0, ran.err
            async with asyncio.timeout(20):
                assert await events.next() is None, "sent away, not cut off"
        async with stream(customer, waiting, first[2][0]) as events:
            assert await events.until_ended() == first[3:]
        await eventually(lambda: up.process.poll() is None)
