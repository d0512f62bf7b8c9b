"""What could lose an event or repeat its effect: late commits, a relay that dies, a wake-up that nobody hears."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest
from redis.asyncio import Redis

import servers
from comanda.db import Database
from comanda.db.listener import listen
from comanda.errors import DatabaseFault, RedisFault
from comanda.messaging import outbox
from comanda.messaging.relay import publish
from comanda.messaging.streams import Streams
from comanda.resilience.loops import loop
from outbox_traffic import append, drained, event, lag, published, settled, unread
from shop import until

WRITERS, TURNS, EVENTS = 25, 8, 50
KILLS = 200


async def test_of_10000_events_whose_commits_come_out_of_order_none_is_missed(
    database_url: str, streams: Streams, redis: Redis
) -> None:
    database = await Database.open(database_url, name="tests", size=WRITERS + 5)
    written, stop = [event(n=number) for number in range(WRITERS * TURNS * EVENTS)], asyncio.Event()
    naive = NaiveReader(database)

    async def writer(number: int) -> None:
        for turn in range(TURNS):
            first = (turn * WRITERS + number) * EVENTS
            async with database.transaction() as tx:
                await outbox.append(tx, written[first : first + EVENTS])
                await tx.execute("SELECT pg_sleep(random() * 0.2)")

    async def relay() -> bool:
        return await publish(database, streams, unread)

    async with asyncio.TaskGroup() as running:
        running.create_task(loop("relay", relay, stop=stop, every=0.01))
        running.create_task(loop("naive", naive.read, stop=stop, every=0.01))
        await asyncio.gather(*(writer(number) for number in range(WRITERS)))
        stop.set()
    await settled(database)
    await drained(database, streams)
    while await naive.read():
        pass
    ids = {str(one.id) for one in written}
    assert len(ids) == 10_000
    assert Counter(one["id"] for one in await published(redis)) == dict.fromkeys(ids, 1)
    assert await lag(database) == 0
    missed = ids - {str(one) for one in naive.seen}
    assert missed, "a cursor on ids missed nothing: these commits were in order, and the test shows nothing"
    await database.close()


class NaiveReader:
    """Who keeps the last id that he has seen, and asks for what comes after it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.seen: list[UUID] = []

    async def read(self) -> bool:
        last = self.seen[-1] if self.seen else UUID(int=0)
        async with self._database.connection() as tx:
            rows = await tx.fetch("SELECT id FROM outbox WHERE id > $1 ORDER BY id LIMIT 500", last)
        self.seen += [row["id"] for row in rows]
        return bool(rows)


class Dying(Streams):
    """Publishes; then the relay comes to an end in the way that is set, before it can move its cursor."""

    ends: Callable[[], Awaitable[None]]

    async def publish(self, events: Sequence[bytes]) -> None:
        await super().publish(events)
        await self.ends()


async def test_a_relay_killed_200_times_between_publish_and_mark_has_each_effect_once(
    database: Database, database_url: str, streams: Streams, redis: Redis
) -> None:
    victim = await Database.open(database_url, name="victim", size=1)
    dying, told = Dying(redis, block=1), Counter[str]()

    async def loses_the_answer() -> None:
        raise RedisFault("it arrived; the answer did not")

    async def is_cut_off() -> None:
        await ended_by_the_server(database, "victim")

    async def killed(ends: Callable[[], Awaitable[None]], fault: type[Exception]) -> None:
        dying.ends = ends
        with pytest.raises(fault):
            await publish(victim, dying, lambda some: told.update(killed=len(some)))

    async def stopped() -> None:
        arrived = asyncio.Event()

        async def hangs() -> None:
            arrived.set()
            await asyncio.Event().wait()

        dying.ends = hangs
        task = asyncio.create_task(publish(victim, dying, lambda some: told.update(killed=len(some))))
        await arrived.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    deaths: list[Callable[[], Awaitable[None]]] = [
        partial(killed, loses_the_answer, RedisFault),
        partial(killed, is_cut_off, DatabaseFault),
        stopped,
    ]
    written: list[UUID] = []
    for kill in range(KILLS):
        written += [one.id for one in await append(database, *range(len(written), len(written) + 3))]
        await settled(database)
        await deaths[kill % len(deaths)]()
        if kill % 5 == 4:  # and then one that lives, for a batch
            assert await publish(victim, streams, lambda some: told.update(alive=len(some))) is False
    assert await lag(database) == 0, "the last one lived"
    await victim.close()

    arrived = [UUID(one["id"]) for one in await published(redis)]
    assert told == {"alive": len(written)}, "who was killed before its commit told nobody"
    assert len(arrived) >= len(written) + KILLS, "no kill repeated anything"
    effects = list(dict.fromkeys(arrived))  # of a reader who does nothing twice for an id
    assert effects == written


async def ended_by_the_server(database: Database, name: str) -> None:
    """End the connections of this name to this database and wait until they are gone. A pool makes new ones at once."""
    async with database.connection() as tx:
        found = await tx.fetch(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = $1 AND datname = current_database()",
            name,
        )
    pids = [row["pid"] for row in found]
    assert pids

    async def are_gone() -> bool:
        async with database.connection() as tx:
            return not await tx.fetch("SELECT FROM pg_stat_activity WHERE pid = ANY($1)", pids)

    await until(are_gone)


async def has_connections(database: Database, name: str, *, count: int) -> bool:
    async with database.connection() as tx:
        found: int = await tx.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()", name
        )
    return found == count


async def test_what_the_listener_does_not_hear_is_published_by_the_poll_and_it_listens_again(
    server_url: str, database_url: str, streams: Streams, redis: Redis
) -> None:
    database = await Database.open(database_url, name="tests", size=5, least=5)
    stop, heard = asyncio.Event(), asyncio.Event()

    async def relay() -> bool:
        return await publish(database, streams, unread)

    async def arrived(count: int) -> bool:
        return [one["data"]["n"] for one in await published(redis)] == list(range(count))

    async with asyncio.TaskGroup() as running:
        running.create_task(listen(database_url, "comanda_outbox", heard, stop=stop, name="listener"))
        try:
            await until(partial(has_connections, database, "listener", count=1))
            async with nobody_may_connect(server_url, database_url):
                await ended_by_the_server(database, "listener")
                async with polling(relay, heard):
                    await append(database, 0)
                    await until(partial(arrived, 1))
                    assert await has_connections(database, "listener", count=0), "it was the poll"
                    assert not heard.is_set()
            await until(partial(has_connections, database, "listener", count=1))
            await heard.wait()  # who is back looks first: something may have come while nobody listened
            heard.clear()
            await append(database, 1)
            async with asyncio.timeout(20):
                await heard.wait()
        finally:
            stop.set()
    await settled(database)
    await relay()
    assert await arrived(2)
    await database.close()


async def test_a_connection_that_was_ended_is_made_anew_though_its_end_has_not_come_yet(database_url: str) -> None:
    database = await Database.open(database_url, name="tests", size=2)
    stop, heard = asyncio.Event(), asyncio.Event()
    async with hanging_up_unheard(database_url) as url, asyncio.TaskGroup() as running:
        running.create_task(listen(url, "comanda_outbox", heard, stop=stop, name="listener"))
        try:
            async with asyncio.timeout(20):
                await heard.wait()  # it listens
                heard.clear()
                await ended_by_the_server(database, "listener")
                await heard.wait()  # it listens again
        finally:
            stop.set()
    await database.close()


@asynccontextmanager
async def hanging_up_unheard(url: str) -> AsyncIterator[str]:
    """A way to PostgreSQL that passes on its last words, and not that it has hung up."""
    parts = urlsplit(url)

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
        back = asyncio.create_task(carry(theirs, writer))
        await carry(reader, ours)
        ours.close()
        await back
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    try:
        yield urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{port}"))
    finally:
        server.close()


@asynccontextmanager
async def polling(once: Callable[[], Awaitable[bool]], wake: asyncio.Event) -> AsyncIterator[None]:
    """A relay's loop that looks by itself now and then."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as running:
        running.create_task(loop("relay", once, stop=stop, every=0.2, wake=wake))
        try:
            yield
        finally:
            stop.set()


@asynccontextmanager
async def nobody_may_connect(server: str, url: str) -> AsyncIterator[None]:
    """The database takes no new connections within the block; those that are open work on."""
    alter = f"ALTER DATABASE {url.partition('?')[0].rpartition('/')[2]} ALLOW_CONNECTIONS"
    await servers.execute(server, f"{alter} false")
    try:
        yield
    finally:
        await servers.execute(server, f"{alter} true")
