"""How the shop is, looked at once a second at the most, however many consoles are open, and only while one is."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from comanda import clock, telemetry
from comanda.api.parts import Parts
from comanda.bulk import bulks
from comanda.bulk.bulks import Bulk
from comanda.db import Tx, twin
from comanda.errors import DependencyFault
from comanda.messaging import dead_letters, outbox, switches
from comanda.messaging.streams import QUEUES
from comanda.saga import log

_sql = twin(__file__)
MINUTES = _sql["minutes"]
MONEY = _sql["money"]
STOCK = _sql["stock"]
BREAKERS = _sql["breakers"]
TROUBLES = _sql["troubles"]
CALLS = _sql["calls"]

EVERY = 1.0  # seconds
_SELDOM_EVERY = 10.0
_SHOWN = 60  # minutes
_UNSETTLED = 10  # minutes: orders of younger ones may still end
_MOST_ORDERS = 20_000
_BULKS = 50
LATE = 10.0  # seconds that an event may wait for the relay
_MINUTE = timedelta(minutes=1)
_log = telemetry.log("console")


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute's orders; seconds to the confirmation: half of them, 95 %, 99 % were faster."""

    at: datetime
    placed: int = 0
    confirmed: int = 0
    cancelled: int = 0
    seconds: Sequence[float] | None = None


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
class Queue:
    """One of the four: how much stands there, and how."""

    name: str
    ready: int
    delayed: int
    running: int
    oldest_seconds: float
    retrying: int
    dead: int
    rate_limit: int | None
    is_paused: bool
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `violations`: rows that break an invariant, by check; None: nobody watches. `rates`: items a second."""

    at: datetime
    is_database_up: bool = False
    is_redis_up: bool = False
    stuck: int = 0
    letters: int = 0
    behind: int = 0
    oldest_seconds: float = 0
    breakers: Sequence[Any] = ()
    queues: Sequence[Queue] = ()
    calls: Sequence[Any] = ()
    minutes: Sequence[Minute] = ()
    money: Sequence[Money] = ()
    goods: Goods = field(default_factory=Goods)
    violations: dict[str, int] | None = None
    bulks: Sequence[Bulk] = ()
    rates: Mapping[UUID, float] = field(default_factory=dict)

    @property
    def open_breakers(self) -> list[Any]:
        return [one for one in self.breakers if one["state"] != "CLOSED"]

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
        return is_up and is_quiet and not any(one.difference for one in self.money)


class Pulse:
    """Looks, and remembers the last look for a second."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._looking: asyncio.Task[Seen] | None = None
        self._looked_at = -EVERY
        self._seldom_at = -_SELDOM_EVERY
        self._minutes: dict[datetime, Minute] = {}
        self._money: Sequence[Money] = ()
        self._goods = Goods()
        self._violations: dict[str, int] | None = None

    async def look(self) -> Seen:
        """How it is, or was less than a second ago."""
        now = asyncio.get_running_loop().time()
        if self._looking is None or (self._looking.done() and now - self._looked_at >= EVERY):
            self._looked_at = now
            self._looking = asyncio.create_task(self._look())
        # Who goes away takes nobody's look along.
        return await asyncio.shield(self._looking)

    def forget(self) -> None:
        """Somebody has changed something here: the next look is a new one."""
        self._looking = None

    async def _look(self) -> Seen:
        counted = await self._counters()
        is_redis_up = counted is not None
        try:
            async with self._parts.assembly.lists.connection() as tx:
                await self._seldom(tx)
                await self._read_minutes(tx, _recent(2))
                behind, oldest = await outbox.lag(tx, "events")
                return Seen(
                    clock.now(),
                    is_database_up=True,
                    is_redis_up=is_redis_up,
                    stuck=await log.stuck_count(tx),
                    letters=await dead_letters.open_count(tx),
                    behind=behind,
                    oldest_seconds=oldest,
                    breakers=await BREAKERS.rows(tx),
                    queues=await self._queues(tx, counted or {}),
                    calls=await CALLS.rows(tx),
                    minutes=[self._minutes.get(one, Minute(one)) for one in _recent(_SHOWN)],
                    money=self._money,
                    goods=self._goods,
                    violations=self._violations,
                    bulks=await bulks.lately(tx, _BULKS),
                    rates=await bulks.rates(tx),
                )
        except DependencyFault as fault:
            _log.warning("the overview could not be read", error=str(fault))
            return Seen(clock.now(), is_redis_up=is_redis_up)

    async def _seldom(self, tx: Tx) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._seldom_at < _SELDOM_EVERY:
            return
        self._seldom_at = now
        known = {at: one for at, one in self._minutes.items() if at >= _recent(_SHOWN)[0]}
        self._minutes = known
        young = set(_recent(_UNSETTLED))
        await self._read_minutes(tx, [at for at in _recent(_SHOWN) if at in young or at not in known])
        self._money = [Money(**dict(row)) for row in await MONEY.rows(tx, _MOST_ORDERS)]
        goods = await STOCK.row(tx)
        assert goods is not None
        self._goods = Goods(**dict(goods))
        self._violations = await asyncio.to_thread(_violations)

    async def _read_minutes(self, tx: Tx, wanted: Sequence[datetime]) -> None:
        for row in await MINUTES.rows(tx, wanted):
            seconds = row["seconds"] if row["seconds"] and row["seconds"][0] is not None else None
            one = Minute(row["minute"], row["placed"], row["confirmed"], row["cancelled"], seconds)
            self._minutes[one.at] = one

    @staticmethod
    async def _queues(tx: Tx, counted: dict[str, dict[str, int]]) -> list[Queue]:
        known = await switches.read(tx)
        troubles = {row["name"]: row for row in await TROUBLES.rows(tx)}
        return [
            Queue(
                row["queue"], row["ready"], row["delayed"], row["running"], row["oldest_seconds"],
                troubles[row["queue"]]["retrying"], troubles[row["queue"]]["dead"],
                known[row["queue"]].rate_limit, known[row["queue"]].is_paused,
                counted.get(row["queue"], {}).get("completed", 0), counted.get(row["queue"], {}).get("failed", 0),
            )
            for row in await log.depths(tx)
        ]  # fmt: skip

    async def _counters(self) -> dict[str, dict[str, int]] | None:
        streams = self._parts.assembly.streams
        try:
            async with asyncio.timeout(EVERY):
                return {queue: await streams.counters(queue) for queue in QUEUES}
        except (DependencyFault, TimeoutError):
            return None


def _recent(count: int) -> list[datetime]:
    """The last minutes with the one that runs, oldest first."""
    this = clock.now().replace(second=0, microsecond=0)
    return [this - _MINUTE * back for back in range(count - 1, -1, -1)]


def _violations() -> dict[str, int] | None:
    """As the relay last saw them: a metric that all processes of this machine share."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for family in registry.collect():
        if family.name == "comanda_invariant_violations":
            found = {sample.labels["check"]: int(sample.value) for sample in family.samples}
            return found or None
    return None
