"""The queues' streams on a real Valkey: hints that may vanish, and what is shared by all workers."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from comanda.errors import RedisFault
from comanda.messaging import streams as messaging
from comanda.messaging.streams import GROUP, Hint, Streams, stream_of
from shop import until

QUEUE = "order-processing"
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[Streams]:
    streams = Streams.open(redis_url, name="test", block=0.05)
    assert await streams.read(QUEUE, "one", 1) == []  # makes the groups
    yield streams
    await streams.close()


def ids_of(hints: list[Hint]) -> list[UUID]:
    return [one for hint in hints for one in hint.ids or []]


async def test_hints_are_read_once_the_most_urgent_first(streams: Streams, redis: Redis) -> None:
    given = {priority: [uuid4() for _ in range(3)] for priority in (2, 0, 1)}
    for priority, ids in given.items():
        await streams.offer(QUEUE, ids, priority=priority)
    assert await streams.unread(QUEUE) == 3
    hints = await streams.read(QUEUE, "one", 10)
    assert ids_of(hints) == [*given[0], *given[1], *given[2]]
    assert await streams.read(QUEUE, "two", 10) == []
    assert await streams.unread(QUEUE) == 0
    await streams.acknowledge(hints)
    assert [await redis.xlen(stream_of(QUEUE, priority)) for priority in (0, 1, 2)] == [0, 0, 0]


async def test_after_a_flush_the_groups_are_made_anew(streams: Streams, redis: Redis) -> None:
    first, second = uuid4(), uuid4()
    await streams.offer(QUEUE, [first])
    hints = await streams.read(QUEUE, "one", 10)
    await redis.flushdb()
    await streams.acknowledge(hints)  # of what is gone: harmless
    assert await streams.take_over(QUEUE, "one", 0) == []
    assert await streams.unread(QUEUE) == 0
    await streams.offer(QUEUE, [second])  # before anybody made the group
    assert await streams.read(QUEUE, "one", 10) == []
    assert ids_of(await streams.read(QUEUE, "one", 10)) == [second]


async def test_what_a_dead_worker_had_read_is_taken_over(streams: Streams, redis: Redis) -> None:
    ids = [uuid4() for _ in range(250)]
    await streams.offer(QUEUE, ids)
    assert ids_of(await streams.read(QUEUE, "dead", 10)) == ids
    assert await streams.take_over(QUEUE, "other", 3600) == [], "it may still be alive"
    hints = await streams.take_over(QUEUE, "other", 0)
    assert ids_of(hints) == ids
    await streams.acknowledge(hints)
    assert await streams.take_over(QUEUE, "third", 0) == []
    # Names that hold nothing are forgotten in time.
    await streams.forget_consumers(QUEUE, 3600)
    assert {one["name"] for one in await redis.xinfo_consumers(stream_of(QUEUE, 1), GROUP)} >= {b"dead", b"other"}
    await until(lambda: _forgotten(streams, redis))


async def _forgotten(streams: Streams, redis: Redis) -> bool:
    await streams.forget_consumers(QUEUE, 0)
    return await redis.xinfo_consumers(stream_of(QUEUE, 1), GROUP) == []


async def test_jobs_are_counted(streams: Streams) -> None:
    await streams.offer_all({}, completed={QUEUE: 3, "payment-processing": 1}, failed={QUEUE: 2})
    await streams.offer_all({(QUEUE, 1): [uuid4()]}, completed={QUEUE: 4})
    assert await streams.counters(QUEUE) == {"completed": 7, "failed": 2}
    assert await streams.counters("payment-processing") == {"completed": 1}
    assert await streams.counters("inventory-management") == {}


async def test_a_limit_is_shared_by_all_workers(streams: Streams, redis_url: str) -> None:
    other = Streams.open(redis_url, name="other", block=0.05)
    begun = time.monotonic()
    assert await streams.grant(QUEUE, None, 10_000) == 10_000
    assert await streams.grant(QUEUE, 10, 7) == 7
    granted = 7
    while granted < 25:
        granted += sum(await asyncio.gather(streams.grant(QUEUE, 10, 5), other.grant(QUEUE, 10, 5)))
    took = time.monotonic() - begun
    assert granted <= 10 + 10 * took + 1, "a burst of one second, then so many a second"
    assert took < 4
    assert await streams.grant("payment-processing", 3, 5) == 3, "each queue has its own"
    await other.close()


async def test_without_redis_each_worker_holds_the_limit_by_itself() -> None:
    one, two = Streams.open(NOWHERE, name="one"), Streams.open(NOWHERE, name="two")
    assert [await one.grant(QUEUE, 2, 5) for _ in range(3)][:2] == [2, 0]
    assert await two.grant(QUEUE, 2, 1) == 1
    for asked in (
        one.ping(),
        one.offer(QUEUE, [uuid4()]),
        one.read(QUEUE, "one", 1),
        one.publish([b"{}"]),
        one.counters(QUEUE),
    ):
        with pytest.raises(RedisFault):
            await asked


async def test_streams_are_capped(streams: Streams, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messaging, "_CAP", 500)
    monkeypatch.setattr(messaging, "_EVENTS_CAP", 500)
    await streams.offer(QUEUE, [uuid4() for _ in range(200_000)])
    await streams.publish([b'{"n": 1}'] * 2000)
    # Redis cuts whole nodes of its tree, so a little more may stay.
    assert 500 <= await redis.xlen(stream_of(QUEUE, 1)) <= 700
    assert 500 <= await redis.xlen(messaging.EVENTS) <= 700
