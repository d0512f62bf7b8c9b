"""Hints for what is due and was not taken: waits that are over, hints that were lost, workers that died."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from comanda.db import Database
from comanda.failpoints import Boundary
from comanda.messaging.queues import QUEUES
from comanda.messaging.streams import Streams
from comanda.saga import log
from comanda.saga.definition import Due
from comanda.saga.log import Overdue

PROMOTE = Boundary("saga.promote")

OVERDUE_AFTER = timedelta(seconds=5)
_OFFER_AGAIN_AFTER = 30.0  # seconds
_BATCH = 1000


def by_queue(due: Iterable[Due]) -> dict[tuple[str, int], list[UUID]]:
    """As `Streams.offer_all` takes them."""
    grouped: dict[tuple[str, int], list[UUID]] = defaultdict(list)
    for one in due:
        grouped[one.queue, one.priority].append(one.id)
    return grouped


async def promote(database: Database, streams: Streams) -> bool:
    """End the waits that are over and hint at them; whether there may be more."""
    async with database.connection(PROMOTE) as tx:
        due = await log.promote(tx, _BATCH)
    await streams.offer_all(by_queue(due))
    return len(due) == _BATCH


class Rescuer:
    """Offers again what has been due for seconds; remembers what it offered, so that a backlog is not offered twice."""

    def __init__(self, database: Database, streams: Streams) -> None:
        self._database = database
        self._streams = streams
        self._offered: dict[UUID, float] = {}

    async def offer_again(self, now: float) -> int:
        """Hint at overdue sagas; how many.

        Args:
            now: seconds of any monotonic clock.
        """
        self._offered = {one: at for one, at in self._offered.items() if now - at < _OFFER_AGAIN_AFTER}
        async with self._database.connection() as tx:
            overdue = await log.overdue(tx, OVERDUE_AFTER, _BATCH)
        due = [one for one in overdue if one.id not in self._offered]
        due = await self._that_nothing_tells_of(due)
        await self._streams.offer_all(by_queue(due))
        self._offered |= {one.id: now for one in due}
        return len(due)

    async def _that_nothing_tells_of(self, due: Sequence[Overdue]) -> list[Overdue]:
        """Queues with unread messages have workers who are behind, not hints that are lost. Orphans have none there."""
        queues = {one.queue for one in due if not one.is_orphan}
        busy = {queue for queue in QUEUES if queue in queues and await self._streams.unread(queue)}
        return [one for one in due if one.is_orphan or one.queue not in busy]
