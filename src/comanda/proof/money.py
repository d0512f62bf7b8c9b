"""Invariant 3, judged in Python: the gateway's ledger is not in the database. How is said in `ledger.py`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from comanda.db import Tx, twin
from comanda.errors import GatewayFault
from comanda.proof import ledger
from comanda.proof.findings import SHOWN, Finding, Scope, Status
from comanda.proof.ledger import UNDER_WAY, Book, Ledger, Line, Lines, NoLedger, Owed

_sql = twin(__file__)
OWED = _sql["owed"]
TURNED = _sql["turned"]

RULE = Finding(
    "money_is_exact",
    3,
    "By the gateway's ledger an order was charged once at most, and what was kept is its total less refunds.",
    "passed",
    0,
    [],
    "Give back at the gateway what was kept too much; what is confirmed and not paid has to be charged or cancelled.",
)
_PAGE = 5_000  # orders judged at once: others of this process wait for some milliseconds


@dataclass
class Reading:
    """The ledger up to a moment: `begin` it before the snapshot, `judge` in it."""

    gateway: Ledger | NoLedger
    scope: Scope
    start: int = 0
    book: Book = field(default_factory=Book)
    missing: NoLedger | None = None

    @classmethod
    async def begin(cls, gateway: Ledger | NoLedger, scope: Scope) -> "Reading":
        """Read it up to its end; of a part of the orders, from where their lines can begin."""
        reading = cls(gateway, scope)
        if isinstance(gateway, NoLedger):
            reading.missing = gateway
            return reading
        try:
            if not scope.is_everything:
                reading.start = await ledger.before(gateway, scope.moment)
            reading.book = await ledger.read(gateway, after=reading.start, since=str(scope.floor))
        except GatewayFault as fault:
            reading.missing = NoLedger(str(fault), is_down=True)
        return reading

    async def judge(self, tx: Tx) -> Finding:
        """Compare it with the orders of the transaction's snapshot, which was taken after `begin`."""
        if self.missing is None and not isinstance(self.gateway, NoLedger):
            try:
                return await self._judge(tx, self.gateway)
            except GatewayFault as fault:
                self.missing = NoLedger(str(fault), is_down=True)
        assert self.missing is not None
        status: Status = "unknown" if self.missing.is_down else "skipped"
        return Finding(RULE.name, RULE.invariant, RULE.meaning, status, 0, [], RULE.advice, self.missing.why)

    async def _judge(self, tx: Tx, gateway: Ledger) -> Finding:
        suspects = await self._suspects(tx)
        later = await ledger.read(gateway, after=self.book.last, since=str(self.scope.floor))
        found: list[dict[str, Any]] = []
        for order, lines in suspects:
            said = ledger.problem(order, lines, later.of(order.order_id))
            if said is not None:
                found.append(_row(order, said, [*lines, *later.of(order.order_id)]))
        # What nobody has taken. (Orders are stored before anything is charged for them.)
        found += [_stranger(order_id, lines) for order_id, lines in self.book.lines.items()]
        shown = found[:SHOWN]
        if shown:
            captures = await ledger.captures(gateway, {row["order_id"] for row in shown}, after=self.start)
            for row in shown:
                row["captures"] = " ".join(f"{amount}:{key}" for key, amount in captures.get(row["order_id"], []))
        status: Status = "failed" if found else "passed"
        return Finding(RULE.name, RULE.invariant, RULE.meaning, status, len(found), shown, RULE.advice)

    async def _suspects(self, tx: Tx) -> list[tuple[Owed, Lines]]:
        suspects: list[tuple[Owed, Lines]] = []
        take, is_plain = self.book.take, ledger.is_plain
        floor = self.scope.floor
        while True:
            rows = await OWED.rows(tx, floor, _PAGE)
            for order_id, state, total, currency, refunded, refunding in rows:
                lines = take(order_id)
                if not refunded and is_plain(state, total, currency, lines):
                    continue
                order = Owed(order_id, state, total, currency, refunded, refunding)
                if ledger.problem(order, lines, []) is not None:
                    suspects.append((order, lines))
            if len(rows) < _PAGE:
                return await self._settled(tx, suspects)
            floor = UUID(int=UUID(rows[-1]["order_id"]).int + 1)
            await asyncio.sleep(0)

    @staticmethod
    async def _settled(tx: Tx, suspects: list[tuple[Owed, Lines]]) -> list[tuple[Owed, Lines]]:
        """Those that are being undone are judged as what they are: under way."""
        rows = await TURNED.rows(tx, [order.order_id for order, _ in suspects]) if suspects else []
        turned = {row["order_id"] for row in rows}
        return [
            (replace(order, state=UNDER_WAY) if order.order_id in turned else order, lines) for order, lines in suspects
        ]


def _row(order: Owed, said: str, lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "state": order.state,
        "problem": said,
        "kept": ledger.kept(lines),
        "due": order.due,
        "currency": order.currency,
        "captures": "",
    }


def _stranger(order_id: str, lines: Lines) -> dict[str, Any]:
    told = ", ".join(f"{line.type} of {line.amount} {line.currency}" for line in lines)
    return {
        "order_id": order_id,
        "state": None,
        "problem": f"no such order: {told}",
        "kept": ledger.kept(lines),
        "due": 0,
        "currency": lines[0].currency,
        "captures": "",
    }
