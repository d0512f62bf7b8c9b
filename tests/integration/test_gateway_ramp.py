"""The gateway was away, and a crowd waits for it: it comes back at a pace that the gateway knows."""

import asyncio

from comanda.db import Database
from comanda.payments.breaker import SharedBreaker, is_open
from comanda.resilience.breaker import Rule
from comanda.resilience.ramp import FACTOR


async def test_the_rate_before_the_outage_is_the_measure_of_what_comes_back(database_url: str) -> None:
    """Two hundred payments were begun in one of the last five-second spans: forty a second."""
    database = await Database.open(database_url, name="ramp")
    breaker = SharedBreaker(database, Rule())
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO payments (id, order_id, key, amount, currency, created_at)"
            " SELECT uuid_v7(), uuid_v7(), n::text, 1, 'USD', date_trunc('minute', now())"
            " FROM generate_series(1, 200) n"
        )
    await asyncio.gather(*(breaker.count(is_answer=False) for _ in range(5)))
    async with database.transaction() as tx:
        assert await breaker.admit(tx, 0) == (0, [])
        assert (await breaker.admit(tx, 500))[0] == 0
        assert await tx.fetchval("SELECT ramp_rate FROM breakers") == 40
    await breaker.count(is_answer=True)
    async with database.transaction() as tx:
        await tx.execute("UPDATE breakers SET ramp_at = now() - interval '0.5 seconds'")
        admitted, waits = await breaker.admit(tx, 100)
        assert admitted == 40 * FACTOR / 2
        assert waits == sorted(waits)
        assert waits[-1].total_seconds() == (100 - admitted) / (40 * FACTOR)
        # Whoever asks while another one decides waits a moment.
        async with database.transaction() as other:
            assert (await breaker.admit(other, 10))[0] == 0
    # An outage in the middle does not change what was usual before the first one.
    await asyncio.gather(*(breaker.count(is_answer=False) for _ in range(5)))
    await breaker.count(is_answer=True)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT ramp_rate FROM breakers") == 40
        await tx.execute("UPDATE breakers SET ramp_held_at = now() - interval '10 seconds'")
        assert await breaker.admit(tx, 500) == (500, [])
        assert await tx.fetchval("SELECT ramp_rate IS NULL AND ramp_since IS NULL FROM breakers")
    await database.close()


async def test_after_a_quiet_minute_a_few_calls_are_no_crowd(database_url: str) -> None:
    database = await Database.open(database_url, name="ramp")
    breaker = SharedBreaker(database, Rule())
    await asyncio.gather(*(breaker.count(is_answer=False) for _ in range(5)))
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT ramp_rate FROM breakers") == 10
    await database.close()


async def test_calls_are_held_back_until_a_probe_is_due_or_as_long_as_somebody_waits(database_url: str) -> None:
    """Where nobody pays nobody probes either: the breaker stands open, and holds nobody."""
    database = await Database.open(database_url, name="held")
    breaker = SharedBreaker(database, Rule())
    async with database.connection() as tx:
        assert not await is_open(tx)
    await asyncio.gather(*(breaker.count(is_answer=False) for _ in range(5)))
    async with database.transaction() as tx:
        assert await is_open(tx)
        await tx.execute("UPDATE breakers SET probe_at = now() - interval '1 second'")
        assert not await is_open(tx), "the next one who pays is the probe"
        await tx.execute(
            "INSERT INTO sagas (id, kind, version, subject, step, queue, reached, since, waits_until, correlation_id,"
            " created_at, updated_at) VALUES (uuid_v7(), 'order', 1, uuid_v7(), 'process_payment',"
            " 'payment-processing', 'STOCK_RESERVED', now(), now(), 'test', now(), now())"
        )
        assert await is_open(tx), "somebody waits for it"
        await tx.execute("UPDATE sagas SET waits_until = NULL")
        assert await is_open(tx), "his wait is over, and he has not gone yet"
        await tx.execute("UPDATE sagas SET direction = 'backward', state = 'COMPENSATING'")
        assert not await is_open(tx), "what is given back does not wait for it"
    await database.close()
