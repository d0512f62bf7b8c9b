"""Whether more orders may come in: accepting must never starve finishing."""

import asyncio

from comanda.db import Database
from comanda.resilience.loops import loop
from comanda.saga import log

_LOOK_EVERY = 0.25  # seconds
_OF_ORDERS = 1  # priority: who is told of them, and when, is no reason to refuse one


class Admission:
    """Counts what is accepted and not finished; closed while that is more than `most`.

    Orders that wait (for a retry, for a gateway that is away) don't count: no worker has them to do.
    """

    def __init__(self, database: Database, *, most: int) -> None:
        self._database = database
        self._most = most
        self.is_open = True

    async def run(self, stop: asyncio.Event) -> None:
        """Look now and then, until told to stop."""
        await loop("admission", self._look, stop=stop, every=_LOOK_EVERY)

    async def _look(self) -> bool:
        async with self._database.connection() as tx:
            self.is_open = await log.backlog(tx, self._most, priority=_OF_ORDERS) < self._most
        return False
