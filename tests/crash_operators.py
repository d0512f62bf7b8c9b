"""What operators do, and Redis suffers, on the way to each boundary."""

import asyncio
import contextlib
from uuid import uuid4

import aiohttp
from yarl import URL

from comanda.console.ask import COOKIE, csrf_of
from comanda.db.database import connect
from comanda.failpoints import DIED
from comanda.messaging.queues import PRIORITIES, QUEUES
from comanda.messaging.streams import stream_of
from crash_orders import business
from crash_scene import Scene
from up import ADMIN, PASSWORD, PATIENCE, eventually


async def forgetting(scene: Scene) -> None:
    """Nobody is told of what is due: Redis is emptied while the queue stands still."""
    assert await scene.comanda("queue", "pause", "order-processing", "--reason", "a test") == 0
    await scene.orders("pm_success", "pm_decline_CARD_DECLINED")
    await scene.redis(lambda client: client.flushdb())
    assert await scene.comanda("queue", "resume", "order-processing", "--reason", "a test") == 0
    await business(scene)


async def limited(scene: Scene) -> None:
    assert await scene.comanda("queue", "limit", "payment-processing", "50", "--reason", "a test") == 0
    await business(scene)
    assert await scene.comanda("queue", "limit", "payment-processing", "0", "--reason", "a test") == 0


async def babbling(scene: Scene) -> None:
    names = [stream_of(queue, priority) for queue in QUEUES[:1] for priority in PRIORITIES]
    await scene.redis(lambda client: client.xadd(names[0], {"ids": b"not an id"}))


async def sweeping(scene: Scene) -> None:
    """The relay sweeps when it starts."""
    with contextlib.suppress(ProcessLookupError):  # it is just being started
        scene.up.kill("relay")


async def redriving(scene: Scene) -> None:
    await scene.stuck()
    await scene.ask("DELETE FROM obstacles")
    await scene.until_it_lives("dead-letters", "redrive", "--all", "--reason", "mended")


async def acting_in_bulk(scene: Scene) -> None:
    """Orders that can't be undone are retried by the relay, each once, however it ends."""
    await scene.put("unreleasable")
    await asyncio.gather(*(scene.order("pm_decline_CARD_DECLINED", "unreleasable") for _ in range(3)))
    stuck = "SELECT 1 FROM sagas WHERE state = 'COMPENSATION_FAILED' AND kind = 'order' HAVING count(*) >= 3"
    await eventually(lambda: scene.ask(stuck))
    await scene.ask("DELETE FROM obstacles")
    act = "retry", "--filter", "state=stuck", "--detach", "--reason", "mended"
    while (code := await scene.comanda(*act)) == DIED:
        pass
    assert code == 0
    await eventually(lambda: scene.ask("SELECT 1 FROM bulk_acts HAVING count(*) > 0 AND bool_and(state = 'ENDED')"))
    twice = (
        "SELECT 1 FROM audit WHERE detail ? 'bulk' GROUP BY subject, detail->>'bulk' HAVING count(*) > 1"
        " UNION ALL SELECT 1 FROM bulk_items WHERE outcome IS NULL"
    )
    assert await scene.ask(twice) == []


async def acting(scene: Scene) -> None:
    order_id = await scene.stuck()
    await scene.ask("DELETE FROM obstacles")
    await scene.until_it_lives("saga", "retry", order_id, "--reason", "mended")


async def limiting(scene: Scene) -> None:
    await scene.until_it_lives("queue", "limit", "order-processing", "0", "--reason", "a test")


async def pausing(scene: Scene) -> None:
    await scene.until_it_lives("queue", "pause", "order-processing", "--reason", "a test")
    assert await scene.comanda("queue", "resume", "order-processing", "--reason", "a test") == 0


async def migrating(scene: Scene) -> None:
    """From nothing, in a database of its own."""
    name = f"fresh_{uuid4().hex}"
    await scene.ask(f"CREATE DATABASE {name}")
    url = scene.up.facts["databaseUrl"].replace("/comanda?", f"/{name}?")
    assert name in url
    settings = {"DATABASE_URL": url, "ADMIN_PASSWORD": "correct horse battery"}
    await scene.until_it_lives("migrate", "--demo", data_dir=False, **settings)
    connection = await connect(url, name="tests")
    try:
        assert await connection.fetchval("SELECT count(*) FROM products") == 6
        assert await connection.fetchval("SELECT count(*) FROM accounts WHERE role = 'admin'") == 1
    finally:
        connection.terminate()


async def at_the_console(scene: Scene) -> None:
    """The admin signs in, acts, and signs out; whatever a crash swallowed is done again."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:

        async def send(path: str, **fields: str) -> int:
            """Until it is answered."""
            address, cookies = (
                f"{scene.up.api}{path}",
                session.cookie_jar.filter_cookies(URL(f"{scene.up.api}/admin")),
            )
            fields["csrf"] = csrf_of(cookies[COOKIE].value) if COOKIE in cookies else ""
            async with asyncio.timeout(PATIENCE):
                while True:
                    with contextlib.suppress(aiohttp.ClientError):
                        async with session.post(
                            address, data=fields, headers={"Origin": scene.up.api}, allow_redirects=False
                        ) as response:
                            if response.status < 500:
                                return response.status
                    await asyncio.sleep(0.1)

        assert await send("/admin/login", email=ADMIN, password=PASSWORD) == 303
        for act in ("pause", "resume"):
            assert await send(f"/admin/queues/payment-processing/{act}", reason="a crash test") == 303
        assert await send("/admin/logout") == 303
    assert not await scene.ask("SELECT 1 FROM queues WHERE is_paused")
