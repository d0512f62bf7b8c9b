"""How an order ends, by what its payment answers; seen by the customer, the stock, the mailbox and the gateway."""

import asyncio
from typing import Any

import pytest

from up import Up, Visitor, captured, captures, eventually

DECLINES = (
    "INSUFFICIENT_FUNDS",
    "CARD_EXPIRED",
    "CARD_DECLINED",
    "INVALID_CARD",
    "CVV_FAILED",
    "CARD_STOLEN",
    "LIMIT_EXCEEDED",
    "CARD_NOT_ACTIVATED",
    "INVALID_BILLING_ADDRESS",
    "CARD_TYPE_NOT_ACCEPTED",
)
DEAREST = 1_000_000  # 10,000.00


async def mails(admin: Visitor, order_id: str) -> list[dict[str, Any]]:
    """The messages about an order, once there is one."""
    found: list[dict[str, Any]] = []

    async def came() -> bool:
        found[:] = (await admin.get(f"/mailbox?orderId={order_id}"))["items"]
        return bool(found)

    await eventually(came)
    return found


async def test_an_order_of_two_lines_is_paid_and_taken_from_the_stock(up: Up, admin: Visitor) -> None:
    customer = await up.registered()
    cup, pot = await admin.product(price=1250, stock=10), await admin.product(price=6450, stock=10)
    lines = [{"productId": cup, "quantity": 3}, {"productId": pot, "quantity": 1}]
    reply = await customer.ask("POST", "/orders", {"items": lines, "paymentMethod": "pm_success"})
    assert reply.status == 202
    accepted = reply.body
    assert reply.headers["Location"] == f"/api/v1/orders/{accepted['orderId']}"
    assert (accepted["status"], accepted["totalAmount"], accepted["currency"]) == ("PENDING", 3 * 1250 + 6450, "USD")
    (end,) = await customer.ended(accepted["orderId"])
    assert (end["status"], end["sagaStatus"], end["currentStep"]) == ("CONFIRMED", "COMPLETED", "CONFIRMED")
    assert end["failureReason"] is None
    assert await admin.stock(cup) == (7, 0, 7)
    assert await admin.stock(pot) == (9, 0, 9)
    (line,) = (await up.ledger())[accepted["orderId"]]
    assert (line["type"], line["amount"], line["currency"]) == ("capture", 3 * 1250 + 6450, "USD")
    (mail,) = await mails(admin, accepted["orderId"])
    assert (mail["recipient"], mail["channel"]) == (customer.email, "email")
    assert mail["subject"].endswith("is confirmed")
    assert mail["bodyHtml"]


async def test_the_history_of_an_order_is_complete(admin: Visitor) -> None:
    order_id = await admin.order(await admin.product())
    await admin.ended(order_id)
    order = await admin.get(f"/orders/{order_id}")
    assert [move["toStatus"] for move in order["history"]] == ["PENDING", "PROCESSING", "PAYMENT_PENDING", "CONFIRMED"]
    assert (order["payment"]["status"], order["payment"]["captured"]) == ("SUCCEEDED", 1250)


async def test_every_decline_undoes_the_order_and_tells_the_customer(up: Up, admin: Visitor) -> None:
    product = await admin.product(stock=len(DECLINES))
    order_ids = [await admin.order(product, method=f"pm_decline_{code}") for code in DECLINES]
    ends = await admin.ended(*order_ids)
    assert [end["failureReason"] for end in ends] == list(DECLINES)
    assert {(end["status"], end["sagaStatus"]) for end in ends} == {("CANCELLED", "COMPENSATED")}
    assert await admin.stock(product) == (len(DECLINES), 0, len(DECLINES))
    for order_id in order_ids:
        (mail,) = await mails(admin, order_id)
        assert "Payment for your order" in mail["subject"]
    ledger = await up.ledger()
    assert not [order_id for order_id in order_ids if captured(ledger.get(order_id, []))]
    order = await admin.get(f"/orders/{order_ids[0]}")
    assert [move["toStatus"] for move in order["history"]][-2:] == ["PAYMENT_FAILED", "CANCELLED"]


async def test_a_decline_is_never_tried_again(up: Up, admin: Visitor) -> None:
    order_id = await admin.order(await admin.product(), method="pm_decline_CARD_STOLEN")
    await admin.ended(order_id)
    rows = (await up.comanda("saga", "show", order_id, "--json")).rows
    forward = [row for row in rows if row.get("step") == "process_payment" and row.get("direction") == "forward"]
    assert len([row for row in forward if "outcome" in row]) == 1


async def test_what_fails_twice_is_tried_a_third_time(up: Up, admin: Visitor) -> None:
    order_id = await admin.order(await admin.product(), method="pm_flaky_2")
    (end,) = await admin.ended(order_id)
    assert end["status"] == "CONFIRMED"
    rows = (await up.comanda("saga", "show", order_id, "--json")).rows
    assert len([row for row in rows if row.get("step") == "process_payment" and "outcome" in row]) == 3
    assert captures((await up.ledger())[order_id]) == 1


async def test_an_answer_that_is_lost_after_the_capture_costs_nobody_twice(up: Up, admin: Visitor) -> None:
    order_id = await admin.order(await admin.product(price=777), method="pm_timeout_after_capture")
    (end,) = await admin.ended(order_id)
    assert end["status"] == "CONFIRMED"
    (line,) = (await up.ledger())[order_id]
    assert (line["type"], line["amount"]) == ("capture", 777)


async def test_fraud_is_what_costs_more_than_ten_thousand(up: Up, admin: Visitor) -> None:
    suspect = await admin.order(await admin.product(price=DEAREST + 1))
    dear = await admin.order(await admin.product(price=DEAREST))
    refused, confirmed = await admin.ended(suspect, dear)
    assert (refused["status"], refused["sagaStatus"]) == ("CANCELLED", "COMPENSATED")
    assert refused["failureReason"] == "FRAUD_SUSPECTED"
    assert confirmed["status"] == "CONFIRMED"
    ledger = await up.ledger()
    assert suspect not in ledger
    assert captured(ledger[dear]) == DEAREST


async def test_what_is_not_there_is_refused_at_step_1_and_told(admin: Visitor) -> None:
    scarce, plenty = await admin.product(stock=0), await admin.product(stock=5)
    order_id = await admin.order(plenty, scarce)
    (end,) = await admin.ended(order_id)
    assert (end["status"], end["sagaStatus"]) == ("CANCELLED", "COMPENSATED")
    assert end["failureReason"] == "OUT_OF_STOCK"
    assert await admin.stock(plenty) == (5, 0, 5)
    (mail,) = await mails(admin, order_id)
    assert mail["subject"].endswith("has been cancelled")


@pytest.mark.parametrize("amount", [0])
async def test_what_costs_nothing_is_confirmed_without_a_charge(up: Up, admin: Visitor, amount: int) -> None:
    order_id = await admin.order(await admin.product(price=amount))
    (end,) = await admin.ended(order_id)
    assert end["status"] == "CONFIRMED"
    assert order_id not in await up.ledger()


async def test_a_gateway_that_is_away_opens_the_breaker_and_the_others_get_through(up: Up, admin: Visitor) -> None:
    product = await admin.product(stock=100)
    hopeless = [await admin.order(product, method="pm_unavailable") for _ in range(8)]

    async def is_open() -> bool:
        breaker = (await admin.get("/health/detailed"))["breaker"]
        return breaker is not None and breaker["state"] in {"OPEN", "HALF_OPEN"} and breaker["failures"] >= 5

    await eventually(is_open)
    meanwhile = [await admin.order(product) for _ in range(8)]
    ends, others = await asyncio.gather(admin.ended(*hopeless), admin.ended(*meanwhile))
    assert {(end["status"], end["failureReason"]) for end in ends} == {("CANCELLED", "PAYMENT_UNAVAILABLE")}
    assert {end["status"] for end in others} == {"CONFIRMED"}
    ledger = await up.ledger()
    assert not [order_id for order_id in hopeless if captured(ledger.get(order_id, []))]
    assert await admin.stock(product) == (92, 0, 92)
    await admin.ended(await admin.order(product))
    assert (await admin.get("/health/detailed"))["breaker"]["state"] == "CLOSED"
