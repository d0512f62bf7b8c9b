"""What a run came to. Pure.

The document of `comanda chaos --json`, to which fields may be added:

    {"isFine": true, "exitCode": 0, "seed": 1, "revision": "…", "orders": 300, "duration": 20.0,
     "seconds": 38.1, "accepted": 312, "ended": 312, "endedInTime": 1.0, "totalAmount": 512345,
     "outcomes": [{"status": "CONFIRMED", "reason": null, "orders": 240}, …],
     "faults": [{"number": 1, "kind": "…", "part": "…", "at": 1.2, "seconds": 3.0, "what": "…",
                 "acceptedAfter": 0.1, "endedAfter": 0.4, "meanwhile": []}, …],
     "missed": [{"kind": "…", "why": "…"}],
     "kinds": [{"kind": "…", "part": "…", "faults": 2, "slowestAccepted": 0.4, "slowestEnded": 1.2}, …],
     "checks": [{"name": "…", "meaning": "…", "status": "passed|failed|unknown|skipped", "count": 0, "rows": […]}, …],
     "trivial": [], "broken": 0, "noticed": [], "retried": {"503": 4, "no answer": 1}, "schedule": ["…"],
     "timeline": {"every": 0.5, "accepted": [12.0, …], "ended": [10.0, …]}}

`accepted` counts the light orders too that were sent to see a recovery. Rates of the timeline are per second, from the
first order on. `noticed` breaks no promise, and should not be. `acceptedAfter` and `endedAfter`: see `recovery.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from comanda.clock import rfc3339
from comanda.proof.chaos.recovery import recoveries
from comanda.proof.chaos.run import GIVE_UP, Result
from comanda.proof.chaos.schedule import Planned

FINE, FAILED, BROKEN = 0, 1, 3
IN_TIME = 60.0
"""Seconds after the last fault in which nearly all has to end."""

_NEARLY_ALL = 0.95
_MANY_FAULTS, _MANY_KINDS = 20, 8
_LEAST_STEPS, _MOST_STEPS = 60, 240


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run was asked for."""

    seed: int
    orders: int
    duration: float
    schedule: Sequence[Planned]
    revision: str


def document(wanted: Wanted, result: Result, *, seconds: float, notes: Sequence[str] = ()) -> dict[str, Any]:
    """The report; `notes` are sentences about what should not have happened around it."""
    orders = result.books.orders
    accepted = [one for one in result.asked if one.answers]
    ended = [order for order in orders.values() if order.ended is not None]
    happened = [hurt for hurt in result.hurts if hurt.has_happened]
    after = recoveries(happened, result.asked, orders)
    faults = [
        {
            "number": hurt.planned.number,
            "kind": hurt.planned.kind.name,
            "part": hurt.planned.kind.part,
            "at": round(hurt.began - result.began, 3),
            "seconds": round((hurt.until or hurt.began) - hurt.began, 3),
            "what": hurt.what,
            "acceptedAfter": one.accepted,
            "endedAfter": one.ended,
            "meanwhile": list(one.meanwhile),
        }
        for hurt, one in zip(happened, after, strict=True)
    ]
    checks = _checks(result)
    trivial = [*notes, *_trivial(wanted, result, faults)]
    broken = sum(check["status"] == "failed" for check in checks)
    exit_code = BROKEN if broken else FAILED if trivial else FINE
    outcomes = Counter((order.state, order.reason) for order in orders.values())
    return {
        "isFine": exit_code == FINE,
        "exitCode": exit_code,
        "seed": wanted.seed,
        "revision": wanted.revision,
        "orders": wanted.orders,
        "duration": wanted.duration,
        "seconds": round(seconds, 1),
        "accepted": len(accepted),
        "ended": len(ended),
        "endedInTime": _in_time(result),
        "totalAmount": sum(order.total for order in orders.values()),
        "outcomes": [
            {"status": status, "reason": reason, "orders": count} for (status, reason), count in outcomes.most_common()
        ],
        "faults": faults,
        "missed": [
            {"kind": hurt.planned.kind.name, "why": hurt.why_not or "nothing was there to be hurt"}
            for hurt in result.hurts
            if not hurt.has_happened
        ],
        "kinds": _kinds(faults),
        "checks": checks,
        "broken": broken,
        "trivial": trivial,
        "noticed": _noticed(result),
        "retried": dict(result.retried.most_common()),
        "schedule": [str(planned) for planned in wanted.schedule],
        "timeline": _timeline(wanted, result),
    }


def _noticed(result: Result) -> list[str]:
    """What breaks no promise, and yet should not be."""
    errors = result.retried["500"]
    return [*result.noticed, *([f"{errors} requests were answered 500"] if errors else [])]


def _in_time(result: Result) -> float:
    """The share of the orders that had ended a minute after the last fault."""
    orders = result.books.orders.values()
    in_time = sum(order.ended is not None and order.ended <= result.calm + IN_TIME for order in orders)
    return round(in_time / len(orders), 4) if orders else 0.0


def _trivial(wanted: Wanted, result: Result, faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the run proves nothing."""
    found = []
    accepted = sum(bool(one.answers) for one in result.asked)
    kinds = len({fault["kind"] for fault in faults})
    if accepted < wanted.orders:
        found.append(f"{accepted} orders were accepted, {wanted.orders} were asked for")
    if refused := Counter(one.refusal for one in result.asked if one.refusal):
        found.append(f"orders were refused: {dict(refused)}")
    if len(faults) < len(wanted.schedule):
        found.append(f"{len(faults)} faults happened, {len(wanted.schedule)} were asked for")
    if len(wanted.schedule) >= _MANY_FAULTS and kinds < _MANY_KINDS:
        found.append(f"there were {kinds} kinds of faults, {_MANY_KINDS} are needed")
    if not any(order.state == "CONFIRMED" for order in result.books.orders.values()):
        found.append("no order was confirmed")
    if (share := _in_time(result)) < _NEARLY_ALL:
        found.append(f"{share:.1%} of the orders had ended {IN_TIME:.0f} s after the last fault")
    if unknown := [finding.name for finding in result.findings if finding.status not in {"passed", "failed"}]:
        found.append(f"not checked: {', '.join(unknown)}")
    if any(order.ended is None for order in result.books.orders.values()):
        found.append(f"not all orders had ended {GIVE_UP:.0f} s after the last fault")
    return found


def _checks(result: Result) -> list[dict[str, Any]]:
    """By the customers' ledger first, then the invariants."""
    told = [
        {
            "name": verdict.name,
            "meaning": verdict.meaning,
            "status": "passed" if verdict.is_kept else "failed",
            "count": verdict.count,
            "rows": [{"problem": sentence} for sentence in verdict.wrong],
        }
        for verdict in result.verdicts
    ]
    return told + [
        {
            "name": finding.name,
            "meaning": finding.meaning,
            "status": finding.status,
            "count": finding.count,
            "rows": [{name: _plain(value) for name, value in row.items()} for row in finding.rows],
        }
        for finding in result.findings
    ]


def _plain(value: Any) -> Any:
    match value:
        case UUID():
            return str(value)
        case datetime():
            return rfc3339(value)
        case _:
            return value


def _kinds(faults: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for fault in faults:
        kinds.setdefault((fault["part"], fault["kind"]), []).append(fault)
    return [
        {
            "kind": kind,
            "part": part,
            "faults": len(some),
            "slowestAccepted": _slowest(fault["acceptedAfter"] for fault in some),
            "slowestEnded": _slowest(fault["endedAfter"] for fault in some),
        }
        for (part, kind), some in sorted(kinds.items())
    ]


def _slowest(seconds: Iterable[float | None]) -> float | None:
    """None: one of them never came."""
    known = list(seconds)
    return None if None in known else max(one for one in known if one is not None)


def _timeline(wanted: Wanted, result: Result) -> dict[str, Any]:
    orders = result.books.orders.values()
    accepted = [one.accepted - result.began for one in result.asked if one.accepted is not None]
    ended = [order.ended - result.began for order in orders if order.ended is not None]
    whole = max([*accepted, *ended, wanted.duration])
    every = max(0.25, round(whole / _MOST_STEPS, 2)) if whole > _LEAST_STEPS else 0.5
    steps = int(whole / every) + 1

    def rates(times: Iterable[float]) -> list[float]:
        counts = Counter(min(steps - 1, max(0, int(time / every))) for time in times)
        return [round(counts[step] / every, 2) for step in range(steps)]

    return {"every": every, "accepted": rates(accepted), "ended": rates(ended)}
