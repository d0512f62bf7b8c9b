"""Events that tests write, and what arrived of them in the stream."""

import json
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from redis.asyncio import Redis

from comanda.db import Database, Record
from comanda.messaging import outbox
from comanda.messaging.outbox import Event
from comanda.messaging.relay import SINK, publish
from comanda.messaging.streams import EVENTS, Streams
from shop import until


def event(**payload: Any) -> Event:
    return Event("OrderCreated", "order", uuid4(), payload, correlation_id="c-1")


def unread(_: Sequence[Record]) -> None:
    return


async def append(database: Database, *numbers: int) -> list[Event]:
    """Write events with these numbers in one transaction."""
    events = [event(n=number) for number in numbers]
    async with database.transaction() as tx:
        await outbox.append(tx, events)
    return events


async def settled(database: Database) -> None:
    """Wait until what is written can be published.

    An open transaction in any database of the server holds it back, and other tests may work on the same server.
    """

    async def nothing_is_held_back() -> bool:
        async with database.connection() as tx:
            horizon = "pg_snapshot_xmin(pg_current_snapshot())"
            return bool(await tx.fetchval(f"SELECT NOT EXISTS (SELECT FROM outbox WHERE xid >= {horizon})"))

    await until(nothing_is_held_back)


async def drained(database: Database, streams: Streams) -> int:
    """Publish until nothing is left; how many went."""
    count = 0

    def counted(events: Sequence[Record]) -> None:
        nonlocal count
        count += len(events)

    while await publish(database, streams, counted):
        pass
    return count


async def lag(database: Database) -> int:
    """Events that are not published."""
    async with database.connection() as tx:
        return (await outbox.lag(tx, SINK))[0]


async def published(redis: Redis) -> list[dict[str, Any]]:
    """What other systems read, in the order in which they read it."""
    return [json.loads(body[b"event"]) for body in await bodies(redis)]


async def bodies(redis: Redis) -> list[dict[bytes, bytes]]:
    return [cast("dict[bytes, bytes]", body) for _, body in await redis.xrange(EVENTS) or []]
