"""Where lists are read: from the replica while it is fresh enough for who asks, else from the primary.

One thing by its key is always read from the primary; so is whatever decides a write. Who has just written reads lists
from the primary until the replica must have that write (docs/decisions/0018-replica-reads.md).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from comanda import telemetry
from comanda.db import Database, Replica, Tx
from comanda.db.replica import LOOK_EVERY
from comanda.errors import DatabaseFault, RedisFault
from comanda.messaging.streams import Streams
from comanda.resilience.loops import loop

_MARGIN = 2.0  # seconds that a mark outlives the replica's lag
# A Redis that is silent for so long that a mark fails leaves a gap in what every process hears of it: 1.5 - 0.4 > 1.
_MARK_PATIENCE = 1.5
_LOOK_PATIENCE = 0.4
_LONGEST_GAP = 1.0
_MOST_SKEW = timedelta(seconds=30)  # between machines, with what an order waits for its commit

Answer = TypeVar("Answer")
Read = Callable[[Tx], Awaitable[Answer]]
_log = telemetry.log("replica")
_OF_REPLICA = telemetry.LISTS.labels("replica")
_OF_PRIMARY = telemetry.LISTS.labels("primary")


class Lists:
    """Reads lists. Without a replica all of it is the primary.

    Args:
        primary: the truth.
        replica: its copy.
        streams: where processes tell each other who has written. While that is not to be known, the primary is asked.
    """

    def __init__(self, primary: Database, replica: Replica | None, streams: Streams) -> None:
        self._primary = primary
        self.replica = replica
        self._streams = streams
        self._memory: str | None = None  # of which Redis, and since when it has remembered without a break
        self._remembers_since = self._remembers_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Look how far the replica is, until told to stop."""
        if self.replica is not None:
            async with asyncio.TaskGroup() as both:
                both.create_task(loop("replica", self._look, stop=stop, every=LOOK_EVERY))
                both.create_task(loop("marks", self._remember, stop=stop, every=LOOK_EVERY))

    async def read(
        self,
        who: UUID | None,
        read: Read[Answer],
        *,
        primary: Database | None = None,
        wrote: Read[bool] | None = None,
    ) -> Answer:
        """What `read` finds; it may be run twice.

        Args:
            who: sees what it has written itself; None: everybody may see what is old by the replica's lag.
            read: only reads.
            primary: another pool of connections to it.
            wrote: asked at the primary whether `who` has written lately, beside what is marked.
        """
        if self.replica is not None and await self._may_be_old(self.replica, who, wrote):
            try:
                answer = await self.replica.read(read)
            except DatabaseFault as fault:
                _log.debug("a list is read again from the primary", error=str(fault))
            else:
                _OF_REPLICA.inc()
                return answer
        async with (primary or self._primary).connection() as tx:
            answer = await read(tx)
        _OF_PRIMARY.inc()
        return answer

    @property
    def longest_unseen(self) -> timedelta:
        """For how long after a write, by clocks that may differ, the replica may lack it."""
        lag = self.replica.most_behind if self.replica is not None else 0
        return timedelta(seconds=lag) + _MOST_SKEW

    async def wrote(self, who: UUID) -> None:
        """After a commit and before its answer: tell all processes that this account reads from the primary for now."""
        if self.replica is None:
            return
        try:
            async with asyncio.timeout(_MARK_PATIENCE):
                await self._streams.mark_writer(who, self._lifetime(self.replica))
        except (RedisFault, TimeoutError):
            self._memory = None

    async def _may_be_old(self, replica: Replica, who: UUID | None, wrote: Read[bool] | None) -> bool:
        # Fresh now and no mark after that: a write that the replica lacks is younger than a mark's life.
        if not replica.is_fresh:
            return False
        if who is None:
            return True
        since = self._remembers_since
        if self._memory is None or time.monotonic() - since < self._lifetime(replica):
            return False
        if await self._is_marked(who) or self._memory is None or self._remembers_since != since:
            return False
        if wrote is None:
            return True
        async with self._primary.connection() as tx:
            return not await wrote(tx)

    async def _is_marked(self, who: UUID | None) -> bool:
        """True where it can't be known, too."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_LOOK_PATIENCE):
                is_marked, memory = await self._streams.wrote_lately(who)
        except (RedisFault, TimeoutError):
            self._memory = None
            return True
        if memory != self._memory or asked_at - self._remembers_until > _LONGEST_GAP:
            self._memory, self._remembers_since = memory, asked_at
        self._remembers_until = max(asked_at, self._remembers_until)
        return is_marked

    async def _look(self) -> bool:
        assert self.replica is not None
        await self.replica.look()
        telemetry.REPLICA_LAG.set(self.replica.behind)
        return False

    async def _remember(self) -> bool:
        await self._is_marked(None)
        return False

    @staticmethod
    def _lifetime(replica: Replica) -> float:
        return replica.most_behind + _MARGIN
