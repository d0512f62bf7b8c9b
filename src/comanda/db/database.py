"""Connections to PostgreSQL, and the driver's faults in Comanda's words."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from comanda import failpoints
from comanda.errors import DatabaseFault, Deadlock, DiskFull, Overrun
from comanda.failpoints import Boundary

if TYPE_CHECKING:
    Tx = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Tx = asyncpg.Connection

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a FATAL was read on an idle connection, its end not yet
    asyncpg.InsufficientResourcesError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DatabaseDroppedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    OSError,
    asyncio.TimeoutError,
)

# What a frozen or lost process may cost the others: locks fall after seconds, not after minutes.
_PATIENT = {
    "idle_in_transaction_session_timeout": "3s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "jit": "off",
}
HOT = {
    **_PATIENT,
    # Every hot statement takes arrays and reads by key: planning it anew for each batch costs more than it can win.
    "plan_cache_mode": "force_generic_plan",
    # A plan that was made while a table was empty must not read all of it once it is large.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    # Nor may it start processes for some rows: with a hundred who ask at once, that takes seconds.
    "max_parallel_workers_per_gather": "0",
}
# Lists with many filters and orders: each is planned for what it was asked, and never writes.
LISTS = {
    **_PATIENT,
    "plan_cache_mode": "force_custom_plan",
    "default_transaction_read_only": "on",
    # How alike a mistyped word has to be: the usual 0.3 does not forgive a letter left out of four.
    "pg_trgm.similarity_threshold": "0.25",
}


@contextmanager
def translated() -> Iterator[None]:
    """The driver's connection errors as `DatabaseFault`, so that nobody else has to import the driver."""
    try:
        yield
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError) as fault:
        raise Deadlock(str(fault)) from fault
    except asyncpg.DiskFullError as fault:
        raise DiskFull(f"PostgreSQL's disk is full: free some of it ({fault})") from fault
    except asyncpg.QueryCanceledError as fault:
        raise Overrun(f"PostgreSQL: {fault}") from fault
    except RuntimeError as fault:
        if "Transport" not in str(fault):
            raise
        # The event loop's word for a connection that was reset before its first write.
        raise DatabaseFault(f"PostgreSQL: {fault}") from fault
    except _LOST as fault:
        raise DatabaseFault(f"PostgreSQL: {str(fault) or type(fault).__name__}") from fault


PATIENCE = 10.0  # seconds
_QUEUEING = 0.4  # of the patience: how long somebody waits for a connection while all are in use


@asynccontextmanager
async def _reading(connection: Any) -> AsyncIterator[None]:
    """Where failpoints are on, a write without a boundary is refused: a commit that nobody could crash at."""
    if not failpoints.are_on():
        yield
        return
    await connection.execute("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SET default_transaction_read_only = off")


async def _nothing(_connection: Any) -> None:
    """Kept connections are clean: transactions end with their block, and nobody sets session state."""


class Database:
    """A pool of connections. Only the edges open transactions on it; everybody else is handed one.

    `is_full`: somebody found the disk full here, and nobody has seen room on it since.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", url: str, *, queueing: float) -> None:
        self._pool = pool
        self._queueing = queueing
        self.url = url
        self.is_full = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        size: int = 10,
        least: int = 1,
        patience: float = PATIENCE,
        session: Mapping[str, str] = HOT,
    ) -> "Database":
        """Connect.

        Args:
            url: a DSN.
            name: shown in `pg_stat_activity`.
            size: connections at the most.
            least: connections that are kept open.
            patience: seconds that a statement may take. PostgreSQL ends it a little before; where the network is
                silent, it is ended here.
            session: settings of each connection: `HOT`, or `LISTS`.

        Raises:
            DatabaseFault: when nobody answers there.
        """
        with translated():
            try:
                pool = await asyncpg.create_pool(
                    url,
                    min_size=least,
                    max_size=size,
                    max_inactive_connection_lifetime=0,
                    command_timeout=patience,
                    timeout=min(5, patience),
                    reset=_nothing,
                    server_settings={
                        **session,
                        "application_name": name,
                        "statement_timeout": str(int(patience * 900)),
                        "lock_timeout": str(int(patience * 500)),
                    },
                )
            except (ValueError, asyncpg.PostgresError) as fault:
                raise DatabaseFault(f"PostgreSQL: {fault}") from fault
        return cls(pool, url, queueing=patience * _QUEUEING)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with translated():
                yield
        except DiskFull:
            self.is_full = True
            raise

    async def close(self) -> None:
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()

    @property
    def size(self) -> int:
        return self._pool.get_size()

    @property
    def idle(self) -> int:
        return self._pool.get_idle_size()

    @property
    def limit(self) -> int:
        return self._pool.get_max_size()

    @asynccontextmanager
    async def connection(self, boundary: Boundary | None = None) -> AsyncIterator[Tx]:
        """A connection without a transaction: for reads, and, with a boundary, for a write that is one statement."""
        with self._translated():
            async with self._pool.acquire(timeout=self._queueing) as connection:
                if boundary is None:
                    async with _reading(connection):
                        yield connection
                else:
                    boundary.before()
                    yield connection
                    boundary.after()

    @asynccontextmanager
    async def transaction(self, boundary: Boundary | None = None, about: Sequence[str] = ()) -> AsyncIterator[Tx]:
        """Commit at the end of the block, roll back when it raises.

        Args:
            boundary: the commit as a failpoint. (Tests have commits of their own, without one.)
            about: what the transaction turned out to be about, as its block fills it in.
        """
        with self._translated():
            async with self._pool.acquire(timeout=self._queueing) as connection:
                async with connection.transaction():
                    yield connection
                    if boundary is not None:
                        boundary.before(about)
                if boundary is not None:
                    boundary.after(about)


async def connect(url: str, *, name: str) -> Tx:
    """One connection of its own, with none of the hot limits: for migrations, LISTEN and long reads."""
    with translated():
        try:
            return await asyncpg.connect(url, timeout=5, server_settings={"application_name": name})
        except (ValueError, asyncpg.PostgresError) as fault:
            raise DatabaseFault(f"PostgreSQL: {fault}") from fault
