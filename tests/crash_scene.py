"""A shop in which every boundary can be reached: what to do so that a process gets there."""

import asyncio
import contextlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import aiohttp
import redis.asyncio
from yarl import URL

from comanda.console.ask import COOKIE, csrf_of
from comanda.db.database import connect
from comanda.failpoints import DIED
from comanda.messaging.queues import PRIORITIES, QUEUES
from comanda.messaging.streams import stream_of
from up import ADMIN, COMANDA, PASSWORD, PATIENCE, Reply, Up, Visitor, environment, eventually

UNITS = 1_000_000
# Orders whose notes name an obstacle fail at it as long as it stands in the table.
OBSTACLES = """
CREATE TABLE obstacles (kind text PRIMARY KEY);
CREATE FUNCTION stumble(about uuid, at_kind text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM orders JOIN obstacles ON kind = notes WHERE orders.id = about AND kind = at_kind) THEN
        RAISE EXCEPTION 'there is an obstacle: %', at_kind;
    END IF;
END $$;
CREATE FUNCTION stumble_on_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stumble(NEW.order_id, CASE TG_OP WHEN 'INSERT' THEN 'unreservable' ELSE 'unreleasable' END);
    RETURN NEW;
END $$;
CREATE TRIGGER obstacle BEFORE INSERT ON reservations FOR EACH ROW EXECUTE FUNCTION stumble_on_reservation();
CREATE TRIGGER obstacle_release BEFORE UPDATE ON reservations FOR EACH ROW WHEN (NEW.state = 'RELEASED')
    EXECUTE FUNCTION stumble_on_reservation();
CREATE FUNCTION stumble_on_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stumble(NEW.order_id, CASE TG_TABLE_NAME WHEN 'mailbox' THEN 'undeliverable' ELSE 'unspeakable' END);
    RETURN NEW;
END $$;
CREATE TRIGGER obstacle BEFORE INSERT ON notifications FOR EACH ROW WHEN (NEW.kind = 'order_confirmation')
    EXECUTE FUNCTION stumble_on_message();
CREATE TRIGGER obstacle BEFORE INSERT ON mailbox FOR EACH ROW EXECUTE FUNCTION stumble_on_message();
CREATE FUNCTION stumble_on_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stumble(NEW.id, 'incompletable');
    RETURN NEW;
END $$;
CREATE TRIGGER obstacle BEFORE UPDATE ON orders FOR EACH ROW WHEN (NEW.state = 'CONFIRMED')
    EXECUTE FUNCTION stumble_on_order();
CREATE FUNCTION stumble_on_refund() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM stumble((SELECT order_id FROM refunds WHERE id = NEW.subject), 'unrefundable');
    RETURN NEW;
END $$;
CREATE TRIGGER obstacle BEFORE UPDATE ON sagas FOR EACH ROW WHEN (NEW.kind = 'refund' AND NEW.lease_until IS NOT NULL)
    EXECUTE FUNCTION stumble_on_refund();
"""
SETTINGS = {
    "RETRY_BASE_SECONDS": "0.05",
    "RESERVATION_TTL_SECONDS": "2",
    "PAYMENT_PATIENCE_SECONDS": "3",
    "LOG_LEVEL": "warning",
    # Limits that are counted and never reached.
    "RATE_LIMITS": "on",
    **{f"RATE_{name}": "1000000/60" for name in ("AUTH", "ORDERS", "STATUS", "READ", "WRITE")},
    # One that is away: who writes is marked all the same.
    "DATABASE_REPLICA_URL": "postgresql://127.0.0.1:1/nowhere",
}


class Pager:
    """The operator's webhook: a small server that keeps what it is sent. `is_deaf`: answers 500."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.is_deaf = False
        pager = self

        class Answering(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pager.heard.append((self.headers["webhook-id"], body))
                self.send_response(500 if pager.is_deaf else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - as in the library
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/page"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Scene:
    """A running Comanda, who shops there, and what they were promised: the client's own ledger."""

    up: Up
    failpoints: Path
    pager: Pager
    admin: Visitor
    customer: Visitor
    products: list[str] = field(default_factory=list)
    promised: dict[str, int] = field(default_factory=dict)

    async def ask(self, statement: str, *arguments: Any) -> list[Any]:
        connection = await connect(self.up.facts["databaseUrl"], name="tests")
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            connection.terminate()

    async def put(self, obstacle: str) -> None:
        await self.ask("INSERT INTO obstacles VALUES ($1) ON CONFLICT DO NOTHING", obstacle)

    async def clear(self) -> None:
        await self.ask("DELETE FROM obstacles")
        self.pager.is_deaf = False

    async def persist(self, who: Visitor, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Ask until there is an answer that is not the server's fault."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    reply = await who.ask(method, path, body, **headers)
                except (aiohttp.ClientError, TimeoutError):
                    await asyncio.sleep(0.05)
                    continue
                if reply.status < 500:
                    return reply
                await asyncio.sleep(0.05)

    async def order(self, method: str = "pm_success", notes: str | None = None, units: int = 1) -> str:
        """Placed under a key, until it is accepted."""
        body = {
            "items": [{"productId": product, "quantity": units} for product in self.products],
            "paymentMethod": method,
        } | ({"notes": notes} if notes else {})
        reply = await self.persist(self.customer, "POST", "/orders", body, Idempotency_Key=uuid4().hex)
        assert reply.status == 202, reply
        self.promised[reply.body["orderId"]] = reply.body["totalAmount"]
        return str(reply.body["orderId"])

    async def orders(self, *methods: str, notes: str | None = None) -> list[str]:
        return list(await asyncio.gather(*(self.order(method, notes) for method in methods)))

    async def redis(self, work: Callable[[redis.asyncio.Redis], Awaitable[Any]]) -> None:
        client = redis.asyncio.Redis.from_url(self.up.facts["redisUrl"])
        try:
            await work(client)
        finally:
            await client.aclose()

    async def comanda(self, *arguments: str, data_dir: bool = True, **settings: str) -> int:
        """A command with this scene's failpoints; its exit code."""
        where = ("--data-dir", str(self.up.folder)) if data_dir else ()
        process = await asyncio.create_subprocess_exec(
            *COMANDA, *arguments, *where,
            env=environment({"FAILPOINTS": str(self.failpoints), **settings}),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return await process.wait()

    async def until_it_lives(self, *arguments: str, data_dir: bool = True, **settings: str) -> None:
        """A command that dies, and is run again until it has come to its end."""
        codes = [await self.comanda(*arguments, data_dir=data_dir, **settings)]
        assert codes == [DIED]
        while codes[-1] == DIED:
            codes.append(await self.comanda(*arguments, data_dir=data_dir, **settings))
        assert codes[-1] in {0, 1}, codes

    async def stuck(self) -> str:
        """An order that can't be undone: its reservation can't be released."""
        await self.put("unreleasable")
        order_id = await self.order("pm_decline_CARD_DECLINED", "unreleasable")
        await eventually(lambda: self.ask("SELECT 1 FROM sagas WHERE state = 'COMPENSATION_FAILED'"))
        return order_id

    # What leads to each boundary.

    async def business(self) -> None:
        """Every way an order can go."""
        await self.orders("pm_success", "pm_decline_CARD_DECLINED", "pm_flaky_1", "pm_timeout_after_capture")

    async def undoing(self) -> None:
        await self.orders("pm_unavailable", "pm_success")

    async def waiting_for_an_answer(self) -> None:
        await self.orders("pm_slow_1200", "pm_slow_1500")

    async def cancelling_late(self) -> None:
        """It can't be told, or can't be completed: paid and sold already, it is undone."""
        for notes in ("unspeakable", "incompletable"):
            await self.put(notes)
            await self.order("pm_success", notes)

    async def after_the_order(self) -> None:
        """One is shipped, withdrawn and brought back in part; another is cancelled once it is confirmed."""
        sold, undone = [await self.order(units=3) for _ in range(2)]
        await self.customer.ended(sold, undone)
        first, second = self.products
        cancelled = await self.persist(self.admin, "POST", f"/orders/{undone}/cancel", {}, Idempotency_Key=uuid4().hex)
        assert cancelled.status == 202, cancelled
        parcel = {"items": [{"productId": first, "quantity": 2}]}
        sent = await self.persist(self.admin, "POST", f"/orders/{sold}/shipments", parcel)
        assert sent.status in {201, 409}, sent
        rows = await self.ask("SELECT id FROM shipments WHERE order_id = $1", sold)
        for row in rows:
            path = f"/orders/{sold}/shipments/{row['id']}/deliver"
            assert (await self.persist(self.admin, "PATCH", path)).status == 200
        for verb, units in (
            ("refunds", {"productId": second, "quantity": 1}),
            ("returns", {"productId": first, "quantity": 1}),
        ):
            body = {"reason": "broken", "items": [units], "restock": True}
            asked = await self.persist(self.admin, "POST", f"/orders/{sold}/{verb}", body, Idempotency_Key=uuid4().hex)
            assert asked.status == 202, asked
        note = {"text": "The customer called.", "isPublic": True}
        assert (await self.persist(self.admin, "POST", f"/orders/{sold}/notes", note)).status == 201
        await eventually(lambda: self.ask("SELECT 1 FROM orders WHERE id = $1 AND state = 'CANCELLED'", undone))

    async def calling_a_refund_off(self) -> None:
        """One that can't even be begun."""
        await self.put("unrefundable")
        order_id = await self.order("pm_success", "unrefundable")
        await self.customer.ended(order_id)
        asked = await self.persist(
            self.admin, "POST", f"/orders/{order_id}/refunds", {"reason": "broken"}, Idempotency_Key=uuid4().hex
        )
        assert asked.status == 202, asked
        stuck = f"SELECT id FROM sagas WHERE subject = '{asked.body['refundId']}' AND state = 'COMPENSATION_FAILED'"
        await eventually(partial(self._called_off, stuck, "settled otherwise"))

    async def hooking(self) -> None:
        """A system of the shop's own is told of an order, asks for a test, changes its secret, and is taken away."""
        made = await self.persist(
            self.admin, "POST", "/webhooks", {"url": self.pager.url, "eventTypes": ["OrderConfirmed"]}
        )
        assert made.status == 201, made
        ids = [one["id"] for one in (await self.persist(self.admin, "GET", "/webhooks")).body["items"]]
        for one in ids:
            assert (await self.persist(self.admin, "PATCH", f"/webhooks/{one}", {"description": "a"})).status == 200
            assert (await self.persist(self.admin, "POST", f"/webhooks/{one}/rotate-secret")).status == 200
            assert (await self.persist(self.admin, "POST", f"/webhooks/{one}/test")).status == 202
        order_id = await self.order()
        told = "SELECT 1 FROM webhook_deliveries WHERE lane = $1 AND state = 'DELIVERED'"
        await eventually(lambda: self.ask(told, order_id))
        for one in ids:
            assert (await self.persist(self.admin, "DELETE", f"/webhooks/{one}")).status in {204, 404}

    async def nobody_takes_the_hook(self) -> None:
        """It waits for its next attempt, and is called off."""
        self.pager.is_deaf = True
        made = await self.persist(self.admin, "POST", "/webhooks", {"url": self.pager.url})
        assert (await self.persist(self.admin, "POST", f"/webhooks/{made.body['id']}/test")).status == 202
        waiting = "SELECT id FROM sagas WHERE kind = 'webhook' AND attempt > 0 AND waits_until IS NOT NULL"
        await eventually(lambda: self._called_off(waiting, "it is gone"))
        await self.persist(self.admin, "DELETE", f"/webhooks/{made.body['id']}")

    async def raising(self) -> None:
        await self.put("unreservable")
        await self.orders("pm_success", "pm_success", notes="unreservable")

    async def expiring(self) -> None:
        """A reservation that runs out while its order can't pay."""
        assert await self.comanda("queue", "pause", "payment-processing", "--reason", "a test") == 0
        expired = "SELECT 1 FROM reservations WHERE order_id = $1 AND state = 'EXPIRED'"
        paid = "SELECT 1 FROM sagas WHERE subject = $1 AND ended_at IS NOT NULL"
        order_id = await self.order()
        while not await self.ask(expired, order_id):
            if await self.ask(paid, order_id):  # the workers had not heard of the pause yet
                order_id = await self.order()
            await asyncio.sleep(0.05)
        assert await self.comanda("queue", "resume", "payment-processing", "--reason", "a test") == 0

    async def forgetting(self) -> None:
        """Nobody is told of what is due: Redis is emptied while the queue stands still."""
        assert await self.comanda("queue", "pause", "order-processing", "--reason", "a test") == 0
        await self.orders("pm_success", "pm_decline_CARD_DECLINED")
        await self.redis(lambda client: client.flushdb())
        assert await self.comanda("queue", "resume", "order-processing", "--reason", "a test") == 0
        await self.business()

    async def limited(self) -> None:
        assert await self.comanda("queue", "limit", "payment-processing", "50", "--reason", "a test") == 0
        await self.business()
        assert await self.comanda("queue", "limit", "payment-processing", "0", "--reason", "a test") == 0

    async def babbling(self) -> None:
        names = [stream_of(queue, priority) for queue in QUEUES[:1] for priority in PRIORITIES]
        await self.redis(lambda client: client.xadd(names[0], {"ids": b"not an id"}))

    async def sweeping(self) -> None:
        """The relay sweeps when it starts."""
        with contextlib.suppress(ProcessLookupError):  # it is just being started
            self.up.kill("relay")

    async def calling_the_operator(self) -> None:
        order_id = await self.stuck()

        def heard() -> bool:
            told = [body for _, body in self.pager.heard if body.get("subject") == order_id]
            return any(body["type"] == "saga.stuck" and body["step"] == "reserve_inventory" for body in told)

        await eventually(heard)

    async def nobody_hears_the_alert(self) -> None:
        """It waits for its next attempt, and is called off."""
        self.pager.is_deaf = True
        await self.stuck()
        alert = "SELECT id FROM sagas WHERE kind = 'alert' AND attempt > 0 AND waits_until IS NOT NULL"
        await eventually(lambda: self._called_off(alert, "nobody is there"))

    async def _called_off(self, which: str, reason: str) -> bool:
        """Refused while the next attempt is under way: then ask again."""
        rows = [str(row["id"]) for row in await self.ask(which)]
        return bool(rows) and await self.comanda("saga", "compensate", *rows, "--reason", reason) in {0, DIED}

    async def undeliverable(self) -> None:
        """A message that its provider won't take, called off by the operator."""
        await self.put("undeliverable")
        await self.order("pm_success", "undeliverable")
        message = "SELECT id FROM sagas WHERE kind = 'notification' AND attempt > 0 AND waits_until IS NOT NULL"
        await eventually(lambda: self._called_off(message, "told by telephone"))

    async def redriving(self) -> None:
        await self.stuck()
        await self.ask("DELETE FROM obstacles")
        await self.until_it_lives("dead-letters", "redrive", "--all", "--reason", "mended")

    async def acting_in_bulk(self) -> None:
        """Orders that can't be undone are retried by the relay, each once, however it ends."""
        await self.put("unreleasable")
        await asyncio.gather(*(self.order("pm_decline_CARD_DECLINED", "unreleasable") for _ in range(3)))
        stuck = "SELECT 1 FROM sagas WHERE state = 'COMPENSATION_FAILED' AND kind = 'order' HAVING count(*) >= 3"
        await eventually(lambda: self.ask(stuck))
        await self.ask("DELETE FROM obstacles")
        act = "retry", "--filter", "state=stuck", "--detach", "--reason", "mended"
        while (code := await self.comanda(*act)) == DIED:
            pass
        assert code == 0
        await eventually(lambda: self.ask("SELECT 1 FROM bulk_acts HAVING count(*) > 0 AND bool_and(state = 'ENDED')"))
        twice = (
            "SELECT 1 FROM audit WHERE detail ? 'bulk' GROUP BY subject, detail->>'bulk' HAVING count(*) > 1"
            " UNION ALL SELECT 1 FROM bulk_items WHERE outcome IS NULL"
        )
        assert await self.ask(twice) == []

    async def redelivering(self) -> None:
        made = await self.persist(self.admin, "POST", "/webhooks", {"url": self.pager.url})
        assert (await self.persist(self.admin, "POST", f"/webhooks/{made.body['id']}/test")).status == 202
        ended = "SELECT 1 FROM webhook_deliveries WHERE endpoint_id = $1 AND state = 'DELIVERED'"
        await eventually(lambda: self.ask(ended, made.body["id"]))
        await self.until_it_lives("webhooks", "redeliver", made.body["id"], "--since", "1", "--reason", "mended")
        await self.persist(self.admin, "DELETE", f"/webhooks/{made.body['id']}")

    async def acting(self) -> None:
        order_id = await self.stuck()
        await self.ask("DELETE FROM obstacles")
        await self.until_it_lives("saga", "retry", order_id, "--reason", "mended")

    async def limiting(self) -> None:
        await self.until_it_lives("queue", "limit", "order-processing", "0", "--reason", "a test")

    async def pausing(self) -> None:
        await self.until_it_lives("queue", "pause", "order-processing", "--reason", "a test")
        assert await self.comanda("queue", "resume", "order-processing", "--reason", "a test") == 0

    async def migrating(self) -> None:
        """From nothing, in a database of its own."""
        name = f"fresh_{uuid4().hex}"
        await self.ask(f"CREATE DATABASE {name}")
        url = self.up.facts["databaseUrl"].replace("/comanda?", f"/{name}?")
        assert name in url
        settings = {"DATABASE_URL": url, "ADMIN_PASSWORD": "correct horse battery"}
        await self.until_it_lives("migrate", "--demo", data_dir=False, **settings)
        connection = await connect(url, name="tests")
        try:
            assert await connection.fetchval("SELECT count(*) FROM products") == 6
            assert await connection.fetchval("SELECT count(*) FROM accounts WHERE role = 'admin'") == 1
        finally:
            connection.terminate()

    async def refunding(self) -> None:
        """Half of a capture, given back by a process that dies of it and does it again under the same key."""
        key = uuid4().hex
        arguments = [sys.executable, "-c", REFUND, str(self.failpoints), self.up.facts["gateway"], key]
        codes = [DIED]
        while codes[-1] == DIED:
            process = await asyncio.create_subprocess_exec(*arguments, env=dict(os.environ))
            codes.append(await process.wait())
        assert (codes[1], codes[-1]) == (DIED, 0)
        lines = [line for lines in (await self.up.ledger()).values() for line in lines if key in line["key"]]
        assert sorted((line["type"], line["amount"]) for line in lines) == [("capture", 100), ("refund", 40)]

    async def new_customer(self) -> None:
        body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery"}
        reply = await self.persist(self.customer, "POST", "/auth/register", body | {"firstName": "A", "lastName": "B"})
        assert reply.status in {201, 409}
        assert (await self.persist(self.customer, "POST", "/auth/login", body)).status == 200

    async def verifying(self) -> None:
        """Somebody asks for another code, and verifies the address."""
        who = self.customer
        assert (await self.persist(who, "POST", "/auth/verify-email/resend")).status == 202

        async def is_verified() -> bool:
            for code in await self._codes(who.email, "Confirm your e-mail%"):
                await self.persist(who, "POST", "/auth/verify-email", {"token": code})
            return bool((await self.persist(who, "GET", "/auth/me")).body["emailVerified"])

        await eventually(is_verified)

    async def recovering(self) -> None:
        """Somebody forgets the password, chooses another one, and changes that."""
        email, chosen, changed = self.customer.email, uuid4().hex, uuid4().hex
        assert (await self.persist(self.customer, "POST", "/auth/forgot-password", {"email": email})).status == 202
        tried: set[str] = set()  # each but once: wrong passwords are counted

        async def is_chosen() -> bool:
            for code in set(await self._codes(email, "Choose a new password%")) - tried:
                tried.add(code)
                body = {"token": code, "password": chosen}
                await self.persist(self.customer, "POST", "/auth/reset-password", body)
                if await self._lets_in(email, chosen):
                    return True
            return False

        await eventually(is_chosen)
        body = {"currentPassword": chosen, "newPassword": changed}
        assert (await self.persist(self.customer, "POST", "/auth/change-password", body)).status in {200, 422}
        assert await self._lets_in(email, changed)

    async def _codes(self, email: str, subject: str) -> list[str]:
        rows = await self.ask("SELECT body_text FROM mailbox WHERE recipient = $1 AND subject LIKE $2", email, subject)
        return [code for row in rows for code in re.findall(r"^[\w-]{43}$", row["body_text"], re.MULTILINE)]

    async def _lets_in(self, email: str, password: str) -> bool:
        body = {"email": email, "password": password}
        return (await self.persist(self.customer, "POST", "/auth/login", body)).status == 200

    async def session(self) -> None:
        body = {"email": self.customer.email, "password": "correct horse battery"}
        signed_in = await self.persist(self.customer, "POST", "/auth/login", body)
        token = {"refreshToken": signed_in.body["refreshToken"]}
        assert (await self.persist(self.customer, "POST", "/auth/refresh", token)).status in {200, 401}
        assert (await self.persist(self.customer, "POST", "/auth/logout", token)).status == 204

    async def at_the_console(self) -> None:
        """The admin signs in, acts, and signs out; whatever a crash swallowed is done again."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:

            async def send(path: str, **fields: str) -> int:
                """Until it is answered."""
                address, cookies = (
                    f"{self.up.api}{path}",
                    session.cookie_jar.filter_cookies(URL(f"{self.up.api}/admin")),
                )
                fields["csrf"] = csrf_of(cookies[COOKIE].value) if COOKIE in cookies else ""
                async with asyncio.timeout(PATIENCE):
                    while True:
                        with contextlib.suppress(aiohttp.ClientError):
                            async with session.post(
                                address, data=fields, headers={"Origin": self.up.api}, allow_redirects=False
                            ) as response:
                                if response.status < 500:
                                    return response.status
                        await asyncio.sleep(0.1)

            assert await send("/admin/login", email=ADMIN, password=PASSWORD) == 303
            for act in ("pause", "resume"):
                assert await send(f"/admin/queues/payment-processing/{act}", reason="a crash test") == 303
            assert await send("/admin/logout") == 303
        assert not await self.ask("SELECT 1 FROM queues WHERE is_paused")

    async def catalogue(self) -> None:
        draft = {"name": "Cup", "sku": uuid4().hex, "price": 100}
        made = await self.persist(self.admin, "POST", "/products", draft)
        assert made.status in {201, 409}
        (row,) = await self.ask("SELECT id FROM products WHERE sku = $1", draft["sku"])
        path = f"/products/{row['id']}"
        for method, suffix, body in (
            ("PATCH", "", {"price": 200}), ("PATCH", "/deactivate", None), ("PATCH", "/activate", None),
        ):  # fmt: skip
            assert (await self.persist(self.admin, method, path + suffix, body)).status == 200
        opened = await self.persist(self.admin, "POST", "/inventory", {"productId": str(row["id"]), "initialStock": 5})
        assert opened.status in {201, 409}
        held = {"productId": str(row["id"]), "quantity": 1}
        assert (await self.persist(self.admin, "POST", "/inventory/reserve", held)).status == 201
        for one in await self.ask(
            "SELECT id FROM reservations JOIN reservation_lines ON reservation_id = id WHERE product_id = $1", row["id"]
        ):
            let_go = await self.persist(
                self.admin, "PUT", "/inventory/release-reservation", {"reservationId": str(one["id"])}
            )
            assert let_go.status in {200, 409}
        await self.persist(self.admin, "POST", "/inventory/add-stock", {"productId": str(row["id"]), "quantity": 2})
        assert await self.admin.stock(str(row["id"])) in {(7, 0, 7), (9, 0, 9)}, "added, once for each answer or crash"
        assert (await self.persist(self.admin, "DELETE", path)).status in {204, 404}

    async def importing(self) -> None:
        """Stock of new products, by the API: once."""
        name = uuid4().hex
        skus = [f"{name}-{number}" for number in range(3)]
        await self.make(skus)
        made = await self.send_file("stock", "".join(f'{{"sku":"{sku}","quantity":7,"mode":"add"}}\n' for sku in skus))
        await eventually(lambda: self.ask("SELECT 1 FROM imports WHERE id = $1 AND ended_at IS NOT NULL", made))
        await self.check_stock(skus)

    async def importing_by_command(self) -> None:
        name = uuid4().hex
        skus = [f"{name}-{number}" for number in range(3)]
        await self.make(skus)
        file = self.up.folder / f"{name}.csv"
        file.write_text("sku,quantity,mode\n" + "".join(f"{sku},7,add\n" for sku in skus))
        await self.until_it_lives("import", "stock", str(file))
        await self.check_stock(skus)

    async def make(self, skus: Sequence[str]) -> None:
        for sku in skus:
            made = await self.persist(self.admin, "POST", "/products", {"name": "x", "sku": sku, "price": 1})
            assert made.status in {201, 409}

    async def check_stock(self, skus: Sequence[str]) -> None:
        for sku in skus:
            rows = await self.ask("SELECT on_hand FROM stock JOIN products ON id = product_id WHERE sku = $1", sku)
            assert [row["on_hand"] for row in rows] == [7]

    async def cancelling_an_import(self) -> None:
        made = await self.send_file("products", f'{{"sku":"{uuid4().hex}","name":"x","price":1}}\n')
        assert (await self.persist(self.admin, "POST", f"/imports/{made}/cancel")).status in {200, 409}

    async def send_file(self, kind: str, lines: str) -> str:
        """Until it is accepted; the import's id."""
        headers = {**self.admin.headers, "Content-Type": "application/x-ndjson"}
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while True:
                try:
                    url = f"{self.up.api}/api/v1/imports?kind={kind}"
                    async with session.post(url, data=lines.encode(), headers=headers) as reply:
                        if reply.status == 202:
                            return str((await reply.json())["id"])
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def categories(self) -> None:
        draft = {"name": "Cups", "slug": f"cups-{uuid4().hex}"}
        assert (await self.persist(self.admin, "POST", "/categories", draft)).status in {201, 409}
        (row,) = await self.ask("SELECT id FROM categories WHERE slug = $1", draft["slug"])
        path = f"/categories/{row['id']}"
        assert (await self.persist(self.admin, "PUT", path, draft | {"name": "Mugs"})).status == 200
        assert (await self.persist(self.admin, "PATCH", f"{path}/deactivate")).status == 200
        assert (await self.persist(self.admin, "DELETE", path)).status in {204, 404}

    async def users(self) -> None:
        draft = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery", "firstName": "A",
                 "lastName": "B", "role": "viewer"}  # fmt: skip
        assert (await self.persist(self.admin, "POST", "/users", draft)).status in {201, 409}
        (row,) = await self.ask("SELECT id FROM accounts WHERE email = $1", draft["email"])
        path = f"/users/{row['id']}"
        assert (await self.persist(self.admin, "PATCH", path, {"role": "operator"})).status == 200
        assert (await self.persist(self.admin, "PATCH", f"{path}/deactivate")).status == 200
        assert (await self.persist(self.admin, "DELETE", path)).status in {204, 404}

    DRIVES: ClassVar[Mapping[str, Callable[["Scene"], Awaitable[None]]]]


REFUND = """
import asyncio, sys
from pathlib import Path
from uuid import uuid4
from comanda import failpoints
from comanda.payments.gateway import ChargeRequest, HttpGateway

async def main(folder, url, key):
    failpoints.switch_on(Path(folder))
    async with HttpGateway(url, timeout=5) as gateway:
        if await gateway.find(key) is None:
            await gateway.charge(ChargeRequest(uuid4(), 100, "USD", "pm_success", False), key)
        if await gateway.find_refund(f"{key}:refund") is None:
            await gateway.refund(key, 40, f"{key}:refund")

asyncio.run(main(*sys.argv[1:]))
"""

Scene.DRIVES = {
    "accounts.change_password": Scene.recovering,
    "accounts.ensure_admin": Scene.migrating,
    "accounts.forgot": Scene.recovering,
    "accounts.register": Scene.new_customer,
    "accounts.resend": Scene.verifying,
    "accounts.reset": Scene.recovering,
    "accounts.verify": Scene.verifying,
    "alert.post": Scene.calling_the_operator,
    "attempts.take": Scene.session,
    "breaker.count": Scene.business,
    "bulk.chunk": Scene.acting_in_bulk,
    "console.act": Scene.at_the_console,
    "console.sign_in": Scene.at_the_console,
    "console.sign_out": Scene.at_the_console,
    "demo.stock_up": Scene.migrating,
    "gateway.charge": Scene.business,
    "gateway.find": Scene.business,
    "gateway.find_refund": Scene.refunding,
    "gateway.refund": Scene.refunding,
    "gateway.void": Scene.undoing,
    "imports.accept": Scene.importing,
    "imports.batch": Scene.importing,
    "imports.cancel": Scene.cancelling_an_import,
    "inventory.expire": Scene.expiring,
    "mailbox.send": Scene.business,
    "migrations.apply": Scene.migrating,
    "objectives.count": Scene.business,
    "operator.act": Scene.acting,
    "operator.bulk": Scene.acting_in_bulk,
    "operator.import": Scene.importing_by_command,
    "operator.limit": Scene.limiting,
    "operator.pause": Scene.pausing,
    "operator.redeliver": Scene.redelivering,
    "operator.redrive": Scene.redriving,
    "orders.accept": Scene.business,
    "orders.deliver": Scene.after_the_order,
    "orders.follow_up": Scene.after_the_order,
    "orders.note": Scene.after_the_order,
    "orders.ship": Scene.after_the_order,
    "outbox.publish": Scene.business,
    "categories.activate": Scene.categories,
    "categories.change": Scene.categories,
    "categories.create": Scene.categories,
    "categories.delete": Scene.categories,
    "users.activate": Scene.users,
    "users.change": Scene.users,
    "users.create": Scene.users,
    "users.delete": Scene.users,
    "products.activate": Scene.catalogue,
    "products.change": Scene.catalogue,
    "products.create": Scene.catalogue,
    "products.deactivate": Scene.catalogue,
    "products.delete": Scene.catalogue,
    "queue.bury": Scene.babbling,
    "redis.acknowledge": Scene.business,
    "redis.create": Scene.forgetting,
    "redis.forget": Scene.sweeping,
    "redis.grant": Scene.limited,
    "redis.mark": Scene.catalogue,
    "redis.settle": Scene.business,
    "redis.offer": Scene.business,
    "redis.publish": Scene.business,
    "redis.read": Scene.business,
    "redis.take_over": Scene.business,
    "relay.reset": Scene.recovering,
    "relay.sweep": Scene.sweeping,
    "saga.advance": Scene.business,
    "throughput.count": Scene.business,
    "saga.count_failure": Scene.raising,
    "saga.mark": Scene.forgetting,
    "saga.promote": Scene.business,
    "saga.record": Scene.business,
    "saga.renew": Scene.waiting_for_an_answer,
    "sessions.begin": Scene.session,
    "sessions.renew": Scene.session,
    "sessions.revoke": Scene.session,
    "stock.change": Scene.catalogue,
    "stock.end_reservation": Scene.catalogue,
    "stock.open": Scene.catalogue,
    "stock.reserve": Scene.catalogue,
    "webhook.fan_out": Scene.hooking,
    "webhook.post": Scene.hooking,
    "webhooks.change": Scene.hooking,
    "webhooks.create": Scene.hooking,
    "webhooks.delete": Scene.hooking,
    "webhooks.rotate": Scene.hooking,
    "webhooks.send": Scene.hooking,
    # Each step of each saga, in both directions.
    "step:alert.post.backward": Scene.nobody_hears_the_alert,
    "step:alert.post.forward": Scene.calling_the_operator,
    "step:notification.deliver.backward": Scene.undeliverable,
    "step:notification.deliver.forward": Scene.business,
    "step:order.complete_order.backward": Scene.after_the_order,
    "step:order.complete_order.forward": Scene.business,
    "step:order.confirm_reservation.backward": Scene.cancelling_late,
    "step:order.confirm_reservation.forward": Scene.business,
    "step:order.process_payment.backward": Scene.undoing,
    "step:order.process_payment.forward": Scene.business,
    "step:order.reserve_inventory.backward": Scene.business,
    "step:order.reserve_inventory.forward": Scene.business,
    "step:order.send_confirmation.backward": Scene.cancelling_late,
    "step:order.send_confirmation.forward": Scene.business,
    "step:order.verify_stock.backward": Scene.business,
    "step:order.verify_stock.forward": Scene.business,
    "step:refund.complete_refund.forward": Scene.after_the_order,
    "step:refund.refund_payment.backward": Scene.calling_a_refund_off,
    "step:refund.refund_payment.forward": Scene.after_the_order,
    "step:refund.take_back.forward": Scene.after_the_order,
    "step:webhook.deliver.backward": Scene.nobody_takes_the_hook,
    "step:webhook.deliver.forward": Scene.hooking,
    "result:webhook.deliver.forward": Scene.hooking,
    "result:alert.post.forward": Scene.calling_the_operator,
    "result:notification.deliver.forward": Scene.business,
    "result:order.process_payment.backward": Scene.undoing,
    "result:order.process_payment.forward": Scene.business,
    "result:refund.refund_payment.forward": Scene.after_the_order,
}
