"""A shop in which everything has happened that the console shows: to walk through it, and to take pictures of it."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from comanda.db.database import connect
from comanda.proof.chaos.proxy import HttpProxy
from receiver import Receiver
from up import COMANDA, PASSWORD, PATIENCE, Up, Visitor, environment, eventually, running

# Given up on after a second, and seen to be stuck two seconds later.
HURRIED = {"PAYMENT_PATIENCE_SECONDS": "1", "RETRY_BASE_SECONDS": "0.1"}
STAFF = {"operator": "lucia.ferrer@comanda.example", "viewer": "tom.baker@comanda.example"}
BROKEN = {"code": "INTERNAL_ERROR", "message": "the ledger is not available"}
SUSPENDED = {"code": "MERCHANT_SUSPENDED", "message": "refunds are switched off for this merchant"}
GOODS = (
    ("Espresso beans, 1 kg", "COFFEE-1KG", 1899, 400),
    ("Pour-over kettle", "KETTLE-09L", 6450, 60),
    ("Ceramic cup, 180 ml", "CUP-180", 1250, 220),
    ("Hand grinder", "GRINDER-H1", 12900, 8),
    ("Paper filters, 100", "FILTER-100", 790, 1000),
    ("Espresso machine", "MACHINE-E1", 129900, 5),
)
CUSTOMERS = (("ines.duarte", "Inês", "Duarte"), ("m.kowalska", "Maja", "Kowalska"), ("jonas.weber", "Jonas", "Weber"))

UNDELIVERED = """
WITH messages AS (
    INSERT INTO notifications (id, order_id, kind, channel, recipient, language, variables, state, error)
    SELECT uuid_v7(), uuid_v7(), 'order_confirmation', 'email', 'ana-' || n || '@example.com', 'en',
           jsonb_build_object('order_id', n::text, 'first_name', 'Ana', 'currency', 'USD', 'total_amount', 1000,
                              'lines', '[]'::jsonb), 'FAILED', 'given up on'
      FROM generate_series(1, $1::int) AS n RETURNING id
), stuck AS (
    INSERT INTO sagas (id, kind, version, subject, state, step, queue, priority, reached, attempt, since, reason,
                       note, correlation_id, created_at, updated_at)
    SELECT uuid_v7(), 'notification', 1, id, 'COMPENSATION_FAILED', 'deliver', 'notification-sending', 2, 'STARTED',
           7, now(), 'STEP_FAILED', $2, 'test', now(), now() FROM messages RETURNING *
)
INSERT INTO dead_letters (id, saga_id, queue, step, direction, error, payload)
SELECT uuid_v7(), id, queue, step, direction, note, jsonb_build_object('kind', kind) FROM stuck
"""


@dataclass
class Stage:
    """A running Comanda. `link` stands before its gateway and can hurt it; `receiver` takes webhooks."""

    up: Up
    link: HttpProxy
    receiver: Receiver
    products: list[str] = field(default_factory=list)
    customers: list[Visitor] = field(default_factory=list)
    orders: dict[str, list[str]] = field(default_factory=dict)

    async def admin(self) -> Visitor:
        return await self.up.signed_in()

    async def ask(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows of its database."""
        connection = await connect(self.up.facts["databaseUrl"], name="tests")
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            connection.terminate()

    async def stuck(self, *order_ids: str, seconds: float = PATIENCE) -> None:
        """Wait until operators have to look at these orders."""

        async def all_of_them() -> bool:
            statement = "SELECT count(*) FROM sagas WHERE state = 'COMPENSATION_FAILED' AND subject = ANY($1::uuid[])"
            return bool((await self.ask(statement, list(order_ids)))[0][0] == len(order_ids))

        await eventually(all_of_them, seconds)

    async def undelivered(self, count: int, said: str) -> None:
        """Messages that were given up on, as an outage of their provider leaves them."""
        await self.ask(UNDELIVERED, count, said)


@asynccontextmanager
async def staged(folder: Path, *options: str, **settings: str) -> AsyncIterator[Stage]:
    """`comanda up` with a gateway of its own, which outlives it."""
    receiver = Receiver()
    async with _gateway(folder) as port:
        link = HttpProxy(lambda: ("127.0.0.1", port), name="gateway")
        url = f"http://127.0.0.1:{await link.start()}"
        try:
            async with running(folder / "data", "--json", *options, GATEWAY_URL=url, **HURRIED, **settings) as up:
                yield Stage(up, link, receiver)
        finally:
            await link.stop()
            receiver.close()


@asynccontextmanager
async def _gateway(folder: Path) -> AsyncIterator[int]:
    """The mock gateway as a process; its port."""
    settings = {"GATEWAY_LATENCY_MS": "0", "GATEWAY_OUTCOMES": "100/0/0", "LOG_LEVEL": "warning"}
    process = await asyncio.create_subprocess_exec(
        *COMANDA, "gateway", "--data-dir", str(folder / "gateway"), env=environment(settings), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            said = (await process.stdout.readline()).decode().strip()
        yield urlsplit(said).port or 0
    finally:
        process.terminate()
        await process.wait()


async def furnish(stage: Stage) -> None:
    """Goods, staff, customers and a webhook; then orders in every state that there is."""
    admin = await stage.admin()
    for role, email in STAFF.items():
        names = dict(zip(("firstName", "lastName"), email.partition("@")[0].title().split("."), strict=True))
        await admin.made("/users", {"email": email, "password": PASSWORD, "role": role, **names})
    for name, sku, price, units in GOODS:
        made = await admin.made("/products", {"name": name, "sku": sku, "price": price, "minimumStock": 10})
        await admin.made("/inventory", {"productId": made["id"], "initialStock": units})
        stage.products.append(made["id"])
    for name, first, last in CUSTOMERS:
        stage.customers.append(await stage.up.registered(email=f"{name}@example.com", firstName=first, lastName=last))
    await admin.made("/webhooks", {"url": stage.receiver.url, "description": "Warehouse", "eventTypes": []})
    for what in (_sold, _turned_down, _after_the_order, _given_up):
        stage.orders |= await what(stage, admin)
    said = "the provider answers 421: try again later"
    await stage.undelivered(12, said)
    # The act on many that an operator would do then.
    redrive = ("dead-letters", "redrive", "--filter", "error=answers 421", "--reason", "The provider is back")
    assert (await stage.up.comanda(*redrive)).code == 0


async def _sold(stage: Stage, admin: Visitor) -> dict[str, list[str]]:
    placed = [
        await _placed(stage, number, {number % 5: 1 + number % 3, (number + 2) % 5: 1}, "pm_success")
        for number in range(9)
    ]
    placed.append(await _placed(stage, 0, {5: 1}, "pm_success"))
    assert {one["status"] for one in await admin.ended(*placed)} == {"CONFIRMED"}
    return {"sold": placed}


async def _turned_down(stage: Stage, admin: Visitor) -> dict[str, list[str]]:
    """By the bank, by the fraud rule, and for want of stock; and one that a failing answer held up."""
    declined = await _placed(stage, 1, {1: 1}, "pm_decline_INSUFFICIENT_FUNDS")
    fraud = await _placed(stage, 2, {5: 8}, "pm_success")
    flaky = await _placed(stage, 1, {2: 2}, "pm_flaky_2")
    await admin.ended(declined, fraud, flaky)
    return {"declined": [declined], "refused": [fraud], "flaky": [flaky]}


async def _after_the_order(stage: Stage, admin: Visitor) -> dict[str, list[str]]:
    """Shipped, delivered, refunded in part and in whole, with a note; a webhook that the receiver refuses."""
    shipped, delivered, partly, wholly = stage.orders["sold"][:4]
    for order_id in (shipped, delivered):
        parcel = {"carrier": "Correos", "trackingNumber": f"PQ{order_id[-8:].upper()}ES"}
        sent = await admin.made(f"/orders/{order_id}/shipments", parcel)
        if order_id == delivered:
            reply = await admin.ask("PATCH", f"/orders/{order_id}/shipments/{sent['shipmentId']}/deliver")
            assert reply.status == 200, reply
    for order_id, body in ((partly, {"amount": 500, "reason": "a cup was broken"}), (wholly, {"reason": "came late"})):
        asked = await admin.made(f"/orders/{order_id}/refunds", body, Idempotency_Key=uuid4().hex)
        await eventually(_refund_is(admin, order_id, asked["refundId"], "SUCCEEDED"))
    await admin.made(f"/orders/{partly}/notes", {"text": "Called her: keeps the other two cups."})
    stage.receiver.status, stage.receiver.answer = 503, b"upstream is being deployed\n"
    heard = len(stage.receiver.heard)
    late = await _placed(stage, 2, {0: 2}, "pm_success")
    await admin.ended(late)
    await eventually(lambda: len(stage.receiver.heard) > heard)
    return {"shipped": [shipped], "delivered": [delivered], "partly": [partly], "refunded": [wholly], "late": [late]}


async def _given_up(stage: Stage, admin: Visitor) -> dict[str, list[str]]:
    """The gateway answers 500 to everything, and then refuses a refund: orders and a refund wait for operators."""
    refunded = stage.orders["sold"][4]
    stage.link.fail("/refunds", status=403, body=SUSPENDED)
    asked = await admin.made(f"/orders/{refunded}/refunds", {"reason": "wrong size"}, Idempotency_Key=uuid4().hex)
    await eventually(_refund_is(admin, refunded, asked["refundId"], "FAILED", "STUCK", "PENDING"))
    stage.link.fail("*", body=BROKEN)
    stuck = [await _placed(stage, number, {number % 4: 1}, "pm_success") for number in range(4)]
    await stage.stuck(*stuck)
    await stage.stuck(asked["refundId"])
    stage.link.fail()
    return {"stuck": stuck, "refund stuck": [refunded]}


def _buyer(stage: Stage, number: int) -> Visitor:
    return stage.customers[number % len(stage.customers)]


async def _placed(stage: Stage, buyer: int, units: Mapping[int, int], method: str) -> str:
    """An order of so many units of each of `GOODS`; its id."""
    items = [{"productId": stage.products[good], "quantity": count} for good, count in units.items()]
    body = {"items": items, "paymentMethod": method}
    return str((await _buyer(stage, buyer).made("/orders", body))["orderId"])


def _refund_is(admin: Visitor, order_id: str, refund_id: str, *states: str) -> Any:
    async def is_so() -> bool:
        return (await admin.get(f"/orders/{order_id}/refunds/{refund_id}"))["status"] in states

    return is_so
