"""Orders after the order: cancelled, shipped, delivered, refunded, brought back, written about."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Response

from comanda.accounts.accounts import OPERATORS, Account
from comanda.api.bodies import CancelBody, NoteBody, RefundBody, ReturnBody, ShipmentBody, UnitsBody
from comanda.api.document import answers
from comanda.api.once import KEY_REFUSED, Did, Key, OptionalKey, answered, hint, once
from comanda.api.order_answers import (
    NoteAnswer,
    OrderStatusAnswer,
    RefundAnswer,
    RefundList,
    ShipmentAnswer,
    ShipmentList,
    UnitsAnswer,
    status_answer,
)
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Operator, SignedIn, router
from comanda.api.visible import visible
from comanda.checkout import after_order
from comanda.checkout.after_order import CancelWish, HasFollowed, ParcelWish, RefundWish
from comanda.db import Tx
from comanda.failpoints import Boundary
from comanda.field_errors import FieldError
from comanda.orders import notes, reads, shipments
from comanda.orders.model import (
    BEFORE_CHARGE,
    NoSuchLine,
    NothingLeft,
    OrderState,
    Refusal,
    TooManyUnits,
    TooMuchMoney,
    Units,
    WrongState,
)
from comanda.orders.notes import Draft, Note
from comanda.orders.shipments import Shipment
from comanda.payments import refunds
from comanda.payments.refunds import Refund
from comanda.saga.definition import Due
from comanda.sentences import Sentence

SHIP = Boundary("orders.ship")
DELIVER = Boundary("orders.deliver")
NOTE = Boundary("orders.note")

routes = router("/orders/{order_id}", "orders after the order")

_STATE = ("ORDER_NOT_FOUND", "ORDER_STATE")
_KEYED = ("IDEMPOTENCY_KEY_REQUIRED", *KEY_REFUSED)
_UNITS = ("ITEM_UNKNOWN", "UNITS_EXCEEDED", "NOTHING_LEFT")


async def _cancelling(account: SignedIn, order_id: UUID, parts: Given) -> CancelWish:
    """Whose order it is, and who may: judged before key and body are."""
    found = await visible(parts, account, order_id)
    wish = CancelWish(order_id, account.id, is_staff=account.role in OPERATORS)
    if not wish.is_staff and account.id != found.customer_id:
        raise Problem("FORBIDDEN")  # who may look at everything may not do everything
    return wish


@routes.post(
    "/cancel",
    status_code=202,
    response_model=OrderStatusAnswer,
    responses=answers(*_STATE, "ORDER_FOLLOWED", "FORBIDDEN", *_KEYED),
)
async def cancel(
    account: SignedIn,
    wish: Annotated[CancelWish, Depends(_cancelling)],
    order_id: UUID,
    key: Key,
    parts: Given,
    request: Request,
    body: CancelBody = CancelBody(),  # noqa: B008 - it is frozen
) -> Response:
    """Undo an order: customers until it is being charged, operators until something of it is shipped or refunded.

    Money and stock are given back by the order's own process, in reverse.
    """

    async def work(tx: Tx) -> Did:
        (decided,), result = await after_order.cancel(tx, [wish], parts.settling)
        match decided:
            case None:
                raise Problem("ORDER_NOT_FOUND")
            case HasFollowed():
                raise Problem(
                    "ORDER_FOLLOWED",
                    "Something of it was shipped or refunded: refund what is left, or bring it back.",
                )
            case WrongState(state, onward) if onward and not wish.is_staff and state not in BEFORE_CHARGE:
                told = Sentence(
                    "The order is {state}: customers cancel it while it is {states}, later only staff can.",
                    state=state,
                    states=", ".join(BEFORE_CHARGE),
                )
                raise Problem("ORDER_STATE", told)
            case WrongState():
                raise _refused(decided)
        if body.reason is not None:
            await notes.write(tx, [Draft(order_id, body.reason, is_public=False, actor=account.id)])
        (status,) = await reads.statuses(tx, [order_id])
        assert status is not None
        due = [Due(one, queue, priority) for (queue, priority), ids in result.onward.items() for one in ids]
        return Did(order_id, status_answer(status), f"/api/v1/orders/{order_id}/status", due)

    return await once(parts, account, key, request, body, work)


@routes.post(
    "/shipments",
    status_code=201,
    response_model=ShipmentAnswer,
    responses=answers(*_STATE, *_UNITS, *KEY_REFUSED),
)
async def ship(
    account: Operator,
    order_id: UUID,
    key: OptionalKey,
    parts: Given,
    request: Request,
    body: ShipmentBody = ShipmentBody(),  # noqa: B008 - it is frozen
) -> Response:
    """A parcel leaves, with these units or with all that are left; when nothing is left the order is SHIPPED.

    With an `Idempotency-Key` a repeat is answered as the first one was, and no second parcel leaves.
    """
    wish = ParcelWish(order_id, _units(body.items), body.carrier, body.tracking_number, account.id)

    async def work(tx: Tx) -> Did:
        (sent,), due = await after_order.ship(tx, [wish], parts.assembly.definitions.notifications)
        if not isinstance(sent, Shipment):
            raise _refused(sent)
        return Did(order_id, shipment_answer(sent), f"/api/v1/orders/{order_id}/shipments", due)

    if key is not None:
        return await once(parts, account, key, request, body, work, status=201)
    async with parts.database.transaction(SHIP) as tx:
        did = await work(tx)
    await hint(parts, did.due)
    return answered(did, status=201)


@routes.get("/shipments", responses=answers("ORDER_NOT_FOUND"))
async def parcels(account: SignedIn, order_id: UUID, parts: Given) -> ShipmentList:
    """The parcels of an order, oldest first."""
    await visible(parts, account, order_id)
    async with parts.database.connection() as tx:
        found = (await shipments.of_orders(tx, [order_id]))[order_id]
    return ShipmentList(items=[shipment_answer(one) for one in found])


@routes.patch("/shipments/{shipment_id}/deliver", responses=answers("SHIPMENT_NOT_FOUND"))
async def deliver(_account: Operator, order_id: UUID, shipment_id: UUID, parts: Given) -> ShipmentAnswer:
    """A parcel has arrived; once all have, a shipped order is DELIVERED. Said twice, it is as if said once."""
    async with parts.database.transaction(DELIVER) as tx:
        (arrived,) = await after_order.deliver(tx, [(order_id, shipment_id)])
    if arrived is None:
        raise Problem("SHIPMENT_NOT_FOUND")
    return shipment_answer(arrived)


@routes.post(
    "/refunds",
    status_code=202,
    response_model=RefundAnswer,
    responses=answers(*_STATE, *_UNITS, "REFUND_EXCEEDED", *_KEYED),
)
async def refund(
    account: Operator, order_id: UUID, key: Key, body: RefundBody, parts: Given, request: Request
) -> Response:
    """Give money back: an amount, what some units cost, or all that is left. `restock` is for units not shipped yet."""
    wish = RefundWish(order_id, "REFUND", _units(body.items), body.amount, body.restock, body.reason, account.id)
    return await _give_back(parts, account, key, request, body, wish)


@routes.post(
    "/returns",
    status_code=202,
    response_model=RefundAnswer,
    responses=answers(*_STATE, *_UNITS, "REFUND_EXCEEDED", *_KEYED),
)
async def take_back(
    account: Operator, order_id: UUID, key: Key, body: ReturnBody, parts: Given, request: Request
) -> Response:
    """Shipped units are back: give back what they cost, or less, and put them into the stock unless told not to."""
    wish = RefundWish(order_id, "RETURN", _units(body.items), body.amount, body.restock, body.reason, account.id)
    return await _give_back(parts, account, key, request, body, wish)


@routes.get("/refunds", responses=answers("ORDER_NOT_FOUND"))
async def given_back(account: SignedIn, order_id: UUID, parts: Given) -> RefundList:
    """The refunds and returns of an order, oldest first."""
    await visible(parts, account, order_id)
    return RefundList(items=[refund_answer(one) for one in await _refunds(parts, order_id)])


@routes.get("/refunds/{refund_id}", responses=answers("ORDER_NOT_FOUND", "REFUND_NOT_FOUND"))
async def one_refund(account: SignedIn, order_id: UUID, refund_id: UUID, parts: Given) -> RefundAnswer:
    """How far a refund or a return has come."""
    await visible(parts, account, order_id)
    for one in await _refunds(parts, order_id):
        if one.id == refund_id:
            return refund_answer(one)
    raise Problem("REFUND_NOT_FOUND")


@routes.post("/notes", status_code=201, responses=answers("ORDER_NOT_FOUND"))
async def write(account: Operator, order_id: UUID, body: NoteBody, parts: Given) -> NoteAnswer:
    """Write a note beside the order's history; the customer sees it if it is public."""
    await visible(parts, account, order_id)
    async with parts.database.transaction(NOTE) as tx:
        (note,) = await notes.write(tx, [Draft(order_id, body.text, body.is_public, account.id)])
    return note_answer(note)


async def _give_back(
    parts: Parts, account: Account, key: str, request: Request, body: RefundBody | ReturnBody, wish: RefundWish
) -> Response:
    async def work(tx: Tx) -> Did:
        (decided,), due = await after_order.refund(tx, [wish], parts.assembly.definitions.refund)
        if not isinstance(decided, Refund):
            raise _refused(decided)
        return Did(decided.id, refund_answer(decided), f"/api/v1/orders/{wish.order_id}/refunds/{decided.id}", due)

    return await once(parts, account, key, request, body, work)


def _refused(refusal: Refusal | None) -> Problem:
    match refusal:
        case None:
            return Problem("ORDER_NOT_FOUND")
        case WrongState(state, onward, is_under_way):
            return Problem("ORDER_STATE", _told(state, onward, is_under_way=is_under_way))
        case NoSuchLine(product_id):
            return Problem(
                "ITEM_UNKNOWN",
                errors=[FieldError("items", Sentence("The order has no line of {product}", product=product_id))],
            )
        case TooManyUnits(product_id, left):
            return Problem(
                "UNITS_EXCEEDED",
                Sentence("Of {product} only {left} units are left for this.", product=product_id, left=left),
            )
        case TooMuchMoney(left):
            return Problem("REFUND_EXCEEDED", Sentence("Only {left} can be given back, in minor units.", left=left))
        case NothingLeft():
            return Problem("NOTHING_LEFT")


def _told(state: OrderState, onward: Sequence[OrderState], *, is_under_way: bool) -> Sentence:
    """Names what is legal."""
    if not onward:
        return Sentence("The order is {state}: that is its end.", state=state)
    said = Sentence("The order is {state}; from there it can become {onward}.", state=state, onward=", ".join(onward))
    if not is_under_way:
        return said
    return Sentence("{said} Its process is under way: ask again when it has ended.", said=said)


async def _refunds(parts: Parts, order_id: UUID) -> Sequence[Refund]:
    async with parts.database.connection() as tx:
        return (await refunds.of_orders(tx, [order_id]))[order_id]


def _units(items: Sequence[UnitsBody] | None) -> Units | None:
    """Repeated lines are summed."""
    if items is None:
        return None
    units: dict[UUID, int] = {}
    for one in items:
        units[one.product_id] = units.get(one.product_id, 0) + one.quantity
    return units


def shipment_answer(found: Shipment) -> ShipmentAnswer:
    return ShipmentAnswer(
        shipment_id=found.id,
        order_id=found.order_id,
        carrier=found.carrier,
        tracking_number=found.tracking_number,
        items=_counted(found.units),
        shipped_at=found.shipped_at,
        delivered_at=found.delivered_at,
    )


def refund_answer(found: Refund) -> RefundAnswer:
    return RefundAnswer(
        refund_id=found.id,
        order_id=found.order_id,
        kind=found.kind,
        status=found.state,
        amount=found.amount,
        currency=found.currency,
        restocked=found.is_restocked,
        reason=found.reason,
        items=_counted(found.units),
        created_at=found.created_at,
        ended_at=found.ended_at,
    )


def note_answer(note: Note) -> NoteAnswer:
    return NoteAnswer(note_id=note.id, text=note.text, is_public=note.is_public, created_at=note.created_at)


def _counted(units: Units) -> list[UnitsAnswer]:
    return [UnitsAnswer(product_id=product_id, quantity=quantity) for product_id, quantity in units.items()]
