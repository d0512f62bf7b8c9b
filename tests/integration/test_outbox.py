"""Events leave the outbox at least once, in order, and past no gap."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from uuid import UUID

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from comanda.clock import new_id
from comanda.db import Database, Record, Tx
from comanda.db.listener import listen
from comanda.errors import RedisFault
from comanda.messaging import outbox
from comanda.messaging.relay import SINK, publish
from comanda.messaging.streams import Streams
from comanda.resilience.loops import loop
from outbox_traffic import bodies, drained, event, lag, published, settled, unread
from shop import until


async def ids_after(database: Database, cursor: UUID) -> list[UUID]:
    async with database.connection() as tx:
        return [row["id"] for row in await tx.fetch("SELECT id FROM outbox WHERE id > $1 ORDER BY id", cursor)]


async def test_what_commits_late_is_not_missed(database: Database, streams: Streams, redis: Redis) -> None:
    early, late = event(n=1), event(n=2)
    async with AsyncExitStack() as slow:
        tx = await slow.enter_async_context(database.transaction())
        await outbox.append(tx, [early])
        async with database.transaction() as other:
            await outbox.append(other, [late])
        # Somebody who keeps the last id that he has seen sees the later event first ...
        (cursor,) = await ids_after(database, UUID(int=0))
        assert cursor == late.id
        assert await drained(database, streams) == 0, "nobody goes past a transaction that may still write"
    assert await ids_after(database, cursor) == [], "... and never sees the earlier one"
    await settled(database)
    assert await drained(database, streams) == 2
    assert [one["data"]["n"] for one in await published(redis)] == [1, 2]


@pytest.mark.parametrize("hours", [-12, 12])
async def test_what_a_machine_wrote_whose_clock_goes_wrong_is_told_too(database: Database, hours: int) -> None:
    order_id = new_id()
    odd = replace(event(n=1), aggregate_id=order_id, id=UUID(int=order_id.int + (hours * 3_600_000 << 80)))
    async with database.transaction() as tx:
        await outbox.append(tx, [odd])
    await settled(database)
    async with database.connection() as tx:
        assert [row["id"] for _, row in await outbox.settled_of_orders(tx, [order_id])] == [odd.id]


async def test_nothing_is_missed_while_many_commit_late(database_url: str, streams: Streams, redis: Redis) -> None:
    database = await Database.open(database_url, name="tests", size=20)
    stop = asyncio.Event()

    async def writer(number: int) -> None:
        for turn in range(25):
            async with database.transaction() as tx:
                await outbox.append(tx, [event(n=number * 1000 + turn * 2), event(n=number * 1000 + turn * 2 + 1)])
                await tx.execute("SELECT pg_sleep(random() * 0.02)")

    async def relay() -> bool:
        return await publish(database, streams, unread)

    async with asyncio.TaskGroup() as running:
        for _ in range(2):
            running.create_task(loop("relay", relay, stop=stop, every=0.005))
        await asyncio.gather(*(writer(number) for number in range(12)))
        stop.set()
    await settled(database)
    await drained(database, streams)
    seen = Counter(one["data"]["n"] for one in await published(redis))
    assert seen == dict.fromkeys((number * 1000 + n for number in range(12) for n in range(50)), 1)
    assert await lag(database) == 0
    await database.close()


async def test_transactions_are_in_the_order_of_numbers(database: Database) -> None:
    """Not of digits: as text, 10 comes before 9, and who passed 10 would never see 9."""
    xids = [9, 10, 99, 100, 101]
    async with database.transaction() as tx:
        await tx.executemany(
            "INSERT INTO outbox (id, xid, type, aggregate_type, aggregate_id, payload)"
            " VALUES (gen_random_uuid(), $1::text::xid8, 'OrderCreated', 'order', gen_random_uuid(), '{}')",
            [(str(xid),) for xid in xids],
        )
    taken = []
    for _ in xids:
        async with database.transaction() as tx:
            taken += [int(row["xid"]) for row in await outbox.take(tx, SINK, 2) or []]
    assert taken == xids


async def test_a_crash_between_publishing_and_the_commit_repeats_the_same_events(
    database: Database, streams: Streams, redis: Redis
) -> None:
    class Silent(Streams):
        async def publish(self, events: Sequence[bytes]) -> None:
            await super().publish(events)
            raise RedisFault("it arrived; the answer did not")

    events = [event(n=number) for number in range(3)]
    async with database.transaction() as tx:
        await outbox.append(tx, events)
    await settled(database)
    told: list[int] = []
    with pytest.raises(RedisFault):
        await publish(database, Silent(redis, block=1), lambda some: told.append(len(some)))
    assert (told, await lag(database)) == ([], 3)
    await publish(database, streams, lambda some: told.append(len(some)))
    assert (told, await lag(database)) == ([3], 0)
    assert [UUID(one["id"]) for one in await published(redis)] == [one.id for one in events] * 2


async def test_two_relays_share_the_work_and_repeat_nothing(database: Database, streams: Streams, redis: Redis) -> None:
    async with database.transaction() as tx:
        await outbox.append(tx, [event(n=number) for number in range(3000)])
    await settled(database)
    async with database.transaction() as mine:
        assert len(await _taken(mine)) == 10
        async with database.transaction() as other:
            assert await outbox.take(other, SINK, 10) is None, "another relay is not waited for"
    counts = await asyncio.gather(*(drained(database, streams) for _ in range(4)))
    assert sum(counts) + await drained(database, streams) == 2990
    assert [one["data"]["n"] for one in await published(redis)] == list(range(10, 3000))


async def _taken(tx: Tx) -> list[Record]:
    found = await outbox.take(tx, SINK, 10)
    assert found is not None
    return found


async def test_a_commit_wakes_the_relay(database: Database, streams: Streams, redis: Redis) -> None:
    stop, wake = asyncio.Event(), asyncio.Event()

    async def relay() -> bool:
        await settled(database)  # nobody wakes it a second time
        return await publish(database, streams, unread)

    async def arrived(count: int) -> bool:
        return len(await published(redis)) == count

    async with asyncio.TaskGroup() as running:
        running.create_task(listen(database.url, "comanda_outbox", wake, stop=stop, name="listener"))
        running.create_task(loop("relay", relay, stop=stop, every=3600, wake=wake))
        try:
            for count in (1, 2):
                async with database.transaction() as tx:
                    await outbox.append(tx, [event(n=count)])
                await until(partial(arrived, count), within=5)
                if count == 1:  # the connection is lost; whoever listens again looks first
                    async with database.connection() as tx:
                        await tx.fetch(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'listener' AND datname = current_database()"
                        )
        finally:
            stop.set()


async def test_an_event_leaves_as_json_in_one_field(database: Database, streams: Streams, redis: Redis) -> None:
    one = event(orderId="o-1", name='Ñandú "x"')
    async with database.transaction() as tx:
        await outbox.append(tx, [one])
    await settled(database)
    await drained(database, streams)
    assert await redis.exists("comanda:events")
    (body,) = await bodies(redis)
    assert list(body) == [b"event"]
    left = json.loads(body[b"event"])
    assert left.pop("time").endswith("Z")
    assert left == {
        "id": str(one.id), "type": "OrderCreated", "version": 1, "aggregateType": "order",
        "aggregateId": str(one.aggregate_id), "correlationId": "c-1", "causationId": None,
        "data": {"orderId": "o-1", "name": 'Ñandú "x"'},
    }  # fmt: skip
