"""How orders stand once they are confirmed, read under a lock: what may still be shipped, refunded, brought back."""

from collections.abc import Sequence
from uuid import UUID

from comanda.db import Tx, twin
from comanda.orders.model import LineStanding, OrderState, Standing

_sql = twin(__file__)
LOCK_PAYMENTS = _sql["lock_payments"]
LOCK_ORDERS = _sql["lock_orders"]
LOCKED = _sql["locked"]
LINES = _sql["lines"]
SHIPMENTS = _sql["shipments"]


async def locked(tx: Tx, order_ids: Sequence[UUID]) -> dict[UUID, Standing]:
    """Orders as they stand, and stay until the commit; those that there are."""
    await LOCK_PAYMENTS.run(tx, order_ids)
    await LOCK_ORDERS.run(tx, order_ids)
    orders = await LOCKED.rows(tx, order_ids)
    lines: dict[UUID, dict[UUID, LineStanding]] = {row["id"]: {} for row in orders}
    for row in await LINES.rows(tx, order_ids):
        fields = dict(row)
        of = fields.pop("order_id")
        lines[of][row["product_id"]] = LineStanding(**fields)
    parcels = {row["order_id"]: row for row in await SHIPMENTS.rows(tx, order_ids)}
    return {
        row["id"]: Standing(
            id=row["id"],
            customer_id=row["customer_id"],
            state=OrderState(row["state"]),
            is_settled=row["saga_state"] == "COMPLETED",
            currency=row["currency"],
            correlation_id=row["correlation_id"],
            captured=row["captured"],
            refunded=row["refunded"],
            left_to_refund=row["left_to_refund"],
            lines=lines[row["id"]],
            sent=parcels[row["id"]]["sent"] if row["id"] in parcels else 0,
            delivered=parcels[row["id"]]["delivered"] if row["id"] in parcels else 0,
        )
        for row in orders
    }
