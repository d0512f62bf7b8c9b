"""The gateway's ledger against the orders: what was captured and given back for each, to the cent.

A live system moves on while it is looked at. So the ledger is read up to its end, then the orders in one snapshot, then
what the ledger got meanwhile. The ledger as it was at the snapshot lies between the two readings: an order is broken
only if no point between them fits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

PAGE = 5_000
_SOLD = frozenset({"CONFIRMED", "SHIPPED", "DELIVERED"})
_GIVEN_UP = frozenset({"CANCELLED", "REFUNDED"})


class Ledger(Protocol):
    """Whoever can show a gateway's ledger: `HttpGateway`."""

    async def ledger(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` lines after that one, each with its `seq`; fewer: that was the end."""


@dataclass(frozen=True, slots=True)
class NoLedger:
    """There is none to compare with, and why. `is_down`: there is one, and it does not answer."""

    why: str
    is_down: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A movement of money at the gateway, in minor units."""

    type: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Owed:
    """An order as far as money is concerned."""

    order_id: str
    state: str
    total: int
    currency: str


@dataclass
class Book:
    """The lines of a ledger by order, as far as it has been read (`last`: the last line's number)."""

    lines: dict[str, list[Line]] = field(default_factory=dict)
    last: int = 0


async def read(ledger: Ledger, *, after: int, since: str) -> Book:
    """The lines after that one up to the end, of orders with ids from `since` on."""
    book = Book(last=after)
    while True:
        page = await ledger.ledger(book.last, PAGE)
        for line in page:
            order_id = str(line["orderId"])
            if order_id >= since:
                book.lines.setdefault(order_id, []).append(Line(line["type"], line["amount"], line["currency"]))
        if page:
            book.last = page[-1]["seq"]
        if len(page) < PAGE:
            return book


def problem(order: Owed, lines: Sequence[Line], later: Sequence[Line]) -> str | None:
    """What is wrong with an order's money, or None.

    Args:
        order: as it stands in the snapshot.
        lines: of the order, in the ledger before the snapshot.
        later: those that came between the first reading and the second.
    """
    everything = [*lines, *later]
    captures = sum(line.type == "capture" for line in everything)
    if captures > 1:
        return f"captured {captures} times"
    said = None
    for seen in range(len(lines), len(everything) + 1):
        said = _unbalanced(order, everything[:seen])
        if said is None:
            return None
    return said


def _unbalanced(order: Owed, lines: Sequence[Line]) -> str | None:
    foreign = [line.currency for line in lines if line.currency != order.currency]
    if foreign:
        return f"an amount in {foreign[0]}, the order is in {order.currency}"
    captured = sum(line.amount for line in lines if line.type == "capture")
    kept = captured - sum(line.amount for line in lines if line.type == "refund")
    if kept < 0:
        return f"{-kept} more given back than captured"
    if order.state in _SOLD:
        return None if kept == order.total else f"{kept} kept of {order.total}"
    if order.state in _GIVEN_UP:
        return None if kept == 0 else f"{kept} kept, nothing is due"
    return None if captured <= order.total else f"{captured} captured of {order.total}"


def strangers(book: Book, known: Iterable[str]) -> Mapping[str, Sequence[Line]]:
    """Lines of orders that are not among the known ones. Their orders were stored before anything was charged."""
    rest = dict(book.lines)
    for order_id in known:
        rest.pop(order_id, None)
    return rest
