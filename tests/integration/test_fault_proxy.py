"""Each fault of the proxies as a client meets it, before the real servers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
import uvloop
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from test_gateway import Gateway

from comanda.errors import GatewayBusy, GatewaySilent
from comanda.payments.gateway import Captured, ChargeRequest, Declined, HttpGateway
from comanda.proof.chaos.proxy import HttpProxy, PostgresProxy, Proxy, _PostgresLink

PATIENCE = 20
LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def upstream(url: str) -> Callable[[], tuple[str, int]]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    address = (parts.hostname, parts.port)
    return lambda: address


def through(url: str, proxy: Proxy) -> str:
    """The same server by way of the proxy."""
    parts = urlsplit(url)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{proxy.port}"))


# A server that sends back what it gets, for faults that know no protocol.


@asynccontextmanager
async def echoing() -> AsyncIterator[Proxy]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    proxy = Proxy(lambda: address, name="echo")
    await proxy.start()
    yield proxy
    await proxy.stop()
    assert proxy.connections == 0
    server.close()
    await server.wait_closed()
    await until(lambda: len(asyncio.all_tasks()) == 1)


@pytest.fixture
async def echo() -> AsyncIterator[Proxy]:
    async with echoing() as proxy:
        yield proxy


@asynccontextmanager
async def talk(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def test_what_is_said_comes_to_the_other_side_whole(echo: Proxy) -> None:
    said = b"0123456789abcdef" * 500_000

    async with talk(echo) as (reader, writer):

        async def say() -> None:
            writer.write(said)
            await writer.drain()
            writer.write_eof()

        saying = asyncio.create_task(say())
        assert await reader.read(-1) == said + b"bye"
        await saying
    await until(lambda: echo.connections == 0)
    assert echo.cuts == {}


async def test_who_does_not_read_slows_down_who_writes(echo: Proxy) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"x" * 64_000_000)
        before = -1
        while (now := writer.transport.get_write_buffer_size()) != before:
            before = now
            await asyncio.sleep(0.1)
        assert now > 16_000_000
        [link] = echo._links
        assert all(
            end.transport is not None and end.transport.get_write_buffer_size() < 1_000_000
            for end in (link.client, link.server)
        )
        assert len(await reader.readexactly(64_000_000)) == 64_000_000


async def test_a_cut_resets_what_is_open(echo: Proxy) -> None:
    async with talk(echo) as (one, writer), talk(echo) as (other, _):
        writer.write(b"x")
        assert await one.readexactly(1) == b"x"
        await until(lambda: echo.connections == 2)
        assert echo.cut() == 2
        for reader in (one, other):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        await until(lambda: echo.connections == 0)
        assert echo.cuts["cut"] == 2
    async with talk(echo) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_who_is_refused_is_reset_at_once(echo: Proxy) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        echo.refuse(is_refusing=True)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    with pytest.raises(ConnectionResetError):
        async with talk(echo) as (reader, _):
            await reader.read(1)
    echo.refuse(is_refusing=False)
    async with talk(echo) as (reader, writer):
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"


async def test_a_server_that_is_not_there_looks_like_one_that_resets() -> None:
    async with free_port() as port:
        proxy = Proxy(lambda: ("127.0.0.1", port), name="nobody")
        await proxy.start()
        with pytest.raises(ConnectionResetError):
            async with talk(proxy) as (reader, _):
                await reader.read(1)
        assert proxy.cuts == {"unreachable": 1}
        await proxy.stop()


@asynccontextmanager
async def free_port() -> AsyncIterator[int]:
    """Bound, so that nobody gets it, and nobody listens."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def test_in_a_silence_nothing_comes_and_after_it_who_lost_bytes_is_reset(echo: Proxy) -> None:
    async with talk(echo) as (speaker, speaking), talk(echo) as (listener, listening):
        for reader, writer in ((speaker, speaking), (listener, listening)):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        echo.swallow(is_swallowing=True)
        speaking.write(b"y")
        async with talk(echo) as (new, newly), talk(echo) as (idle, idly):
            newly.write(b"z")
            await until(lambda: sum(link.is_holed for link in echo._links) == 2)
            assert echo.connections == 4
            for reader in (speaker, listener, new, idle):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await reader.read(1)
            echo.swallow(is_swallowing=False)
            for reader in (speaker, new):
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
            for reader, writer in ((listener, listening), (idle, idly)):
                writer.write(b"w")
                assert await reader.readexactly(1) == b"w"
        assert echo.cuts["swallowed"] == 2


async def test_a_farewell_is_lost_in_a_silence_too(echo: Proxy) -> None:
    async with talk(echo) as (reader, writer):
        writer.write(b"x")
        await reader.readexactly(1)
        echo.swallow(is_swallowing=True)
        writer.write_eof()
        await until(lambda: any(link.is_holed for link in echo._links))
        echo.swallow(is_swallowing=False)
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)


async def test_a_delay_holds_for_each_chunk_and_ends_for_those_on_their_way(echo: Proxy) -> None:
    async with talk(echo) as (reader, writer):
        echo.delay(0.05)
        began = time.monotonic()
        for n in range(10):
            writer.write(b"%d" % n)
            await asyncio.sleep(0)
        assert await reader.readexactly(10) == b"0123456789"
        assert time.monotonic() - began >= 0.1  # there and back
        echo.delay(3600)
        writer.write(b"late")
        writer.write_eof()
        await until(lambda: any(link.upward._waiting for link in echo._links))
        echo.delay(0)
        assert await reader.read(-1) == b"latebye"


async def test_a_throttle_lets_so_much_pass_each_second(echo: Proxy) -> None:
    async with talk(echo) as (reader, writer):
        echo.throttle(100_000)
        began = time.monotonic()
        writer.write(b"x" * 30_000)
        await reader.readexactly(30_000)
        assert time.monotonic() - began >= 0.2  # the last slice waits for no one
        echo.throttle(1)
        writer.write(b"y" * 30_000)
        await until(lambda: any(link.upward._waiting for link in echo._links))
        echo.throttle(None)
        assert await reader.readexactly(30_000) == b"y" * 30_000
    with pytest.raises(ValueError, match="swallow"):
        echo.throttle(0)


async def test_what_is_late_is_lost_when_silence_falls(echo: Proxy) -> None:
    async with talk(echo) as (reader, writer):
        echo.delay(3600)
        writer.write(b"late")
        await until(lambda: any(link.upward._waiting for link in echo._links))
        echo.swallow(is_swallowing=True)
        echo.delay(0)
        echo.swallow(is_swallowing=False)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def stop_in_the_middle() -> None:
    async with echoing() as echo, talk(echo) as (reader, writer), talk(echo) as (_, other):
        echo.delay(3600)
        writer.write(b"x" * 100_000)
        other.write(b"y")
        arriving = [asyncio.create_task(asyncio.open_connection("127.0.0.1", echo.port)) for _ in range(20)]
        await until(lambda: any(link.upward._waiting for link in echo._links))
        await echo.stop()
        assert echo.connections == 0
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        for one in await asyncio.gather(*arriving, return_exceptions=True):
            if not isinstance(one, BaseException):
                one[1].transport.abort()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_proxy_stops_in_the_middle_of_everything(run: Callable[[Any], None]) -> None:
    for _ in range(5):
        run(stop_in_the_middle())


# PostgreSQL


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[PostgresProxy]:
    proxy = PostgresProxy(upstream(database_url), name="postgres")
    await proxy.start()
    yield proxy
    await proxy.stop()
    await until(lambda: len(asyncio.all_tasks()) == 1)


Connection = Any


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url, timeout=PATIENCE, command_timeout=PATIENCE, **options)
    try:
        yield connection
    finally:
        connection.terminate()


@pytest.fixture
async def watcher(database_url: str) -> AsyncIterator[Connection]:
    """A connection that goes past the proxy, to a table that is empty."""
    async with connected(database_url) as connection:
        await connection.execute("CREATE TABLE marks (id int PRIMARY KEY)")
        yield connection


async def marks(watcher: Connection) -> list[int]:
    return [row["id"] for row in await watcher.fetch("SELECT id FROM marks ORDER BY id")]


@asynccontextmanager
async def shots(proxy: PostgresProxy, count: int) -> AsyncIterator["asyncio.Task[int]"]:
    """Commits are cut within the block."""
    task = asyncio.create_task(proxy.cut_after_commit(count, timeout=PATIENCE))
    await until(lambda: proxy.is_armed)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_transaction_commits_and_its_client_never_hears_of_it(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    async with connected(through(database_url, postgres)) as client, shots(postgres, 1) as cut:
        transaction = client.transaction()
        await transaction.start()
        await client.execute("INSERT INTO marks VALUES (1)")
        assert await client.fetchval("SELECT count(*) FROM marks") == 1
        with pytest.raises(LOST):
            await transaction.commit()
        assert await cut == 1
    assert await marks(watcher) == [1]
    assert postgres.cuts == {"commit_cut": 1}


async def test_a_prepared_write_commits_and_its_client_never_hears_of_it(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    async with connected(through(database_url, postgres)) as client:
        write = await client.prepare("WITH a AS (INSERT INTO marks VALUES ($1) RETURNING id) SELECT id FROM a")
        assert await write.fetchval(1) == 1
        async with shots(postgres, 1) as cut:
            with pytest.raises(LOST):
                await write.fetchval(2)
            assert await cut == 1
    assert await marks(watcher) == [1, 2]


async def test_who_reads_fails_or_rolls_back_uses_no_shot_up(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    async with connected(through(database_url, postgres)) as client, shots(postgres, 1) as cut:
        await client.execute("SELECT 1")
        assert await client.fetch("SELECT * FROM marks FOR UPDATE") == []
        async with client.transaction():
            assert await client.fetchval("SELECT count(*) FROM marks") == 0
        with pytest.raises(asyncpg.NotNullViolationError):
            await client.execute("INSERT INTO marks VALUES ($1)", None)
        given_up = client.transaction()
        await given_up.start()
        await client.execute("INSERT INTO marks VALUES (1)")
        await given_up.rollback()
        failed = client.transaction()
        await failed.start()
        await client.execute("INSERT INTO marks VALUES (1)")
        with pytest.raises(asyncpg.NotNullViolationError):
            await client.execute("INSERT INTO marks VALUES (NULL)")
        await failed.commit()  # which the server answers with ROLLBACK
        assert not cut.done()
        with pytest.raises(LOST):
            await client.executemany("INSERT INTO marks VALUES ($1)", [(3,), (4,)])
        assert await cut == 1
    assert await marks(watcher) == [3, 4]


async def test_as_many_commits_are_cut_as_were_asked_for(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    cut = asyncio.create_task(postgres.cut_after_commit(3, timeout=PATIENCE))
    await until(lambda: postgres.is_armed)

    async def write(number: int) -> bool:
        async with connected(through(database_url, postgres)) as client:
            try:
                async with client.transaction():
                    await client.execute("INSERT INTO marks VALUES ($1)", number)
            except LOST:
                return False
            return True

    answered = await asyncio.gather(*(write(number) for number in range(8)))
    assert await cut == 3
    assert sorted(answered) == [False] * 3 + [True] * 5
    assert await marks(watcher) == list(range(8))


async def test_shots_that_nobody_used_are_gone(database_url: str, postgres: PostgresProxy, watcher: Connection) -> None:
    assert await postgres.cut_after_commit(2, timeout=0.01) == 0
    assert not postgres.is_armed
    async with connected(through(database_url, postgres)) as client:
        await client.execute("INSERT INTO marks VALUES (1)")
    assert await marks(watcher) == [1]


async def test_an_answer_that_was_held_is_given_when_the_time_is_over(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    await watcher.execute("SELECT pg_advisory_lock(1)")
    # The server sends most of its answer before it comes to the lock.
    script = """
        INSERT INTO marks VALUES (1);
        SELECT repeat('x', 1000), CASE WHEN n = 2000 THEN pg_advisory_xact_lock(1) END FROM generate_series(1, 2000) n
    """
    async with connected(through(database_url, postgres)) as client:
        async with shots(postgres, 1):
            waiting = asyncio.create_task(client.execute(script))
            await until(lambda: any(link._held for link in postgres._links if isinstance(link, _PostgresLink)))
        await watcher.execute("SELECT pg_advisory_unlock(1)")
        assert await waiting == "SELECT 2000"
    assert await marks(watcher) == [1]


async def test_the_real_driver_finds_everything_in_its_place(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    """While armed: encryption is asked for first, long rows, a cursor, a cancelled statement, COPY."""
    url = through(database_url.replace("sslmode=disable", "sslmode=prefer"), postgres)
    async with connected(url) as client, shots(postgres, 1) as cut:
        assert len(await client.fetchval("SELECT repeat('x', 3000000)")) == 3_000_000
        rows = await client.fetch("SELECT n, repeat('y', n) FROM generate_series(1, 2000) AS n")
        assert [len(row["repeat"]) for row in rows] == list(range(1, 2001))
        async with client.transaction():
            assert [row["n"] async for row in client.cursor("SELECT * FROM generate_series(1, 200) n")] == list(
                range(1, 201)
            )
        with pytest.raises(TimeoutError):
            await client.fetchval("SELECT pg_sleep(60)", timeout=0.05)
        assert await client.fetchval("SELECT 1") == 1
        assert not cut.done()
        with pytest.raises(LOST):
            await client.copy_records_to_table("marks", records=[(n,) for n in range(50_000)])
        assert await cut == 1
    assert await watcher.fetchval("SELECT count(*) FROM marks") == 50_000


async def test_notifications_vanish_and_all_else_flows(
    database_url: str, postgres: PostgresProxy, watcher: Connection
) -> None:
    heard: list[str] = []
    async with connected(through(database_url, postgres)) as client:
        await client.add_listener("news", lambda *news: heard.append(news[3]))
        await watcher.execute("NOTIFY news, 'one'")
        await until(lambda: heard == ["one"])
        postgres.drop_notifications(is_dropping=True)
        await watcher.execute("NOTIFY news, 'two'")
        await client.execute("NOTIFY news, 'three'")
        await until(lambda: postgres.cuts["notification_dropped"] == 2)
        assert await client.fetchval("SELECT 1") == 1
        postgres.drop_notifications(is_dropping=False)
        await watcher.execute("NOTIFY news, 'four'")
        await until(lambda: len(heard) > 1)
        assert heard == ["one", "four"]


async def test_a_query_fails_when_the_connection_is_cut(database_url: str, postgres: PostgresProxy) -> None:
    async with connected(through(database_url, postgres)) as client:
        asking = asyncio.create_task(client.fetchval("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
        assert postgres.cut() == 1
        with pytest.raises(LOST):
            await asking


# Valkey


async def test_valkey_is_hurt_by_the_plain_proxy(redis_url: str) -> None:
    proxy = Proxy(upstream(redis_url), name="valkey")
    await proxy.start()
    client = Redis.from_url(through(redis_url, proxy), retry=Retry(NoBackoff(), 0), socket_timeout=PATIENCE)
    direct = Redis.from_url(redis_url)

    async def wait() -> Any:
        return await client.execute_command("BLPOP", "none", 0)  # type: ignore[no-untyped-call]

    try:
        await client.set("a", b"x" * 1_000_000)
        assert await client.get("a") == b"x" * 1_000_000
        waiting = asyncio.create_task(wait())
        while not any(one["cmd"] == "blpop" for one in await direct.client_list()):
            await asyncio.sleep(0.005)
        assert proxy.cut() == 1
        with pytest.raises(RedisConnectionError):
            await waiting
        assert await client.get("a") == b"x" * 1_000_000
    finally:
        await client.aclose()
        await direct.aclose()
        await proxy.stop()


# The gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    yield gateway
    gateway.close()


@pytest.fixture
async def http(gateway: Gateway) -> AsyncIterator[HttpProxy]:
    proxy = HttpProxy(upstream(gateway.url), name="gateway")
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def client(http: HttpProxy) -> AsyncIterator[HttpGateway]:
    """Comanda's own, by way of the proxy."""
    async with HttpGateway(f"http://127.0.0.1:{http.port}", timeout=PATIENCE) as client:
        yield client


@pytest.fixture
async def ledger(gateway: Gateway) -> AsyncIterator[Callable[[UUID], Any]]:
    """The amounts that the gateway has captured for an order, asked past the proxy."""
    async with HttpGateway(gateway.url, timeout=PATIENCE) as direct:

        async def amounts(order_id: UUID) -> list[int]:
            return [line["amount"] for line in await direct.ledger(0, 10_000) if line["orderId"] == str(order_id)]

        yield amounts


def charge_of(order_id: UUID) -> ChargeRequest:
    return ChargeRequest(order_id=order_id, amount=1000, currency="USD", method="pm_success", is_repeat=False)


Ledger = Callable[[UUID], Any]


async def test_the_gateway_fails_without_being_asked(http: HttpProxy, client: HttpGateway, ledger: Ledger) -> None:
    order_id = uuid4()
    http.fail("/charges")
    with pytest.raises(GatewayBusy, match="answers 500"):
        await client.charge(charge_of(order_id), str(order_id))
    with pytest.raises(GatewayBusy, match="answers 500"):
        await client.find(str(order_id))
    assert len(await client.ledger(0, 10)) <= 10
    http.fail("*", status=503)
    with pytest.raises(GatewayBusy, match="answers 503"):
        await client.ledger(0, 10)
    assert http.cuts == {"answered_500": 2, "answered_503": 1}
    assert http.connections == 1  # it was used again and again
    assert await ledger(order_id) == []
    http.fail()
    assert isinstance(await client.charge(charge_of(order_id), str(order_id)), Captured)
    assert await ledger(order_id) == [1000]


async def test_an_answer_is_lost_after_the_capture(http: HttpProxy, client: HttpGateway, ledger: Ledger) -> None:
    order_id = uuid4()
    http.lose_answers(1)
    assert await client.find(str(order_id)) is None  # no POST
    with pytest.raises(GatewaySilent):
        await client.charge(charge_of(order_id), str(order_id))
    assert http.cuts == {"answer_lost": 1}
    assert await ledger(order_id) == [1000]
    assert isinstance(await client.charge(charge_of(order_id), str(order_id)), Captured)
    assert await ledger(order_id) == [1000]


async def test_a_charge_that_was_held_back_comes_after_its_void(
    http: HttpProxy, client: HttpGateway, ledger: Ledger
) -> None:
    order_id, other_id = uuid4(), uuid4()
    http.hold(2)
    async with HttpGateway(f"http://127.0.0.1:{http.port}", timeout=0.1) as hasty:
        for one in (order_id, other_id):
            with pytest.raises(GatewaySilent):
                await hasty.charge(charge_of(one), str(one))
    assert (await client.void(str(order_id))).captured == 0
    assert await ledger(other_id) == []
    assert await http.deliver_held() == [409, 200]
    assert await http.deliver_held() == []
    assert await ledger(order_id) == []
    assert await ledger(other_id) == [1000]
    assert isinstance(await client.charge(charge_of(order_id), str(order_id)), Declined)
    assert http.cuts == {"held": 2, "delivered_late": 2}


async def test_many_requests_pass_unharmed(http: HttpProxy, client: HttpGateway, ledger: Ledger) -> None:
    order_id = uuid4()
    answers = await asyncio.gather(*(client.charge(charge_of(order_id), f"{order_id}-{n}") for n in range(300)))
    assert all(isinstance(one, Captured) for one in answers)
    assert len(await ledger(order_id)) == 300
    assert http.cuts == {}
