"""Orders as they are read: pages, one order, its status, and nobody else's."""

from typing import Any
from uuid import UUID, uuid4

from api_client import Client, Person


async def _place(api: Client, person: Person, product_id: str, quantity: int = 1) -> str:
    body = {"items": [{"productId": product_id, "quantity": quantity}], "shippingAddress": {"city": "Ávila"}}
    reply = await api.post("/api/v1/orders", body, token=person.token)
    assert reply.status == 202, reply
    found: str = reply.body["orderId"]
    return found


async def test_an_order_is_shown_with_lines_payment_and_history(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = await api.product(admin, price=1250)
    order_id = await _place(api, customer, product["id"], 3)
    async with api.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO payments (id, order_id, key, amount, currency) VALUES ($1, $2, 'k', 3750, 'USD')",
            uuid4(),
            order_id,
        )
    reply = await api.get(f"/api/v1/orders/{order_id}", token=customer.token)
    assert reply.status == 200
    body = reply.body
    assert (body["orderId"], body["status"], body["totalAmount"], body["currency"]) == (
        order_id,
        "PENDING",
        3750,
        "USD",
    )
    assert (body["sagaStatus"], body["currentStep"], body["failureReason"]) == ("RUNNING", "STARTED", None)
    assert body["shippingAddress"] == {"city": "Ávila"}
    assert body["items"] == [
        {
            "productId": product["id"],
            "sku": product["sku"],
            "name": "Coffee",
            "quantity": 3,
            "unitPrice": 1250,
            "totalPrice": 3750,
        }
    ]
    assert (body["payment"]["status"], body["payment"]["amount"]) == ("PENDING", 3750)
    assert body["history"][0]["toStatus"] == "PENDING"
    status = (await api.get(f"/api/v1/orders/{order_id}/status", token=customer.token)).body
    assert status.keys() == {"orderId", "status", "sagaStatus", "currentStep", "failureReason", "updatedAt"}
    assert (status["orderId"], status["status"], status["sagaStatus"]) == (order_id, "PENDING", "RUNNING")


async def test_a_product_that_is_named_twice_is_ordered_in_one_line(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = await api.product(admin, price=1250)
    items = [{"productId": product["id"], "quantity": quantity} for quantity in (2, 3)]
    placed = await api.post("/api/v1/orders", {"items": items}, token=customer.token)
    assert placed.status == 202
    body = (await api.get(f"/api/v1/orders/{placed.body['orderId']}", token=customer.token)).body
    assert [(one["productId"], one["quantity"]) for one in body["items"]] == [(product["id"], 5)]


async def test_a_customer_who_is_too_late_to_cancel_is_told_who_still_can(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = await api.product(admin, price=1250)
    order_id = await _place(api, customer, product["id"], 3)
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE orders SET state = 'CONFIRMED', ended_at = now() WHERE id = $1", UUID(order_id))
    cancel = f"/api/v1/orders/{order_id}/cancel"
    reply = await api.ask("POST", cancel, token=customer.token, headers={"Idempotency-Key": "late"})
    assert (reply.status, reply.body["code"]) == (409, "ORDER_STATE")
    assert "CANCELLED" not in reply.body["detail"]
    assert reply.body["detail"].startswith("The order is CONFIRMED: customers cancel it while it is PENDING")


async def test_what_needs_no_field_needs_no_body(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product = await api.product(admin, price=1250)
    order_id = await _place(api, customer, product["id"], 3)
    for path, who, expected in (
        (f"/api/v1/orders/{order_id}/shipments", admin, 409),  # it isn't paid yet
        (f"/api/v1/orders/{order_id}/cancel", customer, 202),
    ):
        reply = await api.ask("POST", path, token=who.token, headers={"Idempotency-Key": "once"})
        assert reply.status == expected, reply


async def test_another_customers_order_is_not_there(api: Client) -> None:
    admin, owner, other = await api.person("admin"), await api.person(), await api.person()
    order_id = await _place(api, owner, (await api.product(admin))["id"])
    for path in (f"/api/v1/orders/{order_id}", f"/api/v1/orders/{order_id}/status"):
        mine = await api.get(path, token=owner.token)
        theirs = await api.get(path, token=other.token)
        missing = await api.get(path.replace(order_id, str(uuid4())), token=other.token)
        assert (mine.status, theirs.status, missing.status) == (200, 404, 404)
        assert theirs.body["code"] == missing.body["code"] == "ORDER_NOT_FOUND"
        for role in ("admin", "operator", "viewer"):
            staff = await api.person(role)
            assert (await api.get(path, token=staff.token)).status == 200
        assert (await api.get(path.replace(order_id, "7"), token=owner.token)).status == 422
    assert (await api.get("/api/v1/orders", token=other.token)).body == {"items": [], "nextCursor": None}
    assert len((await api.get("/api/v1/orders", token=admin.token)).body["items"]) == 1


async def test_pages_lead_from_one_to_the_next(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product_id = (await api.product(admin))["id"]
    placed = [await _place(api, customer, product_id) for _ in range(5)]
    seen: list[str] = []
    path = "/api/v1/orders?limit=2&status=PENDING&status=CONFIRMED"
    pages = 0
    while path:
        reply = await api.get(path, token=customer.token)
        pages += 1
        seen += [one["orderId"] for one in reply.body["items"]]
        assert (reply.body["nextCursor"] is None) == ("Link" not in reply.headers)
        link = reply.headers.get("Link", "")
        assert link == "" or link.endswith('>; rel="next"')
        path = link[1 : link.index(">")] if link else ""
    assert (pages, seen) == (3, placed[::-1])
    cancelled: Any = await api.get("/api/v1/orders?status=CANCELLED", token=customer.token)
    assert cancelled.body["items"] == []


async def test_a_wrong_cursor_or_filter_is_refused(api: Client) -> None:
    customer = await api.person()
    for query in ("cursor=x", "cursor=%00", "cursor=" + "A" * 21, "cursor=" + "A" * 65, "cursor=ñ", "limit=0",
                  "limit=101", "status=GONE", "cursor="):  # fmt: skip
        reply = await api.get(f"/api/v1/orders?{query}", token=customer.token)
        assert (query, reply.status, reply.body["errors"][0]["field"].partition(".")[0]) == (
            query,
            422,
            query.partition("=")[0],
        )


async def test_the_mailbox_shows_staff_what_was_sent(api: Client) -> None:
    viewer = await api.person("viewer")
    order_id = uuid4()
    async with api.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO mailbox (key, channel, recipient, subject, body_text, order_id)"
            " VALUES ('1', 'email', 'Ana@example.com', 'Hello', 'Text', $1),"
            " ('2', 'sms', '+34', '', 'Text', gen_random_uuid())",
            order_id,
        )

    async def keys(query: str) -> set[str]:
        reply = await api.get(f"/api/v1/mailbox{query}", token=viewer.token)
        return {one["key"] for one in reply.body["items"]}

    assert await keys("") == {"1", "2"}
    assert await keys("?recipient=ana@EXAMPLE.com") == {"1"}
    assert await keys(f"?orderId={order_id}") == {"1"}
    assert await keys(f"?orderId={uuid4()}") == set()


async def test_an_address_is_refused_however_deep_it_is_nested(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    product_id = (await api.product(admin))["id"]
    for depth in (9, 100, 400, 500, 700, 950, 1_000, 100_000):
        for opened, closed in (("[", "]"), ('{"a":', "}")):
            address = '{"a":' + opened * depth + "1" + closed * depth + "}"
            text = f'{{"items":[{{"productId":"{product_id}","quantity":1}}],"shippingAddress":{address}}}'
            reply = await api.ask(
                "POST",
                "/api/v1/orders",
                data=text.encode(),
                headers={"Content-Type": "application/json"},
                token=customer.token,
            )
            assert reply.status in {400, 422}, (depth, reply.status)


async def test_whose_order_it_is_is_judged_before_key_and_body(api: Client) -> None:
    owner, stranger, viewer = await api.person(), await api.person(), await api.person("viewer")
    product = (await api.product(await api.person("admin")))["id"]
    placed = await api.post("/api/v1/orders", {"items": [{"productId": product, "quantity": 1}]}, token=owner.token)
    path = f"/api/v1/orders/{placed.body['orderId']}/cancel"
    for who, status in ((stranger, 404), (viewer, 403), (owner, 422)):
        assert (await api.post(path, {"zz": 1}, token=who.token, headers={"Idempotency-Key": "a"})).status == status
    for who, status in ((stranger, 404), (viewer, 403), (owner, 400)):
        assert (await api.post(path, {}, token=who.token)).status == status
