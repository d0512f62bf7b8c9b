"""The states of an order and the moves between them. Pure."""

from collections.abc import Sequence
from enum import StrEnum

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
