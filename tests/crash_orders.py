"""What leads an order, what follows it and who is told of it to each boundary."""

import asyncio
import os
import sys
from functools import partial
from uuid import uuid4

from comanda.failpoints import DIED
from crash_scene import Scene
from up import eventually

REFUND = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from comanda import failpoints
from comanda.payments.gateway import ChargeRequest, HttpGateway

async def main(folder, url, key):
    failpoints.switch_on(Path(folder))
    async with HttpGateway(url, timeout=5) as gateway:
        if await gateway.find(key) is None:
            await gateway.charge(ChargeRequest(uuid4(), 100, "USD", "pm_success", False), key)
        if await gateway.find_refund(f"{key}:refund") is None:
            await gateway.refund(key, 40, f"{key}:refund")

asyncio.run(main(*sys.argv[1:]))
"""


async def business(scene: Scene) -> None:
    """Every way an order can go."""
    await scene.orders("pm_success", "pm_decline_CARD_DECLINED", "pm_flaky_1", "pm_timeout_after_capture")


async def undoing(scene: Scene) -> None:
    await scene.orders("pm_unavailable", "pm_success")


async def waiting_for_an_answer(scene: Scene) -> None:
    await scene.orders("pm_slow_1200", "pm_slow_1500")


async def cancelling_late(scene: Scene) -> None:
    """It can't be told, or can't be completed: paid and sold already, it is undone."""
    for notes in ("unspeakable", "incompletable"):
        await scene.put(notes)
        await scene.order("pm_success", notes)


async def after_the_order(scene: Scene) -> None:
    """One is shipped, withdrawn and brought back in part; another is cancelled once it is confirmed."""
    sold, undone = [await scene.order(units=3) for _ in range(2)]
    await scene.customer.ended(sold, undone)
    first, second = scene.products
    cancelled = await scene.persist(scene.admin, "POST", f"/orders/{undone}/cancel", {}, Idempotency_Key=uuid4().hex)
    assert cancelled.status == 202, cancelled
    parcel = {"items": [{"productId": first, "quantity": 2}]}
    sent = await scene.persist(scene.admin, "POST", f"/orders/{sold}/shipments", parcel)
    assert sent.status in {201, 409}, sent
    rows = await scene.ask("SELECT id FROM shipments WHERE order_id = $1", sold)
    for row in rows:
        path = f"/orders/{sold}/shipments/{row['id']}/deliver"
        assert (await scene.persist(scene.admin, "PATCH", path)).status == 200
    for verb, units in (
        ("refunds", {"productId": second, "quantity": 1}),
        ("returns", {"productId": first, "quantity": 1}),
    ):
        body = {"reason": "broken", "items": [units], "restock": True}
        asked = await scene.persist(scene.admin, "POST", f"/orders/{sold}/{verb}", body, Idempotency_Key=uuid4().hex)
        assert asked.status == 202, asked
    note = {"text": "The customer called.", "isPublic": True}
    assert (await scene.persist(scene.admin, "POST", f"/orders/{sold}/notes", note)).status == 201
    await eventually(lambda: scene.ask("SELECT 1 FROM orders WHERE id = $1 AND state = 'CANCELLED'", undone))


async def calling_a_refund_off(scene: Scene) -> None:
    """One that can't even be begun."""
    await scene.put("unrefundable")
    order_id = await scene.order("pm_success", "unrefundable")
    await scene.customer.ended(order_id)
    asked = await scene.persist(
        scene.admin, "POST", f"/orders/{order_id}/refunds", {"reason": "broken"}, Idempotency_Key=uuid4().hex
    )
    assert asked.status == 202, asked
    stuck = f"SELECT id FROM sagas WHERE subject = '{asked.body['refundId']}' AND state = 'COMPENSATION_FAILED'"
    await eventually(partial(_called_off, scene, stuck, "settled otherwise"))


async def refunding(scene: Scene) -> None:
    """Half of a capture, given back by a process that dies of it and does it again under the same key."""
    key = uuid4().hex
    arguments = [sys.executable, "-c", REFUND, str(scene.failpoints), scene.up.facts["gateway"], key]
    codes = [DIED]
    while codes[-1] == DIED:
        process = await asyncio.create_subprocess_exec(*arguments, env=dict(os.environ))
        codes.append(await process.wait())
    assert (codes[1], codes[-1]) == (DIED, 0)
    lines = [line for lines in (await scene.up.ledger()).values() for line in lines if key in line["key"]]
    assert sorted((line["type"], line["amount"]) for line in lines) == [("capture", 100), ("refund", 40)]


async def hooking(scene: Scene) -> None:
    """A system of the shop's own is told of an order, asks for a test, changes its secret, and is taken away."""
    made = await scene.persist(
        scene.admin, "POST", "/webhooks", {"url": scene.pager.url, "eventTypes": ["OrderConfirmed"]}
    )
    assert made.status == 201, made
    ids = [one["id"] for one in (await scene.persist(scene.admin, "GET", "/webhooks")).body["items"]]
    for one in ids:
        assert (await scene.persist(scene.admin, "PATCH", f"/webhooks/{one}", {"description": "a"})).status == 200
        assert (await scene.persist(scene.admin, "POST", f"/webhooks/{one}/rotate-secret")).status == 200
        assert (await scene.persist(scene.admin, "POST", f"/webhooks/{one}/test")).status == 202
    order_id = await scene.order()
    told = "SELECT 1 FROM webhook_deliveries WHERE lane = $1 AND state = 'DELIVERED'"
    await eventually(lambda: scene.ask(told, order_id))
    for one in ids:
        assert (await scene.persist(scene.admin, "DELETE", f"/webhooks/{one}")).status in {204, 404}


async def nobody_takes_the_hook(scene: Scene) -> None:
    """It waits for its next attempt, and is called off."""
    scene.pager.is_deaf = True
    made = await scene.persist(scene.admin, "POST", "/webhooks", {"url": scene.pager.url})
    assert (await scene.persist(scene.admin, "POST", f"/webhooks/{made.body['id']}/test")).status == 202
    waiting = "SELECT id FROM sagas WHERE kind = 'webhook' AND attempt > 0 AND waits_until IS NOT NULL"
    await eventually(lambda: _called_off(scene, waiting, "it is gone"))
    await scene.persist(scene.admin, "DELETE", f"/webhooks/{made.body['id']}")


async def redelivering(scene: Scene) -> None:
    made = await scene.persist(scene.admin, "POST", "/webhooks", {"url": scene.pager.url})
    assert (await scene.persist(scene.admin, "POST", f"/webhooks/{made.body['id']}/test")).status == 202
    ended = "SELECT 1 FROM webhook_deliveries WHERE endpoint_id = $1 AND state = 'DELIVERED'"
    await eventually(lambda: scene.ask(ended, made.body["id"]))
    await scene.until_it_lives("webhooks", "redeliver", made.body["id"], "--since", "1", "--reason", "mended")
    await scene.persist(scene.admin, "DELETE", f"/webhooks/{made.body['id']}")


async def raising(scene: Scene) -> None:
    await scene.put("unreservable")
    await scene.orders("pm_success", "pm_success", notes="unreservable")


async def expiring(scene: Scene) -> None:
    """A reservation that runs out while its order can't pay."""
    assert await scene.comanda("queue", "pause", "payment-processing", "--reason", "a test") == 0
    expired = "SELECT 1 FROM reservations WHERE order_id = $1 AND state = 'EXPIRED'"
    paid = "SELECT 1 FROM sagas WHERE subject = $1 AND ended_at IS NOT NULL"
    order_id = await scene.order()
    while not await scene.ask(expired, order_id):
        if await scene.ask(paid, order_id):  # the workers had not heard of the pause yet
            order_id = await scene.order()
        await asyncio.sleep(0.05)
    assert await scene.comanda("queue", "resume", "payment-processing", "--reason", "a test") == 0


async def undeliverable(scene: Scene) -> None:
    """A message that its provider won't take, called off by the operator."""
    await scene.put("undeliverable")
    await scene.order("pm_success", "undeliverable")
    message = "SELECT id FROM sagas WHERE kind = 'notification' AND attempt > 0 AND waits_until IS NOT NULL"
    await eventually(lambda: _called_off(scene, message, "told by telephone"))


async def calling_the_operator(scene: Scene) -> None:
    order_id = await scene.stuck()

    def heard() -> bool:
        told = [body for _, body in scene.pager.heard if body.get("subject") == order_id]
        return any(body["type"] == "saga.stuck" and body["step"] == "reserve_inventory" for body in told)

    await eventually(heard)


async def nobody_hears_the_alert(scene: Scene) -> None:
    """It waits for its next attempt, and is called off."""
    scene.pager.is_deaf = True
    await scene.stuck()
    alert = "SELECT id FROM sagas WHERE kind = 'alert' AND attempt > 0 AND waits_until IS NOT NULL"
    await eventually(lambda: _called_off(scene, alert, "nobody is there"))


async def _called_off(scene: Scene, which: str, reason: str) -> bool:
    """Refused while the next attempt is under way: then ask again."""
    rows = [str(row["id"]) for row in await scene.ask(which)]
    return bool(rows) and await scene.comanda("saga", "compensate", *rows, "--reason", reason) in {0, DIED}
