"""How long it took until a customer noticed nothing any more. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from comanda.proof.chaos.buyers import Asked
from comanda.proof.chaos.ledgers import Order
from comanda.proof.chaos.nemesis import Hurt


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a fault's end until an order that was sent after it was accepted, and until one had ended.

    None: no such order was there. Other faults may have begun meanwhile; their time is counted in.
    """

    accepted: float | None
    ended: float | None


def recoveries(hurts: Iterable[Hurt], asked: Sequence[Asked], orders: Mapping[str, Order]) -> list[Recovery]:
    """One for each fault, in their order."""
    return [_recovery(hurt.until or hurt.began, asked, orders) for hurt in hurts]


def _recovery(since: float, asked: Sequence[Asked], orders: Mapping[str, Order]) -> Recovery:
    later = [(one, one.accepted) for one in asked if one.sent >= since and one.accepted is not None]
    accepted = [at for _, at in later]
    # An order may have ended before the 202 arrived: whoever waits for it learns of both then.
    ended = [
        max(at, order.ended)
        for one, at in later
        if (order := orders.get(one.answers[0][0])) is not None and order.ended is not None
    ]
    return Recovery(*(round(max(0.0, min(times) - since), 3) if times else None for times in (accepted, ended)))
