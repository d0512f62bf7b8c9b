"""What the console's pages say and do: an order's story, acts with a reason, dead letters, mails; and hostile texts."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from test_console_access import Browser, browser
from test_console_processes import connected
from test_gateway import Gateway

from api_client import Client, running_api
from comanda.accounts.accounts import Role
from comanda.catalog import products
from comanda.console.ask import csrf_of
from comanda.console.pulse import EVERY, Pulse
from comanda.console.render import words_of
from comanda.inventory import admin
from comanda.messaging.dead_letters import DeadLetter, bury
from comanda.payments.gateway import ChargeRequest, HttpGateway
from comanda.saga.batch import key_of
from comanda.saga.verbs import standing_of
from comanda.webhooks import endpoints
from shop import FakeGateway, Shop, shop, until

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}"
CONSOLE = Path(__file__).parents[2] / "src" / "comanda" / "console"


@asynccontextmanager
async def scene(
    database_url: str, redis_url: str, gateway: FakeGateway | None = None, *, role: Role = "operator"
) -> AsyncIterator[tuple[Client, Shop, Browser]]:
    """A shop whose payments are given up on at once, and somebody at its console."""
    async with (
        running_api(database_url, redis_url) as api,
        shop(database_url, redis_url, gateway=gateway, patience=0.1) as open_shop,
        browser(api, role) as one,
    ):
        yield api, open_shop, one


async def stuck(open_shop: Shop, count: int = 1) -> list[UUID]:
    """Orders whose payment can neither be made nor called off."""
    open_shop.gateway.refunds_fail = True
    coffee = (await open_shop.sells(coffee=100))["coffee"]
    # At once, in one batch: one that came later would find the breaker open, and be undone without ever being called.
    orders = await asyncio.gather(*(open_shop.order({coffee: 1}, "pm_unavailable") for _ in range(count)))

    async def all_stuck() -> bool:
        found = await open_shop.value("SELECT count(*) FROM sagas WHERE state = 'COMPENSATION_FAILED'")
        return bool(found == count)

    await until(all_stuck, within=40)
    return list(orders)


async def shown(open_shop: Shop, saga_id: UUID) -> dict[str, str]:
    """What the form of an act says of where its saga stands."""
    (row,) = await open_shop.ask("SELECT state, step, direction, token FROM sagas WHERE id = $1", saga_id)
    return {"stood": standing_of(row["state"], row["step"], row["direction"]), "token": str(row["token"])}


async def test_an_order_is_found_explained_and_retried(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, one):
        (order_id,) = await stuck(open_shop)
        found = await one.get("/admin/orders?error=500&state=stuck")
        assert str(order_id) in found.text
        assert str(order_id) not in (await one.get("/admin/orders?error=something+else")).text
        saga_id = await open_shop.value("SELECT saga_id FROM orders WHERE id = $1", order_id)
        for path in (f"/admin/orders?q={saga_id}", f"/admin/orders?q={order_id}"):
            assert (await one.get(path)).headers["Location"] == f"/admin/orders/{order_id}"
        page = unescape((await one.get(f"/admin/orders/{order_id}")).text)
        assert "Stuck at process_payment: it waits for an operator (undoing)" in page
        assert 'id="first-failure"' in page
        for said in ("order accepted", "OrderCreated", "reserve_inventory, attempt 1", "worker-0", "PAYMENT_PENDING"):
            assert said in page, said
        preview = unescape((await one.get(f"/admin/sagas/{saga_id}/retry")).text)
        assert f"asked with the same key as before ({saga_id}:process_payment:backward)" in preview
        assert await open_shop.value("SELECT count(*) FROM audit") == 0, "a preview does nothing"
        form = await shown(open_shop, saga_id)
        for name, value in form.items():
            assert f'<input type="hidden" name="{name}" value="{value}">' in preview
        assert (await one.post(f"/admin/sagas/{saga_id}/retry", {**form, "reason": "  "})).status == 422
        assert (await one.post(f"/admin/sagas/{saga_id}/retry", {"reason": "seen nothing"})).status == 422
        open_shop.gateway.refunds_fail = False
        done = await one.post(f"/admin/sagas/{saga_id}/retry", {**form, "reason": "the gateway is mended"})
        assert done.status == 303
        (row,) = await open_shop.ended(order_id)
        assert row["state"] == "CANCELLED"
        (act,) = await open_shop.ask("SELECT actor, act, reason FROM audit")
        assert (act["act"], act["reason"]) == ("saga.retry", "the gateway is mended")
        assert act["actor"].startswith("operator-")
        page = (await one.get(f"/admin/orders/{order_id}")).text
        assert "the gateway is mended" in page
        assert "the gateway is mended" in (await one.get("/admin/audit")).text
        assert (await one.post(f"/admin/sagas/{saga_id}/retry", {**form, "reason": "again"})).status == 409


async def test_an_act_is_about_what_was_looked_at_and_nothing_that_it_moved_on_to(
    database_url: str, redis_url: str
) -> None:
    """Skipped twice, another step would be skipped, which nobody has looked at; and stock held for nothing."""
    async with shop(database_url, redis_url, patience=0.1) as worked:
        (order_id,) = await stuck(worked)
    async with (
        running_api(database_url, redis_url) as api,
        shop(database_url, redis_url, workers=0, has_relay=False) as open_shop,
        browser(api, "operator") as one,
    ):
        saga_id = await open_shop.value("SELECT saga_id FROM orders WHERE id = $1", order_id)
        path, form = f"/admin/sagas/{saga_id}/skip", {"reason": "seen at the bank", **await shown(open_shop, saga_id)}
        both = await asyncio.gather(one.post(path, form), one.post(path, form))
        assert sorted(answer.status for answer in both) == [303, 409]
        (refused,) = [answer for answer in both if answer.status == 409]
        assert "as stuck at process_payment (undoing): look again" in unescape(refused.text)
        (row,) = await open_shop.ask("SELECT step, direction, token FROM sagas WHERE id = $1", saga_id)
        assert (row["step"], row["direction"]) == ("reserve_inventory", "backward")
        assert "it is due already" in unescape((await one.get(path)).text), "neither stuck nor waiting"
        tried = {"stood": "COMPENSATING at reserve_inventory (undoing)", "token": str(row["token"] - 1)}
        once_more = await one.post(f"/admin/sagas/{saga_id}/resolve", {"reason": "by hand", **tried})
        assert (once_more.status, "been tried once more" in once_more.text) == (409, True)


async def test_a_refund_is_called_off_only_if_the_gateway_knows_nothing_of_it(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    bank = Gateway(tmp_path / "gateway")
    url = bank.url
    try:
        async with (
            running_api(database_url, redis_url, gateway="mock", gateway_url=url, gateway_timeout_seconds=2) as api,
            shop(database_url, redis_url) as open_shop,
            browser(api, "operator") as one,
            HttpGateway(url, timeout=20) as client,
        ):
            coffee = (await open_shop.sells(coffee=10))["coffee"]
            order_id = await open_shop.order({coffee: 2})
            await open_shop.ended(order_id)
            open_shop.gateway.refunds_fail = True
            gone, never = await open_shop.refund(order_id, 500), await open_shop.refund(order_id, 700)
            ids = "SELECT id FROM sagas WHERE subject = $1 AND state = 'COMPENSATION_FAILED'"
            paths, sagas = {}, {}
            for found in (gone, never):
                sagas[found.id] = await until(lambda found=found: open_shop.value(ids, found.id))  # type: ignore[misc]
                paths[found.id] = f"/admin/sagas/{sagas[found.id]}/compensate"
            form = {"reason": "never arrived", **await shown(open_shop, sagas[never.id])}
            form_of_gone = {"reason": "never arrived", **await shown(open_shop, sagas[gone.id])}
            await client.charge(ChargeRequest(order_id, 2000, "USD", "pm_success", is_repeat=False), "a charge")
            await client.refund("a charge", 500, key_of(sagas[gone.id], "refund_payment", "forward"))
            assert "it has gone out, says the other side" in unescape((await one.get(paths[gone.id])).text)
            assert (await one.post(paths[gone.id], form_of_gone)).status == 409
            bank.stop(signal.SIGKILL)
            assert "does not say whether it has gone out" in unescape((await one.get(paths[never.id])).text)
            assert (await one.post(paths[never.id], form)).status == 409
            bank.start()
            assert await client.find_refund("nobody's") is None, "it answers again"
            assert "Nothing was carried out under the key" in unescape((await one.get(paths[never.id])).text)
            assert (await one.post(paths[never.id], form)).status == 303
            await until(lambda: open_shop.value("SELECT state = 'FAILED' FROM refunds WHERE id = $1", never.id))
            assert await open_shop.value("SELECT state FROM refunds WHERE id = $1", gone.id) == "PENDING"
    finally:
        bank.close()


async def test_dead_letters_are_gathered_and_sent_round_by_one_by_five_and_all(
    database_url: str, redis_url: str
) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, one):
        await stuck(open_shop, 8)
        (fingerprint,) = {row["fingerprint"] for row in await open_shop.ask("SELECT fingerprint FROM dead_letters")}
        groups = (await one.get("/admin/dead-letters")).text
        assert f'/admin/dead-letters/{fingerprint}">8</a>' in groups
        assert "$80.00" in groups
        assert "8</b>" in (await one.get("/admin")).text
        open_shop.gateway.refunds_fail = False
        path = f"/admin/dead-letters/{fingerprint}"
        for count, left in (("one", 7), ("five", 2), ("all", 0)):
            oldest = re.search(r'name="oldest" value="([^"]+)"', (await one.get(path)).text)
            assert oldest is not None
            form = {"count": count, "reason": f"mended, {count}", "oldest": oldest[1]}
            for _twice in range(2):
                assert (await one.post(f"{path}/redrive", form)).status == 303
            opened = await open_shop.value("SELECT count(*) FROM dead_letters WHERE redriven_at IS NULL")
            assert opened == left
        assert "None of these is open" in (await one.get(path)).text
        assert await open_shop.value("SELECT count(*) FROM audit WHERE act = 'saga.retry'") == 8


async def test_letters_that_differ_in_numbers_and_ids_alone_are_alike(api: Client) -> None:
    async with api.database.transaction() as tx:
        await bury(
            tx,
            [DeadLetter("order-processing", "a", "forward", f"row {n} of {uuid4()} is locked") for n in range(3)]
            + [DeadLetter("order-processing", "a", "forward", "something else")],
        )
        assert await tx.fetchval("SELECT count(DISTINCT fingerprint) FROM dead_letters") == 2


async def test_a_confirmed_order_tells_of_its_gateway_and_mails(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, role="viewer") as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        order_id = await open_shop.order({coffee: 2}, "pm_success")
        await open_shop.ended(order_id)

        async def is_sent() -> bool:
            return bool(await open_shop.value("SELECT count(*) FROM mailbox"))

        await until(is_sent)
        page = unescape((await one.get(f"/admin/orders/{order_id}")).text)
        for said in ("gateway", "process_payment, attempt 1", "OrderConfirmed", "PENDING → PROCESSING", "$20.00"):
            assert said in page, said
        assert "/admin/sagas/" not in page, "a viewer is offered no act"
        mails = (await one.get("/admin/mailbox")).text
        (path,) = re.findall(r'href="(/admin/mailbox/(?!templates)[^"]+)"', mails)
        mail = (await one.get(unescape(path))).text
        assert "<iframe sandbox " in mail
        body = await one.get(f"{unescape(path)}/body")
        assert body.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
        overview = (await one.get("/admin")).text
        assert "$20.00" in overview
        assert "$0.00" in overview
        assert str(order_id) in (await one.get(f"/admin/orders?product={coffee}")).text
        assert str(order_id) not in (await one.get(f"/admin/orders?product={uuid4()}")).text


async def test_orders_come_in_pages_each_once(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, role="viewer") as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=500))["coffee"]
        placed = {str(await open_shop.order({coffee: 1}, "pm_success")) for _ in range(60)}
        seen: list[str] = []
        path: str | None = "/admin/orders"
        while path:
            text = (await one.get(path)).text
            seen += re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', text)
            more = re.search(r'rel="next" href="([^"]+)"', text)
            path = unescape(more[1]) if more else None
        assert len(seen) == 60
        assert set(seen) == placed


async def test_the_overview_is_told_within_seconds_and_once_for_all_who_look(
    api: Client, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = Pulse._look

    async def counted(self: Pulse) -> object:
        looks.append(1)
        return await look(self)

    monkeypatch.setattr(Pulse, "_look", counted)
    began = time.monotonic()
    async with (
        connected(database_url, "worker-1", "relay-1"), browser(api, "viewer") as one, browser(api, "viewer") as other
    ):  # fmt: skip
        url = f"{api.url}/admin/live?view=overview"
        async with one.session.get(url) as first, other.session.get(url) as second:
            assert first.content_type == "text/event-stream"
            for stream in (first, second):
                assert b"Nothing. Everything moves on" in await _piece(stream.content)
            async with api.database.transaction() as tx:
                await bury(tx, [DeadLetter("order-processing", "a", "forward", "it broke")])
            for stream in (first, second):
                assert b"dead letters that nobody has taken care of" in await _piece(stream.content)
    assert len(looks) <= 2 + (time.monotonic() - began) / EVERY, "as many as if one looked"


async def _piece(content: object) -> bytes:
    """The next event of a stream."""
    lines: list[bytes] = []
    while not lines or lines[-1].strip():
        line: bytes = await content.readline()  # type: ignore[attr-defined]
        if line.startswith((b"event", b"data")) or lines:
            lines.append(line)
    return b"".join(lines)


async def test_queues_are_paused_limited_and_resumed_with_a_reason(api: Client) -> None:
    async with browser(api, "operator") as one:
        path = "/admin/queues/payment-processing"
        assert (await one.post(f"{path}/pause", {"reason": "the gateway asks us to"})).status == 303
        assert "paused" in (await one.get("/admin/queues")).text
        assert (await one.post(f"{path}/limit", {"reason": "slowly", "rate": "20"})).status == 303
        assert (await one.post(f"{path}/limit", {"reason": "slowly", "rate": "-1"})).status == 422
        assert (await one.post(f"{path}/resume", {"reason": "they are back"})).status == 303
        assert "20/s" in (await one.get(path)).text
        audit = (await one.get("/admin/audit?subject=payment-processing")).text
        for said in ("queue.pause", "queue.limit", "queue.resume", "the gateway asks us to"):
            assert said in audit


async def test_hostile_texts_are_shown_and_never_run(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url, role="admin") as (api, open_shop, one):
        async with api.database.transaction() as tx:
            (made,) = await products.create(tx, [products.Draft(HOSTILE, HOSTILE[:50], 1000)])
            assert isinstance(made, products.Product)
            await admin.create(tx, [admin.Opening(made.id, 10)], actor=open_shop.customer, correlation_id="test")
            await endpoints.create(tx, [endpoints.Draft(f"https://example.com/{HOSTILE}", HOSTILE)])
            await bury(tx, [DeadLetter("order-processing", HOSTILE, "forward", HOSTILE)])
        order_id = await open_shop.order({made.id: 1}, "pm_success")
        await open_shop.ended(order_id)
        saga_id = await open_shop.value("SELECT saga_id FROM orders WHERE id = $1", order_id)
        async with api.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET note = $1, reason = $1 WHERE id = $2", HOSTILE, saga_id)
            await tx.execute("UPDATE orders SET failure_reason = $1, correlation_id = $1", HOSTILE)
            await tx.execute("UPDATE saga_attempts SET detail = $1, worker = $1", HOSTILE)
            await tx.execute("UPDATE order_moves SET reason = $1, actor = $1", HOSTILE)
            await tx.execute("UPDATE payments SET method = $1, decline_code = $1", HOSTILE)
            await tx.execute("UPDATE accounts SET first_name = left($1, 100), last_name = left($1, 100)", HOSTILE)
            await tx.execute(
                "INSERT INTO mailbox (key, channel, recipient, subject, body_text, body_html, order_id)"
                " VALUES ('hostile', 'email', $1, $1, $1, $1, $2)",
                HOSTILE,
                order_id,
            )
            await tx.execute(
                "INSERT INTO audit (id, actor, act, subject, reason, detail) VALUES ($1, $2, $2, $3, $2,"
                " jsonb_build_object('was', $2::text, 'now', $2::text))",
                uuid4(),
                HOSTILE,
                str(saga_id),
            )
            await tx.execute(
                "INSERT INTO sagas (id, kind, version, subject, state, step, queue, reached, since, correlation_id,"
                " note, created_at, updated_at) VALUES ($1, 'order', 1, $1, 'COMPENSATION_FAILED', 'verify_stock',"
                " 'order-processing', $2, now(), 'x', $2, now(), now())",
                uuid4(),
                HOSTILE,
            )
        fingerprint = await open_shop.value("SELECT fingerprint FROM dead_letters")
        endpoint = await open_shop.value("SELECT id FROM webhook_endpoints")
        for path in (
            "/admin/orders", f"/admin/orders/{order_id}", "/admin/stuck", "/admin/dead-letters",
            f"/admin/dead-letters/{fingerprint}", "/admin/queues/order-processing", "/admin/audit", "/admin/mailbox",
            "/admin/mailbox/hostile", "/admin/stock", "/admin/webhooks", f"/admin/webhooks/{endpoint}", "/admin/users",
        ):  # fmt: skip
            seen = await one.get(path)
            assert seen.status == 200, (path, seen.text)
            assert "&lt;script&gt;" in seen.text, path
            assert "<script>alert" not in seen.text, path
            assert "<img src=x" not in seen.text, path
            assert "{{7*7}}" in seen.text, path
        for path in ("/admin/orders?q={}&error={}&product={}", "/admin/stock?q={}", "/admin/audit?subject={}"):
            seen = await one.get(path.replace("{}", "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"))
            assert seen.status == 200
            assert "<script>alert" not in seen.text
        for path in ("/admin?said={}", "/admin/orders?age={}", "/admin/orders?state={}"):
            seen = await one.get(path.replace("{}", "%3Cscript%3Ealert(1)%3C/script%3E"))
            assert "<script>alert" not in seen.text


async def test_secrets_are_not_shown(api: Client) -> None:
    async with browser(api, "admin") as one:
        page = (await one.get("/admin/settings")).text
    assert "COMANDA_SECRET_KEY" in page
    assert "0123456789abcdef" not in page
    assert api.database.url not in page


async def test_webhooks_are_sent_again_with_a_reason(api: Client) -> None:
    async with browser(api, "admin") as one:
        async with api.database.transaction() as tx:
            ((endpoint, _),) = await endpoints.create(tx, [endpoints.Draft("https://example.com/hook")])
            delivery = uuid4()
            await tx.execute(
                "INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, state, ended_at,"
                " correlation_id) VALUES ($1, $2, $1, 'OrderCreated', $1, '{}', 'FAILED', now(), 'x')",
                delivery,
                endpoint.id,
            )
        path = f"/admin/webhooks/{endpoint.id}/deliveries/{delivery}"
        assert (await one.post(path, {"reason": "they are back"})).status == 303
        async with api.database.connection() as tx:
            assert await tx.fetchval("SELECT count(*) FROM webhook_deliveries WHERE is_again") == 1
            assert await tx.fetchval("SELECT reason FROM audit WHERE act = 'webhook.redeliver'") == "they are back"
        page = (await one.get(f"/admin/webhooks/{endpoint.id}")).text
        assert "OrderCreated" in page
        assert path in page
        async with api.database.transaction() as tx:
            await tx.execute("UPDATE webhook_endpoints SET is_active = false, disabled_reason = 'GONE'")
        assert path not in (await one.get(f"/admin/webhooks/{endpoint.id}")).text, "nothing is sent to what is off"
        assert (await one.post(path, {"reason": "they are back"})).status == 409


def test_every_text_of_the_templates_is_spoken_in_spanish() -> None:
    texts = set()
    for path in (CONSOLE / "templates").glob("*.html"):
        for double, single in re.findall(r"""_\((?:"([^"]*)"|'([^']*)')""", path.read_text()):
            texts.add(double or single)
    for path in CONSOLE.glob("*.py"):
        texts |= set(re.findall(r'Refusal\(\d+, "([^"]+)"\)', path.read_text()))
    spanish = words_of("es")
    assert sorted(texts - spanish.keys()) == []
    for text, said in spanish.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", said)), text


def test_a_form_token_is_of_one_session() -> None:
    assert csrf_of("one") != csrf_of("another")
