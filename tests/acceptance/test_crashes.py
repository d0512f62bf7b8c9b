"""Everything that runs is killed with -9 under a steady load, one after the other. Nothing that was accepted is lost."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio

from up import PATIENCE, Up, Visitor, captured, captures, eventually, is_alive, running

VICTIMS = ("api-1", "worker-1", "relay", "gateway", "postgres", "valkey")
STOCK = 400
LINES = 3  # products of the catalogue
PRICES = (1250, 6450, 777)
METHODS = ("pm_success", "pm_slow_400", "pm_flaky_1", "pm_success", "pm_decline_CARD_DECLINED")
EVERY = 0.07  # seconds between two orders


@dataclass
class Load:
    """Orders, one after the other, each sent again under its key until it is accepted."""

    customer: Visitor
    products: list[str]
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _draw: random.Random = field(default_factory=lambda: random.Random(4711))

    async def run(self) -> None:
        try:
            for number in itertools.count():
                self.sent += 1
                self._tasks.add(asyncio.create_task(self._accepted(f"order-{number}", self._body(number))))
                await asyncio.sleep(EVERY)
        finally:
            await asyncio.gather(*self._tasks)

    def _body(self, number: int) -> dict[str, Any]:
        chosen = self._draw.sample(self.products, self._draw.randint(1, 2))
        lines = [{"productId": product, "quantity": self._draw.randint(1, 2)} for product in chosen]
        return {"items": lines, "paymentMethod": METHODS[number % len(METHODS)]}

    async def _accepted(self, key: str, body: dict[str, Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    reply = await self.customer.ask("POST", "/orders", body, Idempotency_Key=key)
                except (aiohttp.ClientError, TimeoutError) as fault:
                    self.refused[type(fault).__name__] += 1
                else:
                    if reply.status == 202:
                        self.accepted[key] = reply.body
                        return
                    assert reply.status == 503, reply
                    self.refused["503"] += 1
                await asyncio.sleep(0.1)

    async def goes_on(self) -> None:
        """Wait until orders are accepted again."""
        until = len(self.accepted) + 8
        await eventually(lambda: len(self.accepted) >= until)


@asynccontextmanager
async def load(customer: Visitor, products: list[str]) -> AsyncIterator[Load]:
    """Under load in the block; behind it every order has been accepted."""
    steady = Load(customer, products)
    running_load = asyncio.create_task(steady.run())
    try:
        yield steady
    finally:
        running_load.cancel()
        await asyncio.gather(running_load, return_exceptions=True)
    assert len(steady.accepted) == steady.sent


async def flush_all(up: Up) -> None:
    client = redis.asyncio.Redis.from_url(up.facts["redisUrl"])
    try:
        await client.flushall()
    finally:
        await client.aclose()


async def test_kill_9_of_each_process_and_flushall_lose_nothing_and_charge_nobody_twice(tmp_path: Path) -> None:
    async with running(tmp_path / "data", "--json") as up:
        admin, customer = await up.signed_in(), await up.registered()
        products = [await admin.product(price=price, stock=STOCK) for price in PRICES]
        async with load(customer, products) as steady:
            await steady.goes_on()
            for victim in VICTIMS:
                old = up.kill(victim)
                await eventually(lambda victim=victim, old=old: up.processes.get(victim, old) != old)  # type: ignore[misc]
                await steady.goes_on()
                assert not is_alive(old)
            await flush_all(up)
            await steady.goes_on()
        assert steady.refused, "nobody noticed anything: no fault was a fault"

        await admin.all_ended()
        await check(up, admin, steady, products)
        assert all(is_alive(pid) for pid in up.processes.values())
        doctor = await up.comanda("doctor")
        assert doctor.code == 0, doctor.out + doctor.err
        letters = await up.comanda("dead-letters", "list", "--json")
        assert (letters.code, letters.out) == (0, "")


async def check(up: Up, admin: Visitor, steady: Load, products: list[str]) -> None:
    """Orders, money and stock, from the outside alone."""
    orders = {one["orderId"]: one for one in await admin.orders()}
    assert Counter(orders) == Counter(one["orderId"] for one in steady.accepted.values())
    ends = Counter((one["status"], one["sagaStatus"], one["failureReason"]) for one in orders.values())
    assert ends.keys() == {("CONFIRMED", "COMPLETED", None), ("CANCELLED", "COMPENSATED", "CARD_DECLINED")}, ends
    assert min(ends.values()) >= len(VICTIMS)
    assert ends["CANCELLED", "COMPENSATED", "CARD_DECLINED"] == len([n for n in range(steady.sent) if n % 5 == 4])

    ledger, sold = await up.ledger(), Counter[str]()
    assert not ledger.keys() - orders.keys()
    for order_id, order in orders.items():
        lines = ledger.get(order_id, [])
        confirmed = order["status"] == "CONFIRMED"
        assert captured(lines) == (order["totalAmount"] if confirmed else 0), (order, lines)
        assert captures(lines) <= 1, (order, lines)
        if confirmed:
            sold.update({item["productId"]: item["quantity"] for item in order["items"]})
    for product in products:
        left = STOCK - sold[product]
        assert await admin.stock(product) == (left, 0, left)

    for key, accepted in list(steady.accepted.items())[:: max(1, len(steady.accepted) // 20)]:
        again = steady.customer
        number = int(key.removeprefix("order-"))
        body = {
            "items": [{"productId": one["productId"], "quantity": one["quantity"]} for one in accepted["items"]],
            "paymentMethod": METHODS[number % len(METHODS)],
        }
        replay = await again.ask("POST", "/orders", body, Idempotency_Key=key)
        if replay.status != 422:  # the lines came back in another order
            assert (replay.status, replay.body["orderId"]) == (202, accepted["orderId"])
