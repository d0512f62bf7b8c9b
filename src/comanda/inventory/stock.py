"""Stock of orders: verify, reserve, extend, release, confirm, restock, expire. All of an order, or nothing of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Record, Tx, twin
from comanda.errors import DefinitionFault
from comanda.inventory.model import Demand, Place, Share, allocate
from comanda.messaging import outbox
from comanda.messaging.outbox import Event
from comanda.saga import Done, Outcome, Refused

_sql = twin(__file__)
VERDICTS = _sql["verdicts"]
DEMANDS = _sql["demands"]
FREE = _sql["free"]
LOCK_OF_ORDERS = _sql["lock_of_orders"]
HOLD = _sql["hold"]
EXTEND = _sql["extend"]
END_OF_ORDERS = _sql["end_of_orders"]
END_EXPIRED = _sql["end_expired"]
SETTLE = _sql["settle"]
SENT_BACK = _sql["sent_back"]
SOLD_FROM = _sql["sold_from"]
TAKE_BACK = _sql["take_back"]

UNAVAILABLE = Refused("PRODUCT_UNAVAILABLE")
OUT_OF_STOCK = Refused("OUT_OF_STOCK")
EXPIRED = Refused("RESERVATION_EXPIRED")


async def verify(tx: Tx, order_ids: Sequence[UUID]) -> Sequence[Outcome]:
    """Whether each order's products are on sale and there is enough for it alone. Holds nothing."""
    rows = {row["order_id"]: row for row in await VERDICTS.rows(tx, order_ids)}
    return [_verdict(rows.get(order_id)) for order_id in order_ids]


def _verdict(row: Record | None) -> Outcome:
    if row is None or not row["is_on_sale"]:
        return UNAVAILABLE
    return Done() if row["is_in_stock"] else OUT_OF_STOCK


async def reserve(tx: Tx, order_ids: Sequence[UUID], *, ttl: timedelta) -> Sequence[Outcome]:
    """Hold everything that each order needs, for `ttl`; who can't have all of it gets nothing."""
    quantities: dict[UUID, dict[UUID, int]] = defaultdict(dict)
    for row in await DEMANDS.rows(tx, order_ids):
        quantities[row["order_id"]][row["product_id"]] = row["quantity"]
    if not quantities:
        return [Done()] * len(order_ids)
    products = sorted({product_id for wanted in quantities.values() for product_id in wanted})
    free = {(row["product_id"], row["location"]): row["free"] for row in await FREE.rows(tx, products)}
    # Ids sort by the time of their order: the batch decides as if they had come one by one.
    decided = allocate(free, [Demand(order_id, quantities[order_id]) for order_id in sorted(quantities)])
    held = {order_id: shares for order_id, shares in decided.items() if shares}
    if held:
        await hold(tx, held, ttl)
    return [OUT_OF_STOCK if decided.get(order_id, []) is None else Done() for order_id in order_ids]


async def hold(
    tx: Tx,
    held: dict[UUID, list[Share]],
    ttl: timedelta,
    *,
    reservation: Mapping[UUID, UUID] | None = None,
    actor: str = "order",
    reason: str | None = None,
) -> None:
    """Write what was allocated: `held` by the order that it is for. The rows of stock are locked by `FREE`."""
    reservation = reservation or {order_id: new_id() for order_id in held}
    shares = [share for group in held.values() for share in group]
    await HOLD.run(
        tx,
        list(reservation.values()),
        list(reservation),
        [reservation[share.order_id] for share in shares],
        [share.order_id for share in shares],
        [share.product_id for share in shares],
        [share.location for share in shares],
        [share.quantity for share in shares],
        ttl,
        actor,
        reason,
    )
    await outbox.append(
        tx,
        [
            Event(
                "InventoryReserved",
                "reservation",
                reservation[order_id],
                {
                    "orderId": order_id,
                    "lines": [
                        {"productId": share.product_id, "location": share.location, "quantity": share.quantity}
                        for share in group
                    ],
                },
                order_id=order_id,
            )
            for order_id, group in held.items()
        ],
    )


async def extend(tx: Tx, order_ids: Sequence[UUID], *, ttl: timedelta) -> Sequence[Outcome]:
    """Prolong each order's reservation; one that has expired meanwhile is made anew, or the order is refused."""
    active = {row["order_id"] for row in await EXTEND.rows(tx, order_ids, ttl, "ACTIVE")}
    lapsed = [order_id for order_id in order_ids if order_id not in active]
    again = dict(zip(lapsed, await reserve(tx, lapsed, ttl=ttl), strict=True)) if lapsed else {}
    return [EXPIRED if isinstance(again.get(order_id), Refused) else Done() for order_id in order_ids]


async def confirm(tx: Tx, order_ids: Sequence[UUID], *, ttl: timedelta) -> Sequence[Outcome]:
    """What is held is theirs for good, once. Whose reservation has expired reserves again or is refused.

    It leaves the stock by `sell`, which is given the `rest` of each `Done` and has to follow in the same transaction.
    """
    ended = await END_OF_ORDERS.rows(tx, order_ids, "ACTIVE", "FULFILLED")
    sold = {row["order_id"] for row in ended}
    late = [order_id for order_id in order_ids if order_id not in sold]
    refused: set[UUID] = set()
    if late:
        await LOCK_OF_ORDERS.run(tx, order_ids)
        again = await reserve(tx, late, ttl=ttl)
        refused = {order_id for order_id, outcome in zip(late, again, strict=True) if isinstance(outcome, Refused)}
        ended += await END_OF_ORDERS.rows(tx, late, "ACTIVE", "FULFILLED")
    said = {event.order_id: event for event in ends(ended, "ReservationConfirmed")}
    return [EXPIRED if order_id in refused else Done(rest=said.get(order_id)) for order_id in order_ids]


async def sell(tx: Tx, confirmed: Sequence[Event]) -> None:
    """Book and tell what was confirmed. Until the commit nobody else can reserve these products: nothing follows it."""
    await settle(tx, confirmed, "SALE", on_hand=-1, held=-1)


async def release(tx: Tx, order_ids: Sequence[UUID]) -> Sequence[Outcome]:
    """Give back what is held. Nothing held (it expired, it never was): nothing to do."""
    ended = await END_OF_ORDERS.rows(tx, order_ids, "ACTIVE", "RELEASED")
    await settle(tx, ends(ended, "ReservationReleased"), "RELEASE_RESERVATION", on_hand=0, held=-1)
    return [Done()] * len(order_ids)


async def restock(tx: Tx, order_ids: Sequence[UUID]) -> Sequence[Outcome]:
    """Take back what was sold."""
    ended = await END_OF_ORDERS.rows(tx, order_ids, "FULFILLED", "RELEASED")
    await settle(tx, ends(ended, "ReservationReleased"), "RETURN", on_hand=1, held=0)
    return [Done()] * len(order_ids)


async def take_back(tx: Tx, refund_ids: Sequence[UUID]) -> Sequence[Outcome]:
    """Put the units of these refunds back to where they were sold from, each refund's once."""
    demands: dict[UUID, dict[UUID, int]] = defaultdict(dict)
    order_of: dict[UUID, UUID] = {}
    for row in await SENT_BACK.rows(tx, refund_ids):
        demands[row["refund_id"]][row["product_id"]] = row["quantity"]
        order_of[row["refund_id"]] = row["order_id"]
    left: dict[UUID, dict[Place, int]] = defaultdict(dict)
    if demands:
        products = sorted({product_id for wanted in demands.values() for product_id in wanted})
        await FREE.rows(tx, products)
        for row in await SOLD_FROM.rows(tx, sorted(set(order_of.values()))):
            left[row["order_id"]][row["product_id"], row["location"]] = row["left"]
    shares: list[tuple[UUID, Share]] = []
    for refund_id, wanted in demands.items():
        places = left[order_of[refund_id]]
        known = {product_id for product_id, _ in places}
        # Of a product without stock-keeping nothing was sold from anywhere.
        units = {product_id: quantity for product_id, quantity in wanted.items() if product_id in known}
        (found,) = allocate(places, [Demand(order_of[refund_id], units)]).values()
        if found is None:
            raise DefinitionFault(f"more comes back with refund {refund_id} than was sold from the stock")
        for share in found:
            places[share.product_id, share.location] -= share.quantity
            shares.append((refund_id, share))
    if shares:
        changed = await TAKE_BACK.rows(
            tx,
            [refund_id for refund_id, _ in shares],
            [share.order_id for _, share in shares],
            [share.product_id for _, share in shares],
            [share.location for _, share in shares],
            [share.quantity for _, share in shares],
        )
        await outbox.append(tx, [_stock_updated(row, "RETURN") for row in changed])
    return [Done()] * len(refund_ids)


async def expire(tx: Tx, limit: int) -> int:
    """Let go of reservations whose time is over; how many."""
    ended = await END_EXPIRED.rows(tx, limit)
    await settle(tx, ends(ended, "ReservationExpired"), "EXPIRED", on_hand=0, held=-1)
    return len(ended)


def ends(ended: Sequence[Record], event: str) -> list[Event]:
    """What there is to tell of reservations that ended."""
    return [
        Event(event, "reservation", row["id"], {"orderId": row["order_id"]}, order_id=row["order_id"]) for row in ended
    ]


async def settle(
    tx: Tx,
    ended: Sequence[Event],
    kind: str,
    *,
    on_hand: int,
    held: int,
    actor: str = "order",
    reason: str | None = None,
) -> None:
    """Book what the end of these reservations means: movements, stock; and tell it."""
    if not ended:
        return
    reservations, orders = [event.aggregate_id for event in ended], [event.order_id for event in ended]
    changed = await SETTLE.rows(tx, reservations, orders, on_hand, held, kind, actor, reason)
    told = list(ended)
    if on_hand:
        told += [_stock_updated(row, kind) for row in changed]
        told += [_low_stock(row) for row in changed if _fell_low(row, on_hand)]
    await outbox.append(tx, told)


def _stock_updated(row: Record, kind: str) -> Event:
    payload = {"location": row["location"], "onHand": row["on_hand"], "held": row["held"], "kind": kind}
    return Event("StockUpdated", "product", row["product_id"], payload)


def _low_stock(row: Record) -> Event:
    payload = {"location": row["location"], "onHand": row["on_hand"], "minimumStock": row["minimum_stock"]}
    return Event("LowStock", "product", row["product_id"], payload)


def _fell_low(row: Record, on_hand: int) -> bool:
    """Said when the minimum is crossed, not at each sale below it."""
    before = row["on_hand"] - on_hand * row["quantity"]
    return bool(row["on_hand"] <= row["minimum_stock"] < before)
