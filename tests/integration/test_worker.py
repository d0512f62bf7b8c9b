"""When a worker lets go of its messages."""

from contextlib import AsyncExitStack
from functools import partial

import pytest
from redis.asyncio import Redis
from test_saga_engine import A, Stage, stage, working

from comanda.messaging.streams import GROUP, Streams, stream_of
from comanda.saga import Saga
from shop import until

pytestmark = pytest.mark.usefixtures("_logs")

__all__ = ["stage"]


async def test_a_message_is_acknowledged_when_its_work_is_committed_and_no_sooner(
    stage: Stage, redis_url: str, redis: Redis, streams: Streams
) -> None:
    stream, saga = stream_of(A, 1), Saga("s", [stage.local("one")])
    blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    (subject,) = await stage.begin(saga)
    await streams._create_groups(A)
    await streams.offer(A, [(await stage.saga(subject))["id"]])
    async with AsyncExitStack() as stack:
        async with stage.database.transaction() as tx:
            await tx.execute("LOCK TABLE effects IN ACCESS EXCLUSIVE MODE")
            await stack.enter_async_context(working(stage, redis_url, saga))
            await until(partial(stage.ask, blocked))
            assert (await redis.xpending(stream, GROUP))["pending"] == 1, "another worker could take it over"
        await until(partial(stage.effects, subject))
        await until(partial(_is_empty, redis, stream))
        assert (await redis.xpending(stream, GROUP))["pending"] == 0


async def _is_empty(redis: Redis, stream: str) -> bool:
    return bool(await redis.xlen(stream) == 0)
