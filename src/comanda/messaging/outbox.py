"""Events, committed with the change that caused them, and the cursors of those who read them."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from comanda import tracing
from comanda.clock import new_id
from comanda.db import Record, Tx, twin

_sql = twin(__file__)
APPEND = _sql["append"]
LOCKED_CURSOR = _sql["locked_cursor"]
FOLLOWING = _sql["following"]
ADVANCE_CURSOR = _sql["advance_cursor"]
SKIP = _sql["skip"]
LAG = _sql["lag"]
SETTLED_UP_TO = _sql["settled_up_to"]
SETTLED_OF_ORDERS = _sql["settled_of_orders"]
OF_ORDERS = _sql["of_orders"]

FIRST = "0"  # comes before every transaction
_EARLIER = 86_400_000 << 80  # a day, as ids count time: by so much may the clocks of two machines differ

Aggregate = Literal["order", "payment", "product", "reservation"]


class Event(msgspec.Struct, frozen=True):
    """Something that happened. `order_id`: the order that it concerns, whose correlation id it inherits.

    `traceparent`: of another trace than the order's.
    """

    type: str
    aggregate_type: Aggregate
    aggregate_id: UUID
    payload: dict[str, Any]
    order_id: UUID | None = None
    correlation_id: str | None = None
    traceparent: str | None = None
    id: UUID = msgspec.field(default_factory=new_id)


async def append(tx: Tx, events: Sequence[Event]) -> None:
    """Write events; the relay is woken when the transaction commits."""
    if not events:
        return
    await APPEND.run(
        tx,
        [event.id for event in events],
        [event.type for event in events],
        [event.aggregate_type for event in events],
        [event.aggregate_id for event in events],
        [event.correlation_id for event in events],
        [event.order_id for event in events],
        [msgspec.json.encode(event.payload).decode() for event in events],
        [event.traceparent or tracing.of(event.order_id, event.aggregate_id) for event in events],
    )


async def take(tx: Tx, sink: str, limit: int) -> list[Record] | None:
    """The next events for a sink, in order; its cursor moves on when the transaction commits.

    None when another relay holds the cursor.
    """
    cursor = await LOCKED_CURSOR.row(tx, sink)
    if cursor is None:
        return None
    rows = await FOLLOWING.rows(tx, cursor["xid"], cursor["id"], limit)
    if rows:
        await ADVANCE_CURSOR.run(tx, sink, rows[-1]["xid"], rows[-1]["id"], len(rows))
    return rows


async def skip(tx: Tx, sink: str) -> None:
    """Go past everything so far: nobody wants it."""
    await SKIP.run(tx, sink)


def envelope(row: Record) -> bytes:
    """An event as it leaves, in JSON. `traceparent` is there where its trace is kept."""
    traceparent = row.get("traceparent")
    return msgspec.json.encode(
        {
            "id": row["id"],
            "type": row["type"],
            "version": row["version"],
            "aggregateType": row["aggregate_type"],
            "aggregateId": row["aggregate_id"],
            "correlationId": row["correlation_id"],
            "causationId": row["causation_id"],
            "time": row["at"],
            "data": msgspec.Raw(row["payload"].encode()),
            **({"traceparent": traceparent} if traceparent else {}),
        }
    )


async def lag(tx: Tx, sink: str) -> tuple[int, float]:
    """Events that the sink has not seen (up to 10,000), and the age in seconds of the oldest of them."""
    row = await LAG.row(tx, sink)
    return (row["behind"], row["oldest_seconds"]) if row else (0, 0.0)


async def settled_up_to(tx: Tx) -> str:
    """The transaction before which all events are settled: none can appear there any more."""
    row = await SETTLED_UP_TO.row(tx)
    assert row is not None  # it reads no table
    return str(row["xid"])


async def settled_of_orders(tx: Tx, order_ids: Sequence[UUID], since: str = FIRST) -> list[tuple[UUID, Record]]:
    """The events of these orders, their payments and reservations that nothing can come before any more, in order.

    Args:
        tx: where they stand.
        order_ids: at least one.
        since: what `settled_up_to` said; what was settled then is left out.
    """
    floor = UUID(int=max(0, min(one.int for one in order_ids) - _EARLIER))
    return [(row["order_id"], row) for row in await SETTLED_OF_ORDERS.rows(tx, order_ids, floor, since)]


async def of_orders(tx: Tx, ids: Sequence[UUID]) -> list[dict[str, Any]]:
    """Every event of these orders, their payments and reservations; oldest first."""
    return [dict(row) for row in await OF_ORDERS.rows(tx, ids)]
