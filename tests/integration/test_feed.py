"""What happens to orders, told to who watches: without gap, repeat or stranger, whatever Redis loses."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from api_client import running_api
from comanda.api import feed
from comanda.api.feed import Feed, Watch
from comanda.clock import new_id
from comanda.db import Database, Tx
from comanda.db.database import connect
from comanda.messaging import outbox
from comanda.messaging.outbox import Event
from comanda.messaging.streams import Streams
from outbox_traffic import drained, settled

ANA = uuid4()


@pytest.fixture
async def streams(redis_url: str) -> AsyncIterator[Streams]:
    streams = Streams.open(redis_url, name="test", block=0.05)
    yield streams
    await streams.close()


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


async def test_what_redis_lost_is_told_and_what_was_told_is_not_read_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[UUID]()
    look_up = outbox.settled_of_orders

    async def looked_up(tx: Tx, order_ids: Sequence[UUID], since: str = outbox.FIRST) -> Any:
        found = await look_up(tx, order_ids, since)
        read.extend(row["id"] for order_id, row in found if since != outbox.FIRST and order_id == watched.order_id)
        return found

    await watched.happens(3)
    with watched.watch() as watch:
        await watched.feed.begin(watch, None)
        seen = [event.id for event in [await watch.next(10) for _ in range(3)] if event is not None]
        monkeypatch.setattr(outbox, "settled_of_orders", looked_up)
        monkeypatch.setattr(feed, "_FILL_EVERY", 0)
        for _ in range(3):
            await watched.happens(1, is_told=False)
            event = await watch.next(10)
            assert event is not None
            seen.append(event.id)
    assert seen == watched.happened
    # At first whatever came since the last fill, then what is new; twice where a fill and a commit overlap.
    assert read.count(seen[3]) <= 2
    assert read.count(seen[5]) <= 2
    assert set(seen[3:]) <= set(read)


async def test_who_begins_while_others_are_told_misses_nothing(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it missed was settled before that round has ended, and is not of its orders."""
    look_up, late = outbox.settled_of_orders, list[Watch]()
    other = new_id()

    async def looked_up(tx: Tx, order_ids: Sequence[UUID], since: str = outbox.FIRST) -> Any:
        if since != outbox.FIRST and not late:
            late.append(entered.enter_context(watched.feed.watch(other, ANA, "customer")))
            await watched.feed.begin(late[0], None)
            missed.append(await watched.written(other))
        return await look_up(tx, order_ids, since)

    missed = list[UUID]()
    with ExitStack() as entered:
        monkeypatch.setattr(outbox, "settled_of_orders", looked_up)
        monkeypatch.setattr(feed, "_FILL_EVERY", 0)
        async with asyncio.timeout(20):
            while not late:
                await watched.happens(1, is_told=False)
        event = await late[0].next(10)
        assert event is not None
        assert [event.id] == missed


async def test_a_stream_that_can_not_begin_ends_as_any_other(database_url: str, redis_url: str) -> None:
    """It has been answered already, so that there is no status to tell it by: the client comes again."""
    async with running_api(database_url, redis_url, request_seconds=1.0) as api:
        admin = await api.person("admin")
        product = await api.product(admin)
        wanted = {"items": [{"productId": product["id"], "quantity": 1}]}
        placed = await api.post("/api/v1/orders", wanted, token=admin.token)
        path = f"/api/v1/orders/{placed.body['orderId']}/events"
        other = await connect(database_url, name="tests")
        async with api.open(path, token=admin.token) as first:
            while await first.content.readline() != b"event: OrderCreated\n":
                pass
            async with other.transaction():
                await other.execute("LOCK TABLE outbox")
                assert (await api.get(path, token=admin.token)).body == "retry: 1000\n\n"
        other.terminate()
