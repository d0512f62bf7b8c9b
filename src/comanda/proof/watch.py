"""The checks as a metric: beside the relay, each minute, on the orders of the last hour and on all stock and sagas.

One watch at a time over all relays. It costs the shop little, however much is sold: of a busy hour it looks at the
newest orders only, rests after each check three times as long as that took, holds no snapshot meanwhile, and leaves out
for an hour what takes longer than two seconds (`comanda doctor` has it).
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from comanda import clock, telemetry
from comanda.db import Tx, twin
from comanda.db.database import connect, translated
from comanda.errors import DatabaseFault, Overrun
from comanda.proof import invariants, money
from comanda.proof.findings import Finding, Scope
from comanda.proof.ledger import Ledger, NoLedger
from comanda.resilience.loops import loop

_sql = twin(__file__)
BOUNDED = _sql["bounded"]
IS_MINE = _sql["is_mine"]
NEWEST = _sql["newest"]

_log = telemetry.log("watch")
_MOST_ORDERS = 20_000
_LEFT_OUT_FOR = 3600.0  # seconds
_REST = 3.0  # after a check, in times of what it took


async def run(url: str, gateway: Ledger | NoLedger, *, every: float, stop: asyncio.Event) -> None:
    """Until told to stop: then at once, in the middle of a check too.

    Args:
        url: of the database.
        gateway: who has the ledger.
        every: seconds between two looks.
        stop: tells it to.
    """
    watch = Watch(url, gateway)
    watching = asyncio.create_task(loop("watch", watch.look, stop=stop, every=every))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([watching, stopped], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        for task in (watching, stopped):
            task.cancel()
        await asyncio.wait([watching, stopped])
        watch.close()


class Watch:
    """What it has seen: a violation is said when it comes and when it goes, not each minute.

    Args:
        url: of the database.
        gateway: who has the ledger.
        looks_back: how old the orders are that it looks at.
        may_take: how long a check may take.
        rest: after a check, how many times as long as that took.
    """

    def __init__(
        self,
        url: str,
        gateway: Ledger | NoLedger,
        *,
        looks_back: timedelta = timedelta(hours=1),
        may_take: timedelta = timedelta(seconds=2),
        rest: float = _REST,
    ) -> None:
        self._url = url
        self._gateway = gateway
        self.looks_back = looks_back
        self._may_take = f"{may_take // timedelta(milliseconds=1)}ms"
        self._rest = rest
        self._tx: Tx | None = None
        self._is_mine = False
        self._broken: set[str] = set()
        self._floor = Scope().floor
        self._left_out: dict[str, float] = {}  # until when

    async def look(self) -> bool:
        """Once. False: there is no hurry.

        Raises:
            DatabaseFault: PostgreSQL does not answer.
        """
        try:
            tx = await self._connection()
            self._is_mine = self._is_mine or await IS_MINE.value(tx)
            if self._is_mine:
                async for finding in self._findings(tx):
                    self._tell(finding)
                    await asyncio.sleep(self._rest * finding.seconds)
        except Overrun:
            _log.warning("the database is too slow to be watched", limit=self._may_take)
        except DatabaseFault:
            self.close()
            raise
        return False

    def close(self) -> None:
        """Let go of the connection, and with it of the lock."""
        if self._tx is not None:
            self._tx.terminate()
        self._tx, self._is_mine = None, False

    async def _connection(self) -> Tx:
        if self._tx is None:
            self._tx = await connect(self._url, name="comanda-watch")
            await BOUNDED.run(self._tx, self._may_take)
        return self._tx

    async def _findings(self, tx: Tx) -> AsyncIterator[Finding]:
        """Each in a snapshot of its own: none is held for long."""
        now = asyncio.get_running_loop().time()
        self._left_out = {name: until for name, until in self._left_out.items() if until > now}
        floor = Scope.since(clock.now() - self.looks_back).floor
        floor = await NEWEST.value(tx, floor, _MOST_ORDERS) or floor
        if self._broken <= invariants.WHOLE:
            self._floor = floor
        # Else it stays: an order that is broken is not mended by growing old.
        scope = Scope.of(self._floor)
        for name in [name for name in invariants.NAMES if name not in self._left_out]:
            with translated():
                async with tx.transaction(isolation="repeatable_read", readonly=True):
                    (finding,) = await invariants.check(tx, self._gateway, scope=scope, names=[name])
            yield finding

    def _tell(self, finding: Finding) -> None:
        name = finding.name
        match finding.status:
            case "failed":
                telemetry.VIOLATIONS.labels(name).set(finding.count)
                if name not in self._broken:
                    self._broken.add(name)
                    _log.error("an invariant is broken", check=name, count=finding.count, advice=finding.advice)
            case "passed":
                telemetry.VIOLATIONS.labels(name).set(0)
                if name in self._broken:
                    self._broken.remove(name)
                    _log.info("an invariant holds again", check=name)
            case "unknown" if name != money.RULE.name:
                self._left_out[name] = asyncio.get_running_loop().time() + _LEFT_OUT_FOR
                _log.warning("a check takes too long to be watched", check=name, limit=self._may_take)
            case _:
                pass  # nobody knows: what was known last stands
