"""Orders after the order, from outside: routes, keys, rights, and the ledgers at the end."""

import asyncio
from typing import Any
from uuid import uuid4

from up import PASSWORD, Reply, Up, Visitor, captured, eventually


def key() -> dict[str, str]:
    return {"Idempotency_Key": uuid4().hex}


async def sold(customer: Visitor, *products: str) -> str:
    order_id = await customer.order(*products)
    (status,) = await customer.ended(order_id)
    assert status["status"] == "CONFIRMED"
    return order_id


async def refunded(admin: Visitor, order_id: str, refund_id: str) -> None:
    async def is_done() -> bool:
        return bool((await admin.get(f"/orders/{order_id}/refunds/{refund_id}"))["status"] == "SUCCEEDED")

    await eventually(is_done)


async def test_a_refund_is_asked_for_once_under_its_key(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    order_id = await sold(customer, await admin.product())
    path, body, mine = f"/orders/{order_id}/refunds", {"amount": 250, "reason": "late"}, key()
    unnamed = await admin.ask("POST", path, body)
    assert (unnamed.status, unnamed.body["code"]) == (400, "IDEMPOTENCY_KEY_REQUIRED")
    replies = await asyncio.gather(*(admin.ask("POST", path, body, **mine) for _ in range(5)))
    assert {reply.status for reply in replies} <= {202, 409}
    told = [reply.body for reply in replies if reply.status == 202]
    assert all(one == told[0] for one in told)
    again = await admin.ask("POST", path, body, **mine)
    assert (again.status, again.body, again.headers["Idempotent-Replayed"]) == (202, told[0], "true")
    assert again.headers["Location"] == f"/api/v1/orders/{order_id}/refunds/{told[0]['refundId']}"
    other = await admin.ask("POST", path, body | {"amount": 251}, **mine)
    assert (other.status, other.body["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    await refunded(admin, order_id, told[0]["refundId"])
    assert captured((await up.ledger())[order_id]) == 1250 - 250
    seen = await customer.get(f"/orders/{order_id}")
    assert (seen["status"], seen["payment"]["status"], seen["payment"]["refunded"]) == (
        "CONFIRMED", "PARTIALLY_REFUNDED", 250,
    )  # fmt: skip
    assert [one["amount"] for one in seen["refunds"]] == [250]


async def test_a_repeat_while_the_first_runs_is_told_what_the_first_was_told(up: Up, admin: Visitor) -> None:
    """All that is left, asked for by one intent several times at once: nobody hears that nothing is left."""
    customer = await up.registered()
    product = await admin.product()
    for verb, body in (("refunds", {"reason": "lost"}), ("cancel", {})):
        order_id = await sold(customer, product)
        mine = key()
        path = f"/orders/{order_id}/{verb}"
        replies = await asyncio.gather(*(admin.ask("POST", path, body, **mine) for _ in range(8)))
        assert {reply.status for reply in replies} == {202}, [reply.body for reply in replies]
        assert len({str(reply.body) for reply in replies}) == 1


async def test_who_may_only_look_cancels_nothing(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    names = {"password": PASSWORD, "firstName": "A", "lastName": "B", "role": "viewer"}
    made = await admin.made("/users", {"email": f"{uuid4().hex}@example.com", **names})
    viewer = await up.signed_in(made["email"])
    order_id = await customer.order(await admin.product(), method="pm_slow_500")
    refused = await viewer.ask("POST", f"/orders/{order_id}/cancel", {}, **key())
    assert (refused.status, refused.body["code"]) == (403, "FORBIDDEN")
    (ended,) = await customer.ended(order_id)
    assert ended["status"] == "CONFIRMED"


async def test_fifty_refunds_at_once_never_pass_the_capture(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    order_id = await sold(customer, await admin.product(price=1000))
    path, body = f"/orders/{order_id}/refunds", {"amount": 90, "reason": "broken"}
    replies = await asyncio.gather(*(admin.ask("POST", path, body, **key()) for _ in range(50)))
    granted = [reply.body["refundId"] for reply in replies if reply.status == 202]
    refused = [reply for reply in replies if reply.status != 202]
    assert len(granted) == 11
    assert {(one.status, one.body["code"]) for one in refused} == {(409, "REFUND_EXCEEDED")}
    assert "10" in refused[0].body["detail"]
    await asyncio.gather(*(refunded(admin, order_id, one) for one in granted))
    assert captured((await up.ledger())[order_id]) == 1000 - 11 * 90
    rest = await admin.ask("POST", path, {"reason": "the rest"}, **key())
    await refunded(admin, order_id, rest.body["refundId"])
    await eventually(lambda: _has_status(customer, order_id, "REFUNDED"))
    assert captured((await up.ledger())[order_id]) == 0
    more = await admin.ask("POST", path, body, **key())
    assert (more.status, more.body["code"]) == (409, "ORDER_STATE")


async def _has_status(who: Visitor, order_id: str, status: str) -> bool:
    return bool((await who.status(order_id))["status"] == status)


async def test_an_order_is_shipped_delivered_and_comes_back(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    first, second = await admin.product(price=500, stock=10), await admin.product(price=700, stock=10)
    order_id = await sold(customer, first, second)
    path = f"/orders/{order_id}"
    parcel = {"items": _one(first), "carrier": "Correos", "trackingNumber": "ES1"}
    name = key()
    sent = await admin.made(f"{path}/shipments", parcel, **name)
    repeated = await admin.ask("POST", f"{path}/shipments", parcel, **name)
    assert (repeated.status, repeated.body, repeated.headers["Idempotent-Replayed"]) == (201, sent, "true")
    other = await admin.ask("POST", f"{path}/shipments", {}, **name)
    assert (other.status, other.body["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert len((await customer.get(f"{path}/shipments"))["items"]) == 1
    assert (await customer.status(order_id))["status"] == "CONFIRMED"
    too_many = await admin.ask("POST", f"{path}/shipments", {"items": _one(first)})
    assert (too_many.status, too_many.body["code"]) == (409, "UNITS_EXCEEDED")
    unknown = await admin.ask("POST", f"{path}/shipments", {"items": _one(str(uuid4()))})
    assert (unknown.status, unknown.body["code"]) == (422, "ITEM_UNKNOWN")
    last = await admin.made(f"{path}/shipments", {})
    assert (await customer.status(order_id))["status"] == "SHIPPED"
    again = await admin.ask("POST", f"{path}/shipments", {})
    assert (again.status, again.body["code"]) == (409, "ORDER_STATE")
    assert "DELIVERED, REFUNDED" in again.body["detail"], "it names the legal ones"
    for one in (sent, last):
        reply = await admin.ask("PATCH", f"{path}/shipments/{one['shipmentId']}/deliver")
        assert reply.status == 200
    assert (await customer.status(order_id))["status"] == "DELIVERED"
    back = await admin.made(f"{path}/returns", {"items": _one(first), "reason": "too small"}, **key())
    assert (back["kind"], back["amount"], back["restocked"]) == ("RETURN", 500, True)
    await refunded(admin, order_id, back["refundId"])
    await eventually(lambda: _is_stocked(admin, first, 10))
    assert await admin.stock(second) == (9, 0, 9)
    await admin.made(f"{path}/notes", {"text": "She called.", "isPublic": True})
    await admin.made(f"{path}/notes", {"text": "Nice person."})
    assert [one["text"] for one in (await customer.get(path))["remarks"]] == ["She called."]
    assert [one["text"] for one in (await admin.get(path))["remarks"]] == ["She called.", "Nice person."]
    kinds = {mail["subject"].split()[0] for mail in (await admin.get(f"/mailbox?orderId={order_id}"))["items"]}
    assert len(kinds) >= 2


def _one(product: str) -> list[dict[str, Any]]:
    return [{"productId": product, "quantity": 1}]


async def _is_stocked(who: Visitor, product: str, units: int) -> bool:
    return (await who.stock(product))[0] == units


async def test_nobody_reaches_into_the_order_of_another(up: Up, admin: Visitor) -> None:
    customer, stranger = await up.registered(), await up.registered()
    order_id = await sold(customer, await admin.product())
    reads: list[tuple[str, str, Any]] = [("GET", path, None) for path in ("shipments", "refunds", f"refunds/{uuid4()}")]
    for method, path, body in (("POST", "cancel", {}), *reads):
        theirs = await stranger.ask(method, f"/orders/{order_id}/{path}", body, **key())
        nobodys = await stranger.ask(method, f"/orders/{uuid4()}/{path}", body, **key())
        assert (theirs.status, theirs.body["code"]) == (404, "ORDER_NOT_FOUND")
        assert {**theirs.body, "instance": "", "correlationId": ""} == {
            **nobodys.body, "instance": "", "correlationId": "",
        }, "nothing tells that it is there"  # fmt: skip
    for path in ("shipments", "refunds", "returns", "notes"):
        assert (await customer.ask("POST", f"/orders/{order_id}/{path}", {}, **key())).status == 403


async def test_cancelling_races_the_charge_two_hundred_times(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    product = await admin.product(price=1000, stock=1000)

    async def race(number: int) -> tuple[str, Reply]:
        order_id = await customer.order(product)
        for _ in range(number % 5):
            await customer.status(order_id)  # a little later each
        return order_id, await customer.ask("POST", f"/orders/{order_id}/cancel", {"reason": "too late"}, **key())

    raced: list[tuple[str, Reply]] = []
    for _ in range(10):
        raced += await asyncio.gather(*(race(number) for number in range(20)))
    await customer.ended(*(order_id for order_id, _ in raced))
    ledger = await up.ledger()
    statuses = {one["orderId"]: one for one in await customer.orders()}
    cancelled = 0
    for order_id, reply in raced:
        assert reply.status in {202, 409}, reply
        found = statuses[order_id]
        cancelled += reply.status == 202
        assert found["status"] == ("CANCELLED" if reply.status == 202 else "CONFIRMED"), (reply, found)
        assert captured(ledger.get(order_id, [])) == (0 if reply.status == 202 else 1000)
        if reply.status == 202:
            assert found["failureReason"] == "CANCELLED_BY_CUSTOMER"
    assert await admin.stock(product) == (800 + cancelled, 0, 800 + cancelled)


async def test_staff_cancel_what_is_confirmed(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    product = await admin.product(price=1000, stock=10)
    order_id = await sold(customer, product)
    refused = await customer.ask("POST", f"/orders/{order_id}/cancel", {}, **key())
    assert (refused.status, refused.body["code"]) == (409, "ORDER_STATE")
    mine = key()
    accepted = await admin.ask("POST", f"/orders/{order_id}/cancel", {"reason": "sold out"}, **mine)
    assert (accepted.status, accepted.body["sagaStatus"]) == (202, "COMPENSATING")
    await eventually(lambda: _has_status(customer, order_id, "CANCELLED"))
    assert (await customer.status(order_id))["failureReason"] == "CANCELLED_BY_OPERATOR"
    assert captured((await up.ledger())[order_id]) == 0
    assert await admin.stock(product) == (10, 0, 10)
    again = await admin.ask("POST", f"/orders/{order_id}/cancel", {"reason": "sold out"}, **mine)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")


async def test_doctor_finds_nothing_after_all_of_that(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    order_id = await sold(customer, await admin.product())
    asked = await admin.made(f"/orders/{order_id}/refunds", {"amount": 1, "reason": "late"}, **key())
    await refunded(admin, order_id, asked["refundId"])
    await admin.all_ended()
    checked = await up.comanda("doctor", "--json")
    assert checked.code == 0, checked.out
