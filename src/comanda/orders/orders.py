"""What becomes of orders: their moves from state to state, and the events of each."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from comanda.db import Record, Tx, twin
from comanda.errors import DefinitionFault
from comanda.messaging import outbox
from comanda.messaging.outbox import Event
from comanda.orders import model
from comanda.orders.model import LEGAL, OrderState, Standing, marked, turned_back
from comanda.saga import Done, Outcome, Passage

_sql = twin(__file__)
MOVE = _sql["move"]
_FROM = [before for before, _ in LEGAL]
_TO = [after for _, after in LEGAL]
_EVENTS = {OrderState.SHIPPED: "OrderShipped", OrderState.DELIVERED: "OrderDelivered"}


async def move(tx: Tx, moves: Sequence[tuple[UUID, OrderState, str | None]], *, actor: str) -> dict[UUID, Record]:
    """Move orders on, each through the states given for it, in order; a state that it has already is passed over.

    Raises:
        DefinitionFault: a move that the table does not allow was asked for.
    """
    rows = await MOVE.rows(
        tx,
        [order_id for order_id, _, _ in moves],
        [state for _, state, _ in moves],
        [reason for _, _, reason in moves],
        actor,
        _FROM,
        _TO,
    )
    illegal = [f"{row['id']}: {row['illegal']}" for row in rows if row["illegal"]]
    if illegal:
        raise DefinitionFault(f"illegal moves of orders: {', '.join(illegal)}")
    return {row["id"]: row for row in rows}


async def follow(tx: Tx, passages: Sequence[Passage]) -> None:
    """Orders take the states that their sagas' marks mean; who turned back has failed."""
    moves = [(one.subject, state, one.reason) for one in passages if (state := marked(one)) is not None]
    if moves:
        await move(tx, moves, actor="saga")
    await outbox.append(
        tx,
        [
            Event("OrderFailed", "order", one.subject, {"step": one.step, "reason": one.reason}, order_id=one.subject)
            for one in turned_back(passages)
        ],
    )


async def complete(tx: Tx, order_ids: Sequence[UUID]) -> Sequence[Outcome]:
    """The order is confirmed."""
    moved = await move(tx, [(order_id, OrderState.CONFIRMED, None) for order_id in order_ids], actor="saga")
    await outbox.append(
        tx, [_ended("OrderConfirmed", row, None) for order_id in order_ids if (row := moved.get(order_id)) is not None]
    )
    return [Done()] * len(order_ids)


async def cancel(tx: Tx, order_ids: Sequence[UUID], reasons: Sequence[str]) -> None:
    """The order is cancelled, and says why."""
    why = dict(zip(order_ids, reasons, strict=True))
    moved = await move(tx, [(order_id, OrderState.CANCELLED, why[order_id]) for order_id in order_ids], actor="saga")
    await outbox.append(
        tx,
        [
            _ended("OrderCancelled", row, why[order_id])
            for order_id in order_ids
            if (row := moved.get(order_id)) is not None
        ],
    )


async def progress(tx: Tx, standings: Iterable[Standing], *, actor: str) -> None:
    """Sold orders take the states that they have come to by themselves: all shipped, all arrived, all paid back."""
    moves = [(one.id, state) for one in standings for state in model.progress(one)]
    if not moves:
        return
    moved = await move(tx, [(order_id, state, None) for order_id, state in moves], actor=actor)
    await outbox.append(
        tx,
        [_ended(_EVENTS[state], moved[order_id], None) for order_id, state in moves if state in _EVENTS],
    )


def _ended(event: str, row: Record, reason: str | None) -> Event:
    payload = {
        "customerId": row["customer_id"],
        "totalAmount": row["total_amount"],
        "currency": row["currency"],
        "seconds": round(row["seconds"], 6),
    }
    if reason is not None:
        payload["reason"] = reason
    return Event(event, "order", row["id"], payload, correlation_id=row["correlation_id"])
