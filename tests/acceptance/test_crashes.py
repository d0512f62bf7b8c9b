"""Each process is killed with -9 under a steady load, one after the other. Nothing that was accepted is lost."""

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

from up import PATIENCE, Up, Visitor, captured, captures, eventually, is_alive, lines_of, running

VICTIMS = ("api-1", "worker-1", "relay", "gateway", "postgres", "valkey")
STOCK = 400
PRICES = (1250, 6450, 777)
DECLINED = "pm_decline_CARD_DECLINED"
METHODS = ("pm_success", "pm_slow_400", "pm_flaky_1", "pm_timeout_after_capture", DECLINED)
EVERY = 0.07  # seconds between two orders


@dataclass
class Load:
    """Orders, one after the other, each sent again under its key until it is accepted."""

    customer: Visitor
    products: list[str]
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    accepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _draw: random.Random = field(default_factory=lambda: random.Random(4711))

    async def run(self) -> None:
        try:
            for number in itertools.count():
                key = f"order-{number}"
                self.bodies[key] = self._body(number)
                self._tasks.add(asyncio.create_task(self._accept(key)))
                await asyncio.sleep(EVERY)
        finally:
            await asyncio.gather(*self._tasks)

    def _body(self, number: int) -> dict[str, Any]:
        chosen = self._draw.sample(self.products, self._draw.randint(1, 2))
        lines = [{"productId": product, "quantity": self._draw.randint(1, 2)} for product in chosen]
        return {"items": lines, "paymentMethod": METHODS[number % len(METHODS)]}

    async def _accept(self, key: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    reply = await self.customer.ask("POST", "/orders", self.bodies[key], Idempotency_Key=key)
                except (aiohttp.ClientError, TimeoutError):
                    pass  # asked again under the same key
                else:
                    if reply.status == 202:
                        self.accepted[key] = reply.body
                        return
                    assert reply.status == 503, reply
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
    assert steady.accepted.keys() == steady.bodies.keys()


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
        await admin.all_ended()
        await check(up, admin, steady, products)
        assert all(is_alive(pid) for pid in up.processes.values())
        doctor = await up.comanda("doctor")
        assert doctor.code == 0, doctor.out + doctor.err
        letters = await up.comanda("dead-letters", "list", "--json")
        assert (letters.code, letters.out) == (0, "")
        # That the faults were faults, the supervisor tells: customers may well have noticed nothing.
        told = [line["message"] for line in lines_of(up.printed()) if line["process"] == "supervisor"]
        assert [one.partition(":")[0] for one in told if "ended by SIGKILL" in one] == list(VICTIMS)


async def check(up: Up, admin: Visitor, steady: Load, products: list[str]) -> None:
    """Orders, money and stock, from the outside alone."""
    listed = await admin.orders()
    orders = {one["orderId"]: one for one in listed}
    assert sorted(one["orderId"] for one in listed) == sorted(one["orderId"] for one in steady.accepted.values())
    declined = {steady.accepted[key]["orderId"] for key, body in steady.bodies.items() if DECLINED in body.values()}
    ends = {order_id: (one["status"], one["sagaStatus"], one["failureReason"]) for order_id, one in orders.items()}
    assert ends == {
        order_id: ("CANCELLED", "COMPENSATED", "CARD_DECLINED")
        if order_id in declined
        else ("CONFIRMED", "COMPLETED", None)
        for order_id in orders
    }
    assert min(len(declined), len(orders) - len(declined)) >= len(VICTIMS)

    ledger, sold = await up.ledger(), Counter[str]()
    assert ledger.keys() == orders.keys() - declined
    for order_id, order in orders.items():
        if order_id not in declined:
            assert captures(ledger[order_id]) == 1, (order, ledger[order_id])
            assert captured(ledger[order_id]) == order["totalAmount"], (order, ledger[order_id])
            sold.update({item["productId"]: item["quantity"] for item in order["items"]})
    for product in products:
        left = STOCK - sold[product]
        assert await admin.stock(product) == (left, 0, left)

    for key, accepted in steady.accepted.items():
        replay = await steady.customer.ask("POST", "/orders", steady.bodies[key], Idempotency_Key=key)
        assert (replay.status, replay.body) == (202, accepted)
