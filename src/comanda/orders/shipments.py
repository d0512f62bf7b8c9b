"""Parcels: what of an order has left the house, and what of it has arrived."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Record, Tx, details, twin

_sql = twin(__file__)
SEND = _sql["send"]
DELIVER = _sql["deliver"]
OF_ORDERS = _sql["of_orders"]
LINES = _sql["lines"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What is to leave: units of an order's products, by whom and under which number."""

    order_id: UUID
    units: Mapping[UUID, int]
    carrier: str | None
    tracking_number: str | None
    actor: UUID


@dataclass(frozen=True, slots=True)
class Shipment:
    """A parcel that has left."""

    id: UUID
    order_id: UUID
    carrier: str | None
    tracking_number: str | None
    shipped_at: datetime
    delivered_at: datetime | None
    units: Mapping[UUID, int] = field(default_factory=dict)


def _shipment(row: Record, units: Mapping[UUID, int]) -> Shipment:
    return Shipment(**dict(row), units=units)


async def send(tx: Tx, parcels: Sequence[Parcel]) -> list[Shipment]:
    """Write down that these have left; nothing is decided here."""
    ids = [new_id() for _ in parcels]
    rows = await SEND.rows(
        tx,
        ids,
        [one.order_id for one in parcels],
        [one.carrier for one in parcels],
        [one.tracking_number for one in parcels],
        [one.actor for one in parcels],
        *details.spread(ids, [one.units for one in parcels]),
    )
    sent = {row["id"]: row for row in rows}
    return [_shipment(sent[made], one.units) for made, one in zip(ids, parcels, strict=True)]


async def deliver(tx: Tx, shipment_ids: Sequence[UUID]) -> set[UUID]:
    """Write down that these have arrived; those that had not before."""
    return {row["id"] for row in await DELIVER.rows(tx, shipment_ids)}


async def of_orders(tx: Tx, order_ids: Sequence[UUID]) -> dict[UUID, list[Shipment]]:
    """The parcels of each order, oldest first."""
    rows = await OF_ORDERS.rows(tx, order_ids)
    ids = [row["id"] for row in rows]
    units = details.gathered(ids, await LINES.rows(tx, ids))
    found: dict[UUID, list[Shipment]] = {one: [] for one in order_ids}
    for row in rows:
        found[row["order_id"]].append(_shipment(row, units[row["id"]]))
    return found
