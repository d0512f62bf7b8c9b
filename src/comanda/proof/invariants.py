"""The invariants of a running shop, checked on its tables and on the gateway's ledger. Reads only.

The same checks serve `comanda doctor`, the tests, the fault runs and a metric. Each is one line of `CHECKS`; what it
looks for is the statement of its name in `invariants.sql`. Histories are judged below the table, money in `money.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from comanda.db import Record, Statement, Tx, twin
from comanda.errors import Overrun
from comanda.proof import history, money
from comanda.proof.findings import SHOWN, Finding, Scope, Status
from comanda.proof.guards import GUARDS
from comanda.proof.ledger import Ledger, NoLedger

_sql = twin(__file__)
HAS_SCHEMA = _sql["has_schema"]
MAKE_ROOM = _sql["make_room"]
COUNTED = _sql["counted"]
HISTORIES = _sql["histories"]
WITH_HISTORY = _sql["with_history"]

OVERDUE = timedelta(seconds=60)

Telling = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule that one statement looks for breaches of; `arguments` are the statement's."""

    name: str
    invariant: int
    meaning: str
    statement: Statement
    arguments: Callable[[Scope], Sequence[Any]]
    advice: str


def _orders(scope: Scope) -> Sequence[Any]:
    return (scope.floor,)


def _orders_and_later(scope: Scope) -> Sequence[Any]:
    return (scope.floor, scope.later_floor)


def _orders_later_and_moment(scope: Scope) -> Sequence[Any]:
    return (scope.floor, scope.later_floor, scope.moment)


def _waiting(_scope: Scope) -> Sequence[Any]:
    return (OVERDUE,)


def _all(_scope: Scope) -> Sequence[Any]:
    return ()


def _guards(_scope: Scope) -> Sequence[Any]:
    return ([relation for relation, _ in GUARDS], [name for _, name in GUARDS])


# fmt: off
CHECKS = [
    Check("accepted_orders_exist", 1, "Every order that was answered with a 202 is there.",
          _sql["lost_orders"], _orders_later_and_moment,
          "Orders were deleted, or an older backup was restored: find them in the outbox and place them again."),
    Check("totals_are_sums", 1, "An order's total is the sum of its lines.",
          _sql["wrong_totals"], _orders,
          "Rows were changed by hand: the event OrderCreated tells the total and the lines that were accepted."),
    Check("orders_have_sagas", 1, "Every order under way stands at a step; the saga of an ended one has ended so too.",
          _sql["halted_orders"], _orders,
          '`comanda saga show ORDER` tells how far it came; `comanda saga resolve SAGA --reason "…"` ends it by hand.'),
    Check("nothing_is_stuck", 1, "No saga has used up its attempts.",
          _sql["stuck_sagas"], _all,
          'Mend what `why` names, then `comanda saga retry SAGA --reason "…"` (or skip, compensate, resolve).'),
    Check("nothing_is_overdue", 1, "What is due is taken within a minute.",
          _sql["overdue_sagas"], _waiting,
          "See that workers run for that queue, keep up with it and are of the release that started these sagas."),
    Check("stock_is_its_movements", 2, "Stock, on hand and held, is the sum of its movements.",
          _sql["drifted_stock"], _all,
          "Stock was changed without a movement: `comanda doctor --repair` proposes the one that is missing."),
    Check("held_is_reserved", 2, "What is held is what active reservations hold.",
          _sql["drifted_holds"], _all,
          "Reservations or stock were changed by hand: `comanda doctor --repair` proposes what makes them agree."),
    Check("nothing_is_oversold", 2, "Nothing below zero lies there, and no more is held than lies there.",
          _sql["oversold"], _all,
          "Take the product off sale, count the goods, and book what is there."),
    Check("guards_stand", 2, "The constraints that carry these promises are in place.",
          _sql["missing_guards"], _guards,
          "Put the constraint back as the migrations declare it, after the rows that break it are mended."),
    Check("bookings_match_reservations", 2, "An order's movements say what its reservations say.",
          _sql["misbooked_orders"], _orders_and_later,
          "A reservation or a movement was changed by hand: `comanda doctor --repair` proposes which to put right."),
    Check("returns_are_booked", 2, "What refunds put back into the stock was booked, once.",
          _sql["misbooked_returns"], _orders,
          "`comanda saga show REFUND` tells how far it came; book what is missing with a reason."),
    Check("nothing_is_overshipped", 4, "Of no line more is shipped, refunded or brought back than there was.",
          _sql["overshipped"], _orders,
          "Shipments or refunds were changed by hand: the order's notes and audit tell by whom."),
    Check("refunds_go_on", 4, "Every refund has a process that gives it back, or has ended with it.",
          _sql["halted_refunds"], _orders,
          '`comanda saga show REFUND` tells how far it came; `comanda saga retry REFUND --reason "…"` goes on.'),
    Check("cancelled_hold_nothing", 4, "A cancelled order holds no stock.",
          _sql["holding_cancelled"], _orders,
          "Let the reservation expire, or take back what was sold: `comanda doctor --repair` proposes how."),
    Check("confirmed_are_sold", 4, "Every line of a confirmed order was sold from the stock.",
          _sql["unsold_lines"], _orders_and_later,
          "Book the sale by hand, or refund the order if the goods are gone."),
    Check("payments_fit_orders", 4, "A confirmed order is paid in full; one that was undone keeps no money.",
          _sql["unpaid_orders"], _orders,
          "Ask the gateway by the payment's key: what it says is true; refund what is too much."),
    Check("customers_are_told", 4, "A confirmed order has one confirmation, a cancelled one one message that says so.",
          _sql["untold_orders"], _orders,
          "Write to those customers: no message is on its way to them."),
    Check("messages_go_out", 4, "Every message has a delivery; it is marked as sent when that is complete.",
          _sql["halted_messages"], _orders,
          "`comanda saga show NOTIFICATION` tells what became of its delivery."),
    Check("messages_go_out_once", 4, "The mock providers' mailbox has each sent message, once.",
          _sql["miscounted_mails"], _orders,
          "A provider was given a message under two keys, or mailbox rows were removed: compare their keys."),
    Check("events_are_there_once", 5, "One OrderCreated of each order, then OrderConfirmed or OrderCancelled once.",
          _sql["miscounted_events"], _orders_and_later,
          "Who listens to events has a wrong picture of these orders: tell them, or replay from the outbox."),
    Check("events_move_on", 5, "Events are handed on within a minute.",
          _sql["unmoved_events"], _waiting,
          "See that a relay runs and that Redis answers."),
]
# fmt: on

WHOLE = frozenset(one.name for one in CHECKS if one.arguments in {_waiting, _all, _guards})
"""Those that judge everything, whatever the scope."""

_HISTORY = Finding(
    "states_have_histories",
    6,
    "Each order came to its state from PENDING, by moves that are allowed.",
    "passed",
    0,
    [],
    "A state was set by hand: the saga's history (`comanda saga show ORDER`) tells what really happened.",
)

NAMES = (*(one.name for one in CHECKS), _HISTORY.name, money.RULE.name)
"""All that can be asked for, in the order in which it is looked at."""


async def check(
    tx: Tx,
    gateway: Ledger | NoLedger,
    *,
    since: datetime | None = None,
    scope: Scope | None = None,
    beside: Tx | None = None,
    names: Collection[str] = NAMES,
    tell: Telling = lambda _: None,
) -> list[Finding]:
    """Check everything that is asked for, in the order of the invariants.

    A check that runs into a time-out of the server's is `unknown`; the others go on.

    Args:
        tx: REPEATABLE READ and fresh (its snapshot must come after the first reading of the ledger), or a database at
            rest.
        gateway: who has the ledger.
        since: leave out orders that were placed before; stock and sagas are judged whole.
        scope: the same, said otherwise.
        beside: a second connection, without a transaction. Money is judged there, in a snapshot of its own, while the
            rest is judged on `tx`: reading a long ledger takes as long as all of that.
        names: of the checks.
        tell: is given the name of the check under way.

    Raises:
        DatabaseFault: PostgreSQL does not answer.
    """
    scope = scope or Scope.since(since)
    if money.RULE.name not in names:
        findings = await _look(tx, scope, names, tell)
    elif beside is None:
        tell("the gateway's ledger")
        reading = await money.Reading.begin(gateway, scope)
        findings = await _look(tx, scope, names, tell)
        findings.append(await _timed(_bounded(tx, money.RULE, partial(reading.judge, tx))))
    else:
        reconciling = asyncio.create_task(_timed(_reconcile(beside, gateway, scope)))
        try:
            findings = await _look(tx, scope, names, tell)
            tell(money.RULE.name)
            findings.append(await reconciling)
        finally:
            reconciling.cancel()
            await asyncio.wait([reconciling])
    return sorted(findings, key=lambda finding: finding.invariant)


async def has_schema(tx: Tx) -> bool:
    """Whether there is anything to check."""
    found: bool = await HAS_SCHEMA.value(tx)
    return found


async def counted(tx: Tx, *, since: datetime | None = None) -> tuple[int, int]:
    """How many orders there are, and how many of them are under way."""
    row = await COUNTED.row(tx, Scope.since(since).floor)
    assert row is not None
    return row["orders"], row["under_way"]


async def _reconcile(tx: Tx, gateway: Ledger | NoLedger, scope: Scope) -> Finding:
    reading = await money.Reading.begin(gateway, scope)
    async with tx.transaction(isolation="repeatable_read", readonly=True):
        return await reading.judge(tx)


async def _look(tx: Tx, scope: Scope, names: Collection[str], tell: Telling) -> list[Finding]:
    await MAKE_ROOM.run(tx)
    findings = []
    for one in CHECKS:
        if one.name in names:
            tell(one.name)
            findings.append(await _timed(_bounded(tx, one, partial(_checked, tx, one, scope))))
    if _HISTORY.name in names:
        tell(_HISTORY.name)
        findings.append(await _timed(_bounded(tx, _HISTORY, partial(_histories, tx, scope))))
    return findings


async def _timed(work: Awaitable[Finding]) -> Finding:
    began = time.monotonic()
    return replace(await work, seconds=time.monotonic() - began)


async def _bounded(tx: Tx, rule: Check | Finding, work: Callable[[], Awaitable[Finding]]) -> Finding:
    """Within a savepoint: a time-out of one check leaves the transaction to the others."""
    try:
        async with tx.transaction():
            return await work()
    except Overrun as fault:
        return Finding(rule.name, rule.invariant, rule.meaning, "unknown", 0, [], rule.advice, str(fault))


async def _checked(tx: Tx, one: Check, scope: Scope) -> Finding:
    rows = await one.statement.rows(tx, *one.arguments(scope))
    count = rows[0]["count"] if rows else 0
    status: Status = "failed" if rows else "passed"
    return Finding(one.name, one.invariant, one.meaning, status, count, [_row(row) for row in rows], one.advice)


def _row(row: Record) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "count"}


async def _histories(tx: Tx, scope: Scope) -> Finding:
    count = 0
    shown: list[Mapping[str, Any]] = []
    for row in await HISTORIES.rows(tx, scope.floor):
        said = history.problem(row["state"], row["moves"])
        if said is None:
            continue
        count += row["count"]
        if len(shown) < SHOWN:
            arguments = (scope.floor, row["state"], row["moves"], SHOWN - len(shown))
            shown += [
                {"order_id": one["order_id"], "state": row["state"], "problem": said}
                for one in await WITH_HISTORY.rows(tx, *arguments)
            ]
    status: Status = "failed" if count else "passed"
    return replace(_HISTORY, status=status, count=count, rows=shown)
