"""A run: stock up, buy, hurt, wait until all has ended, read the ledgers, judge."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from comanda.db.database import translated
from comanda.errors import DatabaseFault
from comanda.payments.gateway import HttpGateway
from comanda.proof import invariants, receiver
from comanda.proof.chaos import judge, ledgers
from comanda.proof.chaos.asked import Asked
from comanda.proof.chaos.buyers import Buyers
from comanda.proof.chaos.demand import CUSTOMERS, Demand
from comanda.proof.chaos.judge import Case, Verdict
from comanda.proof.chaos.ledgers import Books
from comanda.proof.chaos.nemesis import Nemesis
from comanda.proof.chaos.schedule import Hurt, Planned
from comanda.proof.chaos.staff import Staff
from comanda.proof.chaos.stage import ADMIN, Stage
from comanda.proof.findings import Finding
from comanda.proof.load import prepare
from comanda.proof.load.client import Api
from comanda.proof.load.prepare import Person, Stocked

GIVE_UP = 120.0
"""Seconds after the last fault in which all has to end."""

_REQUEST_SECONDS = 4.0  # a frozen API never answers; the next try meets the other one
_CONNECTIONS = 200
_LOOK_EVERY = 0.25
_PROBE_LEAST, _PROBE_MOST = 2.0, 40.0  # seconds
_REPLAYED = 25
_GATEWAY_SECONDS = 30.0
_TOLD_WITHIN = 60.0  # seconds


@dataclass
class Told:
    """How far it is, for whoever watches."""

    phase: str = ""
    accepted: int = 0
    ended: int = 0
    faults: Sequence[str] = ()
    hurts: int = 0


@dataclass
class Result:
    """All that came of it. Times in seconds since 1970; `calm`: when the last fault was over."""

    began: float
    calm: float
    asked: Sequence[Asked]
    hurts: Sequence[Hurt]
    books: Books
    findings: Sequence[Finding]
    verdicts: Sequence[Verdict]
    retried: Counter[str] = field(default_factory=Counter)
    noticed: Sequence[str] = ()


async def run(
    stage: Stage, demand: Demand, schedule: Sequence[Planned], duration: float, told: Callable[[Told], None]
) -> Result:
    """Do it. Faults are undone however it ends.

    Raises:
        DependencyFault: the instance does not answer while it is made ready, or a ledger does not at the end.
    """
    state = Told("stocking up")
    told(state)
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=1)
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        retried: Counter[str] = Counter()
        api = Api(session, stage.api, retried)
        buyers = await ready(api, demand, stage.password)
        staff = Staff(api, Person(ADMIN, stage.password), demand.orders[0].key)
        await prepare.sign_in_admin(api, staff.person)
        await _listened(api, staff.person, stage)
        retried.clear()

        def changed() -> None:
            state.accepted, state.faults = buyers.accepted, nemesis.now_on
            state.hurts = sum(hurt.has_happened for hurt in nemesis.hurts)
            told(state)

        nemesis = Nemesis(stage, schedule, changed)
        state.phase = "buying and hurting"
        began = time.time()
        watching = asyncio.create_task(_watch(stage, state, changed))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(nemesis.run())
                closing = asyncio.Event()
                working = both.create_task(staff.work(closing))
                buying = both.create_task(buyers.buy(duration))
                await buying
                closing.set()
                await working
            calm = max((hurt.until or began for hurt in nemesis.hurts), default=began)
            state.phase = "looking whether it works again"
            await _probed(buyers, calm)
            state.phase = "waiting for the last orders"
            await all_ended(stage, calm)
            state.phase = "asking again"
            await _asked_again(buyers, demand)
            state.phase = "waiting for the last webhooks"
            await _all_told(stage)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    state.phase = "reading the ledgers"
    changed()
    books, findings = await read(stage)
    units = {buyers.shelf[sku].id: count for sku, count in demand.units.items()}
    verdicts = judge.judge(Case(buyers.asked, books, units, staff.promised, stage.heard))
    state.phase, state.ended = "", sum(order.ended is not None for order in books.orders.values())
    changed()
    return Result(began, calm, buyers.asked, nemesis.hurts, books, findings, verdicts, retried, stage.noticed())


async def ready(api: Api, demand: Demand, password: str, *, customers: int = CUSTOMERS) -> Buyers:
    """Customers, products and stock."""
    admin = Person(ADMIN, password)
    await prepare.sign_in_admin(api, admin)
    people = await prepare.customers(api, admin, range(customers), advanced=_ignored, told=_ignored)
    shelf: dict[str, Stocked] = {}
    for good in demand.goods:
        shelf |= await prepare.catalogue(api, admin, [good], units=demand.units[good.sku], advanced=_ignored)
    ids = {n: (await api.expect(200, "GET", "/auth/me", token=one.token))["id"] for n, one in people.items()}
    return Buyers(api, demand, people, ids, shelf)


async def _listened(api: Api, admin: Person, stage: Stage) -> None:
    """From now on every event is sent to the receiver, past a proxy that hurts it."""
    url = receiver.url_of(stage.receiver_link.port)
    await receiver.register(api, admin, stage.receiver, description="hurt by chaos", url=url)


def _ignored(*_: object) -> None:
    return


async def _watch(stage: Stage, state: Told, changed: Callable[[], None]) -> None:
    """Count what has ended, past the proxies; PostgreSQL may be away."""
    while True:
        try:
            async with stage.database() as tx:
                while True:
                    _, state.ended = await ledgers.progress(tx)
                    changed()
                    await asyncio.sleep(_LOOK_EVERY)
        except Exception:  # noqa: BLE001 - a look that fails is one look less
            changed()
            await asyncio.sleep(_LOOK_EVERY)


async def _probed(buyers: Buyers, calm: float) -> None:
    """Light orders until one that was sent after the last fault has been accepted."""
    enough = asyncio.Event()
    probing = asyncio.create_task(buyers.probe(enough))
    clock = asyncio.get_running_loop().time
    began = clock()
    while clock() - began < _PROBE_MOST:
        await asyncio.sleep(_LOOK_EVERY)
        is_back = any(one.sent > calm and one.answers for one in buyers.asked)
        if is_back and clock() - began >= _PROBE_LEAST:
            break
    enough.set()
    await probing


async def all_ended(stage: Stage, calm: float) -> None:
    """Wait until every order has ended, for a while after that moment."""
    while time.time() - calm < GIVE_UP:
        try:
            async with stage.database() as tx:
                orders, ended = await ledgers.progress(tx)
            if orders == ended:
                return
        except DatabaseFault:
            pass
        await asyncio.sleep(_LOOK_EVERY)


async def _all_told(stage: Stage) -> None:
    """Now that it is well again the receiver is told what it missed: days of patience are cut short by an operator."""
    give_up = time.time() + _TOLD_WITHIN
    while time.time() < give_up:
        try:
            async with stage.database() as tx:
                if await ledgers.hurry_webhooks(tx):
                    return
        except DatabaseFault:
            pass
        await asyncio.sleep(_LOOK_EVERY)


async def _asked_again(buyers: Buyers, demand: Demand) -> None:
    """Some orders are sent once more, long after they were accepted: the answer has to be the same."""
    intents = random.Random(demand.orders[0].key).sample(demand.orders, min(_REPLAYED, len(demand.orders)))  # noqa: S311
    await asyncio.gather(*(buyers.again(intent) for intent in intents))


async def read(stage: Stage) -> tuple[Books, Sequence[Finding]]:
    """The books and the invariants, past the proxies, from one snapshot."""
    async with (
        HttpGateway(stage.gateway_url, timeout=_GATEWAY_SECONDS) as gateway,
        stage.database() as tx,
    ):
        with translated():
            async with tx.transaction(isolation="repeatable_read", readonly=True):
                findings = await invariants.check(tx, gateway)
                return await ledgers.read(tx, gateway), findings
