"""The queues' streams on a real Valkey: hints that may vanish, and what is shared by all workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from comanda.api import feed
from comanda.api.feed import Feed, Watch
from comanda.clock import new_id
from comanda.db import Database
from comanda.errors import RedisFault
from comanda.messaging import outbox
from comanda.messaging import streams as messaging
from comanda.messaging.outbox import Event
from comanda.messaging.streams import GROUP, Hint, Streams, stream_of
from outbox_traffic import drained, settled
from shop import until

QUEUE = "order-processing"
ANA = uuid4()
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


@dataclass
class Watched:
    """An order that is watched, and all that happens to it."""

    database: Database
    streams: Streams
    feed: Feed
    mark: Watch
    order_id: UUID = field(default_factory=new_id)
    happened: list[UUID] = field(default_factory=list)

    async def written(self, about: UUID) -> UUID:
        """Something is committed, and not told yet."""
        one = Event("OrderNoted", "order", about, {}, order_id=about)
        async with self.database.transaction() as tx:
            await outbox.append(tx, [one])
        await settled(self.database)
        return one.id

    async def happens(self, count: int, *, is_told: bool = True) -> None:
        for _ in range(count):
            self.happened.append(await self.written(self.order_id))
            if is_told:
                await drained(self.database, self.streams)

    async def all_is_told(self) -> None:
        """What comes after it has come."""
        await self.written(self.mark.order_id)
        await drained(self.database, self.streams)
        assert await self.mark.next(10) is not None

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        with self.feed.watch(self.order_id, ANA, "customer") as watch:
            yield watch


async def person(database: Database, account_id: UUID) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO accounts (id, email, password_hash, first_name, last_name)"
            " VALUES ($1, $2, 'none', 'Ana', 'Ruiz') ON CONFLICT (id) DO NOTHING",
            account_id, f"{account_id}@example.com",
        )  # fmt: skip


@pytest.fixture
async def watched(database: Database, streams: Streams) -> AsyncIterator[Watched]:
    await person(database, ANA)
    reader, stop = Feed(database, streams, is_draining=lambda: False), asyncio.Event()
    running = asyncio.create_task(reader.run(stop))
    with reader.watch(new_id(), ANA, "customer") as mark:
        await reader.begin(mark, None)
        yield Watched(database, streams, reader, mark)
    stop.set()
    await running


async def test_who_resumes_and_reads_too_slowly_is_sent_away_and_misses_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The buffer is full before the first event is read: of what was missed, and of what comes meanwhile."""
    monkeypatch.setattr(feed, "_MOST_UNREAD", 3)
    happened, seen = watched.happened, list[UUID]()
    await watched.happens(2)
    for early, late in ((0, 0), (0, 4), (3, 1), (2, 2), (0, 0), (0, 0), (0, 0)):
        with watched.watch() as watch:
            await watched.happens(early)
            await watched.all_is_told()  # before it is known what is wanted
            await watched.feed.begin(watch, seen[-1] if seen else None)
            await watched.happens(late)
            await watched.all_is_told()
            left = len(happened) - len(seen)
            while len(seen) < len(happened) and (event := await watch.next(10)) is not None:
                seen.append(event.id)
            assert seen == happened[: len(seen)], "no gap, no repeat, in order"
            assert len(happened) - len(seen) == max(0, left - 3), "as many as there is room for"
    assert len(seen) == 14


async def test_what_was_read_from_postgresql_is_not_told_again_by_redis(watched: Watched) -> None:
    await watched.happens(1, is_told=False)
    with watched.watch() as watch:
        await watched.feed.begin(watch, None)
        first = await watch.next(10)
        assert first is not None
    with watched.watch() as watch:
        await watched.feed.begin(watch, first.id)
        await watched.all_is_told()
        await watched.happens(1)
        second = await watch.next(10)
        assert second is not None
    assert [first.id, second.id] == watched.happened


@pytest.mark.parametrize("change", ["role = 'viewer'", "is_active = false", "deleted_at = now()"])
async def test_who_is_let_in_no_longer_is_told_no_more(watched: Watched, change: str) -> None:
    other = uuid4()
    await person(watched.database, other)
    with watched.watch() as stays, watched.feed.watch(watched.order_id, other, "customer") as goes:
        for watch in (stays, goes):
            await watched.feed.begin(watch, None)
        await watched.happens(1)
        assert await stays.next(10) is not None
        assert await goes.next(10) is not None
        async with watched.database.transaction() as tx:
            await tx.execute(f"UPDATE accounts SET {change} WHERE id = $1", other)
        await watched.happens(1)
        assert await stays.next(10) is not None
        assert await goes.next(10) is None
