"""A run: make ready, place orders at their rate, follow them to their end."""

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import aiohttp
from rich.progress import Progress

from comanda.proof.load import prepare
from comanda.proof.load.client import Api, Reply
from comanda.proof.load.plan import Plan, Wanted, due_at
from comanda.proof.load.prepare import Person, Stocked
from comanda.proof.load.report import ENDED, Placed, Tally, document

_PAGE = 100
_LEAST_PAUSE = 0.25
_PAUSE_BY_SWEEP = 3  # pauses are so many times as long as a look at all orders took: a quarter of one connection
_REQUEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Drive:
    """What is asked of a run.

    Args:
        url: of the instance.
        plan: what is ordered.
        admin: who may make products, and sees every order.
        rate: orders a second; 0: as fast as they are answered.
        connections: requests under way at the most.
        units: of each product, where there is no stock yet.
        patience: seconds in which no order ends, after which those that are left are given up on.
    """

    url: str
    plan: Plan
    admin: Person
    rate: float
    connections: int
    units: int
    patience: float


async def drive(what: Drive, progress: Progress, **about: Any) -> dict[str, Any]:
    """Do it; the report (see `report.py`).

    Raises:
        ConfigurationFault: the admin can't sign in.
        DependencyFault: the instance does not answer, or not as expected, while things are made ready.
    """
    tally = Tally()
    connector = aiohttp.TCPConnector(limit=what.connections + 8)
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=3)
    began = time.monotonic()
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        api = Api(session, what.url, tally.retried)
        await prepare.sign_in_admin(api, what.admin)
        people = await prepare.customers(
            api,
            what.admin,
            what.plan.customers,
            advanced=_bar(progress, "Customers", len(what.plan.customers)),
            told=progress.console.print,
        )
        shelf = await prepare.catalogue(
            api,
            what.admin,
            what.plan.goods,
            units=what.units,
            advanced=_bar(progress, "Products", len(what.plan.goods)),
        )
        tally.retried.clear()
        run = secrets.token_hex(8)
        is_placed = asyncio.Event()
        async with asyncio.TaskGroup() as both:
            both.create_task(_follow(api, what, tally, is_placed, progress))
            await _place_all(api, what, run, people, shelf, tally, progress)
            is_placed.set()
    facts = {"orders": len(what.plan.orders), "customers": len(people), "products": len(shelf)}
    return document(tally, run=run, url=what.url, **about, **facts, seconds=round(time.monotonic() - began, 3))


def _bar(progress: Progress, text: str, total: int) -> Callable[[], None]:
    task = progress.add_task(text, total=total)
    return lambda: progress.advance(task)


async def _place_all(
    api: Api,
    what: Drive,
    run: str,
    people: Mapping[int, Person],
    shelf: Mapping[str, Stocked],
    tally: Tally,
    progress: Progress,
) -> None:
    slots = asyncio.Semaphore(what.connections)
    prices = {sku: product.price for sku, product in shelf.items()}
    task = progress.add_task("Orders", total=len(what.plan.orders))
    began = time.monotonic()

    async def one(number: int, wanted: Wanted) -> None:
        try:
            person = people[wanted.customer]
            items = [{"productId": shelf[sku].id, "quantity": quantity} for sku, quantity in wanted.lines]
            body: dict[str, Any] = {"items": items}
            if wanted.method is not None:
                body["paymentMethod"] = wanted.method
            reply = await _as(api, person, "POST", "/orders", body, key=f"load-{run}-{number}")
            if reply.status != 202:
                tally.rejected[reply.code] += 1
                return
            _accept(tally, reply, wanted.total(prices))
            tally.answered = time.monotonic() - began
        finally:
            slots.release()
            progress.advance(task)

    async with asyncio.TaskGroup() as under_way:
        for number, wanted in enumerate(what.plan.orders):
            wait = began + due_at(number, what.rate) - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await slots.acquire()
            under_way.create_task(one(number, wanted))


def _accept(tally: Tally, reply: Reply, expected: int) -> None:
    order_id = reply.body["orderId"]
    if order_id in tally.placed:
        tally.wrong.append(f"{order_id}: one order was given to two requests")
    tally.placed[order_id] = Placed(order_id, expected, reply.body["totalAmount"], reply.took)


async def _follow(api: Api, what: Drive, tally: Tally, is_placed: asyncio.Event, progress: Progress) -> None:
    """Look at the orders under way, a hundred at a time, until all have ended or nothing ends any more."""
    task = progress.add_task("Ended", total=len(what.plan.orders))
    last_end = time.monotonic()
    while True:
        was_placed = is_placed.is_set()
        began = time.monotonic()
        before = len(tally.ended)
        await _sweep(api, what.admin, tally)
        now = time.monotonic()
        ended = len(tally.ended)
        if ended > before or not was_placed:
            last_end = now
        progress.update(task, completed=ended)
        if was_placed:
            progress.update(task, total=len(tally.placed))
            if ended == len(tally.placed) or now - last_end > what.patience:
                return
        await asyncio.sleep(max(_LEAST_PAUSE, _PAUSE_BY_SWEEP * (now - began)))


async def _sweep(api: Api, admin: Person, tally: Tally) -> None:
    """The admin's list, newest first, from the end of each hundred that are under way: their ids sort by time."""
    waiting = sorted(order_id for order_id, one in tally.placed.items() if not one.status)
    for first in range(0, len(waiting), _PAGE):
        chunk = waiting[first : first + _PAGE]
        before = UUID(int=UUID(chunk[-1]).int + 1)
        while True:
            query = {"limit": _PAGE, "cursor": base64.urlsafe_b64encode(before.bytes).decode().rstrip("=")}
            reply = await _as(api, admin, "GET", f"/orders?{urlencode(query)}")
            items = reply.body["items"] if reply.status == 200 else []
            for item in items:
                _settle(tally, item)
            # Orders of others may stand between ours.
            if len(items) < _PAGE or items[-1]["orderId"] <= chunk[0]:
                break
            before = UUID(items[-1]["orderId"])


def _settle(tally: Tally, item: Mapping[str, Any]) -> None:
    one = tally.placed.get(item["orderId"])
    if one is None or item["status"] not in ENDED or item["endedAt"] is None:
        return
    one.status, one.reason, one.total = item["status"], item["failureReason"], item["totalAmount"]
    one.created, one.ended = (datetime.fromisoformat(item[name]).timestamp() for name in ("createdAt", "endedAt"))


async def _as(api: Api, person: Person, method: str, path: str, body: Any = None, *, key: str = "") -> Reply:
    """Ask as somebody; whose token has run out signs in again."""
    reply = await api.ask(method, path, body, token=person.token, key=key)
    if reply.status == 401 and await prepare.sign_in(api, person):
        reply = await api.ask(method, path, body, token=person.token, key=key)
    return reply
