"""Money that is given back after an order was confirmed: what was asked for, the call, what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from comanda import tracing
from comanda.clock import new_id
from comanda.db import Record, Tx, details, twin
from comanda.errors import GatewayFault
from comanda.messaging import outbox
from comanda.messaging.outbox import Event
from comanda.payments.gateway import Gateway
from comanda.saga import Done, Failed, Job, Outcome

_sql = twin(__file__)
ASK = _sql["ask"]
ASKED = _sql["asked"]
SETTLE = _sql["settle"]
ORDERS_OF = _sql["orders_of"]
OF_ORDERS = _sql["of_orders"]
LINES = _sql["lines"]

Kind = Literal["REFUND", "RETURN"]


@dataclass(frozen=True, slots=True)
class Asking:
    """A refund that was granted: `amount` in minor units, `units` of which products with it."""

    order_id: UUID
    kind: Kind
    amount: int
    currency: str
    units: Mapping[UUID, int]
    is_restocked: bool
    reason: str
    actor: UUID
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Refund:
    """A refund as it stands."""

    id: UUID
    order_id: UUID
    kind: Kind
    state: Literal["PENDING", "SUCCEEDED", "FAILED"]
    amount: int
    currency: str
    is_restocked: bool
    reason: str
    created_at: datetime
    ended_at: datetime | None
    units: Mapping[UUID, int] = field(default_factory=dict)


class _Request(msgspec.Struct, frozen=True):
    """`is_repeat`: an attempt before this one may have arrived."""

    charge_key: str
    amount: int
    is_repeat: bool


async def ask(tx: Tx, askings: Sequence[Asking]) -> list[Refund]:
    """Store what was granted; the locks under which it was decided are the caller's."""
    ids = [new_id() for _ in askings]
    rows = await ASK.rows(
        tx,
        ids,
        [one.order_id for one in askings],
        [one.kind for one in askings],
        [one.amount for one in askings],
        [one.currency for one in askings],
        [one.is_restocked for one in askings],
        [one.reason for one in askings],
        [one.actor for one in askings],
        [one.correlation_id for one in askings],
        *details.spread(ids, [one.units for one in askings]),
    )
    asked = {row["id"]: row for row in rows}
    return [_refund(asked[made], one.units) for made, one in zip(ids, askings, strict=True)]


async def orders_of(tx: Tx, refund_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The order of each refund."""
    return {row["id"]: row["order_id"] for row in await ORDERS_OF.rows(tx, refund_ids)}


async def fail(tx: Tx, refund_ids: Sequence[UUID]) -> None:
    """They won't be given back: what was promised to them is free again."""
    await SETTLE.rows(tx, refund_ids, "FAILED")


async def of_orders(tx: Tx, order_ids: Sequence[UUID]) -> dict[UUID, list[Refund]]:
    """The refunds of each order, oldest first."""
    rows = await OF_ORDERS.rows(tx, order_ids)
    ids = [row["id"] for row in rows]
    units = details.gathered(ids, await LINES.rows(tx, ids))
    found: dict[UUID, list[Refund]] = {one: [] for one in order_ids}
    for row in rows:
        found[row["order_id"]].append(_refund(row, units[row["id"]]))
    return found


def _refund(row: Record, units: Mapping[UUID, int]) -> Refund:
    return Refund(**dict(row), units=units)


class GiveBack:
    """Give back part of a charge, once: the gateway knows it by its key, and is asked for it before any repeat."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[_Request | Outcome]:
        """The intent was stored when the refund was asked for. What costs nothing needs no call."""
        asked = {row["id"]: row for row in await ASKED.rows(tx, [job.subject for job in jobs])}
        await succeed(tx, [one for one, row in asked.items() if not row["amount"]])
        return [
            _Request(row["key"], row["amount"], is_repeat=job.attempt > 1)
            if (row := asked[job.subject])["amount"]
            else Done()
            for job in jobs
        ]

    async def call(self, request: _Request, key: str) -> bool:
        found = await self._gateway.find_refund(key) if request.is_repeat else None
        if found is None:
            await self._gateway.refund(request.charge_key, request.amount, key)
        elif found != request.amount:
            raise GatewayFault(f"the gateway has given back {found} under this key, {request.amount} were asked for")
        return True

    async def is_done(self, key: str) -> bool:
        """Whether the gateway has given anything back under this key."""
        return await self._gateway.find_refund(key) is not None

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        await succeed(tx, [job.subject for job, answer in zip(jobs, answers, strict=True) if answer is True])
        return [
            Done() if answer is True else Failed(str(answer) or repr(answer), "REFUND_FAILED") for answer in answers
        ]


async def succeed(tx: Tx, refund_ids: Sequence[UUID]) -> None:
    """They are given back, by the gateway or by somebody's hand; each is counted once."""
    if not refund_ids:
        return
    await outbox.append(
        tx,
        [
            Event(
                "PaymentRefunded",
                "payment",
                row["payment_id"],
                {
                    "orderId": row["order_id"],
                    "refundId": row["id"],
                    "amount": row["amount"],
                    "currency": row["currency"],
                    "isWhole": row["refunded"] == row["captured"],
                },
                order_id=row["order_id"],
                traceparent=tracing.of(row["id"]),
            )
            for row in await SETTLE.rows(tx, refund_ids, "SUCCEEDED")
            if row["payment_id"] is not None
        ],
    )
