"""What is done to orders once they are confirmed, or instead: ship, deliver, refund, cancel. Decided under their locks.

Where nothing leaves the house (a parcel is written down) the decision is the whole of it; money is given back by a saga
of its own, and a cancelled order is undone by the saga that made it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from comanda import tracing
from comanda.db import Tx
from comanda.notifications.notifications import Notifications
from comanda.orders import model, orders, shipments, standing
from comanda.orders.model import OrderState, RefundKind, Refusal, Standing, wrong_state
from comanda.orders.shipments import Parcel, Shipment
from comanda.payments import refunds
from comanda.payments.refunds import Asking, Refund
from comanda.saga import Refused, Saga, Start, log, start
from comanda.saga.batch import Batch, Result
from comanda.saga.definition import Due
from comanda.saga.log import Claimed
from comanda.saga.settling import Settling

BY_CUSTOMER = "CANCELLED_BY_CUSTOMER"
BY_OPERATOR = "CANCELLED_BY_OPERATOR"


@dataclass(frozen=True, slots=True)
class ParcelWish:
    """What is to be sent; `units` None: whatever is left of the order."""

    order_id: UUID
    units: Mapping[UUID, int] | None
    carrier: str | None
    tracking_number: str | None
    actor: UUID


@dataclass(frozen=True, slots=True)
class RefundWish:
    """What is to be given back: see `orders.model.refund`."""

    order_id: UUID
    kind: RefundKind
    units: Mapping[UUID, int] | None
    amount: int | None
    is_restocked: bool
    reason: str
    actor: UUID


@dataclass(frozen=True, slots=True)
class CancelWish:
    """`actor`: the account that cancels. Customers may until the charge, staff as long as nothing was shipped."""

    order_id: UUID
    actor: UUID
    is_staff: bool


@dataclass(frozen=True, slots=True)
class HasFollowed:
    """Refused: something of the order was shipped or refunded already, so it can't be undone as a whole."""


async def ship(
    tx: Tx, wishes: Sequence[ParcelWish], notifications: Notifications
) -> tuple[list[Shipment | Refusal | None], Sequence[Due]]:
    """Write down what leaves, and tell the customers; None: there is no such order."""
    standings = await standing.locked(tx, sorted({one.order_id for one in wishes}))
    decided: list[Parcel | Refusal | None] = []
    for wish in wishes:
        found = standings.get(wish.order_id)
        units = None if found is None else model.ship(found, wish.units)
        if isinstance(units, Mapping):
            decided.append(Parcel(wish.order_id, units, wish.carrier, wish.tracking_number, wish.actor))
        else:
            decided.append(units)
    sent = iter(await shipments.send(tx, [one for one in decided if isinstance(one, Parcel)]))
    answers = [next(sent) if isinstance(one, Parcel) else one for one in decided]
    shipped = [one for one in answers if isinstance(one, Shipment)]
    await orders.progress(tx, _touched(standings, shipped), actor="shipping")
    return answers, await notifications.shipped(tx, [one.id for one in shipped])


async def deliver(tx: Tx, shipment_ids: Sequence[tuple[UUID, UUID]]) -> list[Shipment | None]:
    """Write down what has arrived: (order, shipment) each; None where that order has no such parcel."""
    order_ids = sorted({order_id for order_id, _ in shipment_ids})
    standings = await standing.locked(tx, order_ids)
    known = {one.id: one for some in (await shipments.of_orders(tx, order_ids)).values() for one in some}
    meant = [one for order_id, one in shipment_ids if one in known and known[one].order_id == order_id]
    for arrived in await shipments.deliver(tx, meant):
        standings[known[arrived].order_id].delivered += 1
    await orders.progress(tx, standings.values(), actor="shipping")
    now = {one.id: one for some in (await shipments.of_orders(tx, order_ids)).values() for one in some}
    return [now.get(one) if one in meant else None for _, one in shipment_ids]


async def refund(
    tx: Tx, wishes: Sequence[RefundWish], saga: Saga
) -> tuple[list[Refund | Refusal | None], Sequence[Due]]:
    """Promise money, and start what gives it back: None: there is no such order."""
    standings = await standing.locked(tx, sorted({one.order_id for one in wishes}))
    decided: list[Asking | Refusal | None] = []
    for wish in wishes:
        found = standings.get(wish.order_id)
        if found is None:
            decided.append(None)
            continue
        granted = model.refund(found, wish.kind, wish.units, wish.amount, is_restocked=wish.is_restocked)
        if isinstance(granted, model.Granted):
            decided.append(
                Asking(
                    wish.order_id,
                    wish.kind,
                    granted.amount,
                    found.currency,
                    granted.units,
                    wish.is_restocked,
                    wish.reason,
                    wish.actor,
                    found.correlation_id,
                )
            )
        else:
            decided.append(granted)
    askings = [one for one in decided if isinstance(one, Asking)]
    asked = await refunds.ask(tx, askings)
    trace = tracing.current()
    starts = [
        Start.of(saga, made.id, one.correlation_id, traceparent=trace) for made, one in zip(asked, askings, strict=True)
    ]
    due = await start(tx, starts)
    made = iter(asked)
    return [next(made) if isinstance(one, Asking) else one for one in decided], due


async def cancel(
    tx: Tx, wishes: Sequence[CancelWish], settling: Settling
) -> tuple[list[Claimed | Refusal | HasFollowed | None], Result]:
    """Turn the orders' own sagas round: what they did is undone in reverse. None: there is no such order.

    The saga's lock comes first, as for everybody who carries it on: a step that is being taken is waited for.
    """
    claimed = {one.subject: one for one in await log.claim_named(tx, [one.order_id for one in wishes])}
    standings = await standing.locked(tx, sorted(claimed))
    batch = Batch([], is_chained=False)
    answers: list[Claimed | Refusal | HasFollowed | None] = []
    for wish in wishes:
        one, found = claimed.get(wish.order_id), standings.get(wish.order_id)
        if one is None or found is None:
            answers.append(None)
            continue
        saga = settling.sagas.get((one.kind, one.version))
        refusal = wrong_state(found) if saga is None else _uncancellable(one, found, is_staff=wish.is_staff)
        if refusal is not None or saga is None:
            answers.append(refusal)
            continue
        step = saga[one.step]
        # The last step of a confirmed order is done: it is undone as well. Before that, what stands ahead is not begun.
        is_done = one.state == "COMPLETED" or (step.is_remote and one.attempt > 0)
        reason = BY_OPERATOR if wish.is_staff else BY_CUSTOMER
        batch.attempts.append(settling.attempt(one, 0, "operator", f"cancelled by {wish.actor}", 0))
        await settling.settle(tx, batch, [(one, one.attempt, Refused(reason, is_unsure=is_done))], 0)
        one.state = batch.moves[one.id].to.state
        answers.append(one)
    await settling.write(tx, batch)
    return answers, batch.result


def _uncancellable(one: Claimed, found: Standing, *, is_staff: bool) -> Refusal | HasFollowed | None:
    if one.direction == "backward" or one.state not in ("RUNNING", "COMPLETED"):
        return wrong_state(found)
    if found.state in model.BEFORE_CHARGE and one.state == "RUNNING":
        return None
    is_called = one.lease_until is not None and one.lease_until > one.now
    if not is_staff or found.state not in (OrderState.PAYMENT_PENDING, OrderState.CONFIRMED) or is_called:
        return wrong_state(found)
    if one.state == "RUNNING":
        return None
    is_whole = found.left_to_refund == found.captured and not any(
        line.shipped or line.refunded for line in found.lines.values()
    )
    return None if is_whole else HasFollowed()


def _touched(standings: Mapping[UUID, Standing], shipped: Sequence[Shipment]) -> list[Standing]:
    touched = {one.order_id for one in shipped}
    return [one for order_id, one in standings.items() if order_id in touched]
