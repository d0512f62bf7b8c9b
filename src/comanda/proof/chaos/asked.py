"""The customers' own ledger: what they asked for, and what they were told. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Asked:
    """What one customer asked for under one key, and every 202 for it. Times in seconds since 1970.

    Args:
        key: the idempotency key.
        customer: id.
        total: by our own sum, in minor units.
        units: of each product's id.
        sent: when it was sent first; `accepted`: when the first 202 came.
        answers: (order's id, total) of each 202.
        refusal: the code of a final refusal.
        method: how it is paid.
    """

    key: str
    customer: str
    total: int
    units: Mapping[str, int]
    sent: float
    accepted: float | None = None
    answers: list[tuple[str, int]] = field(default_factory=list)
    refusal: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Promised:
    """What staff was told with a 202: money back for an order, in minor units, `units` put back; or its cancelling.

    `is_unsure`: no answer ever came, so it may have been promised or not.
    """

    order: str
    verb: str
    amount: int
    units: Mapping[str, int]
    is_unsure: bool = False
