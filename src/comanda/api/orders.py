"""Orders, as they are read. They are placed by a route of their own (see `app.build`)."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Header, Query, Response

from comanda.accounts.accounts import STAFF
from comanda.api.after_order import note_answer, refund_answer, shipment_answer
from comanda.api.bodies import Limit, OrderBody
from comanda.api.conditional import TAGGED, Asked, single
from comanda.api.document import answers
from comanda.api.order_answers import (
    MoveAnswer,
    OrderAnswer,
    OrderDetailAnswer,
    OrderLineAnswer,
    OrderPage,
    PaymentAnswer,
    PlacedOrderAnswer,
)
from comanda.api.paging import Cursor, cursor_of, next_link, read_cursor
from comanda.api.parts import Given
from comanda.api.problems import Problem
from comanda.api.security import SignedIn, router
from comanda.api.visible import may_see
from comanda.clock import now
from comanda.db import Tx
from comanda.field_errors import field_error
from comanda.fields import Bound
from comanda.orders import notes, reads, shipments
from comanda.orders.reads import Line, Order, Payment, State
from comanda.payments import refunds

routes = router("/orders", "orders")


@routes.post(
    "",
    status_code=202,
    response_description="Accepted; `Location` leads to it. `Idempotent-Replayed: true`: it was accepted before.",
    responses=answers(
        "EMAIL_UNVERIFIED",
        "CONFLICT",
        "IDEMPOTENCY_KEY_IN_USE",
        "PRODUCT_UNKNOWN",
        "PRODUCT_INACTIVE",
        "CURRENCIES_MIXED",
        "AMOUNT_TOO_LARGE",
        "IDEMPOTENCY_KEY_REUSED",
        "TOO_MANY_OPEN_ORDERS",
        "OVERLOADED",
    ),
)
async def place(
    _account: SignedIn,
    _body: OrderBody,
    _idempotency_key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", min_length=1, max_length=255, description="Your name for this order"),
    ] = None,
) -> PlacedOrderAnswer:
    """Place an order. It is accepted at once and ends later: read its status, or wait for the event."""
    # Stands here for the document alone: `app.build` hands this path to the bare route before any of this is asked.
    raise NotImplementedError


@routes.get("")
async def page(
    account: SignedIn,
    parts: Given,
    *,
    response: Response,
    status: Annotated[list[State] | None, Query(max_length=9)] = None,
    created_after: Annotated[
        Bound | None, Query(alias="createdAfter", description="RFC 3339; placed then or later")
    ] = None,
    created_before: Annotated[
        Bound | None, Query(alias="createdBefore", description="RFC 3339; placed before that")
    ] = None,
    sort_order: Annotated[Literal["asc", "desc"], Query(alias="sortOrder")] = "desc",
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> OrderPage:
    """Your orders, or for staff everybody's, newest first unless `sortOrder=asc`. `Link` with `rel="next"` leads on."""
    times = {"createdAfter": created_after, "createdBefore": created_before}
    vague = [name for name, moment in times.items() if moment is not None and moment.tzinfo is None]
    if vague:
        raise Problem("VALIDATION_FAILED", errors=[field_error(name, "zone") for name in vague])
    beyond = read_cursor(cursor)
    owner = None if account.role in STAFF else account.id

    async def read(tx: Tx) -> tuple[list[Order], dict[UUID, list[Line]]]:
        found = await reads.page(
            tx,
            owner,
            status,
            limit=limit + 1,
            beyond=beyond,
            since=created_after,
            until=created_before,
            is_oldest_first=sort_order == "asc",
        )
        return found, await reads.lines(tx, [one.id for one in found[:limit]])

    async def has_ordered(tx: Tx) -> bool:
        (newest,) = await reads.newest_of_customers(tx, [account.id])
        return newest is not None and now() - newest < parts.lists.longest_unseen

    # The way in of orders marks nobody: where they stand is asked instead.
    found, lines = await parts.lists.read(account.id, read, wrote=has_ordered)
    shown = found[:limit]
    following = cursor_of(shown[-1].id) if len(found) > limit else None
    if following is not None:
        asked = {
            "limit": limit,
            "status": status,
            "sortOrder": None if sort_order == "desc" else sort_order,
            **{name: None if moment is None else moment.isoformat() for name, moment in times.items()},
        }
        response.headers["Link"] = next_link("/api/v1/orders", asked, following)
    return OrderPage(items=[OrderAnswer(**_order(one, lines[one.id])) for one in shown], next_cursor=following)


@routes.get("/{order_id}", response_model=OrderDetailAnswer, responses=TAGGED | answers("ORDER_NOT_FOUND"))
async def read(account: SignedIn, order_id: UUID, parts: Given, asked: Asked) -> Response:
    """One order with its lines, its payment and its history."""
    async with parts.database.connection() as tx:
        order = (await reads.find(tx, [order_id]))[0]
        if order is None or not may_see(account, order.customer_id):
            raise Problem("ORDER_NOT_FOUND")
        lines = (await reads.lines(tx, [order_id]))[order_id]
        payment = (await reads.payments(tx, [order_id])).get(order_id)
        moves = (await reads.moves(tx, [order_id]))[order_id]
        parcels = (await shipments.of_orders(tx, [order_id]))[order_id]
        given_back = (await refunds.of_orders(tx, [order_id]))[order_id]
        remarks = (await notes.of_orders(tx, [order_id], is_for_staff=account.role in STAFF))[order_id]
    detail = OrderDetailAnswer(
        **_order(order, lines),
        payment_method=order.payment_method,
        shipping_address=order.shipping_address,
        notes=order.notes,
        correlation_id=order.correlation_id,
        payment=None if payment is None else _payment(payment),
        history=[
            MoveAnswer(from_status=one.from_state, to_status=one.to_state, reason=one.reason, at=one.at)
            for one in moves
        ],
        shipments=[shipment_answer(one) for one in parcels],
        refunds=[refund_answer(one) for one in given_back],
        remarks=[note_answer(one) for one in remarks],
    )
    return single(asked, detail)


def _order(order: Order, lines: list[Line]) -> dict[str, Any]:
    return {
        "order_id": order.id,
        "customer_id": order.customer_id,
        "saga_id": order.saga_id,
        "status": order.state,
        "saga_status": order.saga_state,
        "current_step": order.reached,
        "total_amount": order.total_amount,
        "currency": order.currency,
        "failure_reason": order.failure_reason,
        "items": [
            OrderLineAnswer(
                product_id=one.product_id,
                sku=one.sku,
                name=one.product_name,
                quantity=one.quantity,
                unit_price=one.unit_price,
                total_price=one.quantity * one.unit_price,
            )
            for one in lines
        ],
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "ended_at": order.ended_at,
    }


def _payment(payment: Payment) -> PaymentAnswer:
    return PaymentAnswer(
        payment_id=payment.id,
        status=payment.state,
        amount=payment.amount,
        captured=payment.captured,
        refunded=payment.refunded,
        currency=payment.currency,
        decline_code=payment.decline_code,
        updated_at=payment.updated_at,
    )
