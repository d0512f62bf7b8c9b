"""Our payments and refunds of a span of time against the gateway's, order by order: what differs, and what to do next.

Both sides move on while they are looked at. So the gateway's ledger is read up to its end, then our rows page by page,
then what the ledger got meanwhile: a payment differs only if no point between the two readings fits it. What is under
way is counted apart. A gateway that shows no ledger is asked for charges and refunds by key, for so many at the most.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from comanda.db import Database, Record, twin
from comanda.payments.gateway import Captured, Gateway, InstantGateway
from comanda.proof import ledger
from comanda.proof.findings import Scope
from comanda.proof.ledger import Ledger, Line
from comanda.saga.batch import key_of

_sql = twin(__file__)
PAID = _sql["paid"]
NEWEST = _sql["newest"]
TOLD = _sql["told"]
AGAIN = _sql["again"]
GIVEN_BACK = _sql["given_back"]

SHOWN = 100
"""Differences that are carried; their count and sums are those of all."""

_PAGE = 2_000  # payments judged at once: others of this process wait for some milliseconds
_ASKED = 500  # payments that a gateway without a ledger is asked for
_AT_ONCE = 16  # questions that are out
_NO_LATER = UUID(int=2**128 - 1)

ADVICE = {
    "no_payment": "Captured for an order of which no payment is kept here: give it back at the gateway.",
    "twice": "Captured more than once: give back at the gateway all but one.",
    "currency": "The gateway holds it in another currency: give it back there, and charge it again.",
    "not_captured": "It counts as paid here, and the gateway has no such capture: cancel the order, or charge it anew.",
    "captured": "The gateway has captured it, and it counts as not paid here: give it back at the gateway.",
    "not_refunded": "It counts as given back here, and the gateway still has it: give it back at the gateway.",
    "refunded": "The gateway has given back more than is kept here: find out who did, and write it down as a refund.",
    "stuck": "Its order is stuck: retry it when the gateway answers, or resolve it once you have put it right there.",
}


@dataclass(frozen=True, slots=True)
class Side:
    """What one side says of an order, in minor units."""

    captured: int = 0
    refunded: int = 0

    @property
    def kept(self) -> int:
        return self.captured - self.refunded


@dataclass(frozen=True, slots=True)
class Difference:
    """An order whose two sides don't agree. `what`: one of `ADVICE`; `amount`: what the gateway keeps too much."""

    order_id: UUID
    payment_id: UUID | None
    state: str | None
    currency: str
    ours: Side
    theirs: Side
    what: str

    @property
    def amount(self) -> int:
        return self.theirs.kept - self.ours.kept

    @property
    def advice(self) -> str:
        return ADVICE[self.what]


@dataclass(slots=True)
class Sums:
    """Of one currency, in minor units. `under_way`: what the gateway keeps of payments that are being worked on."""

    ours_captured: int = 0
    ours_refunded: int = 0
    theirs_captured: int = 0
    theirs_refunded: int = 0
    under_way: int = 0

    @property
    def difference(self) -> int:
        return self.theirs_captured - self.theirs_refunded - self.ours_captured + self.ours_refunded

    def add(self, ours: Side, theirs: Side) -> None:
        self.ours_captured += ours.captured
        self.ours_refunded += ours.refunded
        self.theirs_captured += theirs.captured
        self.theirs_refunded += theirs.refunded


@dataclass(slots=True)
class Progress:
    """How far it has come: lines of the ledger that were read, payments that were compared."""

    lines: int = 0
    payments: int = 0


@dataclass(slots=True)
class Reconciliation:
    """What came of it. `by`: compared with a ledger, or asked by keys; `is_whole`: every payment of the span was."""

    by: str = "ledger"
    payments: int = 0
    under_way: int = 0
    is_whole: bool = True
    count: int = 0
    differences: list[Difference] = field(default_factory=list)
    sums: dict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))

    @property
    def is_even(self) -> bool:
        return not self.count

    def book(self, row: Record, theirs: Side, said: str | None, standing: str | None) -> None:
        """Count a payment in. What the gateway is ahead in is under way as long as somebody works on it.

        `standing`: of its sagas that had not ended when `row` was read, `stuck` or `under way`; None: all had.
        """
        ours, sums = _ours(row), self.sums[row["currency"]]
        if said in {"captured", "refunded"} and standing == "under way":
            self.under_way += 1
            sums.add(ours, ours)
            sums.under_way += theirs.kept - ours.kept
            return
        sums.add(ours, theirs)
        if said is not None:
            what = "stuck" if standing == "stuck" else said
            self.differ(Difference(row["order_id"], row["id"], row["state"], row["currency"], ours, theirs, what))

    def differ(self, one: Difference) -> None:
        """Keep it, if there is room."""
        self.count += 1
        if len(self.differences) < SHOWN:
            self.differences.append(one)


@dataclass(frozen=True, slots=True)
class Span:
    """Orders placed from `since` (None: ever) until before `until` (None: now)."""

    since: datetime | None = None
    until: datetime | None = None

    @property
    def scope(self) -> Scope:
        return Scope.since(self.since)

    @property
    def end(self) -> UUID:
        """The first id that is of no order in it."""
        return _NO_LATER if self.until is None else Scope.since(self.until).floor


async def reconcile(
    database: Database, gateway: Gateway, span: Span, tell: Callable[[Progress], None] = lambda _: None
) -> Reconciliation | None:
    """Compare; None: the gateway keeps nothing that could be compared.

    Raises:
        GatewayFault: it does not answer.
    """
    if isinstance(gateway, InstantGateway):
        return None
    if isinstance(gateway, Ledger):
        return await _by_ledger(database, gateway, span, tell)
    return await _by_keys(database, gateway, span, tell)


async def _by_ledger(
    database: Database, gateway: Ledger, span: Span, tell: Callable[[Progress], None]
) -> Reconciliation:
    made, progress = Reconciliation(), Progress()

    def read(lines: int) -> None:
        progress.lines += lines
        tell(progress)

    scope, end = span.scope, span.end
    start = 0 if scope.is_everything else await ledger.before(gateway, scope.moment)
    book = await ledger.read(gateway, after=start, since=str(scope.floor), tell=read)
    suspects: dict[UUID, Sequence[Line]] = {}
    floor = scope.floor
    while True:
        async with database.connection() as tx:
            rows = await PAID.rows(tx, floor, end, _PAGE)
        for row in rows:
            lines = book.take(str(row["order_id"]))
            if differs(_ours(row), row["currency"], lines) is None:
                made.book(row, _sum(lines), None, None)
            else:
                suspects[row["order_id"]] = lines
        made.payments += len(rows)
        progress.payments += len(rows)
        tell(progress)
        if len(rows) < _PAGE:
            break
        floor = UUID(int=rows[-1]["order_id"].int + 1)
        await asyncio.sleep(0)
    # Whose sagas have ended is read before its row: that one is final then.
    told, again = await _stand(database, list(suspects))
    later = await ledger.read(gateway, after=book.last, since=str(scope.floor), tell=read)
    for order_id, known in suspects.items():
        row, everything = again[order_id], [*known, *later.of(str(order_id))]
        seen = [everything[:count] for count in range(len(known), len(everything) + 1)]
        said = [differs(_ours(row), row["currency"], some) for some in seen]
        at = said.index(None) if None in said else -1
        made.book(row, _sum(seen[at]), said[at], told.get(order_id))
    # What nobody has taken: a payment's intent is stored before anything is charged for it.
    for stranger, left in book.lines.items():
        if stranger < str(end):
            theirs = _sum(left)
            made.sums[left[0].currency].add(Side(), theirs)
            made.differ(Difference(UUID(stranger), None, None, left[0].currency, Side(), theirs, "no_payment"))
    return made


async def _stand(database: Database, order_ids: Sequence[UUID]) -> tuple[dict[UUID, str], dict[UUID, Record]]:
    """Whose sagas have not ended, and how they stand; then the payments."""
    async with database.connection() as tx:
        told = {row["order_id"]: row["state"] for row in await TOLD.rows(tx, order_ids)}
        return told, {row["order_id"]: row for row in await AGAIN.rows(tx, order_ids)}


def differs(ours: Side, currency: str, lines: Sequence[Line]) -> str | None:
    """In what the ledger's lines of an order differ from what is kept here; None: in nothing."""
    theirs = _sum(lines)
    if any(line.currency != currency for line in lines):
        return "currency"
    if theirs.captured > ours.captured and sum(line.type == "capture" for line in lines) > 1:
        return "twice"
    if theirs.captured != ours.captured:
        return "captured" if theirs.captured > ours.captured else "not_captured"
    if theirs.refunded != ours.refunded:
        return "refunded" if theirs.refunded > ours.refunded else "not_refunded"
    return None


def _ours(row: Record) -> Side:
    return Side(row["captured"], row["refunded"])


def _sum(lines: Sequence[Line]) -> Side:
    return Side(
        sum(line.amount for line in lines if line.type == "capture"),
        sum(line.amount for line in lines if line.type == "refund"),
    )


async def _by_keys(
    database: Database, gateway: Gateway, span: Span, tell: Callable[[Progress], None]
) -> Reconciliation:
    """Ask for the newest of the span. What was given back by calling a charge off has no key: it counts as said."""
    made, progress = Reconciliation(by="keys"), Progress()
    async with database.connection() as tx:
        ids = [row["order_id"] for row in await NEWEST.rows(tx, span.scope.floor, span.end, _ASKED + 1)]
    made.is_whole, ids = len(ids) <= _ASKED, ids[:_ASKED]
    told, before = await _stand(database, ids)
    refunds: dict[UUID, list[Record]] = defaultdict(list)
    async with database.connection() as tx:
        for row in await GIVEN_BACK.rows(tx, ids):
            refunds[row["order_id"]].append(row)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(row: Record) -> tuple[Record, Side]:
        async with gate:
            found = await gateway.find(row["key"])
            captured = row["amount"] if isinstance(found, Captured) else 0
            by_refunds = sum(one["amount"] for one in refunds[row["order_id"]] if one["state"] == "SUCCEEDED")
            refunded = row["refunded"] - by_refunds
            for one in refunds[row["order_id"]]:
                if one["saga_id"] is not None and one["amount"]:
                    refunded += await gateway.find_refund(key_of(one["saga_id"], "refund_payment", "forward")) or 0
            if row["captured"] and row["refunded"] == row["captured"] and not by_refunds:
                captured = row["captured"]  # called off: a gateway may know the key as void
            progress.payments += 1
            tell(progress)
            return row, Side(captured, refunded)

    try:
        async with asyncio.TaskGroup() as asking:
            tasks = [asking.create_task(ask(row)) for row in before.values() if row["amount"]]
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    _, after = await _stand(database, ids)
    for row, theirs in (task.result() for task in tasks):
        made.payments += 1
        lines = [Line("capture", theirs.captured, row["currency"]), Line("refund", theirs.refunded, row["currency"])]
        now = after[row["order_id"]]
        said = differs(_ours(now), row["currency"], lines)
        if said is not None and differs(_ours(row), row["currency"], lines) is None:
            now, said = row, None  # it was so when the gateway was asked
        made.book(now, theirs, said, told.get(row["order_id"]))
    return made
