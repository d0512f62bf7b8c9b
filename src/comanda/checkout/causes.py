"""What an attempt did stands after it in an order's story, though both bear the time of one transaction. Pure.

Events and moves are stamped with their transaction's beginning, attempts a microsecond apart after it: by the clock
alone every effect would stand before its cause.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from comanda.saga.definition import Direction


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt at a step."""

    at: datetime
    step: str
    direction: Direction
    is_failure: bool


@dataclass(frozen=True, slots=True)
class _Cause:
    """Attempts that something may come from; None: whichever."""

    step: str | None
    direction: Direction | None = None
    failed: bool | None = None

    def fits(self, one: Tried) -> bool:
        return (
            (self.step is None or self.step == one.step)
            and (self.direction is None or self.direction == one.direction)
            and (self.failed is None or self.failed == one.is_failure)
        )


# A charge is announced by the transaction that reserved, where one worker goes on; it has no line of its own before it
# is answered.
_BEFORE_THE_CHARGE = (_Cause("reserve_inventory", "forward"),)
_CHARGE = (_Cause("process_payment", "forward"),)
_END_OF_UNDOING = (_Cause("verify_stock", "backward"), _Cause("verify_stock", "forward", failed=True))
# What it announces comes after what the reservation itself published.
ANNOUNCES = frozenset({"PAYMENT_PENDING", "PaymentInitiated"})
_CAUSES: dict[str, Sequence[_Cause]] = {
    "PROCESSING": (_Cause("verify_stock", "forward"),),
    "InventoryReserved": (_Cause("reserve_inventory", "forward"),),
    "PAYMENT_PENDING": _BEFORE_THE_CHARGE,
    "PaymentInitiated": _BEFORE_THE_CHARGE,
    "PaymentProcessed": _CHARGE,
    "PaymentStatusUpdated": _CHARGE,
    "PaymentFailed": _CHARGE,
    "PAYMENT_FAILED": _CHARGE,
    "ReservationConfirmed": (_Cause("confirm_reservation", "forward"),),
    "CONFIRMED": (_Cause("complete_order", "forward"),),
    "OrderConfirmed": (_Cause("complete_order", "forward"),),
    "OrderFailed": (_Cause(None, "forward", failed=True),),
    "PaymentRefunded": (_Cause("process_payment", "backward"), _Cause("refund_payment"), _Cause("take_back")),
    "PaymentCancelled": (_Cause("process_payment", "backward"),),
    "ReservationReleased": (_Cause("reserve_inventory", "backward"), _Cause("confirm_reservation", "backward")),
    "CANCELLED": _END_OF_UNDOING,
    "OrderCancelled": _END_OF_UNDOING,
    "REFUNDED": (_Cause("complete_refund"),),
}


def moments(effects: Sequence[tuple[datetime, str]], tried: Sequence[Tried]) -> list[datetime]:
    """After which moment each effect stands: that of the attempt that caused it, else its own.

    Args:
        effects: time and name: an event's type, or the state that an order came to.
        tried: all attempts, in order. Of an effect's transaction are those until the next effect's.
    """
    times = sorted({at for at, _ in effects})
    ends = dict(pairwise(times))
    tried_at = [one.at for one in tried]
    found = []
    for at, name in effects:
        causes, end = _CAUSES.get(name, ()), ends.get(at)
        # Of a story of thousands of attempts only these are looked at.
        span = tried[bisect_right(tried_at, at) : None if end is None else bisect_left(tried_at, end)]
        found.append(next((one.at for one in span if any(cause.fits(one) for cause in causes)), at))
    return found
