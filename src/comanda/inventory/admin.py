"""Stock as staff sees and changes it. What orders hold, take and give back is in `stock.py`.

Every change leaves its movements and its events in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Record, Tx, literally, twin
from comanda.inventory.model import Place
from comanda.messaging import outbox
from comanda.messaging.outbox import Event

_sql = twin(__file__)
CREATE = _sql["create"]
LOCKED = _sql["locked"]
SET_ON_HAND = _sql["set_on_hand"]
MOVE = _sql["move"]
OF_PRODUCTS = _sql["of_products"]
PAGE = _sql["page"]
COUNT = _sql["count"]
FOLLOWING = _sql["following"]
STATS = _sql["stats"]

MOST = 10**12
"""Units that one location can hold by what staff adds: what orders give back still fits into a bigint beside it."""

Addition = Literal["RESTOCK", "RETURN", "ADJUSTMENT", "TRANSFER_IN", "MANUAL_CORRECTION"]
Removal = Literal["ADJUSTMENT", "DAMAGE", "THEFT", "TRANSFER_OUT", "EXPIRED", "QUALITY_CONTROL", "MANUAL_CORRECTION"]
Status = Literal["in_stock", "low_stock", "out_of_stock"]


@dataclass(frozen=True, slots=True)
class Stock:
    """One product at one location. `on_hand` lies there, `held` is the part of it that reservations hold."""

    product_id: UUID
    location: str
    on_hand: int
    held: int
    minimum_stock: int
    maximum_stock: int | None
    reorder_point: int | None
    reorder_quantity: int | None
    notes: str | None
    sku: str
    product_name: str

    @property
    def free(self) -> int:
        return self.on_hand - self.held

    @property
    def status(self) -> Status:
        if self.free <= 0:
            return "out_of_stock"
        return "low_stock" if self.free <= self.minimum_stock else "in_stock"


@dataclass(frozen=True, slots=True)
class Opening:
    """Stock of a product at a location where it had none. `minimum_stock` None: the product's."""

    product_id: UUID
    initial_stock: int
    location: str = "MAIN"
    minimum_stock: int | None = None
    maximum_stock: int | None = None
    reorder_point: int | None = None
    reorder_quantity: int | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """So many units come (positive) or go (negative)."""

    product_id: UUID
    quantity: int
    kind: Addition | Removal
    location: str = "MAIN"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """So many units lie there, as somebody has counted."""

    product_id: UUID
    on_hand: int
    location: str = "MAIN"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """Stock as it was wished for, and what that took."""

    stock: Stock
    how: Literal["created", "changed", "unchanged"]


@dataclass(frozen=True, slots=True)
class UnknownProduct:
    """Refused: there is no such product."""


@dataclass(frozen=True, slots=True)
class StockExists:
    """Refused: that product has stock at that location already."""


@dataclass(frozen=True, slots=True)
class NoStock:
    """Refused: that product has no stock at that location."""


@dataclass(frozen=True, slots=True)
class HeldStock:
    """Refused: orders hold what would go. `free`: how many units could."""

    free: int


@dataclass(frozen=True, slots=True)
class TooMuchStock:
    """Refused: more than can be counted."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which stock; None: whatever it is. `minimum` and `maximum` are of free units."""

    product_id: UUID | None = None
    location: str | None = None
    status: Status | None = None
    minimum: int | None = None
    maximum: int | None = None
    search: str | None = None


def _stock(row: Record) -> Stock:
    return Stock(**dict(row))


async def create(
    tx: Tx, openings: Sequence[Opening], *, actor: UUID, correlation_id: str | None
) -> list[Stock | UnknownProduct | StockExists]:
    """Open stock; of two for one product and location the first is opened."""
    rows = await CREATE.rows(
        tx,
        [one.product_id for one in openings],
        [one.location for one in openings],
        [one.initial_stock for one in openings],
        [one.minimum_stock for one in openings],
        [one.maximum_stock for one in openings],
        [one.reorder_point for one in openings],
        [one.reorder_quantity for one in openings],
        [one.notes for one in openings],
    )
    known = {row["product_id"] for row in rows}
    opened: dict[Place, Stock] = {}
    for row in rows:
        fields = dict(row)
        if fields.pop("is_new"):
            stock = Stock(**fields)
            opened[stock.product_id, stock.location] = stock
    answers: list[Stock | UnknownProduct | StockExists] = []
    moves: list[tuple[Stock, Change]] = []
    for one in openings:
        made = opened.pop((one.product_id, one.location), None)
        if made is not None:
            answers.append(made)
            moves.append((made, Change(one.product_id, one.initial_stock, "RESTOCK", one.location, "initial stock")))
        else:
            answers.append(StockExists() if one.product_id in known else UnknownProduct())
    await _record(tx, moves, actor=str(actor), correlation_id=correlation_id)
    return answers


async def change(
    tx: Tx, changes: Sequence[Change], *, actor: UUID, correlation_id: str | None
) -> list[Stock | NoStock | HeldStock | TooMuchStock]:
    """Add and remove units, each as if it had come alone, in the order given."""
    rows = await LOCKED.rows(tx, [one.product_id for one in changes], [one.location for one in changes])
    standing = {(row["product_id"], row["location"]): _stock(row) for row in rows}
    answers: list[Stock | NoStock | HeldStock | TooMuchStock] = []
    moves: list[tuple[Stock, Change]] = []
    for one in changes:
        answer = _decide(standing.get((one.product_id, one.location)), one.quantity)
        answers.append(answer)
        if isinstance(answer, Stock):
            standing[one.product_id, one.location] = answer
            moves.append((answer, one))
    await _write(tx, moves)
    await _record(tx, moves, actor=str(actor), correlation_id=correlation_id)
    return answers


async def bring(
    tx: Tx, wishes: Sequence[Change | Level], *, actor: str, correlation_id: str | None, reference: UUID
) -> list[Brought | NoStock | HeldStock | TooMuchStock]:
    """Add and remove units, or set how many lie there, each as if it had come alone, in the order given.

    Stock is opened where there was none, unless units would go. `reference` stands beside the movements.
    """
    fresh = await _opened(tx, [one for one in wishes if _units(one) >= 0])
    rows = await LOCKED.rows(tx, [one.product_id for one in wishes], [one.location for one in wishes])
    standing = {(row["product_id"], row["location"]): _stock(row) for row in rows}
    answers: list[Brought | NoStock | HeldStock | TooMuchStock] = []
    moves: list[tuple[Stock, Change]] = []
    for one in wishes:
        place = one.product_id, one.location
        is_fresh = place in fresh
        was = None if is_fresh and _units(one) < 0 else standing.get(place)
        change = _as_change(one, was, is_fresh=is_fresh)
        answer = _decide(was, change.quantity)
        if not isinstance(answer, Stock):
            answers.append(answer)
            continue
        fresh.discard(place)
        standing[place] = answer
        answers.append(Brought(answer, "created" if is_fresh else "changed" if change.quantity else "unchanged"))
        if is_fresh or change.quantity:
            moves.append((answer, change))
    await _write(tx, moves)
    await _record(tx, moves, actor=actor, correlation_id=correlation_id, reference=reference)
    return answers


def _units(wish: Change | Level) -> int:
    return wish.on_hand if isinstance(wish, Level) else wish.quantity


def _as_change(wish: Change | Level, was: Stock | None, *, is_fresh: bool) -> Change:
    match wish:
        case Level(product_id, on_hand, location, reason):
            missing = on_hand - (0 if was is None else was.on_hand)
            return Change(product_id, missing, "RESTOCK" if is_fresh else "ADJUSTMENT", location, reason)
        case Change():
            return wish


async def _opened(tx: Tx, wishes: Sequence[Change | Level]) -> set[Place]:
    """Places that had no stock, opened with nothing in it."""
    places = sorted({(one.product_id, one.location) for one in wishes})
    if not places:
        return set()
    none = [None] * len(places)
    ids, locations = [one for one, _ in places], [one for _, one in places]
    rows = await CREATE.rows(tx, ids, locations, [0] * len(places), none, none, none, none, none)
    return {(row["product_id"], row["location"]) for row in rows if row["is_new"]}


async def _write(tx: Tx, moves: Sequence[tuple[Stock, Change]]) -> None:
    """What lies there after the last of these changes."""
    changed = {(stock.product_id, stock.location): stock.on_hand for stock, _ in moves}
    await SET_ON_HAND.run(tx, [one for one, _ in changed], [one for _, one in changed], list(changed.values()))


def _decide(stock: Stock | None, quantity: int) -> Stock | NoStock | HeldStock | TooMuchStock:
    if stock is None:
        return NoStock()
    on_hand = stock.on_hand + quantity
    if on_hand < stock.held:
        return HeldStock(stock.free)
    return TooMuchStock() if on_hand > MOST and quantity > 0 else replace(stock, on_hand=on_hand)


async def _record(
    tx: Tx,
    moves: Sequence[tuple[Stock, Change]],
    *,
    actor: str,
    correlation_id: str | None,
    reference: UUID | None = None,
) -> None:
    """The ledger's rows and the events of changes that were made; the stock is as it was after each."""
    moved = [change for _, change in moves if change.quantity]
    if moved:
        await MOVE.run(
            tx,
            [new_id() for _ in moved],
            [one.product_id for one in moved],
            [one.location for one in moved],
            [one.kind for one in moved],
            [one.quantity for one in moved],
            [one.reason for one in moved],
            actor,
            reference,
        )
    events = []
    for stock, one in moves:
        payload: dict[str, Any] = {
            "productId": str(stock.product_id),
            "sku": stock.sku,
            "location": stock.location,
            "physicalStock": stock.on_hand,
            "reservedStock": stock.held,
            "availableStock": stock.free,
        }
        update = {**payload, "change": one.quantity, "movementType": one.kind, "reason": one.reason}
        events.append(Event("StockUpdated", "product", stock.product_id, update, correlation_id=correlation_id))
        if stock.free <= stock.minimum_stock:
            low = {**payload, "minimumStock": stock.minimum_stock}
            events.append(Event("LowStock", "product", stock.product_id, low, correlation_id=correlation_id))
    await outbox.append(tx, events)


async def of_products(tx: Tx, product_ids: Sequence[UUID]) -> list[list[Stock] | None]:
    """The stock of each product, by location; None where there is no such product."""
    found: dict[UUID, list[Stock]] = {}
    for row in await OF_PRODUCTS.rows(tx, product_ids):
        places = found.setdefault(row["product_id"], [])
        if row["location"] is not None:
            places.append(_stock(row))
    return [found.get(one) for one in product_ids]


async def page(tx: Tx, filter_: Filter, *, number: int, limit: int) -> tuple[list[Stock], int]:
    """One page (from 1) of the stock that the filter lets through, by SKU and location, and how much that is in all."""
    wanted = (
        filter_.product_id,
        filter_.location,
        filter_.status,
        filter_.minimum,
        filter_.maximum,
        filter_.search or None,
    )
    total: int = await COUNT.value(tx, *wanted)
    return [_stock(row) for row in await PAGE.rows(tx, *wanted, limit, (number - 1) * limit)], total


async def following(tx: Tx, *, search: str | None, after: tuple[str, str] | None, limit: int) -> list[Stock]:
    """Stock by SKU and location, from after these two on; `search`: a part of a name or a SKU."""
    sku, location = after or ("", "")
    pattern = None if search is None else literally(search)
    return [_stock(row) for row in await FOLLOWING.rows(tx, sku, location, pattern, limit)]


async def stats(tx: Tx) -> dict[str, int]:
    """Sums over everything: `products, locations, on_hand, held, low, out`."""
    row = await STATS.row(tx)
    return {name: int(value) for name, value in row.items()} if row else {}
