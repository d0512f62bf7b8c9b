"""A shop in which every boundary can be reached; what leads to each stands in crash_drives.py."""

import asyncio
import http.server
import json
import subprocess
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import redis.asyncio

from comanda.db.database import connect
from comanda.failpoints import DIED
from up import COMANDA, PATIENCE, Reply, Up, Visitor, environment, eventually

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
