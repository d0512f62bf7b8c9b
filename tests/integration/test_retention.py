"""What is old goes, and nothing that somebody still waits for."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

from comanda.accounts import sessions
from comanda.db import Database, migrations
from comanda.db.partitions import keep_partitions
from comanda.idempotency import keys
from comanda.idempotency.model import Remembered
from comanda.messaging import outbox
from comanda.messaging.relay import SINK
from comanda.webhooks import deliveries
from outbox_traffic import settled
from shop import registered, shop, until

AUDIT_DAYS = 60
WEEK = """
SELECT to_char(week AT TIME ZONE 'UTC', 'IYYY"w"IW') AS name, week AS begins, week + interval '1 week' AS ends,
       uuid_floor(week) AS first, uuid_floor(week + interval '1 week') AS after
  FROM date_trunc('week', now() - $1 * interval '1 week', 'UTC') AS week
"""
WEEKS = "SELECT relname FROM pg_class JOIN pg_inherits ON oid = inhrelid WHERE inhparent = $1::text::regclass"


async def weeks_ago(database: Database, count: int) -> str:
    """Partitions of that week for events and attempts, as if they had been made then; what their names end in."""
    async with database.transaction() as tx:
        week = await tx.fetchrow(WEEK, count)
        assert week is not None
        for table, begins, ends in (("outbox", "first", "after"), ("saga_attempts", "begins", "ends")):
            bounds = f"FROM ('{week[begins]}') TO ('{week[ends]}')"
            await tx.execute(f"CREATE TABLE {table}_{week['name']} PARTITION OF {table} FOR VALUES {bounds}")
        return str(week["name"])


async def missing(database: Database, count: int) -> list[str]:
    """The last weeks that were made ahead, as if they had not been."""
    weeks = sorted(await kept(database, "outbox"))[-count - 1 : -1]  # the last one is the rest
    async with database.transaction() as tx:
        for week in weeks:
            await tx.execute(f"DROP TABLE outbox_{week}, saga_attempts_{week}")
    return weeks


async def happened(database: Database, week: str) -> None:
    """An event of that week."""
    async with database.transaction() as tx:
        await tx.execute(
            f"INSERT INTO outbox_{week} (id, type, aggregate_type, aggregate_id, payload)"
            " VALUES (uuid_floor(to_date($1, 'IYYY\"w\"IW') + interval '3 days'),"
            " 'OrderCreated', 'order', gen_random_uuid(), '{}')",
            week,
        )


async def passed(database: Database, sink: str) -> int:
    """So many events did the sink take."""
    async with database.transaction() as tx:
        return len(await outbox.take(tx, sink, 100) or [])


async def kept(database: Database, table: str) -> set[str]:
    async with database.connection() as tx:
        return {row["relname"].removeprefix(f"{table}_") for row in await tx.fetch(WEEKS, table)}


async def swept(database: Database, audit_days: int = AUDIT_DAYS) -> list[str]:
    """What was dropped."""
    async with database.connection() as tx:
        return await keep_partitions(tx, audit_days)


async def test_weeks_of_events_and_attempts_go_when_they_are_old(database: Database) -> None:
    oldest, old, young = [await weeks_ago(database, count) for count in (30, 11, 7)]
    assert await swept(database, audit_days=0) == [], "0 keeps all"
    assert {oldest, old, young} <= await kept(database, "outbox")
    dropped = [f"{table}_{week}" for table in ("outbox", "saga_attempts") for week in (oldest, old)]
    assert await swept(database) == dropped
    for table in ("outbox", "saga_attempts"):
        left = await kept(database, table)
        assert young in left
        assert not {oldest, old} & left
        assert len(left) >= 10, "those of the coming weeks are made"
    assert await swept(database) == [], "the second time nothing is left to go"


async def test_weeks_wait_for_a_long_reader_and_nobody_waits_for_them(database: Database) -> None:
    old = await weeks_ago(database, 30)
    (coming,) = await missing(database, 1)
    async with database.transaction() as reader:
        await reader.execute("SELECT FROM outbox")
        began = time.monotonic()
        assert await swept(database) == [f"saga_attempts_{old}"]
        await migrations.apply(database.url)
        assert time.monotonic() - began < 2, "a lock is waited for no longer than a moment"
        assert old in await kept(database, "outbox")
        assert coming not in await kept(database, "outbox")
        assert coming in await kept(database, "saga_attempts")
    assert await swept(database) == [f"outbox_{old}"]
    assert coming in await kept(database, "outbox")


async def test_a_release_before_this_one_makes_and_drops_them_too(database: Database) -> None:
    old = await weeks_ago(database, 30)
    coming = await missing(database, 2)
    async with database.transaction() as reader:
        await reader.execute("SELECT FROM outbox")
        async with database.connection() as tx:
            assert await tx.fetch("SELECT drop_partitions($1)", AUDIT_DAYS) == []
            assert await tx.fetchval("SELECT ensure_partitions()") == 0
    async with database.connection() as tx:
        dropped = await tx.fetch("SELECT name FROM drop_partitions($1) AS dropped (name)", AUDIT_DAYS)
        assert [row["name"] for row in dropped] == [f"outbox_{old}", f"saga_attempts_{old}"]
        assert await tx.fetchval("SELECT ensure_partitions()") == 4
    assert {*coming} <= await kept(database, "outbox")


async def test_a_week_stays_in_the_rest_where_it_has_begun(database: Database) -> None:
    begun, coming = await missing(database, 2)
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO outbox (id, type, aggregate_type, aggregate_id, payload)"
            " VALUES (uuid_floor(to_date($1, 'IYYY\"w\"IW') + interval '3 days'),"
            " 'OrderCreated', 'order', gen_random_uuid(), '{}')",
            begun,
        )
        assert await tx.fetchval("SELECT count(*) FROM outbox_rest") == 1
        week = "to_date($1, 'IYYY\"w\"IW')::timestamp AT TIME ZONE 'UTC'"
        assert await tx.fetchval(f"SELECT make_partition('outbox', {week})", begun) == "held"
    assert await swept(database) == []
    assert await migrations.apply(database.url) == []
    events, attempts = await kept(database, "outbox"), await kept(database, "saga_attempts")
    assert begun not in events
    assert {begun, coming} <= attempts
    assert coming in events


async def test_who_makes_the_partitions_of_a_server_elsewhere_makes_the_same_weeks(database: Database) -> None:
    """In Madrid a week of October has an hour more."""
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL timezone = 'Europe/Madrid'")
        for week in ("2019-10-21", "2019-10-28"):
            made = "SELECT make_partition('outbox', $1::text::timestamp AT TIME ZONE 'UTC')"
            assert await tx.fetchval(made, week) == "made"


async def test_a_week_stays_while_a_sink_has_not_passed_its_events(database: Database) -> None:
    empty, awaited, later = [await weeks_ago(database, count) for count in (30, 12, 11)]
    await happened(database, awaited)
    await settled(database)
    assert await passed(database, SINK) == 1
    gone = [f"outbox_{empty}", *(f"saga_attempts_{week}" for week in (empty, awaited, later))]
    assert await swept(database) == gone, "webhooks were not sent yet; what is after it stays too"
    assert {awaited, later} <= await kept(database, "outbox")
    assert await passed(database, deliveries.SINK) == 1
    assert await swept(database) == [f"outbox_{awaited}", f"outbox_{later}"]


async def test_a_week_stays_while_the_stream_of_events_lags(database: Database) -> None:
    awaited = await weeks_ago(database, 11)
    await happened(database, awaited)
    await settled(database)
    assert await passed(database, deliveries.SINK) == 1
    assert await swept(database) == [f"saga_attempts_{awaited}"]
    assert await passed(database, SINK) == 1, "it was still there to be published"
    assert await swept(database) == [f"outbox_{awaited}"]


async def test_keys_are_forgotten_in_batches_when_they_are_old(database: Database) -> None:
    customer, answer = uuid4(), Remembered(b"f", b"{}")

    async def remembered(prefix: str, count: int) -> list[tuple[UUID, str]]:
        asked = [(uuid4() if number % 2 else customer, f"{prefix}-{number}") for number in range(count)]
        async with database.transaction() as tx:
            assert all(await keys.remember(tx, [(*key, "order", uuid4(), answer) for key in asked]))
        return asked

    old = await remembered("old", 5)
    async with database.transaction() as tx:
        await tx.execute("UPDATE idempotency_keys SET created_at = created_at - interval '49 hours'")
    edge = await remembered("edge", 3)
    async with database.transaction() as tx:
        await tx.execute("UPDATE idempotency_keys SET created_at = now() - interval '47 hours' WHERE key LIKE 'edge-%'")
    young = await remembered("young", 2)
    async with database.connection() as tx:
        assert [await keys.forget(tx, timedelta(hours=48), 2) for _ in range(4)] == [2, 2, 1, 0]
        assert await keys.answers(tx, old) == [None] * 5
        assert await keys.answers(tx, [*edge, *young]) == [answer] * 5


async def test_a_sweep_that_found_its_fill_goes_on_at_once(database: Database, redis_url: str) -> None:
    async with database.transaction() as tx:
        (customer,) = await registered(tx, 1)
        await sessions.begin(tx, [customer] * 600, timedelta(days=-2))

    async def are_gone() -> bool:
        async with database.connection() as tx:
            return not await tx.fetchval("SELECT count(*) FROM refresh_tokens")

    async with shop(database.url, redis_url, workers=0):
        await until(are_gone)
