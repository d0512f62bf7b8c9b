"""Webhooks beside everything else that a worker does, on real engines and sockets: who hangs holds up nobody."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from comanda.clock import now
from comanda.resilience.backoff import Policy
from comanda.saga import Job, Later, verbs
from comanda.saga.rescue import by_queue
from comanda.webhooks import deliveries, endpoints
from comanda.webhooks.endpoints import Draft
from comanda.webhooks.sender import Request, Sender
from shop import Shop, shop, until

HANGING = 100
PLACES = 500  # calls of a queue that a worker may have out
OK = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass
class Receivers:
    """Those at `/well` answer, all others hang until they are let go: then they cut the connection."""

    port: int = 0
    out: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    heard: Counter[str] = field(default_factory=Counter)
    most_in_all: int = 0
    _waiting: set[asyncio.StreamWriter] = field(default_factory=set)
    is_cutting: bool = False

    async def hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.heard[path] += 1
        self.out[path] += 1
        self.most[path] = max(self.most[path], self.out[path])
        self.most_in_all = max(self.most_in_all, self.out.total())
        try:
            if path == "/well":
                writer.write(OK)
            elif not self.is_cutting:
                self._waiting.add(writer)
                while await reader.read(4096):  # until the connection is closed, here or there
                    pass
        finally:
            self.out[path] -= 1
            self._waiting.discard(writer)
            writer.close()

    def cut(self) -> None:
        for writer in list(self._waiting):
            writer.transport.abort()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receivers]:
    receivers = Receivers()
    server = await asyncio.start_server(receivers.hear, "127.0.0.1", 0, backlog=4096)
    receivers.port = server.sockets[0].getsockname()[1]
    try:
        yield receivers
    finally:
        server.close()


@asynccontextmanager
async def hanging(receivers: Receivers, database_url: str, redis_url: str) -> AsyncIterator[Shop]:
    """A shop that sends there with endless patience, and does not wait for answers at its end."""
    allowed = [ip_network("127.0.0.0/8")]
    async with (
        Sender(timeout=600, allowed=allowed) as sender,
        shop(database_url, redis_url, sender=sender) as here,
    ):
        try:
            yield here
        finally:
            receivers.is_cutting = True
            receivers.cut()


async def made(here: Shop, receivers: Receivers, paths: Sequence[str]) -> list[UUID]:
    """Endpoints at these paths, which want no events."""
    drafts = [Draft(f"http://127.0.0.1:{receivers.port}{path}", event_types=["Nothing"]) for path in paths]
    async with here.database.transaction() as tx:
        return [one.id for one, _ in await endpoints.create(tx, drafts)]


async def sent(here: Shop, ids: Sequence[UUID], times: int = 1) -> None:
    """Something for each, so many times."""
    async with here.database.transaction() as tx:
        _, due = await deliveries.ping(tx, here.assembly.definitions.webhook, list(ids) * times, "test", now())
    await here.assembly.streams.offer_all(by_queue(due))


async def asked(here: Shop, ids: Sequence[UUID]) -> list[Any]:
    """What a worker that has just come up would do about these deliveries."""
    action: Any = deliveries.webhook_saga(None, Policy()).first.action
    async with here.database.transaction() as tx:
        return list(await action.prepare(tx, [Job(one, one, "k", 1, time.time()) for one in ids]))


async def of_one_lane(here: Shop, count: int, *, for_seconds: int) -> list[UUID]:
    """Deliveries that are of one order and have waited for so long, in their order."""
    receivers = Receivers(port=9)
    await sent(here, await made(here, receivers, ["/"]), count)
    return [
        row["id"]
        for row in await changed(
            here,
            "WITH lane AS (UPDATE webhook_deliveries SET lane = endpoint_id,"
            " created_at = now() - $1::int * interval '1 second' RETURNING id, seq) SELECT id FROM lane ORDER BY seq",
            for_seconds,
        )
    ]


async def changed(here: Shop, statement: str, *arguments: Any) -> list[Any]:
    async with here.database.transaction() as tx:
        return list(await tx.fetch(statement, *arguments))


async def test_what_was_skipped_counts_as_delivered_and_its_lane_goes_on(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        first, second, third = await of_one_lane(here, 3, for_seconds=0)
        await changed(here, "UPDATE sagas SET waits_until = now() + interval '1 hour' WHERE kind = 'webhook'")
        async with here.database.transaction() as tx:
            (acted,), _ = await verbs.act(tx, here.by_hand, [first], "skip", actor="ana", reason="told by hand")
        assert (acted.now, acted.refusal) == ("COMPLETED", None)
        states = {row["id"]: row["state"] for row in await here.ask("SELECT id, state FROM webhook_deliveries")}
        assert states == {first: "DELIVERED", second: "PENDING", third: "PENDING"}
        waiting = await here.ask("SELECT subject FROM sagas WHERE kind = 'webhook' AND waits_until IS NOT NULL")
        assert [row["subject"] for row in waiting] == [third], "whoever comes next is due"


async def test_of_a_lane_the_next_looks_again_soon_and_those_behind_it_are_woken(
    database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        ids = await of_one_lane(here, 4, for_seconds=120)
        first, second, *others = await asked(here, ids)
        assert isinstance(first, Request)
        assert second.after < timedelta(seconds=10)
        assert others == [Later("WAITS_FOR_EARLIER", timedelta(hours=1))] * 2
        await changed(here, "UPDATE webhook_deliveries SET created_at = now()")
        _, *fresh = await asked(here, ids)
        assert all(one.after < timedelta(seconds=10) for one in fresh), "they may have been ended before meanwhile"


async def test_who_has_a_crowd_waiting_makes_no_other_wait(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        crowded, well = await made(here, Receivers(port=9), ["/crowded", "/well"])
        await sent(here, [crowded], 3000)
        await sent(here, [well], 60)
        ids = [row["id"] for row in await here.ask("SELECT id FROM webhook_deliveries ORDER BY seq")]
        waits = [one.after.total_seconds() for one in await asked(here, ids) if isinstance(one, Later)]
        assert len(waits) == 3060 - 100
        assert max(waits[:-10]) > 10
        assert max(waits[-10:]) < 6


async def test_who_took_nothing_since_is_found_by_an_index(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        await sent(here, await made(here, Receivers(port=9), ["/"]), 1000)
        await changed(here, "UPDATE webhook_deliveries SET state = 'FAILED', ended_at = now()")
        await changed(here, "ANALYZE webhook_deliveries")
        ids = [row["id"] for row in await here.ask("SELECT id FROM webhook_deliveries LIMIT 50")]
        plan = await here.ask(f"EXPLAIN {deliveries.MUTE_SINCE.text}", ids)
        assert "webhook_deliveries_taken" in str(plan), "not one by one through all that it did not take"


async def test_a_mail_is_sent_while_a_hundred_endpoints_hang(database_url: str, redis_url: str) -> None:
    async with receiving() as receivers, hanging(receivers, database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        ids = await made(here, receivers, [f"/{n}" for n in range(HANGING)])
        await sent(here, ids, 2 * PLACES // HANGING)
        await until(lambda: _holds(receivers.out.total() == PLACES // 2))
        order_id = await here.order({goods["apple"]: 1})
        await here.ended(order_id)
        mails = "SELECT 1 FROM mailbox WHERE order_id = $1"
        await until(lambda: here.ask(mails, order_id))
        assert receivers.out.total() == receivers.most_in_all == PLACES // 2, "and all of them hang as ever"


async def test_who_did_not_answer_keeps_nobody_from_those_who_do(database_url: str, redis_url: str) -> None:
    async with receiving() as receivers, hanging(receivers, database_url, redis_url) as here:
        mute = await made(here, receivers, [f"/{n}" for n in range(5)])
        (well,) = await made(here, receivers, ["/well"])
        await sent(here, mute)
        await until(lambda: _holds(receivers.out.total() == len(mute)))
        receivers.cut()
        tried = "SELECT count(DISTINCT delivery_id) FROM webhook_attempts"
        await until(lambda: _is(here, tried, len(mute)))
        receivers.most.clear()
        await sent(here, mute, 60)  # all places of webhooks, were they given
        await until(lambda: _holds(receivers.out.total() == 2 * len(mute)))
        await sent(here, [well], 20)
        await until(lambda: _holds(receivers.heard["/well"] == 20))
        assert max(receivers.most[f"/{n}"] for n in range(5)) == 2


async def test_one_that_hangs_has_its_own_share(database_url: str, redis_url: str) -> None:
    async with receiving() as receivers, hanging(receivers, database_url, redis_url) as here:
        slow, well = await made(here, receivers, ["/slow", "/well"])
        await sent(here, [slow], 80)
        await until(lambda: _holds(receivers.out["/slow"] == 50))
        await sent(here, [well])
        await until(lambda: _holds(receivers.heard["/well"] == 1))
        assert receivers.most["/slow"] == 50


async def _holds(condition: bool) -> bool:
    return condition


async def _is(here: Shop, statement: str, wanted: int) -> bool:
    return bool(await here.value(statement) == wanted)
