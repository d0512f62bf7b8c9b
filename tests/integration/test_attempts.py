"""How often anybody may try, counted for all processes."""

import asyncio
from datetime import UTC, datetime, timedelta

from api_client import PASSWORD, Client, Reply, running_api
from comanda.accounts import attempts
from comanda.accounts.attempts import EVER, Limit, Standing
from comanda.api import throttle
from comanda.db import Database

LOGIN = "/api/v1/auth/login"
SECOND = timedelta(seconds=1)
LIMIT = Limit("test", 3, timedelta(minutes=1), SECOND, 4 * SECOND)
START = datetime(2026, 1, 1, tzinfo=UTC)


async def log_in(api: Client, email: str, password: str = PASSWORD) -> Reply:
    return await api.post(LOGIN, {"email": email, "password": password})


async def guess(api: Client, email: str, times: int) -> list[int]:
    return [(await log_in(api, email, "a wrong guess")).status for _ in range(times)]


async def later(api: Client, seconds: int) -> None:
    """So much time passes for what is counted."""
    async with api.database.transaction() as tx:
        shift = timedelta(seconds=seconds)
        for column in ("free_at", "ends_at"):
            await tx.execute(f"UPDATE attempts SET {column} = {column} - $1::interval", shift)


def test_pauses_double_up_to_the_longest_and_all_is_forgotten_with_the_window() -> None:
    standing, now = Standing(0, EVER, EVER), START
    waits = []
    for _ in range(8):
        standing = standing.counted(LIMIT, now)
        waits.append(standing.wait(now) // SECOND)
        now += standing.wait(now)
    assert waits == [0, 0, 1, 2, 4, 4, 4, 4]
    assert standing.counted(LIMIT, START + timedelta(minutes=1)).tries == 1
    assert standing.wait(START + timedelta(minutes=1)) == timedelta()
    assert Standing(10**6, START, START + SECOND).counted(LIMIT, START).wait(START) == SECOND, "never past the window"


async def test_a_batch_is_judged_as_if_one_came_after_the_other(database: Database) -> None:
    both = [(LIMIT, "Ana@example.com"), (LIMIT, "10.0.0.1")]
    async with database.transaction() as tx:
        waits = await attempts.take(tx, [[(LIMIT, "ana@EXAMPLE.com")], [(LIMIT, "other")], *[both] * 3, []])
        assert [bool(wait) for wait in waits] == [False, False, False, False, True, False]
        rows = await tx.fetch("SELECT tries FROM attempts ORDER BY tries")
        assert [row["tries"] for row in rows] == [1, 2, 3], "who waits for one limit is counted for none"
        assert await attempts.take(tx, []) == []


async def test_guesses_are_counted_for_all_processes(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as one, running_api(database_url, redis_url) as other:
        person = await one.person()
        assert await guess(one, person.email, 5) + await guess(other, person.email.upper(), 5) == [401] * 10
        for api in (one, other):
            reply = await log_in(api, person.email)
            assert (reply.status, reply.body["code"]) == (429, "TOO_MANY_REQUESTS")
            assert 0 < int(reply.headers["Retry-After"]) <= 60
    async with running_api(database_url, redis_url) as successor:
        assert (await log_in(successor, person.email)).status == 429, "after a restart too"
        await later(successor, 61)
        assert (await log_in(successor, person.email)).status == 200


async def test_of_many_guesses_at_once_only_so_many_are_looked_at(api: Client) -> None:
    person = await api.person()
    replies = await asyncio.gather(*(log_in(api, person.email, "a wrong guess") for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [401] * 10 + [429] * 10


async def test_who_guesses_at_nobody_is_slowed_down_alike(api: Client) -> None:
    person = await api.person()
    known, unknown = await guess(api, person.email, 12), await guess(api, "nobody@example.com", 12)
    assert known == unknown == [401] * 10 + [429] * 2


async def test_a_success_forgets_what_was_counted(api: Client) -> None:
    person = await api.person()
    for _ in range(3):
        assert await guess(api, person.email, 9) == [401] * 9
        assert (await log_in(api, person.email)).status == 200
    async with api.database.connection() as tx:
        tries = await tx.fetch("SELECT scope, tries FROM attempts")
    assert [tuple(row) for row in tries] == [("login:address", 27)], "what was right is not counted against its address"


async def test_guesses_from_everywhere_hold_nobody_up_for_long(api: Client) -> None:
    """Each address has tries of its own; the e-mail's are few seconds apart at the most, and not where she signs in."""
    person = await api.person()
    email = person.email
    async with api.database.transaction() as tx:
        for number in range(60):
            who = f"10.0.0.{number} {email}"
            waits = await attempts.take(tx, [[(throttle.PAIR, who), (throttle.EMAIL, email)]])
            await tx.execute("UPDATE attempts SET free_at = now()")
        assert waits == [timedelta()]
        await attempts.take(tx, [[(throttle.EMAIL, email)]])
    reply = await log_in(api, email)
    assert reply.status == 429
    assert int(reply.headers["Retry-After"]) <= 30
    async with api.database.transaction() as tx:
        await attempts.remember(tx, [f"127.0.0.1 {email.upper()}"])
    assert (await log_in(api, email)).status == 200, "she signed in there before"


async def test_an_address_that_guesses_at_everybody_is_slowed_down(api: Client) -> None:
    person = await api.person()
    async with api.database.transaction() as tx:
        await attempts.take(tx, [[(throttle.ADDRESS, "127.0.0.1")]] * 300)
    reply = await log_in(api, person.email)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
    await later(api, 2)
    assert (await log_in(api, person.email)).status == 200


async def test_no_limit_holds_where_they_are_off(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, rate_limits="off") as api:
        person = await api.person()
        assert await guess(api, person.email, 12) == [401] * 12
        assert (await log_in(api, person.email)).status == 200


async def test_what_counts_for_nothing_is_swept_up_a_batch_at_a_time(api: Client) -> None:
    for number in range(3):
        await guess(api, f"nobody{number}@example.com", 1)
    person = await api.person()
    await log_in(api, person.email)
    async with api.database.transaction() as tx:
        assert await attempts.forget(tx, 10) == 0
        await tx.execute("UPDATE attempts SET ends_at = now() - interval '1 s'")
        await tx.execute("UPDATE familiar_addresses SET ends_at = now() - interval '1 s'")
        gone = []
        while found := await attempts.forget(tx, 2):
            gone.append(found)
        assert sum(gone) == 7, gone
        assert await tx.fetchval("SELECT count(*) FROM familiar_addresses") == 0
