"""Reservations as staff sees and makes them, and the ledger of all that was moved.

One that staff makes is for no order: its own id stands where an order's would, so that it is held, let go, sold and
expired by the very same statements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Tx, twin
from comanda.inventory import stock
from comanda.inventory.admin import UnknownProduct
from comanda.inventory.model import Demand, Place, allocate

_sql = twin(__file__)
KNOWN = _sql["known"]
END_NAMED = _sql["end_named"]
FIND = _sql["find"]
LINES = _sql["lines"]
MOVEMENTS = _sql["movements"]

State = Literal["ACTIVE", "RELEASED", "FULFILLED", "EXPIRED"]
# By what it ends as: the movement, the event, what happens to what lies there.
_ENDINGS: Mapping[str, tuple[str, str, int]] = {
    "RELEASED": ("RELEASE_RESERVATION", "ReservationReleased", 0),
    "FULFILLED": ("SALE", "ReservationConfirmed", -1),
}
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Wish:
    """Units of a product to be held, at one location or, with None, wherever they lie."""

    product_id: UUID
    quantity: int
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock that is held, or was. `order_id` None: staff made it; `units` by product and location."""

    id: UUID
    order_id: UUID | None
    state: State
    expires_at: datetime
    created_at: datetime
    ended_at: datetime | None
    units: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Movement:
    """A line of the ledger. `reference`: the refund that brought goods back, or the import."""

    id: UUID
    product_id: UUID
    location: str
    kind: str
    on_hand_delta: int
    held_delta: int
    order_id: UUID | None
    actor: str
    reason: str | None
    reference: UUID | None
    at: datetime


@dataclass(frozen=True, slots=True)
class OutOfStock:
    """Refused: so many are not free. `free`: how many are."""

    free: int


@dataclass(frozen=True, slots=True)
class OfAnOrder:
    """Refused: an order holds it, and sells it by itself."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Refused: the reservation has ended already, so."""

    state: State


async def hold(
    tx: Tx, wishes: Sequence[Wish], *, ttl: timedelta, actor: UUID, reason: str | None
) -> list[Reservation | UnknownProduct | OutOfStock]:
    """Hold units for `ttl`, each wish a reservation; in the order given, what one gets is gone for the next."""
    products = sorted({one.product_id for one in wishes})
    known = {row["id"] for row in await KNOWN.rows(tx, products)}
    free = {(row["product_id"], row["location"]): row["free"] for row in await stock.FREE.rows(tx, products)}
    ids = [new_id() for _ in wishes]
    held = {}
    refused: dict[UUID, UnknownProduct | OutOfStock] = {}
    for made, wish in zip(ids, wishes, strict=True):
        places = {
            place: left
            for place, left in free.items()
            if place[0] == wish.product_id and wish.location in {None, place[1]}
        }
        (shares,) = allocate(places, [Demand(made, {wish.product_id: wish.quantity})]).values()
        if wish.product_id not in known:
            refused[made] = UnknownProduct()
        elif shares is None:
            refused[made] = OutOfStock(sum(places.values()))
        else:
            held[made] = shares
            for share in shares:
                free[share.product_id, share.location] -= share.quantity
    if held:
        await stock.hold(tx, held, ttl, reservation={made: made for made in held}, actor=str(actor), reason=reason)
    found = dict(zip(ids, await find(tx, ids), strict=True))
    return [refused.get(made) or _there(found[made]) for made in ids]


async def release(
    tx: Tx, reservation_ids: Sequence[UUID], *, actor: UUID, reason: str | None
) -> list[Reservation | Ended | OfAnOrder | None]:
    """Let go of what they hold; None where there is no such reservation."""
    return await _end(tx, reservation_ids, "RELEASED", actor=actor, reason=reason)


async def fulfill(
    tx: Tx, reservation_ids: Sequence[UUID], *, actor: UUID, reason: str | None
) -> list[Reservation | Ended | OfAnOrder | None]:
    """What staff's own reservations hold leaves the stock; None where there is no such reservation."""
    return await _end(tx, reservation_ids, "FULFILLED", actor=actor, reason=reason)


async def _end(
    tx: Tx, reservation_ids: Sequence[UUID], state: State, *, actor: UUID, reason: str | None
) -> list[Reservation | Ended | OfAnOrder | None]:
    ended = await END_NAMED.rows(tx, reservation_ids, "ACTIVE", state)
    kind, event, on_hand = _ENDINGS[state]
    await stock.settle(tx, stock.ends(ended, event), kind, on_hand=on_hand, held=-1, actor=str(actor), reason=reason)
    mine = {row["id"] for row in ended}
    return [_told(one, is_mine=one is not None and one.id in mine) for one in await find(tx, reservation_ids)]


def _told(found: Reservation | None, *, is_mine: bool) -> Reservation | Ended | OfAnOrder | None:
    if found is None or is_mine:
        return found
    return OfAnOrder() if found.state == "ACTIVE" else Ended(found.state)


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Reservation | None]:
    """Reservations by their ids; None where there is none."""
    units: dict[UUID, dict[Place, int]] = {}
    for row in await LINES.rows(tx, ids):
        units.setdefault(row["reservation_id"], {})[row["product_id"], row["location"]] = row["quantity"]
    found = {row["id"]: Reservation(**dict(row), units=units.get(row["id"], {})) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def movements(
    tx: Tx,
    *,
    product_id: UUID | None = None,
    location: str | None = None,
    kinds: Sequence[str] | None = None,
    order_id: UUID | None = None,
    before: UUID | None = None,
    limit: int,
) -> list[Movement]:
    """Lines of the ledger older than `before` (None: the newest)."""
    rows = await MOVEMENTS.rows(tx, product_id, location, kinds, order_id, before or _NO_ID_IS_GREATER, limit)
    return [Movement(**dict(row)) for row in rows]


def _there(found: Reservation | None) -> Reservation:
    assert found is not None  # it was written in this transaction
    return found
