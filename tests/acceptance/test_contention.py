"""Many at once: on one product, under one key, on one API process."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from up import Reply, Up, Visitor, basket, captured

CROWD = 1000


async def test_two_hundred_orders_for_twenty_units_sell_exactly_twenty(up: Up, admin: Visitor) -> None:
    product = await admin.product(stock=20)
    customers = await asyncio.gather(*(up.registered() for _ in range(20)))
    buying = [each.ask("POST", "/orders", basket(product)) for each in customers for _ in range(10)]
    replies = await asyncio.gather(*buying)
    assert Counter(reply.status for reply in replies) == {202: 200}
    ends = await admin.ended(*(reply.body["orderId"] for reply in replies))
    assert Counter(end["status"] for end in ends) == {"CONFIRMED": 20, "CANCELLED": 180}
    assert {end["failureReason"] for end in ends} == {None, "OUT_OF_STOCK"}
    assert await admin.stock(product) == (0, 0, 0)
    ledger = await up.ledger()
    paid = {end["orderId"] for end in ends if captured(ledger.get(end["orderId"], []))}
    assert paid == {end["orderId"] for end in ends if end["status"] == "CONFIRMED"}


async def test_one_key_twenty_times_at_once_is_one_order(up: Up, admin: Visitor) -> None:
    customer, product = await up.registered(), await admin.product(stock=100)
    replies = await asyncio.gather(
        *(customer.ask("POST", "/orders", basket(product), Idempotency_Key="once") for _ in range(20))
    )
    assert {reply.status for reply in replies} == {202}
    first = replies[0].body
    assert all(reply.body == first for reply in replies)
    assert Counter(reply.headers.get("Idempotent-Replayed") for reply in replies) == {"true": 19, None: 1}
    await customer.ended(first["orderId"])
    assert [one["orderId"] for one in await customer.orders()] == [first["orderId"]]
    assert await admin.stock(product) == (99, 0, 99)


async def test_a_key_belongs_to_one_body_of_one_customer(up: Up, admin: Visitor) -> None:
    ana, ben, product = await up.registered(), await up.registered(), await admin.product()
    body = basket(product)
    first = await ana.made("/orders", body, Idempotency_Key="mine")
    other = {"items": [{"productId": product, "quantity": 2}]}
    refused = await ana.ask("POST", "/orders", other, Idempotency_Key="mine")
    assert (refused.status, refused.body["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    theirs = await ben.ask("POST", "/orders", body, Idempotency_Key="mine")
    assert theirs.body["orderId"] != first["orderId"]
    assert "Idempotent-Replayed" not in theirs.headers
    assert (await ana.made("/orders", body, Idempotency_Key="mine"))["orderId"] == first["orderId"]
    await admin.ended(first["orderId"], theirs.body["orderId"])
    assert (await ana.made("/orders", body, Idempotency_Key="mine")) == first


async def test_equal_orders_without_a_key_are_orders_of_their_own(up: Up, admin: Visitor) -> None:
    customer, product = await up.registered(), await admin.product()
    twice = await asyncio.gather(*(customer.order(product) for _ in range(2)))
    assert len(set(twice)) == 2
    assert {end["status"] for end in await customer.ended(*twice)} == {"CONFIRMED"}


@pytest.mark.parametrize("crowd", [CROWD])
async def test_one_api_process_takes_a_thousand_requests_that_are_under_way_at_once(
    up: Up, admin: Visitor, crowd: int
) -> None:
    product = await admin.product(stock=crowd)
    raw = json.dumps(basket(product)).encode()
    here, everybody = Counter[str](), asyncio.Event()

    async def halves() -> AsyncIterator[bytes]:
        """Nobody sends the end of an order before all have sent its beginning."""
        yield raw[:10]
        here["begun"] += 1
        if here["begun"] == crowd:
            everybody.set()
        await everybody.wait()
        yield raw[10:]

    headers = admin.headers | {"Content-Type": "application/json", "Content-Length": str(len(raw))}

    async def buy() -> Reply:
        async with admin.session.post(f"{admin.api}/api/v1/orders", data=halves(), headers=headers) as response:
            return Reply(response.status, await response.json(), response.headers)

    assert [name for name in up.processes if name.startswith("api-")] == ["api-1"]
    replies = await asyncio.gather(*(buy() for _ in range(crowd)))
    assert Counter(reply.status for reply in replies) == {202: crowd}
    assert len({reply.body["orderId"] for reply in replies}) == crowd
    await admin.all_ended()
    assert await admin.stock(product) == (0, 0, 0)
