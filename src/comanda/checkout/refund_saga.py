"""The refund's process: what is asked for after an order was confirmed is given back, put back, and told."""

from collections.abc import Sequence
from uuid import UUID

from comanda.checkout.order_saga import Patience
from comanda.db import Tx
from comanda.inventory import stock as inventory
from comanda.notifications.notifications import Notifications
from comanda.orders import orders, standing
from comanda.payments import refunds
from comanda.payments.refunds import GiveBack
from comanda.saga import Done, Outcome, Saga, local, nothing, remote
from comanda.saga.definition import Due


def refund_saga(give_back: GiveBack, notifications: Notifications, patience: Patience) -> Saga:
    """Give back, take back, complete. What can't be done waits for an operator: money that went out is not undone.

    An operator who compensates it makes it FAILED, and its amount free again: only where the gateway, asked at that
    moment, has given nothing back.
    """

    async def take_back(tx: Tx, refund_ids: Sequence[UUID]) -> Sequence[Outcome]:
        """Whose giving back was skipped was given back otherwise, as whoever skipped it has seen."""
        await refunds.succeed(tx, refund_ids)
        return await inventory.take_back(tx, refund_ids)

    async def complete(tx: Tx, refund_ids: Sequence[UUID]) -> Sequence[Outcome]:
        """The order is REFUNDED if that was all of its money; the customer is told. Skipped steps are made up for."""
        await take_back(tx, refund_ids)
        order_of = await refunds.orders_of(tx, refund_ids)
        standings = await standing.locked(tx, sorted(set(order_of.values())))
        await orders.progress(tx, standings.values(), actor="refund")
        started = await notifications.refunded(tx, refund_ids)
        return [Done(started=tuple(started)), *[Done()] * (len(refund_ids) - 1)]

    async def undone(tx: Tx, refund_ids: Sequence[UUID], _reasons: Sequence[str]) -> Sequence[Due]:
        await refunds.fail(tx, refund_ids)
        return ()

    retry = {"retry": patience.local(), "undo_retry": patience.undo(), "exhausted": "stuck"}
    pay = {"retry": patience.undo(), "undo_retry": patience.undo(), "exhausted": "stuck"}
    # fmt: off
    return Saga(
        "refund",
        steps=[
            remote("refund_payment", give_back, compensate=nothing,
                   queue="payment-processing", under_way="REFUNDING", reached="REFUNDED", **pay),
            local("take_back", take_back, compensate=nothing,
                  queue="inventory-management", reached="TAKEN_BACK", locks="stock", **retry),
            local("complete_refund", complete, compensate=nothing,
                  queue="order-processing", reached="COMPLETED", **retry),
        ],
        undone=undone,
        is_for_good=True,
    )
    # fmt: on
