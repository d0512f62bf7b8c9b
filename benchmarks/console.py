"""The operators' console with a million orders behind it: how long each page takes, how soon it tells, what it costs.

    python benchmarks/console.py [--orders 1000000] [--times 40] [--runs 5] [--seconds 15] [--keep FOLDER]
                                 [--only pages|told|cost] [--out FILE]

Fills a shop with finished orders (benchmarks/doctor.sql: 98 % confirmed, six million attempts, seven million events,
moves and movements of all) and with what needs an operator (benchmarks/console.sql): 2,000 stuck, 2,000 dead letters of
twelve kinds, 5,000 under way; besides 50,000 products, 200,000 accounts, 300,000 deliveries of webhooks, 100,000 acts.
That takes ten minutes and thirteen gigabytes; with `--keep` the folder is filled once and asked again later. Prints a
JSON line for

- each page, with each of its filters: p95 in ms of `--times` requests one after the other, against 300 ms. Each GET
  route of the console is asked for, or the program fails;
- the overview: p95 in ms from the commit of an order, a dead letter, a stuck saga to the piece on an open stream;
- orders: CPU of all processes for one of them with 20 overviews open, against none, in turn under the same load.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import asyncpg
import doctor
from harness import Stand, ask, comanda_up, report, say, wrk

from comanda.console.app import ROUTES
from comanda.db.statements import Twin

WITHIN = 300.0  # ms that a page may take, 95 of 100 times
TOLD_WITHIN = 1000.0  # ms
CONSOLES = 20
REHEARSED = "/admin/bulk/look"  # carries hundreds of acts out and takes them back: no page to be looked at in passing
MOST = 1.05  # of the CPU of an order
FATES = (980, 992, 996)
FILLED = (
    "catalogue", "shoppers", "troubled", "troubled_orders", "troubled_lines", "troubled_moves", "troubled_sagas",
    "troubled_attempts", "troubled_events", "handed_on", "letters", "acts", "endpoints", "deliveries", "drop_troubled",
)  # fmt: skip
# What is to stand still for a day is not waited for.
BUSY = (
    "SELECT count(*) AS n FROM sagas WHERE waits_until IS NULL AND state IN ('RUNNING', 'COMPENSATING')"
    " AND (lease_until IS NULL OR lease_until < now() + interval '1 hour')"
)
_sql = Twin(Path(__file__).with_suffix(".sql"))


async def fill(stand: Stand, orders: int) -> None:
    await doctor.fill(stand.database_url, stand.folder, orders, FATES)
    connection = await asyncpg.connect(stand.database_url, server_settings={"work_mem": "256MB"})
    for name in FILLED:
        began = time.monotonic()
        tag = await connection.execute(_sql[name].text)
        say(f"filled {name}", rows=tag.rpartition(" ")[2], seconds=round(time.monotonic() - began, 1))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


@dataclass(frozen=True, slots=True)
class Asked:
    """One page: which route it is of, and what is asked. `pause`: seconds before each request."""

    route: str
    path: str
    status: int = 200
    pause: float = 0.0


def _of(path: str, *queries: Mapping[str, Any], status: int = 200) -> Iterator[Asked]:
    """A route without parameters, with each of these filters."""
    for query in queries or ({},):
        yield Asked(path, f"{path}?{urlencode(query)}" if query else path, status)


def pages(stand: Stand, orders: int) -> Iterator[Asked]:
    """Each page with each of its filters."""
    some = dict(ask(stand, _sql["examples"].text, orders)[0])
    fresh = 0.6  # a look at the shop is good for half a second
    yield Asked("/admin/static/{name}", "/admin/static/console.css")
    yield from _of("/admin/login", status=303)
    yield Asked("/admin/language/{language}", "/admin/language/en", 303)
    yield Asked("/admin", "/admin", pause=fresh)
    yield Asked("/admin/live", "/admin/live?view=overview", pause=fresh)
    yield Asked("/admin/live", "/admin/live?view=queues", pause=fresh)
    yield Asked("/admin/queues", "/admin/queues", pause=fresh)
    for queue in ("order-processing", "payment-processing", "inventory-management", "notification-sending"):
        yield Asked("/admin/queues/{queue}", f"/admin/queues/{queue}")
    yield from _of("/admin/orders", *_searches(some))
    known_by = ("confirmed", "saga", "payment", "message")
    yield from _of("/admin/orders", *({"q": some[name]} for name in known_by), status=303)
    for name in ("confirmed", "cancelled", "stuck", "long_story"):
        yield Asked("/admin/orders/{order_id}", f"/admin/orders/{some[name]}")
    yield from _of("/admin/stuck", {}, {"before": some["stuck_saga"]})
    yield Asked("/admin/queues/{queue}/{saga_id}", f"/admin/queues/payment-processing/{some['stuck_saga']}")
    yield from _of("/admin/payments", {}, {"q": some["payment"]}, {"q": some["confirmed"]}, {"q": "no-such-thing"},
                   {"before": some["deep_payment"]}, {"state": "FAILED"}, {"state": "PENDING"},
                   {"state": "PENDING", "before": some["deep_payment"]})  # fmt: skip
    yield from _of("/admin/payments/reconciliation")
    yield from _of("/admin/bulk")
    yield Asked("/admin/bulk/{bulk_id}", f"/admin/bulk/{some['saga']}", 404)  # nobody has begun one here
    yield from _of(REHEARSED, {"of": "stuck", "verb": "retry"})
    yield Asked("/admin/dead-letters/letter/{letter_id}", f"/admin/dead-letters/letter/{some['letter']}")
    for verb in ("retry", "skip", "compensate", "resolve"):
        yield Asked("/admin/sagas/{saga_id}/{verb}", f"/admin/sagas/{some['stuck_saga']}/{verb}")
    yield from _of("/admin/dead-letters")
    for fingerprint in some["fingerprints"][:3]:
        yield Asked("/admin/dead-letters/{fingerprint}", f"/admin/dead-letters/{fingerprint}")
    yield from _lists(some)


def _lists(some: Mapping[str, Any]) -> Iterator[Asked]:
    yield from _of("/admin/audit", {}, {"subject": some["saga"]}, {"before": some["act"]})
    yield from _of("/admin/mailbox", {}, {"before": f"{(datetime.now(UTC) - timedelta(days=10)).isoformat()}|"})
    yield Asked("/admin/mailbox/{key:path}", f"/admin/mailbox/{some['mail']}")
    yield Asked("/admin/mailbox/{key:path}/body", f"/admin/mailbox/{some['mail']}/body")
    words = ("SHOP-4711", "kettle", "no such thing")
    yield from _of("/admin/stock", {}, {"sku": "SHOP-4", "location": "MAIN"}, *({"q": word} for word in words))
    yield from _of("/admin/products", {}, {"page": 900}, {"status": "inactive"}, *({"q": word} for word in words))
    for query in ("", f"?before={some['deep']}"):
        yield Asked("/admin/products/{product_id}", f"/admin/products/{some['product']}{query}")
    yield from _of("/admin/mailbox/templates")
    for body in ("", "/body"):
        path = "/admin/mailbox/templates/{language}/{kind}" + body
        yield Asked(path, f"/admin/mailbox/templates/es/order_confirmation{body}")
    yield from _of("/admin/webhooks")
    for query in ("", f"?before={some['delivery']}"):
        yield Asked("/admin/webhooks/{webhook_id}", f"/admin/webhooks/{some['endpoints'][0]}{query}")
    yield from _of(
        "/admin/users", {}, {"before": some["account"]}, {"role": "customer"}, {"role": "viewer"}, {"role": "operator"},
        {"q": "shopper-4711@"}, {"q": "example"}, {"q": "nobody at all"}, {"q": "shopper", "role": "viewer"},
    )  # fmt: skip
    yield from _of("/admin/settings")


def _searches(some: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each filter alone, some together, near and far back."""
    yield {}
    for name in ("half", "deep"):
        yield {"before": some[name]}
    for text in (some["email"], some["customer"], "nobody@example.com", "opper-4711", "García", "no such name"):
        yield {"q": text}
    for text in ("BENCH-7", some["product"], "kettle", "no such thing"):
        yield {"product": text}
    for text in ("CARD_DECLINED", "certificate has expired", "nothing like it"):
        yield {"error": text}
    for state in ("stuck", "open", "PENDING", "PAYMENT_PENDING", "CONFIRMED", "SHIPPED", "CANCELLED", "REFUNDED"):
        yield {"state": state}
    for step in ("verify_stock", "process_payment", "complete_order"):
        yield {"step": step}
    for age in (5, 60 * 24 * 7, 60 * 24 * 300):
        yield {"age": age}
    yield {"state": "CANCELLED", "before": some["deep"]}
    yield {"error": "nothing like it", "before": some["half"]}
    yield {"q": some["email"], "state": "CANCELLED"}
    yield {"q": some["email"], "state": "CANCELLED", "error": "CARD", "product": "BENCH-7", "age": 60}
    yield {"state": "stuck", "error": "certificate", "age": 60}
    yield {"state": "stuck", "product": "BENCH-7", "step": "process_payment"}
    yield {"state": "open", "step": "process_payment", "error": "500", "age": 5}
    yield {"product": "BENCH-7", "state": "CANCELLED", "error": "OUT_OF_STOCK", "step": "complete_order", "age": 1440}
    yield {
        "product": "lamp",
        "state": "CONFIRMED",
        "error": "nothing like it",
        "step": "complete_order",
        "before": some["deep"],
    }


@asynccontextmanager
async def signed_in(stand: Stand) -> AsyncIterator[aiohttp.ClientSession]:
    """The admin's browser."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None, sock_connect=30)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector, timeout=timeout) as session:
        form = {"email": "bench@example.com", "password": "benchmark-password"}
        headers = {"Origin": stand.api}
        async with session.post(
            f"{stand.api}/admin/login", data=form, headers=headers, allow_redirects=False
        ) as answer:
            if answer.status != 303:
                sys.exit(f"could not sign in: {answer.status}")
        yield session


async def timed(stand: Stand, session: aiohttp.ClientSession, asked: Asked) -> float:
    """Milliseconds until all of it is there; of a stream, its first piece."""
    await asyncio.sleep(asked.pause)
    began = time.perf_counter()
    async with session.get(stand.api + asked.path, allow_redirects=False) as answer:
        if answer.content_type == "text/event-stream":
            await anext(_pieces(answer))
        else:
            text = await answer.text()
            if answer.status != asked.status:
                sys.exit(f"{asked.path} answered {answer.status}: {text[-500:]}")
    return 1000 * (time.perf_counter() - began)


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[str]:
    """The data of each event of a stream."""
    lines: list[str] = []
    async for line in answer.content:
        if line.startswith(b"data:"):
            lines.append(line.decode())
        elif lines and not line.strip():
            yield "".join(lines)
            lines = []


async def measure_pages(stand: Stand, wanted: Sequence[Asked], times: int) -> dict[Asked, list[float]]:
    found = {}
    async with signed_in(stand) as session:
        for one in wanted:
            await timed(stand, session, one)
            found[one] = sorted([await timed(stand, session, one) for _ in range(times)])
            say(f"{_p95(found[one]):7.1f} ms  {statistics.median(found[one]):7.1f} ms  {one.path}")
    return found


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


_PLACED = re.compile(r"<title>(\d\d:\d\d) · (\d+)</title>")
_NEEDS = {
    "stuck saga": re.compile(r'<b>([\d,]+)</b><span[^>]*><a href="/admin/stuck"'),
    "dead letter": re.compile(r'<b>([\d,]+)</b><span[^>]*><a href="/admin/dead-letters"'),
}


@dataclass
class Screen:
    """What an open overview shows now."""

    piece: str = ""
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.get(f"{url}/admin/live?view=overview") as answer:
            async for piece in _pieces(answer):
                self.piece = piece
                self.told.set()

    def says(self, what: str) -> dict[str, int]:
        """Numbers by what they are of."""
        if what == "order":
            return {minute: int(count) for minute, count in _PLACED.findall(self.piece)}
        found = _NEEDS[what].search(self.piece)
        return {what: int(found[1].replace(",", "")) if found else 0}


async def measure_told(stand: Stand, times: int) -> dict[str, list[float]]:
    """Milliseconds from the commit until it is on the screen."""
    found: dict[str, list[float]] = {"order": [], "dead letter": [], "stuck saga": []}
    body = {"items": [{"productId": stand.products[0], "quantity": 1}], "paymentMethod": "pm_success"}
    connection = await asyncpg.connect(stand.database_url)
    async with signed_in(stand) as session:
        screen = Screen()
        following = asyncio.create_task(screen.follow(session, stand.api))
        await asyncio.wait_for(screen.told.wait(), 30)
        await asyncio.sleep(2)
        for _ in range(times):
            for what, delays in found.items():
                await asyncio.sleep(random.uniform(0.2, 1.2))  # at any moment between two looks
                before = screen.says(what)
                if what == "order":
                    headers = {"Authorization": f"Bearer {stand.token}"}
                    async with session.post(f"{stand.api}/api/v1/orders", json=body, headers=headers) as answer:
                        answer.raise_for_status()
                else:
                    await connection.execute(_sql["bury" if what == "dead letter" else "strand"].text)
                committed = time.perf_counter()
                while not any(count > before.get(name, 0) for name, count in screen.says(what).items()):
                    screen.told.clear()
                    await asyncio.wait_for(screen.told.wait(), 30)
                delays.append(1000 * (time.perf_counter() - committed))
        following.cancel()
        await connection.execute(_sql["mend"].text)
    await connection.close()
    return found


async def cpu_of_an_order(stand: Stand, consoles: int, seconds: float) -> float:
    """Milliseconds, of everything that `comanda up` started, while so many overviews are open."""
    async with signed_in(stand) as session:
        screens = [Screen() for _ in range(consoles)]
        open_ones = [asyncio.create_task(one.follow(session, stand.api)) for one in screens]
        await asyncio.gather(*(asyncio.wait_for(one.told.wait(), 30) for one in screens))
        before = stand.cpu()
        load = await asyncio.to_thread(lambda: wrk(stand, connections=16, seconds=seconds, pause_ms=20))
        while (await asyncio.to_thread(ask, stand, BUSY))[0]["n"]:  # noqa: ASYNC110 - a look at the database
            await asyncio.sleep(0.2)
        spent = {name: seconds - before[name] for name, seconds in stand.cpu().items()}
        for task in open_ones:
            task.cancel()
    placed = load["requests"] - load["non2xx"]
    parts = {name: round(1000 * seconds / placed, 3) for name, seconds in spent.items()}
    say(f"{consoles} open", orders=placed, post_p99=load["p99"], ms_an_order=round(sum(parts.values()), 3), **parts)
    return float(1000 * sum(spent.values()) / placed)


async def measure_cost(stand: Stand, runs: int, seconds: float) -> tuple[list[float], list[float]]:
    """CPU of an order with consoles open, and without, in turn; without autovacuum, which comes when it likes."""
    for statement in ("VACUUM ANALYZE", "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()"):
        await asyncio.to_thread(ask, stand, statement)
    await cpu_of_an_order(stand, 0, 3)
    open_ones: list[float] = []
    none: list[float] = []
    try:
        for number in range(runs):
            for consoles in (0, CONSOLES) if number % 2 else (CONSOLES, 0):
                (open_ones if consoles else none).append(await cpu_of_an_order(stand, consoles, seconds))
    finally:  # a folder that is kept is left as it was
        for statement in ("ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()"):
            await asyncio.to_thread(ask, stand, statement)
    return open_ones, none


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--orders", type=int, default=1_000_000)
    arguments.add_argument("--times", type=int, default=40)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--keep")
    arguments.add_argument("--only", choices=["pages", "told", "cost"])
    arguments.add_argument("--out", type=Path)
    asked = arguments.parse_args()
    settings = {"GATEWAY": "instant", "MAX_BACKLOG": "500000", "CHECK_SECONDS": "0"}
    kept: dict[str, Any] = {}
    with comanda_up("--workers", "1", keep=asked.keep or "", **settings) as stand:
        is_filled = stand.folder / "filled"
        if not is_filled.exists():
            asyncio.run(fill(stand, asked.orders))
            is_filled.touch()
        ask(stand, _sql["stay"].text)
        rows = dict(ask(stand, _sql["rows"].text)[0])
        say("there are", **rows)
        kept["rows"], kept["load"] = rows, round(os.getloadavg()[0], 1)
        conditions: dict[str, Any] = {"load": kept["load"], **rows}
        if asked.only in {None, "pages"}:
            wanted = list(pages(stand, asked.orders))
            missing = {page.path for page in ROUTES if page.method == "GET"} - {one.route for one in wanted}
            if missing:
                sys.exit(f"nobody asks for {', '.join(sorted(missing))}")
            times = asyncio.run(measure_pages(stand, wanted, asked.times))
            kept["pages"] = [
                {"path": one.path, "p50": round(statistics.median(took), 1), "p95": round(_p95(took), 1)}
                for one, took in times.items()
            ]
            for one, took in times.items():
                report(
                    "console_page", [_p95(took)], [WITHIN], 1, unit="ms, p95", page=one.path, times=asked.times,
                    p50_ms=round(statistics.median(took), 1), reference="the goal", **conditions,
                )  # fmt: skip
        if asked.only in {None, "told"}:
            delays = asyncio.run(measure_told(stand, asked.times))
            kept["told"] = {
                what: {"p50": round(statistics.median(took)), "p95": round(_p95(took))} for what, took in delays.items()
            }
            for what, took in delays.items():
                report(
                    "console_told", [_p95(took)], [TOLD_WITHIN], 1, unit="ms, p95 after the commit", what=what,
                    times=asked.times, p50_ms=round(statistics.median(took), 1), reference="the goal", **conditions,
                )  # fmt: skip
        if asked.only in {None, "cost"}:
            with_them, without = asyncio.run(measure_cost(stand, asked.runs, asked.seconds))
            ratios = [one / other for one, other in zip(with_them, without, strict=True)]
            kept["cost"] = {"ratio": round(statistics.median(ratios), 3), "runs": asked.runs, "consoles": CONSOLES}
            report(
                "console_cost", with_them, without, MOST, unit="ms of CPU an order", consoles=CONSOLES,
                reference="the same with none open", **conditions,
            )  # fmt: skip
    if asked.out is not None:
        known = json.loads(asked.out.read_text()) if asked.out.exists() else {}
        asked.out.write_text(json.dumps({**known, **kept}, indent=1) + "\n")
    slow = [one["path"] for one in kept.get("pages", ()) if one["p95"] > WITHIN and REHEARSED not in one["path"]]
    if slow:
        sys.exit(f"slower than {WITHIN:.0f} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
