"""The prices of products in memory, for the check before an order is written.

The commit decides: it compares them. Nobody is refused by what is in memory, either: `anew` is asked before
(docs/decisions/0019-catalogue-in-memory.md).
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from comanda.catalog import products
from comanda.db import Database

LIFETIME = 5.0
LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Priced:
    """`price` in minor units."""

    id: UUID
    price: int
    currency: str
    sku: str
    name: str
    is_active: bool


class Catalogue:
    """What was asked for lately.

    Args:
        lifetime: seconds that an entry may be out of date.
        limit: entries at the most; the oldest go first.
    """

    def __init__(self, *, lifetime: float = LIFETIME, limit: int = LIMIT) -> None:
        self._lifetime = lifetime
        self._limit = limit
        self._kept: dict[UUID, tuple[Priced, float]] = {}
        self._loading: dict[UUID, asyncio.Task[dict[UUID, Priced]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, product_id: UUID) -> Priced | None:
        """From memory alone."""
        kept = self._kept.get(product_id)
        if kept is None or kept[1] < time.monotonic():
            return None
        return kept[0]

    async def priced(self, source: Database, ids: Sequence[UUID]) -> dict[UUID, Priced]:
        """The products of these ids that exist; what is not in memory is read in one statement.

        Who asks while the same product is being read waits for that. A caller that goes away cancels nobody's read.

        Raises:
            DatabaseFault: PostgreSQL does not answer.
        """
        found: dict[UUID, Priced] = {}
        missing = []
        for one in ids:
            kept = self.get(one)
            if kept is None:
                missing.append(one)
            else:
                found[one] = kept
        if not missing:
            return found
        fresh = list(dict.fromkeys(one for one in missing if one not in self._loading))
        if fresh:
            task = asyncio.create_task(self._load(source, fresh))
            self._loading.update(dict.fromkeys(fresh, task))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        for task in {self._loading[one] for one in missing}:
            read = await asyncio.shield(task)
            found.update((one, read[one]) for one in missing if one in read)
        return found

    async def anew(self, source: Database, ids: Sequence[UUID]) -> dict[UUID, Priced]:
        """The products of these ids that exist now, whatever is in memory or being read: one statement, begun here.

        Raises:
            DatabaseFault: PostgreSQL does not answer.
        """
        return await self._read(source, ids)

    def forget(self, ids: Iterable[UUID]) -> None:
        """Read these again when they are next asked for."""
        for one in ids:
            self._kept.pop(one, None)

    async def _load(self, source: Database, ids: Sequence[UUID]) -> dict[UUID, Priced]:
        try:
            return await self._read(source, ids)
        finally:
            for one in ids:
                del self._loading[one]

    async def _read(self, source: Database, ids: Sequence[UUID]) -> dict[UUID, Priced]:
        async with source.connection() as tx:
            rows = await products.prices(tx, ids)
        until = time.monotonic() + self._lifetime
        read = {row["id"]: Priced(**dict(row)) for row in rows}
        for one, priced in read.items():
            self._kept.pop(one, None)
            self._kept[one] = (priced, until)
        while len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
        return read
