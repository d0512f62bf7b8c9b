"""The gateway's circuit breaker: one state for all workers, a row in PostgreSQL. The rules are in `resilience`.

When it closes again, those that waited come back in a ramp: hardly faster than calls went out before.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from comanda import telemetry
from comanda.db import Batcher, Database, Record, Statement, Tx, twin
from comanda.errors import DatabaseFault
from comanda.failpoints import Boundary
from comanda.resilience import breaker as rules
from comanda.resilience import ramp as ramps
from comanda.resilience.breaker import Breaker, Rule, State
from comanda.resilience.ramp import Ramp
from comanda.resilience.turns import Turns

COUNT = Boundary("breaker.count")

_sql = twin(__file__)
LOOK = _sql["look"]
IS_AWAITED = _sql["is_awaited"]
LOCK = _sql["lock"]
TRY_LOCK = _sql["try_lock"]
CHANGE = _sql["change"]
KEEP_RATE = _sql["keep_rate"]
RAMP = _sql["ramp"]

_log = telemetry.log("breaker")
_SHORTEST_WAIT = timedelta(milliseconds=100)
_LEAST_RATE = 10.0  # calls a second that any gateway bears, after a quiet minute too


class SharedBreaker:
    """Holds calls back while the gateway is away.

    What calls came to is counted in transactions of its own: counted in those of the sagas, its row would be locked
    before stock by some and after it by others. For the same reason `admit` never waits for it.
    """

    def __init__(self, database: Database, rule: Rule) -> None:
        self._database = database
        self._rule = rule
        self._turns = Turns()
        self._counting: Batcher[bool, None] = Batcher(self._count, limit=1000)

    async def admit(self, tx: Tx, wanted: int) -> tuple[int, list[timedelta]]:
        """How many of the wanted calls may go out now, and how long each of the others waits."""
        standing = await _read(tx, LOOK)
        if not wanted or (standing.breaker.state is State.CLOSED and standing.ramp is None):
            return wanted, []
        row = await TRY_LOCK.row(tx)
        if row is None:  # somebody else decides right now
            return 0, self._waits(standing, wanted)
        standing, admitted = _standing(row), 0
        if standing.breaker.state is State.CLOSED and standing.ramp is not None:
            admitted, standing.ramp = ramps.admitted(standing.ramp, wanted, standing.now)
            await _keep(tx, standing.ramp)
        else:
            admitted = rules.admitted(standing.breaker, wanted, standing.now)
            if admitted and standing.breaker.state is not State.CLOSED:
                standing.breaker = rules.probing(standing.breaker, self._rule, standing.now)
                await CHANGE.run(tx, standing.breaker.state, standing.breaker.failures, standing.breaker.probe_at)
        return admitted, self._waits(standing, wanted - admitted)

    def _waits(self, standing: "_Standing", held: int) -> list[timedelta]:
        """Apart from each other, so that a crowd does not come back in one moment."""
        if standing.ramp is not None and standing.breaker.state is State.CLOSED:
            longest = min(held / standing.ramp.pace(standing.now), self._rule.pause.total_seconds())
            return [max(_SHORTEST_WAIT, timedelta(seconds=longest * (n + 1) / held)) for n in range(held)]
        pause = max(_SHORTEST_WAIT, (standing.breaker.probe_at or standing.now) - standing.now)
        waits = self._turns.next(held, pause.total_seconds(), time.monotonic(), random.random())  # noqa: S311 - jitter
        return [timedelta(seconds=wait) for wait in waits]

    async def count(self, *, is_answer: bool) -> None:
        """Tell what a call came to: an answer (a decline is one), or a failure."""
        try:
            await self._counting.submit(is_answer)
        except DatabaseFault as fault:
            _log.warning("a call is not counted", error=str(fault))

    async def _count(self, answers: Sequence[bool]) -> Sequence[None]:
        async with self._database.connection() as tx:
            was = (await _read(tx, LOOK)).breaker
        if not all(answers) or was != Breaker():
            async with self._database.transaction(COUNT) as tx:
                standing = await _read(tx, LOCK)
                was, now = standing.breaker, standing.now
                changed = rules.after(was, list(answers), self._rule, now)
                if changed != was:
                    await CHANGE.run(tx, changed.state, changed.failures, changed.probe_at)
                if was.state is State.CLOSED and changed.state is not State.CLOSED:
                    await KEEP_RATE.run(tx, _LEAST_RATE)
                elif changed.state is State.CLOSED and was.state is not State.CLOSED:
                    await _keep(tx, Ramp.begin(standing.rate or _LEAST_RATE, now))
            if changed.state is not was.state:
                _log.warning("the gateway's breaker", state=changed.state, failures=changed.failures)
        return [None] * len(answers)


async def is_open(tx: Tx) -> bool:
    """Whether calls are held back right now.

    Once a probe is due and nobody wants to pay, nobody is held: the next one who does is the probe.
    """
    standing = await _read(tx, LOOK)
    if standing.breaker.state is State.CLOSED:
        return False
    probe_at = standing.breaker.probe_at
    return (probe_at is not None and standing.now < probe_at) or bool(await IS_AWAITED.value(tx))


@dataclass
class _Standing:
    """What the row says, and the database's time. `rate`: before the last outage, calls a second."""

    breaker: Breaker
    ramp: Ramp | None
    rate: float | None
    now: datetime


async def _read(tx: Tx, statement: Statement) -> _Standing:
    row = await statement.row(tx)
    assert row is not None  # a migration made it
    return _standing(row)


def _standing(row: Record) -> _Standing:
    rate, since = row["ramp_rate"], row["ramp_since"]
    ramp = None if since is None else Ramp(rate, since, row["ramp_at"], row["ramp_tokens"], row["ramp_held_at"])
    return _Standing(Breaker(State(row["state"]), row["failures"], row["probe_at"]), ramp, rate, row["now"])


async def _keep(tx: Tx, ramp: Ramp | None) -> None:
    kept = (ramp.rate, ramp.since, ramp.at, ramp.tokens, ramp.held_at) if ramp is not None else (None,) * 5
    await RAMP.run(tx, *kept)
