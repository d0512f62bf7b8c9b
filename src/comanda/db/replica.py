"""A streaming standby for reads, and how far it is behind (docs/decisions/0018-replica-reads.md).

Every half second the primary is asked how far its log is, then the standby how far it has come. Once the standby has
passed a position, it has everything that was committed before that position was asked for: that moment, on this
process's own clock, is how new its answers are at least. No server's clock is read, and an idle primary is no lag.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from comanda import telemetry
from comanda.db.database import LISTS, Database, Tx, connect, translated
from comanda.db.statements import Record, Statement, twin
from comanda.errors import DatabaseFault, Deadlock, Overrun, Stale

LOOK_EVERY = 0.5  # seconds
_LOOK_PATIENCE = 1.0
_MOST_POSITIONS = 10_000  # of the primary, that the standby has not passed yet

_sql = twin(__file__)
WRITTEN = _sql["written"]
REPLAYED = _sql["replayed"]

_log = telemetry.log("replica")
Answer = TypeVar("Answer")


class Replica:
    """Where lists may be read while it is fresh enough.

    Args:
        pool: of connections to the standby.
        primary_url: what it is a copy of.
        most_behind: seconds; beyond, it is not asked.
        patience: seconds that a read may take there, so that there is time left to ask the primary.
    """

    def __init__(self, pool: Database, primary_url: str, *, most_behind: float, patience: float) -> None:
        self._pool = pool
        self.most_behind = most_behind
        self._patience = patience
        self._primary = _Line(primary_url, "comanda-replica-primary")
        self._standby = _Line(pool.url, "comanda-replica-standby")
        self._positions: deque[tuple[float, int]] = deque(maxlen=_MOST_POSITIONS)
        self._has_all_before = -math.inf  # monotonic
        self._is_well = self._was_fresh = False
        self.why = "it has not been looked at yet"
        self._reading: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls, url: str, primary_url: str, *, name: str, size: int, most_behind: float, patience: float
    ) -> "Replica":
        """Make a pool; it connects when it is first used, so a standby that is away keeps nobody from starting."""
        pool = await Database.open(url, name=name, size=size, least=0, patience=patience, session=LISTS)
        return cls(pool, primary_url, most_behind=most_behind, patience=patience)

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        self._primary.drop()
        self._standby.drop()
        await self._pool.close()

    @property
    def behind(self) -> float:
        """Seconds: what was committed before is there. Infinite while nothing is known."""
        return time.monotonic() - self._has_all_before

    @property
    def is_fresh(self) -> bool:
        """Whether it may be asked right now."""
        return self._is_well and self.behind < self.most_behind

    async def look(self) -> None:
        """See how far it is. Whatever goes wrong is remembered: it is not asked before a look has gone well."""
        try:
            asked_at = time.monotonic()
            written = await self._primary.ask(WRITTEN)
            self._positions.append((asked_at, int(written["position"])))
            replayed = await self._standby.ask(REPLAYED)
        except DatabaseFault as fault:
            self._doubt(str(fault))
            return
        if replayed["position"] is None or replayed["cluster"] != written["cluster"]:
            self._doubt("what the setting names is no standby of this database")
            return
        while self._positions and self._positions[0][1] <= replayed["position"]:
            self._has_all_before = self._positions.popleft()[0]
        self._is_well = True
        self.why = "" if self.is_fresh else "it is too far behind"
        self._tell()

    async def read(self, read: Callable[[Tx], Awaitable[Answer]]) -> Answer:
        """What `read` finds there.

        Raises:
            DatabaseFault: nothing, for whatever reason. Ask the primary.
        """
        # Not `asyncio.timeout`: giving back a connection to a server that says nothing may take for ever.
        task = asyncio.create_task(self._read(read))
        self._reading.add(task)
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait({task}, timeout=self._patience)
        finally:
            task.cancel()
        if not task.done():
            self._doubt(f"no answer within {self._patience} s")
            raise DatabaseFault(self.why)
        try:
            return task.result()
        except (Stale, Overrun, Deadlock):  # of this read; others may go well
            raise
        except DatabaseFault as fault:
            self._doubt(str(fault))
            raise
        except asyncpg.PostgresError as fault:  # it lacks a migration that the primary has
            raise DatabaseFault(f"replica: {fault}") from fault

    async def _read(self, read: Callable[[Tx], Awaitable[Answer]]) -> Answer:
        async with self._pool.connection() as tx:
            try:
                return await read(tx)
            except asyncio.CancelledError:
                tx.terminate()
                raise

    def _doubt(self, why: str) -> None:
        self._is_well = False
        self.why = why
        self._tell()

    def _tell(self) -> None:
        if self.is_fresh != self._was_fresh:
            self._was_fresh = self.is_fresh
            _log.info("lists are read from", server="replica" if self.is_fresh else "primary", why=self.why)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._reading.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it, or has gone on to the primary


class _Line:
    """One connection for looks, made anew after each failure: a pool would wait for a server that says nothing."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: Tx | None = None

    async def ask(self, statement: Statement) -> Record:
        try:
            with translated():
                async with asyncio.timeout(_LOOK_PATIENCE):
                    if self._connection is None:
                        self._connection = await connect(self._url, name=self._name)
                    row = await statement.row(self._connection)
        except (DatabaseFault, asyncpg.PostgresError) as fault:
            self.drop()
            raise DatabaseFault(str(fault)) from fault
        except BaseException:
            self.drop()
            raise
        assert row is not None  # neither statement has a condition
        return row

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
