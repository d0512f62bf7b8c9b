"""A worker: when it lets go of its messages, and what holds it back."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from uuid import UUID

from redis.asyncio import Redis

from comanda.messaging import switches
from comanda.messaging.streams import GROUP, Streams, stream_of
from comanda.saga import Saga
from comanda.saga.rescue import Rescuer
from saga_stage import A, B, C, Stage, engine, stage, working
from shop import until

__all__ = ["stage"]


async def begun(stage: Stage, streams: Streams, saga: Saga, count: int) -> list[UUID]:
    """Sagas that are hinted at; their subjects."""
    subjects = await stage.begin(saga, count)
    await streams.offer(saga.first.queue, [(await stage.saga(subject))["id"] for subject in subjects])
    return subjects


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


async def test_nobody_passes_those_who_wait_at_a_queue(stage: Stage, redis_url: str, redis: Redis) -> None:
    pay, outside = stage.remote("pay", B)
    gate = asyncio.Event()

    async def late(_subject: UUID, _key: str) -> str:
        await gate.wait()
        return "fine"

    outside.reply = late
    at_once, passing = Saga("at_once", [pay]), Saga("passing", [stage.local("one", A), pay])

    async with working(stage, redis_url, at_once, passing, in_flight=3) as streams:
        await streams._create_groups(B)
        await begun(stage, streams, at_once, 1)
        await until(partial(_is_empty, redis, stream_of(B, 1)))
        early = await begun(stage, streams, at_once, 3)  # there is room for two
        await until(partial(_is_read, redis, stream_of(B, 1)))
        (passer,) = await begun(stage, streams, passing, 1)
        await until(partial(stage.effects, passer))
        assert (await stage.saga(passer))["lease_until"] is None, "it is to be called before those who wait"
        gate.set()
        await until(partial(_are_completed, stage, 5))
    called = [subject for subject, _ in outside.calls]
    assert called.index(passer) > max(called.index(one) for one in early)


async def test_more_wait_than_there_will_ever_be_room_for_at_once(stage: Stage, redis_url: str) -> None:
    pay, _ = stage.remote("pay", B)
    saga = Saga("s", [pay])
    async with working(stage, redis_url, saga, in_flight=3) as streams:
        await begun(stage, streams, saga, 20)
        await until(partial(_are_completed, stage, 20))


async def test_who_comes_alone_is_taken_at_once_and_several_wait_for_company(
    stage: Stage, redis_url: str, redis: Redis
) -> None:
    saga, elsewhere = Saga("s", [stage.local("one", A)]), Saga("t", [stage.local("other", B)])
    hours = 10_000.0

    async with working(stage, redis_url, saga, elsewhere, gather=hours) as streams:
        for done in (1, 2, 3):
            await begun(stage, streams, saga, 1)
            await until(partial(_are_completed, stage, done))
        await begun(stage, streams, saga, 2)
        await until(partial(_are_completed, stage, 5))
        (late,) = await begun(stage, streams, saga, 1)
        for done in (6, 7):  # another queue waits for nobody; and meanwhile this one would have been read
            await begun(stage, streams, elsewhere, 1)
            await until(partial(_are_completed, stage, done))
        assert not await stage.effects(late)
        assert not await _is_read(redis, stream_of(A, 1)), "it is left to other workers"


async def _are_completed(stage: Stage, count: int) -> bool:
    return (await stage.states())["COMPLETED"] == count


async def _is_read(redis: Redis, stream: str) -> bool:
    return bool((await redis.xpending(stream, GROUP))["pending"])


async def _is_empty(redis: Redis, stream: str) -> bool:
    return bool(await redis.xlen(stream) == 0)


async def test_a_paused_queue_does_nothing_until_it_is_resumed(stage: Stage, redis_url: str) -> None:
    saga, other = Saga("s", [stage.local("one", A), stage.local("two", C)]), Saga("t", [stage.local("other", B)])
    async with stage.database.connection() as tx:
        await switches.set_paused(tx, A, is_paused=True, actor="ana")
    subjects = await stage.begin(saga, 5)
    streams = Streams.open(redis_url, name="test")
    row = [(await stage.saga(subject))["id"] for subject in subjects]
    await streams.offer(A, row)
    # What a dead worker had read, too: taking over is work.
    await streams._create_groups(A)
    await streams.read(A, "dead", 10)
    await streams.close()
    async with working(stage, redis_url, saga, other):
        # Others are served meanwhile, again and again: the worker has had its time to look.
        for _ in range(4):
            (free,) = await stage.begin(other)
            await until(partial(stage.effects, free))
        idle = await stage.saga(subjects[0])
        await until(
            lambda: stage.ask("SELECT 1 WHERE clock_timestamp() > $1::timestamptz + interval '1.2 s'", idle["clock"])
        )
        assert await stage.ask("SELECT 1 FROM effects WHERE what = 'one'") == []
        async with stage.database.connection() as tx:
            await switches.set_paused(tx, A, is_paused=False, actor="ana")
        await until(lambda: stage.ask("SELECT 1 FROM effects WHERE what = 'two' HAVING count(*) = 5"))


async def test_a_queue_that_is_paused_begins_nothing_more_of_what_a_worker_has_in_hand(
    stage: Stage, redis_url: str, redis: Redis
) -> None:
    saga = Saga("s", [stage.local("one", A)])
    async with stage.database.connection() as tx:
        await switches.set_limit(tx, A, 5, actor="ana")
    async with working(stage, redis_url, saga) as streams:
        await streams._create_groups(A)
        await begun(stage, streams, saga, 100)
        await until(partial(_is_read, redis, stream_of(A, 1)))
        async with stage.database.connection() as tx:
            await switches.set_paused(tx, A, is_paused=True, actor="ana")
        # What it had in hand is there for whoever goes on, under a message that nobody has read.
        await until(partial(_is_unread, redis, stream_of(A, 1)))
        assert 0 < (await stage.states())["RUNNING"] < 100
        async with stage.database.connection() as tx:
            await switches.set_limit(tx, A, None, actor="ana")
            await switches.set_paused(tx, A, is_paused=False, actor="ana")
        await until(partial(_are_completed, stage, 100))


async def _is_unread(redis: Redis, stream: str) -> bool:
    (group,) = await redis.xinfo_groups(stream)
    return bool(group["lag"] and not group["pending"])


async def test_what_a_dead_worker_had_in_hand_is_offered_however_busy_its_queue_is(
    stage: Stage, streams: Streams
) -> None:
    step, _ = stage.remote("pay", A)
    saga = Saga("s", [step])
    orphan, waits = await stage.begin(saga, 2)
    ids = {subject: (await stage.saga(subject))["id"] for subject in (orphan, waits)}
    await streams._create_groups(A)
    await streams.offer(A, list(ids.values()))  # unread: the workers are behind
    (call,) = (await engine(stage, saga, lease=timedelta(0)).run(A, [ids[orphan]], 1)).calls
    assert call.job.subject == orphan
    async with stage.database.transaction() as tx:
        await tx.execute("UPDATE sagas SET updated_at = now() - interval '1 minute'")
    rescuer = Rescuer(stage.database, streams)
    assert await rescuer.offer_again(0.0) == 1
    hints = await streams.read(A, "somebody", 10)
    offered = [one for hint in hints for one in hint.ids or ()]
    assert offered.count(ids[orphan]) == 2
    assert offered.count(ids[waits]) == 1
    assert await rescuer.offer_again(60.0) == 2, "once all is read, whatever is due is offered"


async def test_a_limit_holds_and_can_be_lifted_while_workers_run(stage: Stage, redis_url: str) -> None:
    saga = Saga("s", [stage.local("one")])
    rate = 10
    async with stage.database.connection() as tx:
        await switches.set_limit(tx, A, rate, actor="ana")
    await stage.begin(saga, 200)
    ((begun,),) = await stage.ask("SELECT clock_timestamp()")
    async with working(stage, redis_url, saga):
        ((count, took),) = await until(
            lambda: stage.ask(
                "SELECT count(*), extract(epoch FROM max(at) - $1)::float FROM effects HAVING count(*) >= 25", begun
            )
        )
        assert count <= rate + rate * took, "a burst of one second, then so many a second"
        async with stage.database.connection() as tx:
            await switches.set_limit(tx, A, None, actor="ana")
        ((last,),) = await until(lambda: stage.ask("SELECT max(at) FROM effects HAVING count(*) = 200"))
    assert (last - begun).total_seconds() < 15, "200 at the old limit would take 19 s"


async def test_an_unreadable_message_becomes_a_dead_letter_and_is_gone(stage: Stage, redis_url: str) -> None:
    saga = Saga("s", [stage.local("one")])
    redis = Redis.from_url(redis_url)
    (subject,) = await stage.begin(saga)
    await redis.xadd(stream_of(A, 1), {"ids": b"not sixteen bytes"})
    await redis.xadd(stream_of(A, 1), {"nonsense": b"x"})
    await redis.xadd(stream_of(A, 1), {"ids": (await stage.saga(subject))["id"].bytes})
    async with working(stage, redis_url, saga):
        letters = await until(
            lambda: stage.ask("SELECT * FROM dead_letters WHERE (SELECT count(*) FROM dead_letters) = 2")
        )
        await until(lambda: stage.effects(subject))
        await until(partial(_is_empty, redis, stream_of(A, 1)))
    assert {(letter["queue"], letter["step"], letter["error"]) for letter in letters} == {
        (A, "read", "unreadable message")
    }
    assert any("not sixteen bytes" in letter["payload"] for letter in letters)
    await redis.aclose()
