"""Orders as they are shown. Nothing here locks or writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from comanda.db import Record, Tx, twin

_sql = twin(__file__)
PAGE_OF_CUSTOMER = _sql["page_of_customer"]
PAGE_OF_ALL = _sql["page_of_all"]
OLDEST_OF_CUSTOMER = _sql["oldest_of_customer"]
OLDEST_OF_ALL = _sql["oldest_of_all"]
FIND = _sql["find"]
STATUSES = _sql["statuses"]
NEWEST_OF_CUSTOMER = _sql["newest_of_customer"]
LINES = _sql["lines"]
PAYMENTS = _sql["payments"]
MOVES = _sql["moves"]

_NO_ID_IS_LESS = UUID(int=0)
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)
_LONG_AGO = datetime(1980, 1, 1, tzinfo=UTC)
_FAR_OFF = datetime(9000, 1, 1, tzinfo=UTC)

State = Literal[
    "PENDING",
    "PROCESSING",
    "PAYMENT_PENDING",
    "PAYMENT_FAILED",
    "CONFIRMED",
    "SHIPPED",
    "DELIVERED",
    "CANCELLED",
    "REFUNDED",
]


@dataclass(frozen=True, slots=True)
class Order:
    """Without its lines. `saga_state` and `reached` are those of its saga."""

    id: UUID
    customer_id: UUID
    saga_id: UUID
    state: State
    total_amount: int
    currency: str
    payment_method: str | None
    shipping_address: Any
    notes: str | None
    failure_reason: str | None
    correlation_id: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    saga_state: str | None
    reached: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """What a client polls for; `updated_at` is when the order or its saga last moved."""

    id: UUID
    customer_id: UUID
    state: State
    saga_state: str | None
    reached: str | None
    failure_reason: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """Name and price are as they were sold."""

    order_id: UUID
    product_id: UUID
    sku: str
    product_name: str
    quantity: int
    unit_price: int


@dataclass(frozen=True, slots=True)
class Payment:
    """Amounts in minor units."""

    order_id: UUID
    id: UUID
    state: str
    amount: int
    captured: int
    refunded: int
    currency: str
    method: str | None
    decline_code: str | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """One move from state to state."""

    order_id: UUID
    from_state: str | None
    to_state: str
    reason: str | None
    actor: str
    at: datetime


def _order(row: Record) -> Order:
    fields = dict(row)
    address = fields["shipping_address"]
    fields["shipping_address"] = None if address is None else msgspec.json.decode(address)
    return Order(**fields)


async def page(
    tx: Tx,
    customer_id: UUID | None,
    states: Sequence[State] | None,
    *,
    limit: int,
    beyond: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    is_oldest_first: bool = False,
) -> list[Order]:
    """Orders in the order of their ids, that is of their times: a customer's or, with None, everybody's.

    Args:
        tx: a connection.
        customer_id: whose; None: everybody's.
        states: in one of these; None: in any.
        limit: so many at the most.
        beyond: go on after this one; None: begin.
        since: made then or later.
        until: made before that.
        is_oldest_first: else the newest comes first.
    """
    times = _within(since or _LONG_AGO), _within(until or _FAR_OFF)
    of_all, of_customer, start = (
        (OLDEST_OF_ALL, OLDEST_OF_CUSTOMER, _NO_ID_IS_LESS)
        if is_oldest_first
        else (PAGE_OF_ALL, PAGE_OF_CUSTOMER, _NO_ID_IS_GREATER)
    )
    if customer_id is None:
        rows = await of_all.rows(tx, states, beyond or start, *times, limit)
    else:
        rows = await of_customer.rows(tx, customer_id, states, beyond or start, *times, limit)
    return [_order(row) for row in rows]


def _within(moment: datetime) -> datetime:
    """That time, or the nearest one that ids have."""
    return min(max(moment, _LONG_AGO), _FAR_OFF)


async def newest_of_customers(tx: Tx, customer_ids: Sequence[UUID]) -> list[datetime | None]:
    """When each of them placed an order last; None for who never did."""
    return [await NEWEST_OF_CUSTOMER.value(tx, one) for one in customer_ids]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Order | None]:
    """Orders by their ids; None where there is none."""
    found = {row["id"]: _order(row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def statuses(tx: Tx, ids: Sequence[UUID]) -> list[Status | None]:
    """Where orders stand; None where there is none."""
    found = {row["id"]: Status(**dict(row)) for row in await STATUSES.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def lines(tx: Tx, order_ids: Sequence[UUID]) -> dict[UUID, list[Line]]:
    """The lines of each order, as they were ordered."""
    found: dict[UUID, list[Line]] = {one: [] for one in order_ids}
    for row in await LINES.rows(tx, order_ids):
        found[row["order_id"]].append(Line(**dict(row)))
    return found


async def payments(tx: Tx, order_ids: Sequence[UUID]) -> dict[UUID, Payment]:
    """The payment of each order that has one."""
    return {row["order_id"]: Payment(**dict(row)) for row in await PAYMENTS.rows(tx, order_ids)}


async def moves(tx: Tx, order_ids: Sequence[UUID]) -> dict[UUID, list[Move]]:
    """The history of each order, oldest first."""
    found: dict[UUID, list[Move]] = {one: [] for one in order_ids}
    for row in await MOVES.rows(tx, order_ids):
        found[row["order_id"]].append(Move(**dict(row)))
    return found
