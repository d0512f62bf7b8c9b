"""Stock over HTTP, and what it leaves in the ledger and the outbox."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

from api_client import Client, Person, Reply

MOST = 10**12


async def _stocked(api: Client, admin: Person, units: int, **fields: Any) -> str:
    product = await api.product(admin)
    body = {"productId": product["id"], "initialStock": units, **fields}
    reply = await api.post("/api/v1/inventory", body, token=admin.token)
    assert reply.status == 201, reply
    found: str = product["id"]
    return found


async def _change(api: Client, admin: Person, verb: str, product_id: str, units: int, **more: Any) -> Any:
    body = {"productId": product_id, "quantity": units, **more}
    return await api.post(f"/api/v1/inventory/{verb}-stock", body, token=admin.token)


async def _keyed(api: Client, admin: Person, verb: str, product_id: str, units: int, key: str) -> Reply:
    body = {"productId": product_id, "quantity": units}
    headers = {"Idempotency-Key": key}
    return await api.post(f"/api/v1/inventory/{verb}-stock", body, token=admin.token, headers=headers)


async def _stock(api: Client, product_id: str) -> tuple[int, int, int]:
    body = (await api.get(f"/api/v1/inventory/product/{product_id}")).body
    return body["physicalStock"], body["reservedStock"], body["availableStock"]


async def test_opening_stock_is_a_movement_and_an_event(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin, minimumStock=10)
    body = {"productId": product["id"], "initialStock": 7}
    headers = {"X-Correlation-Id": "opening"}
    reply = await api.post("/api/v1/inventory", body, token=admin.token, headers=headers)
    assert reply.status == 201
    assert (reply.body["sku"], reply.body["location"], reply.body["physicalStock"]) == (product["sku"], "MAIN", 7)
    assert (reply.body["minimumStock"], reply.body["status"]) == (10, "low_stock")
    async with api.database.connection() as tx:
        (move,) = await tx.fetch("SELECT * FROM movements")
        events = await tx.fetch("SELECT type, correlation_id, payload FROM outbox ORDER BY id")
    assert (move["kind"], move["on_hand_delta"], move["held_delta"]) == ("RESTOCK", 7, 0)
    assert move["actor"] == str(admin.id)
    assert [(one["type"], one["correlation_id"]) for one in events] == [
        ("StockUpdated", "opening"),
        ("LowStock", "opening"),
    ]
    assert json.loads(events[0]["payload"])["availableStock"] == 7


async def test_stock_is_opened_once_for_a_location(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, 0)
    body = {"productId": product_id, "initialStock": 1}
    reply = await api.post("/api/v1/inventory", body, token=admin.token)
    assert (reply.status, reply.body["code"]) == (409, "STOCK_EXISTS")
    assert (await api.post("/api/v1/inventory", body | {"location": "SECOND"}, token=admin.token)).status == 201
    unknown = await api.post("/api/v1/inventory", body | {"productId": str(uuid4())}, token=admin.token)
    assert (unknown.status, unknown.body["code"]) == (422, "PRODUCT_UNKNOWN")
    assert await _stock(api, product_id) == (1, 0, 1)
    async with api.database.connection() as tx:
        assert await tx.fetchval("SELECT count(*) FROM movements") == 1


async def test_what_is_held_does_not_go(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, 10)
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE stock SET held = 4")
    assert await _stock(api, product_id) == (10, 4, 6)
    reply = await _change(api, admin, "remove", product_id, 7)
    assert (reply.status, reply.body["code"]) == (409, "STOCK_HELD")
    reply = await _change(api, admin, "remove", product_id, 6, movementType="DAMAGE", reason="dropped")
    assert (reply.status, reply.body["availableStock"], reply.body["status"]) == (200, 0, "out_of_stock")
    reply = await _change(api, admin, "add", product_id, 5)
    assert (reply.status, reply.body["physicalStock"]) == (200, 9)
    assert (await _change(api, admin, "add", product_id, 5, location="NOWHERE")).status == 404
    assert (await _change(api, admin, "add", str(uuid4()), 5)).status == 404
    assert (await _change(api, admin, "add", product_id, 5, movementType="SALE")).status == 422
    async with api.database.connection() as tx:
        assert await tx.fetchval("SELECT sum(on_hand_delta) FROM movements") == 9
        assert await tx.fetchval("SELECT reason FROM movements WHERE kind = 'DAMAGE'") == "dropped"


async def test_more_than_can_be_counted_is_refused(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, MOST)
    reply = await _change(api, admin, "add", product_id, 1)
    assert (reply.status, reply.body["code"]) == (422, "STOCK_TOO_LARGE")
    await api.post(
        "/api/v1/inventory",
        {"productId": product_id, "initialStock": MOST, "location": "B"},
        token=admin.token,
    )
    assert await _stock(api, product_id) == (2 * MOST, 0, 2 * MOST)
    assert (await api.get("/api/v1/inventory/stats", token=admin.token)).body["physicalStock"] == 2 * MOST
    assert (await api.get("/api/v1/inventory")).status == 200
    async with api.database.transaction() as tx:
        await tx.execute(
            "UPDATE stock SET on_hand = 2 * $1::bigint WHERE location = 'B'", MOST
        )  # what orders gave back
    assert (await _change(api, admin, "remove", product_id, 1, location="B")).status == 200, "it can always go"


async def test_changes_at_once_are_all_counted(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, 5)
    adding = [_change(api, admin, "add", product_id, 2) for _ in range(10)]
    removing = [_change(api, admin, "remove", product_id, 3) for _ in range(10)]
    replies = await asyncio.gather(*adding, *removing)
    removed = sum(reply.status == 200 for reply in replies[10:])
    assert all(reply.status in {200, 409} for reply in replies)
    assert await _stock(api, product_id) == (25 - 3 * removed, 0, 25 - 3 * removed)


async def test_a_change_under_a_key_is_made_once_however_often_it_is_sent(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, 10)
    for verb, units, left in (("add", 5, 15), ("remove", 2, 13)):
        replies = await asyncio.gather(*(_keyed(api, admin, verb, product_id, units, verb) for _ in range(5)))
        assert {one.status for one in replies} == {200}
        assert all(one.body == replies[0].body for one in replies)
        assert replies[0].body["physicalStock"] == left
        assert sum("Idempotent-Replayed" not in one.headers for one in replies) == 1
        assert await _stock(api, product_id) == (left, 0, left)
    for other in (_keyed(api, admin, "add", product_id, 6, "add"), _keyed(api, admin, "remove", product_id, 5, "add")):
        reply = await other
        assert (reply.status, reply.body["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_a_refused_change_is_not_remembered(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, 3)
    reply = await _keyed(api, admin, "remove", product_id, 4, "sold at the counter")
    assert (reply.status, reply.body["code"]) == (409, "STOCK_HELD")
    assert (await _change(api, admin, "add", product_id, 1)).status == 200
    assert (await _keyed(api, admin, "remove", product_id, 4, "sold at the counter")).status == 200
    assert await _stock(api, product_id) == (0, 0, 0)


async def test_availability_is_told_without_holding_anything(api: Client) -> None:
    admin = await api.person("admin")
    product_id = await _stocked(api, admin, 5)
    await api.post(
        "/api/v1/inventory", {"productId": product_id, "initialStock": 2, "location": "B"}, token=admin.token
    )

    async def check(**body: Any) -> Any:
        return (await api.post("/api/v1/inventory/check-availability", {"productId": product_id, **body})).body

    assert (await check(quantity=7))["isAvailable"] is True
    assert (await check(quantity=8))["isAvailable"] is False
    assert (await check(quantity=3, location="B"))["availableStock"] == 2
    assert (await check(quantity=0))["status"] == 422


async def test_the_list_is_filtered(api: Client) -> None:
    admin = await api.person("admin")
    plenty = await _stocked(api, admin, 50, minimumStock=5)
    low = await _stocked(api, admin, 3, minimumStock=5, location="B")
    out = await _stocked(api, admin, 0)

    async def products(path: str) -> set[str]:
        reply = await api.get(f"/api/v1/inventory{path}")
        assert (reply.status, reply.body["total"]) == (200, len(reply.body["items"]))
        return {one["productId"] for one in reply.body["items"]}

    assert await products("") == {plenty, low, out}
    assert await products("/low-stock") == {low}
    assert await products("/out-of-stock") == {out}
    assert await products("?status=in_stock") == {plenty}
    assert await products("?location=B") == {low}
    assert await products("?minStock=1&maxStock=10") == {low}
    assert await products(f"?productId={out}") == {out}
    assert await products("?search=nothing") == set()
    stats = (await api.get("/api/v1/inventory/stats", token=admin.token)).body
    assert (stats["products"], stats["lowStock"], stats["outOfStock"], stats["availableStock"]) == (3, 1, 1, 53)
    empty = await api.product(admin)
    assert await _stock(api, empty["id"]) == (0, 0, 0)
    assert (await api.get(f"/api/v1/inventory/product/{uuid4()}")).status == 404


async def test_staff_hold_stock_and_let_it_go_or_send_it_out(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin)
    await api.post("/api/v1/inventory", {"productId": product["id"], "initialStock": 5}, token=admin.token)

    async def counts() -> tuple[int, int]:
        found = (await api.get(f"/api/v1/inventory/product/{product['id']}")).body
        return found["physicalStock"], found["reservedStock"]

    wish = {"productId": product["id"], "quantity": 3, "reason": "showroom"}
    held = [await api.post("/api/v1/inventory/reserve", wish, token=admin.token) for _ in range(2)]
    assert [one.status for one in held] == [201, 409]
    assert held[1].body["code"] == "STOCK_TAKEN"
    assert (held[0].body["status"], held[0].body["orderId"], await counts()) == ("ACTIVE", None, (5, 3))
    body = {"reservationId": held[0].body["reservationId"], "reason": "over"}
    for expected in (200, 409):
        let_go = await api.ask("PUT", "/api/v1/inventory/release-reservation", token=admin.token, json=body)
        assert let_go.status == expected
    assert await counts() == (5, 0)
    again = await api.post("/api/v1/inventory/reserve", wish, token=admin.token)
    body = {"reservationId": again.body["reservationId"]}
    sent = await api.ask("PUT", "/api/v1/inventory/fulfill-reservation", token=admin.token, json=body)
    assert (sent.body["status"], await counts()) == ("FULFILLED", (2, 0))
    path = f"/api/v1/inventory/movements?productId={product['id']}"
    kinds = [one["kind"] for one in (await api.get(path, token=admin.token)).body["items"]]
    assert kinds == ["SALE", "RESERVATION", "RELEASE_RESERVATION", "RESERVATION", "RESTOCK"]
    first = (await api.get(f"{path}&limit=2", token=admin.token)).body
    second = (await api.get(f"{path}&limit=2&cursor={first['nextCursor']}", token=admin.token)).body
    assert [one["kind"] for one in second["items"]] == kinds[2:4]


async def test_what_an_order_holds_nobody_sells_by_hand(api: Client) -> None:
    admin = await api.person("admin")
    product = await api.product(admin)
    await api.post("/api/v1/inventory", {"productId": product["id"], "initialStock": 5}, token=admin.token)
    held = await api.post("/api/v1/inventory/reserve", {"productId": product["id"], "quantity": 1}, token=admin.token)
    mine = held.body["reservationId"]
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE reservations SET order_id = $2 WHERE id = $1", UUID(mine), uuid4())
    body = {"reservationId": mine}
    refused = await api.ask("PUT", "/api/v1/inventory/fulfill-reservation", token=admin.token, json=body)
    assert (refused.status, refused.body["code"]) == (409, "RESERVATION_OF_ORDER")
    assert (await api.ask("PUT", "/api/v1/inventory/release-reservation", token=admin.token, json=body)).status == 200
