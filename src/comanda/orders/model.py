"""The states of an order, the moves between them, and what may be done once it is confirmed. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from uuid import UUID

from comanda.saga.definition import Passage


class OrderState(StrEnum):
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    PAYMENT_PENDING = "PAYMENT_PENDING"
    PAYMENT_FAILED = "PAYMENT_FAILED"
    CONFIRMED = "CONFIRMED"
    SHIPPED = "SHIPPED"
    DELIVERED = "DELIVERED"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"


_S = OrderState
MOVES: dict[OrderState, frozenset[OrderState]] = {
    _S.PENDING: frozenset({_S.PROCESSING, _S.CANCELLED}),
    _S.PROCESSING: frozenset({_S.PAYMENT_PENDING, _S.PAYMENT_FAILED, _S.CONFIRMED, _S.CANCELLED}),
    _S.PAYMENT_PENDING: frozenset({_S.PAYMENT_FAILED, _S.CONFIRMED, _S.CANCELLED}),
    _S.PAYMENT_FAILED: frozenset({_S.CANCELLED}),
    _S.CONFIRMED: frozenset({_S.SHIPPED, _S.CANCELLED, _S.REFUNDED}),
    _S.SHIPPED: frozenset({_S.DELIVERED, _S.REFUNDED}),
    _S.DELIVERED: frozenset({_S.REFUNDED}),
    _S.CANCELLED: frozenset(),
    _S.REFUNDED: frozenset(),
}
LEGAL = [(before, after) for before, targets in MOVES.items() for after in sorted(targets)]

BEFORE_CHARGE = (_S.PENDING, _S.PROCESSING)
"""While an order is in one of these, its customer may cancel it."""

_GONE = frozenset({_S.SHIPPED, _S.DELIVERED})
_SOLD = _GONE | {_S.CONFIRMED}

_MARKS: dict[tuple[str, str, str], OrderState] = {
    ("verify_stock", "forward", "done"): _S.PROCESSING,
    ("process_payment", "forward", "begun"): _S.PAYMENT_PENDING,
    ("process_payment", "forward", "refused"): _S.PAYMENT_FAILED,
    ("process_payment", "forward", "exhausted"): _S.PAYMENT_FAILED,
}


def marked(passage: Passage) -> OrderState | None:
    """The state that an order takes when its saga passes this point; None: it stays as it is."""
    return _MARKS.get((passage.step, passage.direction, passage.event))


def turned_back(passages: Sequence[Passage]) -> list[Passage]:
    """Where orders turned from going forward to being undone."""
    return [one for one in passages if one.direction == "forward" and one.event in ("refused", "exhausted")]


@dataclass(slots=True)
class LineStanding:
    """Units of one line. Of those refunded some were withdrawn (never shipped), some returned (shipped, and back)."""

    product_id: UUID
    unit_price: int
    ordered: int
    shipped: int = 0
    refunded: int = 0
    withdrawn: int = 0
    returned: int = 0

    @property
    def left_to_ship(self) -> int:
        return self.ordered - self.shipped - self.withdrawn

    @property
    def left_to_refund(self) -> int:
        return self.ordered - self.refunded


@dataclass(slots=True)
class Standing:
    """An order as it stands under its lock. Amounts in minor units; `sent` and `delivered` count parcels.

    `is_settled`: its process has ended, and well. `left_to_refund`: of what was `captured`, neither `refunded` nor
    asked for. Who decides something for it changes this value as well: the next decision of the same transaction sees
    it.
    """

    id: UUID
    customer_id: UUID
    state: OrderState
    is_settled: bool
    currency: str
    correlation_id: str
    captured: int
    refunded: int
    left_to_refund: int
    lines: dict[UUID, LineStanding] = field(default_factory=dict)
    sent: int = 0
    delivered: int = 0

    @property
    def is_shipped(self) -> bool:
        """Nothing is left to be sent, and something was."""
        return self.sent > 0 and all(line.left_to_ship == 0 for line in self.lines.values())

    @property
    def is_paid_back(self) -> bool:
        """All the money is back; of what cost nothing, all units are."""
        if self.captured:
            return self.refunded == self.captured
        return all(line.left_to_refund == 0 for line in self.lines.values())


@dataclass(frozen=True, slots=True)
class WrongState:
    """Refused: not while the order is in that state. `onward`: the states that it can come to from there."""

    state: OrderState
    onward: tuple[OrderState, ...]
    is_under_way: bool = False


@dataclass(frozen=True, slots=True)
class NoSuchLine:
    """Refused: the order has no line of that product."""

    product_id: UUID


@dataclass(frozen=True, slots=True)
class TooManyUnits:
    """Refused: of that line only so many are left to be shipped, or refunded, or brought back."""

    product_id: UUID
    left: int


@dataclass(frozen=True, slots=True)
class TooMuchMoney:
    """Refused: only so much can be given back, in minor units."""

    left: int


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """Refused: there is nothing left to do it to."""


Refusal = WrongState | NoSuchLine | TooManyUnits | TooMuchMoney | NothingLeft
Units = Mapping[UUID, int]
RefundKind = Literal["REFUND", "RETURN"]


@dataclass(frozen=True, slots=True)
class Granted:
    """What is given back: an amount, and units with it."""

    amount: int
    units: Units


def wrong_state(standing: Standing) -> WrongState:
    return WrongState(standing.state, tuple(sorted(MOVES[standing.state])), is_under_way=not standing.is_settled)


def ship(standing: Standing, wanted: Units | None) -> Units | Refusal:
    """Units that leave the house now: these, or whatever is left."""
    # Shipped, or even delivered, and yet something is left: it was to be put back, and that came to nothing.
    is_open = standing.state == _S.CONFIRMED or (standing.state in _GONE and not standing.is_shipped)
    if not is_open or not standing.is_settled:
        return wrong_state(standing)
    if wanted is None:
        units = {line.product_id: line.left_to_ship for line in standing.lines.values() if line.left_to_ship}
    else:
        refusal = _unfit(standing, wanted, lambda line: line.left_to_ship)
        if refusal is not None:
            return refusal
        units = dict(wanted)
    if not units:
        return NothingLeft()
    for product_id, quantity in units.items():
        standing.lines[product_id].shipped += quantity
    standing.sent += 1
    return units


def refund(
    standing: Standing, kind: RefundKind, units: Units | None, amount: int | None, *, is_restocked: bool
) -> Granted | Refusal:
    """What is given back of a sold order.

    A return is of units that were shipped. A refund may put units back into the stock only before they are shipped;
    without that it is about money alone. Without units or amount: all the money that is left.

    Args:
        standing: the order; changed when something is granted.
        kind: refund or return.
        units: of which lines; None: of none in particular.
        amount: minor units; None: what those units cost, or all that is left.
        is_restocked: the units go back into the stock.
    """
    if standing.state not in _SOLD or not standing.is_settled:
        return wrong_state(standing)
    if units is not None:
        refusal = _unfit(standing, units, lambda line: _left(line, kind, is_restocked=is_restocked))
        if refusal is not None:
            return refusal
        worth = sum(standing.lines[product_id].unit_price * quantity for product_id, quantity in units.items())
        if amount is not None and amount > worth:
            return TooMuchMoney(min(worth, standing.left_to_refund))
        amount = worth if amount is None else amount
    elif amount is None:
        amount = standing.left_to_refund
    if amount > standing.left_to_refund:
        return TooMuchMoney(standing.left_to_refund)
    if not amount and not units:
        return NothingLeft()
    standing.left_to_refund -= amount
    for product_id, quantity in (units or {}).items():
        line = standing.lines[product_id]
        line.refunded += quantity
        if kind == "RETURN":
            line.returned += quantity
        elif is_restocked:
            line.withdrawn += quantity
    return Granted(amount, units or {})


def progress(standing: Standing) -> list[OrderState]:
    """The states that a sold order takes by itself, as far as it has come."""
    if standing.state not in _SOLD:
        return []
    if standing.is_paid_back:
        return [_S.REFUNDED]
    reached = [_S.SHIPPED] if standing.state == _S.CONFIRMED and standing.is_shipped else []
    if _S.SHIPPED in (standing.state, *reached) and standing.delivered == standing.sent:
        reached.append(_S.DELIVERED)
    return reached


def _left(line: LineStanding, kind: RefundKind, *, is_restocked: bool) -> int:
    if kind == "RETURN":
        return min(line.shipped - line.returned, line.left_to_refund)
    return min(line.left_to_ship, line.left_to_refund) if is_restocked else line.left_to_refund


def _unfit(standing: Standing, wanted: Units, left: Callable[[LineStanding], int]) -> Refusal | None:
    for product_id, quantity in wanted.items():
        line = standing.lines.get(product_id)
        if line is None:
            return NoSuchLine(product_id)
        if quantity > left(line):
            return TooManyUnits(product_id, left(line))
    return None
