"""The gateway's ledger against the orders: what was captured and given back for each, to the cent.

A live system moves on while it is looked at. So the ledger is read up to its end, then the orders in one snapshot, then
what the ledger got meanwhile. The ledger as it was at the snapshot lies between the two readings: an order is broken
only if no point between them fits.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

from comanda.clock import rfc3339

PAGE = 5_000
_SOLD = frozenset({"CONFIRMED", "SHIPPED", "DELIVERED"})
_GIVEN_UP = frozenset({"CANCELLED", "REFUNDED"})
UNDER_WAY = "PAYMENT_PENDING"


@runtime_checkable
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
    """An order as far as money is concerned. `refunding`: what may be given back right now."""

    order_id: str
    state: str
    total: int
    currency: str
    refunded: int = 0
    refunding: int = 0

    @property
    def due(self) -> int:
        """What the shop may keep, in minor units."""
        return 0 if self.state in _GIVEN_UP else self.total - self.refunded


Lines = tuple[Line, ...]


@dataclass
class Book:
    """The lines of a ledger by order, as far as it has been read (`last`: the last line's number).

    A million orders take 200 MB: most have one line, and equal ones are shared.
    """

    lines: dict[str, Lines] = field(default_factory=dict)
    last: int = 0
    _shared: dict[tuple[str, int, str], Lines] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        values = (line["type"], line["amount"], line["currency"])
        one = self._shared.get(values)
        if one is None:
            one = self._shared[values] = (Line(*values),)
        order_id = line["orderId"]
        before = self.lines.get(order_id)
        self.lines[order_id] = one if before is None else before + one

    def of(self, order_id: str) -> Lines:
        return self.lines.get(order_id, ())

    def take(self, order_id: str) -> Lines:
        """Its lines, which leave the book: what is left at the end belongs to nobody."""
        return self.lines.pop(order_id, ())


async def read(ledger: Ledger, *, after: int, since: str, tell: Callable[[int], None] = lambda _: None) -> Book:
    """The lines after that one up to the end, of orders with ids from `since` on; `tell`: how many a page had."""
    book = Book(last=after)
    add = book.add
    while True:
        page = await ledger.ledger(book.last, PAGE)
        tell(len(page))
        for line in page:
            if line["orderId"] >= since:
                add(line)
        if page:
            book.last = page[-1]["seq"]
        if len(page) < PAGE:
            return book


async def before(ledger: Ledger, moment: datetime) -> int:
    """A line such that all after that moment come after it: the last one before, by halving what is left.

    A ledger is written in order of time: it needs some forty looks at single lines, however long it is.
    """
    text = rfc3339(moment.astimezone(UTC))

    async def is_earlier(after: int) -> bool:
        page = await ledger.ledger(after, 1)
        return bool(page) and str(page[0]["at"]) < text

    if not await is_earlier(0):
        return 0
    low, high = 0, 1  # the line after `low` is earlier; whether the one after `high` is, is asked next
    while await is_earlier(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if await is_earlier(middle):
            low = middle
        else:
            high = middle
    return low + 1


async def captures(ledger: Ledger, order_ids: Collection[str], *, after: int) -> dict[str, list[tuple[str, int]]]:
    """The keys and amounts of what was captured for a few orders: the ledger is read once more."""
    found: dict[str, list[tuple[str, int]]] = {}
    while True:
        page = await ledger.ledger(after, PAGE)
        for line in page:
            if line["orderId"] in order_ids and line["type"] == "capture":
                found.setdefault(line["orderId"], []).append((line["key"], line["amount"]))
        if len(page) < PAGE:
            return found
        after = page[-1]["seq"]


def kept(lines: Sequence[Line]) -> int:
    """Captured and not given back, in minor units."""
    return sum(line.amount if line.type == "capture" else -line.amount for line in lines)


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
    left = kept(lines)
    if left < 0:
        return f"{-left} more given back than captured"
    if order.state in _SOLD:
        return None if order.due - order.refunding <= left <= order.due else f"{left} kept of {order.due}"
    if order.state in _GIVEN_UP:
        return None if left == 0 else f"{left} kept, nothing is due"
    return None if captured <= order.total else f"{captured} captured of {order.total}"


def is_plain(state: str, total: int, currency: str, lines: Lines) -> bool:
    """Whether it is exact at first sight: sold for one capture, or given up without any. Most are."""
    if len(lines) == 1:
        (line,) = lines
        return line.type == "capture" and line.amount == total and line.currency == currency and state in _SOLD
    return not lines and state in _GIVEN_UP
