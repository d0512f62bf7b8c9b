"""The invariants as a metric: it rises with what is broken, and falls when that is mended."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
from structlog.testing import capture_logs

from comanda import telemetry
from comanda.db import Database
from comanda.errors import GatewayBusy
from comanda.proof import invariants, watch
from comanda.proof.ledger import NoLedger
from comanda.proof.watch import Watch
from comanda.settings import Settings
from shop import shop, until

NO_LEDGER = NoLedger("none")


def violations(check: str) -> float | None:
    found: float | None = telemetry.VIOLATIONS.labels(check)._value.get()
    return found


@pytest.fixture(autouse=True)
def _nothing_is_known() -> None:
    telemetry.VIOLATIONS.clear()


@asynccontextmanager
async def watching(database_url: str) -> AsyncIterator[None]:
    """It looks again and again."""
    stop = asyncio.Event()
    running = asyncio.create_task(watch.run(database_url, NO_LEDGER, every=0.02, stop=stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(10):
            await running


async def seen(condition: Callable[[], bool]) -> None:
    async def look() -> bool:
        return condition()

    await until(look)


async def execute(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(statement)


async def test_the_metric_rises_and_falls(database_url: str, database: Database, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        await here.sells(apple=3, pear=4)
    async with watching(database_url):
        await seen(lambda: violations("guards_stand") == 0)
        await execute(database, "UPDATE stock SET on_hand = on_hand + 1")
        await seen(lambda: violations("stock_is_its_movements") == 2)
        await execute(database, "UPDATE stock SET on_hand = on_hand - 1")
        await seen(lambda: violations("stock_is_its_movements") == 0)
        assert violations("held_is_reserved") == 0


async def test_it_is_said_once_when_it_comes_and_once_when_it_goes(
    database_url: str, database: Database, redis_url: str
) -> None:
    async with shop(database_url, redis_url) as here:
        await here.sells(apple=3)
    one = Watch(database_url, NO_LEDGER)
    with capture_logs() as lines:
        for on_hand in (4, 4, 3, 3):
            await execute(database, f"UPDATE stock SET on_hand = {on_hand}")
            await one.look()
    one.close()
    said = [(line["log_level"], line["event"], line["check"]) for line in lines if "check" in line]
    assert said == [
        ("error", "an invariant is broken", "stock_is_its_movements"),
        ("info", "an invariant holds again", "stock_is_its_movements"),
    ]


async def test_an_order_that_grows_old_is_not_mended_by_it(
    database_url: str, database: Database, redis_url: str
) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=3)
        await here.ended(await here.order({goods["apple"]: 1}))
    one = Watch(database_url, NO_LEDGER)
    await execute(database, "UPDATE orders SET total_amount = total_amount + 1")
    await one.look()
    assert violations("totals_are_sums") == 1
    one.looks_back = -timedelta(hours=1)
    await one.look()
    assert violations("totals_are_sums") == 1
    await execute(database, "UPDATE orders SET total_amount = total_amount - 1")
    await one.look()
    assert violations("totals_are_sums") == 0
    await execute(database, "UPDATE orders SET total_amount = total_amount + 1")
    await one.look()
    assert violations("totals_are_sums") == 0, "it looks at what is new"
    one.close()


async def test_only_one_watches_at_a_time(database_url: str, database: Database, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        await here.sells(apple=3)
    first, second = Watch(database_url, NO_LEDGER), Watch(database_url, NO_LEDGER)
    await first.look()
    await execute(database, "UPDATE stock SET on_hand = 4")
    await second.look()
    assert violations("stock_is_its_movements") == 0
    first.close()

    async def is_seen() -> bool:
        await second.look()
        return violations("stock_is_its_movements") == 1

    await until(is_seen)
    second.close()


async def test_a_check_that_takes_too_long_is_left_out(database_url: str, database: Database) -> None:
    """Who waits for a lock here takes too long like any other; the rest is checked."""
    one = Watch(database_url, NO_LEDGER, may_take=timedelta(milliseconds=100))
    async with database.transaction() as tx:
        await tx.execute("LOCK TABLE mailbox")
        with capture_logs() as lines:
            await one.look()
            await one.look()
    assert [line["check"] for line in lines if line["event"].startswith("a check takes")] == ["messages_go_out_once"]
    assert violations("events_are_there_once") == 0
    one.close()


async def is_watching(database: Database, how: str) -> bool:
    """Whether there is a watch's connection of which this holds."""
    async with database.connection() as asking:
        found: bool = await asking.fetchval(
            "SELECT count(*) > 0 FROM pg_stat_activity"
            f" WHERE application_name = 'comanda-watch' AND datname = current_database() AND {how}"
        )
    return found


async def test_between_two_checks_it_rests_and_holds_nothing(database_url: str, database: Database) -> None:
    one = Watch(database_url, NO_LEDGER, rest=1e9)
    looking = asyncio.create_task(one.look())

    await until(partial(is_watching, database, "state = 'idle' AND query LIKE 'COMMIT%'"))
    async with database.connection() as meanwhile:
        await invariants.check(meanwhile, NO_LEDGER)
    assert not looking.done(), "it looked at the next one"
    looking.cancel()
    await asyncio.wait([looking])
    assert one._tx is not None
    assert await one._tx.fetchval("SHOW max_parallel_workers_per_gather") == "0", "it takes one core at the most"
    one.close()


class Down:
    async def ledger(self, after: int, limit: int) -> list[dict[str, object]]:
        raise GatewayBusy(f"{after} {limit}")


async def test_a_gateway_that_does_not_answer_hides_nothing_else(database_url: str, database: Database) -> None:
    one = Watch(database_url, Down())
    await execute(database, "DROP INDEX reservations_one_for_an_order")
    await one.look()
    assert violations("guards_stand") == 1
    one.close()


async def test_it_ends_in_the_middle_of_a_check(database_url: str, database: Database) -> None:
    stop = asyncio.Event()

    waits = partial(is_watching, database, "wait_event_type = 'Lock'")
    async with database.transaction() as tx:
        await tx.execute("LOCK TABLE stock")
        running = asyncio.create_task(watch.run(database_url, NO_LEDGER, every=1, stop=stop))
        await until(waits)
        stop.set()
        async with asyncio.timeout(10):
            await running
        assert not await waits()


async def test_it_comes_back_after_its_connection_was_lost(
    database_url: str, database: Database, redis_url: str
) -> None:
    async with shop(database_url, redis_url) as here:
        await here.sells(apple=3)
    async with watching(database_url):
        await seen(lambda: violations("stock_is_its_movements") == 0)
        await execute(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'comanda-watch' "
            "AND datname = current_database()",
        )
        await execute(database, "UPDATE stock SET on_hand = 4")
        await seen(lambda: violations("stock_is_its_movements") == 1)


def test_it_can_be_switched_off() -> None:
    assert Settings(check_seconds=0).check_seconds == 0
    assert json.loads(Settings().model_dump_json())["check_seconds"] == 60
