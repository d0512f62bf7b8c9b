"""What a run came to. Pure.

The document of `comanda load --json`, to which fields may be added:

    {"isFine": true, "run": "9f…", "seed": 1, "url": "…", "orders": 100, "customers": 10, "products": 50,
     "accepted": 98, "ended": 98, "totalAmount": 512345, "seconds": 4.1,
     "acceptedPerSecond": 60.2, "endedPerSecond": 23.9,
     "acceptMs": {"p50", "p95", "p99", "max"}, "endMs": {"CONFIRMED": {…}, "CANCELLED": {…}},
     "outcomes": [{"status": "CONFIRMED", "reason": null, "orders": 90}, …],
     "rejected": {"OVERLOADED": 2}, "retried": {"503": 4, "no answer": 1},
     "wrongCount": 0, "wrong": []}

`acceptMs` is that of the requests that were answered with 202; `endMs` from `createdAt` to `endedAt`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ENDED = frozenset({"CONFIRMED", "SHIPPED", "DELIVERED", "CANCELLED", "REFUNDED"})
SHOWN = 20


@dataclass(slots=True)
class Placed:
    """An order that was accepted; `status` is empty until it has ended.

    Args:
        order_id: its own.
        expected: its total by our own sum, in minor units.
        told: its total as the 202 says; `total`: as the order says at its end.
        took: seconds of the request that was answered with 202.
        created: when it was accepted, in seconds since 1970 by the server's clock; `ended` likewise.
    """

    order_id: str
    expected: int
    told: int
    took: float
    status: str = ""
    reason: str | None = None
    total: int | None = None
    created: float = 0.0
    ended: float = 0.0


@dataclass
class Tally:
    """What happened so far. `answered`: seconds from the first request to the last 202."""

    placed: dict[str, Placed] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answered: float = 0.0

    @property
    def ended(self) -> list[Placed]:
        return [one for one in self.placed.values() if one.status]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed (nearest rank); 0 of nothing."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    shares = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(seconds, share) * 1000, 2) for name, share in shares.items()}


def wrongs(tally: Tally) -> list[str]:
    """Everything that is not as it has to be, as sentences."""
    found = list(tally.wrong)
    for one in tally.placed.values():
        if one.told != one.expected:
            found.append(f"{one.order_id}: the 202 says {one.told}, the sum is {one.expected}")
        if one.total is not None and one.total != one.expected:
            found.append(f"{one.order_id}: the order says {one.total}, the sum is {one.expected}")
        if not one.status:
            found.append(f"{one.order_id}: accepted and not ended")
    if not tally.placed:
        found.append("no order was accepted")
    return found


def document(tally: Tally, **about: Any) -> dict[str, Any]:
    """The report; `about` is what the run was asked for."""
    found = wrongs(tally)
    ended = tally.ended
    outcomes = Counter((one.status, one.reason) for one in ended)
    lived: dict[str, list[float]] = {}
    for one in ended:
        lived.setdefault(one.status, []).append(one.ended - one.created)
    busy = max(one.ended for one in ended) - min(one.created for one in ended) if ended else 0.0
    return {
        "isFine": not found,
        **about,
        "accepted": len(tally.placed),
        "ended": len(ended),
        "totalAmount": sum(one.told for one in tally.placed.values()),
        "acceptedPerSecond": _rate(len(tally.placed), tally.answered),
        "endedPerSecond": _rate(len(ended), busy),
        "acceptMs": spread([one.took for one in tally.placed.values()]),
        "endMs": {status: spread(times) for status, times in sorted(lived.items())},
        "outcomes": [
            {"status": status, "reason": reason, "orders": count} for (status, reason), count in outcomes.most_common()
        ],
        "rejected": dict(tally.rejected.most_common()),
        "retried": dict(tally.retried.most_common()),
        "wrongCount": len(found),
        "wrong": found[:SHOWN],
    }


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0
