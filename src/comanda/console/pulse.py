"""How the shop is, looked at each 0.8 seconds at the most, however many consoles are open, and only while one is."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from comanda import clock, objectives, telemetry
from comanda.api.parts import Parts
from comanda.bulk import bulks
from comanda.bulk.bulks import Bulk
from comanda.console import processes
from comanda.console.minutes import Hour, Minute
from comanda.console.processes import Processes
from comanda.db import twin
from comanda.errors import DependencyFault
from comanda.messaging import dead_letters, outbox
from comanda.messaging.queues import QUEUES
from comanda.objectives import Budget
from comanda.payments import breaker
from comanda.saga import log, throughput
from comanda.saga.throughput import Throughput

_sql = twin(__file__)
MONEY = _sql["money"]
STOCK = _sql["stock"]
BREAKERS = _sql["breakers"]
QUEUES_NOW = _sql["queues"]
CALLS = _sql["calls"]
WORKERS = _sql["workers"]

EVERY = 0.8  # seconds: what happens is shown within one, and many orders a minute cost a look more
# Looks that take long leave most of the time to everybody else.
_REST = 5  # times as long as a look takes, from one to the next
_SUMS_EVERY = 30.0
_SUMS_GOOD_FOR = 60.0  # older ones are waited for
_SUMS_PATIENCE = 1.0  # and for no longer
_REDIS_PATIENCE = 1.0
_MOST_ORDERS = 20_000
_BULKS = 50
LATE = 10.0  # seconds that an event may wait for the relay
_log = telemetry.log("console")


@dataclass(frozen=True, slots=True)
class Money:
    """In minor units. `kept` is what the orders say that should be here."""

    currency: str
    orders: int
    since: datetime
    captured: int
    refunded: int
    kept: int

    @property
    def difference(self) -> int:
        return self.captured - self.refunded - self.kept


@dataclass(frozen=True, slots=True)
class Goods:
    """Units. `reserved`: what active reservations say of `held`."""

    on_hand: int = 0
    held: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.on_hand - self.held


@dataclass(frozen=True, slots=True)
class Sums:
    """What is added up now and then. `violations`: rows that break an invariant, by check; None: nobody watches."""

    money: Sequence[Money] = ()
    goods: Goods = field(default_factory=Goods)
    violations: dict[str, int] | None = None
    budgets: Sequence[Budget] = ()


@dataclass(frozen=True, slots=True)
class Queue:
    """One of the four: how much stands there, and how."""

    name: str
    rate_limit: int | None
    is_paused: bool
    ready: int
    delayed: int
    retrying: int
    running: int
    dead: int
    oldest_seconds: float
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `rates`: items a second."""

    at: datetime
    is_database_up: bool = False
    is_redis_up: bool = False
    stuck: int = 0
    letters: int = 0
    behind: int = 0
    oldest_seconds: float = 0
    breakers: Sequence[Any] = ()
    are_payments_held: bool = False
    queues: Sequence[Queue] = ()
    calls: Sequence[Any] = ()
    minutes: Sequence[Minute] = ()
    throughput: Mapping[str, Throughput] = field(default_factory=dict)
    workers: Sequence[Any] = ()
    processes: Processes = field(default_factory=Processes)
    bulks: Sequence[Bulk] = ()
    rates: Mapping[UUID, float] = field(default_factory=dict)
    sums: Sums = field(default_factory=Sums)

    @property
    def money(self) -> Sequence[Money]:
        return self.sums.money

    @property
    def goods(self) -> Goods:
        return self.sums.goods

    @property
    def violations(self) -> dict[str, int] | None:
        return self.sums.violations

    @property
    def budgets(self) -> Sequence[Budget]:
        return self.sums.budgets

    @property
    def open_breakers(self) -> list[Any]:
        """Those that somebody waits for: one that nobody asks anything stands open, and holds nobody."""
        return [one for one in self.breakers if one["state"] != "CLOSED"] if self.are_payments_held else []

    @property
    def broken(self) -> dict[str, int]:
        return {name: count for name, count in (self.violations or {}).items() if count}

    @property
    def is_late(self) -> bool:
        return self.oldest_seconds > LATE

    @property
    def is_well(self) -> bool:
        """Nobody has to do anything."""
        is_up = self.is_database_up and self.is_redis_up
        is_quiet = not (self.stuck or self.letters or self.open_breakers or self.is_late or self.broken)
        return is_up and is_quiet and self.processes.are_well and not any(one.difference for one in self.money)


class Pulse:
    """Looks, and remembers the last look until the next one is due."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._looking: asyncio.Task[Seen] | None = None
        self._due_at = -math.inf
        self._hour = Hour()
        self._sums = Sums()
        self._summing: asyncio.Task[None] | None = None
        self._summed_at = self._sums_begun_at = -math.inf
        self._could_sum = True

    async def look(self) -> Seen:
        """How it is, or was a moment ago."""
        if self._looking is None or (self._looking.done() and self.due_in == 0):
            self._looking = asyncio.create_task(self._look())
        # Who goes away takes nobody's look along.
        return await asyncio.shield(self._looking)

    @property
    def due_in(self) -> float:
        """Seconds until a look is a new one."""
        return max(0.0, self._due_at - _now())

    def forget(self) -> None:
        """Somebody has changed something here: the next look is a new one."""
        self._looking = None

    async def _look(self) -> Seen:
        began = _now()
        try:
            await self._keep_summing()
            return await self._seen()
        finally:
            self._due_at = began + max(EVERY, _REST * (_now() - began))

    async def _seen(self) -> Seen:
        counted = await self._counters()
        is_redis_up, now = counted is not None, clock.now()
        try:
            async with self._parts.database.connection() as tx:
                await self._hour.read_running(tx, now)
                behind, oldest = await outbox.lag(tx, "events")
                return Seen(
                    now,
                    is_database_up=self._could_sum,
                    is_redis_up=is_redis_up,
                    stuck=await log.stuck_count(tx),
                    letters=await dead_letters.open_count(tx),
                    behind=behind,
                    oldest_seconds=oldest,
                    breakers=await BREAKERS.rows(tx),
                    are_payments_held=await breaker.is_open(tx),
                    queues=[_queue(row, counted or {}) for row in await QUEUES_NOW.rows(tx)],
                    calls=await CALLS.rows(tx),
                    minutes=self._hour.minutes(now),
                    throughput={one.queue: one for one in await throughput.of_hour(tx)},
                    workers=await WORKERS.rows(tx),
                    processes=await processes.look(tx, self._parts.lists.replica),
                    bulks=await bulks.lately(tx, _BULKS),
                    rates=await bulks.rates(tx),
                    sums=self._sums,
                )
        except DependencyFault as fault:
            _log.warning("the overview could not be read", error=str(fault))
            return Seen(now, is_redis_up=is_redis_up)

    async def _keep_summing(self) -> None:
        """Add up beside the looks; only what is missing or old is waited for, and not for long."""
        if (self._summing is None or self._summing.done()) and _now() - self._sums_begun_at >= _SUMS_EVERY:
            self._sums_begun_at = _now()
            self._summing = asyncio.create_task(self._sum())
        if self._summing is not None and _now() - self._summed_at > _SUMS_GOOD_FOR:
            await asyncio.wait([self._summing], timeout=_SUMS_PATIENCE)

    async def _sum(self) -> None:
        try:
            async with self._parts.assembly.lists.connection() as tx:
                await self._hour.read_all(tx, clock.now())
                money = [_money(row) for row in await MONEY.rows(tx, _MOST_ORDERS)]
                goods = await STOCK.row(tx)
                budgets = await objectives.budgets(tx, self._parts.settings)
        except DependencyFault as fault:
            _log.warning("the overview's sums could not be read", error=str(fault))
            self._could_sum = False
            return
        assert goods is not None
        lies = Goods(**{name: int(units) for name, units in goods.items()})
        self._sums = Sums(money, lies, await asyncio.to_thread(processes.violations), budgets)
        self._could_sum, self._summed_at = True, _now()

    async def _counters(self) -> dict[str, dict[str, int]] | None:
        streams = self._parts.assembly.streams
        try:
            async with asyncio.timeout(_REDIS_PATIENCE):
                return {queue: await streams.counters(queue) for queue in QUEUES}
        except (DependencyFault, TimeoutError):
            return None


def _now() -> float:
    return asyncio.get_running_loop().time()


def _money(row: Any) -> Money:
    captured, refunded, kept = (int(row[name]) for name in ("captured", "refunded", "kept"))
    return Money(row["currency"], row["orders"], row["since"], captured, refunded, kept)


def _queue(row: Any, counted: dict[str, dict[str, int]]) -> Queue:
    jobs = counted.get(row["name"], {})
    return Queue(**dict(row), completed=jobs.get("completed", 0), failed=jobs.get("failed", 0))
