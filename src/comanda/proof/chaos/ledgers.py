"""What the tables and the gateway's ledger say once all is over, read past the proxies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from comanda.db import Tx, twin
from comanda.proof.ledger import PAGE, Ledger
from comanda.saga import log

_sql = twin(__file__)
ORDERS = _sql["orders"]
KEYS = _sql["keys"]
STOCK = _sql["stock"]
SOLD = _sql["sold"]
PUT_BACK = _sql["put_back"]
PROGRESS = _sql["progress"]
TOLD = _sql["told"]
IS_ALL_TOLD = _sql["is_all_told"]
NEXT_DELIVERIES = _sql["next_deliveries"]
TERMINATE = _sql["terminate"]

EVERYBODY = "comanda-%"
LISTENERS = "comanda-%-listen"


@dataclass(frozen=True, slots=True)
class Order:
    """A row of `orders`; times in seconds since 1970."""

    id: str
    customer: str
    state: str
    reason: str | None
    total: int
    created: float
    ended: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """What the shop's own systems are to be told about an order."""

    id: str
    type: str
    order: str


@dataclass(frozen=True, slots=True)
class Capture:
    """A line of the gateway's ledger by which money was taken; `at` in seconds since 1970."""

    order: str
    amount: int
    at: float


@dataclass
class Books:
    """Everything that was written down.

    Args:
        orders: by id.
        keys: (customer, key) and the order that it names.
        on_hand: units of a product; `held`, `sold` (by the lines of confirmed orders) and `put_back` likewise.
        captures: of the gateway.
        given_back: of each order, by the gateway.
        events: about orders, in their order.
    """

    orders: dict[str, Order] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    on_hand: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    sold: Counter[str] = field(default_factory=Counter)
    put_back: Counter[str] = field(default_factory=Counter)
    captures: Sequence[Capture] = ()
    given_back: Counter[str] = field(default_factory=Counter)
    events: Sequence[Event] = ()


async def read(tx: Tx, gateway: Ledger) -> Books:
    """Read all of it; the shop should be at rest."""
    lines = await _lines(gateway)
    books = Books(captures=[_capture(line) for line in lines if line["type"] == "capture"])
    for line in lines:
        if line["type"] == "refund":
            books.given_back[line["orderId"]] += line["amount"]
    for row in await ORDERS.rows(tx):
        ended = row["ended_at"] and row["ended_at"].timestamp()
        one = Order(
            *(str(row["id"]), str(row["customer_id"]), row["state"], row["failure_reason"], row["total_amount"]),
            *(row["created_at"].timestamp(), ended),
        )
        books.orders[one.id] = one
    books.keys = {(str(row["customer_id"]), row["key"]): str(row["subject"]) for row in await KEYS.rows(tx)}
    for row in await STOCK.rows(tx):
        books.on_hand[str(row["product_id"])] = row["on_hand"]
        books.held[str(row["product_id"])] = row["held"]
    books.sold.update({str(row["product_id"]): row["quantity"] for row in await SOLD.rows(tx)})
    books.put_back.update({str(row["product_id"]): row["quantity"] for row in await PUT_BACK.rows(tx)})
    books.events = [Event(str(row["id"]), row["type"], row["order_id"]) for row in await TOLD.rows(tx)]
    return books


async def progress(tx: Tx) -> tuple[int, int]:
    """How many orders there are, and how many have ended."""
    row = await PROGRESS.row(tx)
    assert row is not None
    return row["orders"], row["ended"]


async def hurry_webhooks(tx: Tx) -> bool:
    """Let those that wait for their next attempt have it now, as an operator may; whether all has been told."""
    waiting = [row["id"] for row in await NEXT_DELIVERIES.rows(tx)]
    if waiting:
        await log.hurry(tx, waiting)
    is_told: bool = await IS_ALL_TOLD.value(tx)
    return is_told


async def terminate(tx: Tx, whose: str) -> int:
    """End the backends of these application names; how many there were."""
    ended: int = await TERMINATE.value(tx, whose)
    return ended


async def _lines(gateway: Ledger) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    while page := await gateway.ledger(lines[-1]["seq"] if lines else 0, PAGE):
        lines += page
    return lines


def _capture(line: dict[str, Any]) -> Capture:
    return Capture(line["orderId"], line["amount"], datetime.fromisoformat(line["at"]).timestamp())
