"""One worker process of the saga engine, without the shop: begins so many sagas, then carries all of them to their end.

    python benchmarks/engine_alone.py DATABASE_URL REDIS_URL SAGAS STEPS

All steps are local and do nothing, so this is what keeping them costs. Prints JSON: seconds to begin, seconds to carry.
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

QUEUE = "benchmark"  # which no other worker serves
PACK = 1000


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
    counter = Counter(sagas)
    saga = Saga(
        f"benchmark-{new_id()}",
        steps=[
            local(
                f"step-{n}",
                counter.count if n == steps else counter.pass_by,
                compensate=nothing,
                queue=QUEUE,
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
    worker = Worker(database, streams, [saga], name="engine-alone", queues=[QUEUE], lease=timedelta(seconds=10))
    stop = asyncio.Event()
    working = asyncio.create_task(worker.run(stop))
    await counter.is_over.wait()
    left = 1
    while left:
        async with database.connection() as tx:
            left = await tx.fetchval("SELECT count(*) FROM sagas WHERE kind = $1 AND state <> 'COMPLETED'", saga.name)
    carried = time.monotonic() - begun
    stop.set()
    await working
    await streams.close()
    await database.close()
    print(json.dumps({"begin": begun - began, "carry": carried}))


if __name__ == "__main__":
    asyncio.run(main())
