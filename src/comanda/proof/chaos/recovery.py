"""How long it took until a customer noticed nothing any more. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comanda.proof.chaos.asked import Asked
from comanda.proof.chaos.ledgers import Order
from comanda.proof.chaos.schedule import Hurt


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a fault's end until an order that was sent after it was accepted, and until one had ended.

    None: no such order was there. `meanwhile`: other faults that were on in that time, and are counted in.
    """

    accepted: float | None
    ended: float | None
    meanwhile: Sequence[str] = ()


def recoveries(hurts: Sequence[Hurt], asked: Sequence[Asked], orders: Mapping[str, Order]) -> list[Recovery]:
    """One for each fault, in their order."""
    return [_recovery(hurt, hurts, asked, orders) for hurt in hurts]


def _recovery(hurt: Hurt, hurts: Sequence[Hurt], asked: Sequence[Asked], orders: Mapping[str, Order]) -> Recovery:
    since = _over(hurt)
    later = [(one, one.accepted) for one in asked if one.sent >= since and one.accepted is not None]
    accepted = min((at for _, at in later), default=None)
    # An order may have ended before its 202 arrived: whoever waits for it learns of both then.
    ended = min(
        (
            max(at, order.ended)
            for one, at in later
            if (order := orders.get(one.answers[0][0])) is not None and order.ended is not None
        ),
        default=None,
    )
    others = [
        one.planned.kind.name
        for one in hurts
        if one is not hurt and _over(one) > since and (ended is None or one.began < ended)
    ]
    return Recovery(_after(since, accepted), _after(since, ended), others)


def _over(hurt: Hurt) -> float:
    return hurt.began if hurt.until is None else hurt.until


def _after(since: float, at: float | None) -> float | None:
    return None if at is None else round(max(0.0, at - since), 3)
