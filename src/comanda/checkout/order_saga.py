"""The order's process: read this first. Each line is a step: what is done, and how it is undone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from comanda.db import Tx
from comanda.inventory import stock as inventory
from comanda.notifications.notifications import Notifications
from comanda.orders import orders
from comanda.payments.payments import Charge, Refund
from comanda.resilience.backoff import Policy
from comanda.saga import Saga, local, nothing, remote
from comanda.saga.definition import Due
from comanda.webhooks.model import SCHEDULE_SECONDS


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take.

    Args:
        base: the wait after a first failure; it doubles up to four times that.
        payment: how long an order waits for its payment, with all retries and open breakers.
        reservation: how long stock is held; before a charge it is prolonged to cover the payment's patience too.
    """

    base: timedelta
    payment: timedelta
    reservation: timedelta

    @property
    def hold(self) -> timedelta:
        return max(self.reservation, self.payment + timedelta(minutes=1))

    def local(self) -> Policy:
        return Policy(attempts=5, base=self.base, cap=self.base * 4)

    def charge(self) -> Policy:
        return Policy(attempts=None, patience=self.payment, base=self.base, cap=self.base * 4)

    def undo(self) -> Policy:
        """At the usual base it goes on for more than 30 s, and is given up, and seen, within 60 s.

        That is eight attempts that are refused at once; of calls that hang for 5 s each it is five.
        """
        return Policy(attempts=8, patience=self.base * 22.5, least=5, base=self.base, cap=self.base * 4)

    def delivery(self) -> Policy:
        return Policy(attempts=10, base=self.base, cap=self.base * 150)

    def webhook(self) -> Policy:
        """Days, as receivers of Standard Webhooks expect; at another base than two seconds in proportion."""
        return Policy(schedule=tuple(self.base * seconds / 2 for seconds in SCHEDULE_SECONDS))


def order_saga(charge: Charge, refund: Refund, notifications: Notifications, patience: Patience) -> Saga:
    """Verify, reserve, pay, confirm, tell, complete; a refusal or exhausted patience undoes it in reverse."""

    async def undone(tx: Tx, order_ids: Sequence[UUID], reasons: Sequence[str]) -> Sequence[Due]:
        """It is CANCELLED, and the customer is told in the same transaction."""
        await orders.cancel(tx, order_ids, reasons)
        return await notifications.cancelled(tx, order_ids, reasons)

    reserve = partial(inventory.reserve, ttl=patience.reservation)
    extend = partial(inventory.extend, ttl=patience.hold)
    confirm = partial(inventory.confirm, ttl=patience.reservation)
    retry = {"retry": patience.local(), "undo_retry": patience.undo()}
    pay = {"retry": patience.charge(), "undo_retry": patience.undo()}
    # fmt: off
    return Saga(
        "order",
        steps=[
            local("verify_stock", inventory.verify, compensate=nothing,
                  queue="order-processing", reached="STOCK_VERIFIED", **retry),
            local("reserve_inventory", reserve, compensate=inventory.release,
                  queue="inventory-management", reached="STOCK_RESERVED", locks="stock", **retry),
            remote("process_payment", charge, compensate=refund, alongside=extend,
                   queue="payment-processing", under_way="PAYMENT_PROCESSING", reached="PAYMENT_COMPLETED", **pay),
            local("confirm_reservation", confirm, compensate=inventory.restock, finish=inventory.sell,
                  queue="inventory-management", reached="RESERVATION_CONFIRMED", locks="stock", **retry),
            local("send_confirmation", notifications.confirm, compensate=notifications.retract,
                  queue="notification-sending", reached="NOTIFICATION_SENT", **retry),
            local("complete_order", orders.complete, compensate=nothing,
                  queue="order-processing", reached="CONFIRMED", **retry),
        ],
        undone=undone,
        follow=orders.follow,
    )
    # fmt: on
