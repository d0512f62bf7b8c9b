"""The gateway's circuit breaker: one state for all workers, a row in PostgreSQL. The rules are in `resilience`."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta

from comanda import telemetry
from comanda.db import Batcher, Database, Record, Statement, Tx, twin
from comanda.errors import DatabaseFault
from comanda.failpoints import Boundary
from comanda.resilience import breaker as rules
from comanda.resilience.breaker import Breaker, Rule, State

COUNT = Boundary("breaker.count")

_sql = twin(__file__)
LOOK = _sql["look"]
LOCK = _sql["lock"]
TRY_LOCK = _sql["try_lock"]
CHANGE = _sql["change"]

_log = telemetry.log("breaker")
_SHORTEST_WAIT = timedelta(milliseconds=100)


class SharedBreaker:
    """Holds calls back while the gateway is away.

    What calls came to is counted in transactions of its own: counted in those of the sagas, its row would be locked
    before stock by some and after it by others. For the same reason `admit` never waits for it.
    """

    def __init__(self, database: Database, rule: Rule) -> None:
        self._database = database
        self._rule = rule
        self._counting: Batcher[bool, None] = Batcher(self._count, limit=1000)

    async def admit(self, tx: Tx, wanted: int) -> tuple[int, timedelta]:
        """How many of the wanted calls may go out now, and how long the others wait."""
        breaker, now = await _read(tx, LOOK)
        if breaker.state is State.CLOSED or not wanted:
            return wanted, timedelta(0)
        row = await TRY_LOCK.row(tx)
        admitted = 0  # somebody else decides about the probe right now
        if row is not None:
            breaker, now = _breaker(row)
            admitted = rules.admitted(breaker, wanted, now)
            if admitted and breaker.state is not State.CLOSED:
                breaker = rules.probing(breaker, self._rule, now)
                await CHANGE.run(tx, breaker.state, breaker.failures, breaker.probe_at)
        # A little apart, so that a crowd does not come back in one moment.
        pause = max(_SHORTEST_WAIT, (breaker.probe_at or now) - now)
        return admitted, pause + pause * random.uniform(0, 0.1)  # noqa: S311 - jitter, no secret

    async def count(self, *, is_answer: bool) -> None:
        """Tell what a call came to: an answer (a decline is one), or a failure."""
        try:
            await self._counting.submit(is_answer)
        except DatabaseFault as fault:
            _log.warning("a call is not counted", error=str(fault))

    async def _count(self, answers: Sequence[bool]) -> Sequence[None]:
        async with self._database.connection() as tx:
            breaker, _ = await _read(tx, LOOK)
        if not all(answers) or breaker != Breaker():
            async with self._database.transaction(COUNT) as tx:
                breaker, now = await _read(tx, LOCK)
                changed = rules.after(breaker, list(answers), self._rule, now)
                if changed != breaker:
                    await CHANGE.run(tx, changed.state, changed.failures, changed.probe_at)
            if changed.state is not breaker.state:
                _log.warning("the gateway's breaker", state=changed.state, failures=changed.failures)
        return [None] * len(answers)


async def is_open(tx: Tx) -> bool:
    """Whether calls are held back right now."""
    return (await _read(tx, LOOK))[0].state is not State.CLOSED


async def _read(tx: Tx, statement: Statement) -> tuple[Breaker, datetime]:
    """The state, and the database's time."""
    row = await statement.row(tx)
    assert row is not None  # a migration made it
    return _breaker(row)


def _breaker(row: Record) -> tuple[Breaker, datetime]:
    return Breaker(State(row["state"]), row["failures"], row["probe_at"]), row["now"]
