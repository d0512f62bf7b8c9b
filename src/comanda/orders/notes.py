"""What people write beside an order: for everybody who may see it, or for staff alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Tx, twin

_sql = twin(__file__)
WRITE = _sql["write"]
OF_ORDERS = _sql["of_orders"]


@dataclass(frozen=True, slots=True)
class Draft:
    """A note that is to be written."""

    order_id: UUID
    text: str
    is_public: bool
    actor: UUID


@dataclass(frozen=True, slots=True)
class Note:
    """A note. `actor`: the account that wrote it."""

    id: UUID
    order_id: UUID
    text: str
    is_public: bool
    actor: UUID
    created_at: datetime


async def write(tx: Tx, drafts: Sequence[Draft]) -> list[Note]:
    """Write notes, to orders that there are."""
    ids = [new_id() for _ in drafts]
    rows = await WRITE.rows(
        tx,
        ids,
        [one.order_id for one in drafts],
        [one.text for one in drafts],
        [one.is_public for one in drafts],
        [one.actor for one in drafts],
    )
    written = {row["id"]: Note(**dict(row)) for row in rows}
    return [written[one] for one in ids]


async def of_orders(tx: Tx, order_ids: Sequence[UUID], *, is_for_staff: bool) -> dict[UUID, list[Note]]:
    """The notes of each order, oldest first; those for staff only where they are asked for."""
    found: dict[UUID, list[Note]] = {one: [] for one in order_ids}
    for row in await OF_ORDERS.rows(tx, order_ids, is_for_staff):
        found[row["order_id"]].append(Note(**dict(row)))
    return found
