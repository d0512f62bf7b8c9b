"""One worker process of the saga engine, without the shop: begins so many sagas, then carries all of them to their end.

    python benchmarks/engine_alone.py DATABASE_URL REDIS_URL SAGAS STEPS [each]

All steps are local and do nothing, so this is what keeping them costs. They are of one queue, so a batch goes through
all of them in one transaction. With `each`, every step is committed before the next one begins: steps take turns
between two queues, and whoever works on one hands on to the other through Valkey. How many commits a saga took is
counted afterwards. Either way a handler is called once for a whole batch. Prints JSON: seconds to begin, seconds to
carry, and the fewest and most commits of a saga.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Database, Tx
from comanda.messaging.streams import Streams
from comanda.saga import Done, Outcome, Saga, Start, local, nothing, start
from comanda.saga.rescue import by_queue
from comanda.worker import Worker

QUEUES = ("benchmark", "benchmark-2")  # which no other worker serves
PACK = 1000
LEFT = "SELECT count(*) FROM sagas WHERE kind = $1 AND state <> 'COMPLETED'"
COMMITS = (
    "SELECT min(n)::int AS fewest, max(n)::int AS most FROM (SELECT count(DISTINCT made.xmin::text) AS n FROM sagas"
    "  JOIN saga_attempts AS made ON made.saga_id = sagas.id WHERE sagas.kind = $1 GROUP BY sagas.id) AS counted"
)


class Counter:
    """Knows how many have passed the last step."""

    def __init__(self, wanted: int) -> None:
        self._left = wanted
        self.is_over = asyncio.Event()

    async def pass_by(self, _tx: Tx, subjects: Sequence[UUID]) -> Sequence[Outcome]:
        return [Done() for _ in subjects]

    async def count(self, tx: Tx, subjects: Sequence[UUID]) -> Sequence[Outcome]:
        self._left -= len(subjects)
        if self._left <= 0:
            self.is_over.set()
        return await self.pass_by(tx, subjects)


async def main() -> None:
    database_url, redis_url, sagas, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    queues = QUEUES if sys.argv[5:] == ["each"] else QUEUES[:1]
    counter = Counter(sagas)
    saga = Saga(
        f"benchmark-{new_id()}",
        steps=[
            local(
                f"step-{n}",
                counter.count if n == steps else counter.pass_by,
                compensate=nothing,
                queue=queues[n % len(queues)],
                reached=f"STEP_{n}",
            )
            for n in range(1, steps + 1)
        ],
    )
    database = await Database.open(database_url, name="engine-alone", size=8)
    streams = Streams.open(redis_url, name="engine-alone")
    began = time.monotonic()
    for at in range(0, sagas, PACK):
        async with database.transaction() as tx:
            due = await start(tx, [Start.of(saga, new_id(), "benchmark") for _ in range(min(PACK, sagas - at))])
        await streams.offer_all(by_queue(due))
    begun = time.monotonic()
    lease, stop = timedelta(seconds=10), asyncio.Event()
    workers = [
        Worker(database, streams, [saga], name=f"engine-alone-{queue}", queues=[queue], lease=lease) for queue in queues
    ]
    working = [asyncio.create_task(worker.run(stop)) for worker in workers]
    await counter.is_over.wait()
    left = 1
    while left:
        async with database.connection() as tx:
            left = await tx.fetchval(LEFT, saga.name)
    carried = time.monotonic() - begun
    stop.set()
    await asyncio.gather(*working)
    async with database.connection() as tx:
        (commits,) = await tx.fetch(COMMITS, saga.name)
    await streams.close()
    await database.close()
    print(json.dumps({"begin": begun - began, "carry": carried, **dict(commits)}))


if __name__ == "__main__":
    asyncio.run(main())
