"""Whether a hot statement would read a table from end to end: it costs nothing today, and grows with the shop."""

import re
from collections.abc import Mapping

from comanda.catalog import cache
from comanda.checkout import place_order
from comanda.db import Tx
from comanda.db.statements import Statement
from comanda.idempotency import keys
from comanda.inventory import stock
from comanda.messaging import outbox
from comanda.notifications import notifications, providers
from comanda.orders import orders
from comanda.payments import payments
from comanda.saga import log

_HOT = (place_order, cache, keys, stock, outbox, notifications, providers, orders, payments, log)
_FOR_PEOPLE = ("log.LISTED", "log.SHOW", "log.DEPTHS", "log.READY")  # they end at a limit
_OF_WHAT_IS_OPEN = ("sagas_ready", "sagas_waiting", "sagas_stuck")  # small, however many have ended
_SMALL = ("outbox_cursors", "queues", "breakers", "webhook_endpoints")
_SCAN = re.compile(r"Seq Scan on (\w+)|Index (?:Only )?Scan(?: Backward)? using (\w+)|Bitmap Index Scan on (\w+)")


def statements() -> dict[str, Statement]:
    """Those of accepting, claiming, each step, moving, relaying: `stock.HOLD` and so on."""
    found = {}
    for module in _HOT:
        for constant, value in vars(module).items():
            name = f"{module.__name__.rpartition('.')[2]}.{constant}"
            if isinstance(value, Statement) and name not in _FOR_PEOPLE:
                found[name] = value
    return found


def read_whole(plan: str) -> list[str]:
    """Tables, and indexes without a condition on them, that a plan (as EXPLAIN writes it) reads from end to end."""
    found = []
    lines = plan.splitlines()
    for at, line in enumerate(lines):
        scan = _SCAN.search(line)
        if scan is None:
            continue
        what = next(name for name in scan.groups() if name)
        if what.startswith((*_OF_WHAT_IS_OPEN, *_SMALL)):
            continue
        if scan[1] or not any("Index Cond" in one for one in _below(lines[at:])):
            found.append(what)
    return found


def _below(lines: list[str]) -> list[str]:
    """What stands deeper than the first of these lines, up to its next neighbour."""
    depth = _depth(lines[0])
    below = []
    for line in lines[1:]:
        if _depth(line) <= depth:
            break
        below.append(line)
    return below


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" ->"))


async def of_all(tx: Tx) -> Mapping[str, str]:
    """The generic plan of each hot statement, as this connection would make it right now."""
    plans = {}
    for name, statement in statements().items():
        await tx.execute(f"PREPARE hot AS {statement.text}")
        nothing = ", ".join(["NULL"] * max((int(n) for n in re.findall(r"\$(\d+)", statement.text)), default=0))
        rows = await tx.fetch("EXPLAIN EXECUTE hot" + (f"({nothing})" if nothing else ""))
        await tx.execute("DEALLOCATE hot")
        plans[name] = "\n".join(row[0] for row in rows)
    return plans
