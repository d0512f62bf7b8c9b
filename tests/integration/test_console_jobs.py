"""Jobs: what each was given, each attempt, its log, what came of it; run now, retry and cancel; queues and workers."""

import asyncio
import re
from collections.abc import Mapping
from html import unescape
from uuid import UUID, uuid4

from test_console_access import Browser, browser
from test_console_pages import HOSTILE, scene, shown, stuck

from api_client import Client, running_api
from comanda.accounts.accounts import Role
from comanda.db import Database
from comanda.saga import throughput
from comanda.saga.throughput import Did
from shop import FakeGateway, Shop, shop, until


async def saga_of(open_shop: Shop, subject: UUID) -> UUID:
    found: UUID = await open_shop.value("SELECT id FROM sagas WHERE subject = $1", subject)
    return found


async def page_of(one: Browser, saga_id: UUID, queue: str = "order-processing") -> str:
    seen = await one.get(f"/admin/queues/{queue}/{saga_id}")
    assert seen.status == 200, seen
    return unescape(seen.text)


async def test_a_job_tells_what_it_was_given_how_it_went_and_what_came_of_it(database_url: str, redis_url: str) -> None:
    async with (
        running_api(database_url, redis_url) as api,
        shop(database_url, redis_url) as open_shop,
        browser(api, "viewer") as one,
    ):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        order_id = await open_shop.order({coffee: 2}, "pm_flaky_1")
        await open_shop.ended(order_id)
        saga_id = await saga_of(open_shop, order_id)
        page = await page_of(one, saga_id)
        for said in (
            '"paymentMethod": "pm_flaky_1"', f'"productId": "{coffee}"', "process_payment", "worker-0", "not now",
            "OrderConfirmed", '"state": "CONFIRMED"', "It has ended", f"correlation {'correlation-'}",
        ):  # fmt: skip
            assert said in page, said
        assert re.findall(r"<td>process_payment</td><td[^>]*>(\d)</td>", page) == ["1", "2"]
        assert "/admin/sagas/" not in page, "a viewer is offered no act"
        for path in (f"/admin/queues/order-processing/{uuid4()}", f"/admin/queues/nowhere/{saga_id}"):
            assert (await one.get(path)).status == 404

        async def is_sent() -> bool:
            return bool(await open_shop.value("SELECT count(*) FROM mailbox"))

        await until(is_sent)
        message = await open_shop.value("SELECT id FROM notifications WHERE channel = 'email'")
        page = await page_of(one, await saga_of(open_shop, message), "notification-sending")
        for said in ('"kind": "order_confirmation"', f'"orderId": "{order_id}"', '"state": "SENT"', "deliver"):
            assert said in page, said


async def test_what_waits_runs_now_and_what_is_not_wanted_is_cancelled(database_url: str, redis_url: str) -> None:
    """Its retries are a minute apart: nothing would happen by itself."""
    gateway = FakeGateway(is_down=True)
    async with (
        running_api(database_url, redis_url) as api,
        shop(database_url, redis_url, gateway=gateway) as open_shop,
        browser(api, "operator") as one,
    ):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        for verb, word, state in (("retry", "run now", "CONFIRMED"), ("compensate", "cancel (undo)", "CANCELLED")):
            order_id = await open_shop.order({coffee: 1}, "pm_success")
            saga_id = await saga_of(open_shop, order_id)
            await _put_off(open_shop, saga_id)
            listed = (await one.get("/admin/queues/payment-processing")).text
            assert f"/admin/queues/payment-processing/{saga_id}" in listed
            page = await page_of(one, saga_id, "payment-processing")
            assert "it waits until" in page
            (path,) = [
                path for path, said in re.findall(r'href="(/admin/sagas/[^"]+)">([^<]+)…', page) if said.strip() == word
            ]
            preview = await one.get(path)
            assert "What this will do" in preview.text
            back = re.search(r'name="back" value="([^"]+)"', preview.text)
            assert back is not None
            gateway.is_down = False
            form = {"reason": "now", "back": back[1], **await shown(open_shop, saga_id)}
            done = await one.post(f"/admin/sagas/{saga_id}/{verb}", form)
            assert done.headers["Location"].startswith(f"/admin/queues/payment-processing/{saga_id}?said=")
            (row,) = await open_shop.ended(order_id)
            assert row["state"] == state
            assert "saga." + verb in await page_of(one, saga_id, "payment-processing")
            gateway.is_down = True
        done = await one.post(f"/admin/sagas/{saga_id}/retry", {**form, "back": "//evil.example"})
        assert "evil" not in done.headers.get("Location", "")


async def _put_off(open_shop: Shop, saga_id: UUID) -> None:
    async def waits() -> bool:
        async with open_shop.database.transaction() as tx:
            return bool(
                await tx.fetchval(
                    "UPDATE sagas SET waits_until = now() + interval '1 hour' WHERE id = $1 AND waits_until IS NOT NULL"
                    " AND lease_until IS NULL AND queue = 'payment-processing' RETURNING true",
                    saga_id,
                )
            )

    await until(waits)


async def test_a_stuck_job_says_why_and_is_retried_from_its_page(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, one):
        (order_id,) = await stuck(open_shop)
        saga_id = await saga_of(open_shop, order_id)
        page = await page_of(one, saga_id, "payment-processing")
        assert "it waits for an operator" in page
        for verb in ("retry", "skip", "compensate", "resolve"):
            assert f"/admin/sagas/{saga_id}/{verb}?back=" in page
        assert re.search(r'class="source">letter</span>.*?process_payment', page)
        assert re.search(r'<p class="state bad[^>]*>[^<]*500', page)


async def test_what_is_not_everybodys_is_shown_to_admins_only(api: Client) -> None:
    async with api.database.transaction() as tx:
        letter, saga_id = uuid4(), uuid4()
        await tx.execute(
            "INSERT INTO dead_letters (id, queue, step, direction, error)"
            " VALUES ($1, 'order-processing', 'a', 'forward', $2)",
            letter,
            HOSTILE,
        )
        await tx.execute(
            "INSERT INTO sagas (id, kind, version, subject, step, queue, reached, since, correlation_id, note,"
            " created_at, updated_at)"
            " VALUES ($1, 'alert', 1, $2, 'call', 'notification-sending', $3, now(), $3, $3, now(), now())",
            saga_id,
            letter,
            HOSTILE,
        )
    roles: Mapping[Role, bool] = {"admin": True, "operator": False, "viewer": False}
    for role, is_shown in roles.items():
        async with browser(api, role) as one:
            text = (await one.get(f"/admin/queues/notification-sending/{saga_id}")).text
            assert ("Only admins see it" in text) is not is_shown
            assert ("&#34;error&#34;" in text) is is_shown
            assert "<script>alert" not in text


async def test_each_worker_counts_what_it_does_by_the_minute(
    database: Database, database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url) as open_shop:
        stop = asyncio.Event()
        keeping = asyncio.create_task(throughput.keep(database, open_shop.assembly.sagas, stop))
        await asyncio.sleep(0)
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        await open_shop.ended(await open_shop.order({coffee: 1}, "pm_flaky_1"))
        stop.set()
        await keeping
        async with database.connection() as tx:
            found = {one.queue: one for one in await throughput.of_hour(tx)}
    payment, stock = found["payment-processing"], found["inventory-management"]
    assert (payment.last_hour, payment.failed, payment.failed_share) == (2, 1, 0.5)
    assert (stock.last_hour, stock.failed, stock.failed_share) == (2, 0, 0)
    assert payment.mean_ms is not None
    assert payment.mean_ms > 0


async def test_a_queue_shows_how_much_it_does_and_the_workers_what_they_do(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(gate=asyncio.Event())
    async with scene(database_url, redis_url, gateway) as (api, open_shop, one):
        assert "No worker is connected" in (await one.get("/admin/queues")).text
        async with api.database.transaction() as tx:
            await throughput.add(tx, {"payment-processing": Did(30, 10, 8.0)})
            await tx.execute("UPDATE queue_minutes SET minute = minute - interval '1 minute'")
            # As many, so that it doesn't matter when a minute ends.
            await throughput.add(tx, {"payment-processing": Did(40, 0, 2.0)})
            await tx.execute(
                "INSERT INTO queue_minutes VALUES ('payment-processing', now() - interval '2 hours', 9, 9, 9)"
            )

        async def shown() -> str | None:
            text = unescape((await one.get("/admin/queues/payment-processing")).text)
            return text if "<dd>80</dd>" in text else None

        page: str = await until(shown)
        for said in ("<dd>40</dd>", "125 ms", "12.5%"):
            assert said in page, said
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        order_id = await open_shop.order({coffee: 1}, "pm_success")

        async def is_out() -> bool:
            return bool(gateway.calls)

        await until(is_out)
        worker = await Database.open(database_url, name="comanda-worker-0", size=2)
        try:

            async def is_seen() -> str | None:
                text = (await one.get("/admin/queues")).text
                return text if "order: process_payment" in text else None

            text: str = await until(is_seen)
            assert re.search(r"<td>worker-0</td><td>.*?order: process_payment", text)
        finally:
            await worker.close()
        assert gateway.gate is not None
        gateway.gate.set()
        await open_shop.ended(order_id)
