"""What happens to orders, told to those who watch: from Redis as it happens, from PostgreSQL what was missed.

One reader for the whole process, however many watch, and only while somebody does. An order's events have one sequence
(`outbox.settled_of_orders`): who names the last one that they saw is told what comes after it, without gap or repeat.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import msgspec

from comanda import telemetry
from comanda.accounts import accounts
from comanda.db import Batcher, Database
from comanda.errors import DatabaseFault, RedisFault
from comanda.messaging import outbox
from comanda.messaging.streams import Streams
from comanda.resilience.loops import loop, nap

_READ = 1000  # events at once
_FILL = 500  # orders that are looked up at once
_FILL_EVERY = 15.0  # seconds: what fell out of Redis unseen
_OUTAGE_FILL_EVERY = 1.0
_MOST = 10_000  # who watch at one process
_MOST_UNREAD = 500  # events that a watcher may be behind; then it has to come again
_log = telemetry.log("feed")


class Told(msgspec.Struct, frozen=True):
    """One event, as it is sent."""

    id: UUID
    type: str
    envelope: bytes


class _Seen(msgspec.Struct, rename="camel"):
    """Of an envelope what tells whose it is."""

    id: UUID
    type: str
    aggregate_type: str
    aggregate_id: UUID
    data: Any


class Watch:
    """Somebody who watches an order, as the account and the role that were let in. `None` in the queue: it is over."""

    def __init__(self, order_id: UUID, who: UUID, role: str) -> None:
        self.order_id = order_id
        self.who = who
        self.role = role
        self._told: set[UUID] = set()
        self._early: list[Told] | None = []  # what came before it was known what is wanted
        self._unread: asyncio.Queue[Told | None] = asyncio.Queue()
        self._is_over = False

    def begin(self, known: Iterable[UUID], missed: Iterable[Told]) -> None:
        """From here on it is told events: those that it missed, what came meanwhile, and what comes."""
        early, self._early = self._early or [], None
        self._told.update(known)
        for event in (*missed, *early):
            self.tell(event)

    def tell(self, event: Told) -> None:
        if self._early is not None:
            self._early.append(event)
            return
        if event.id in self._told or self._is_over:
            return
        if self._unread.qsize() >= _MOST_UNREAD:
            self.end()
            return
        self._told.add(event.id)
        self._unread.put_nowait(event)

    def end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._unread.put_nowait(None)

    async def next(self, within: float) -> Told | None:
        """The next event; None at the end.

        Raises:
            TimeoutError: nothing happened meanwhile, within so many seconds.
        """
        async with asyncio.timeout(within):
            return await self._unread.get()


class Feed:
    """Tells events to who watches.

    Args:
        database: where all of them stand.
        streams: where they come by.
        is_draining: the process is about to stop: whoever watches is sent away, to another one.
    """

    def __init__(self, database: Database, streams: Streams, *, is_draining: Callable[[], bool]) -> None:
        self._database = database
        self._streams = streams
        self._is_draining = is_draining
        # Hundreds may begin at once: after an outage, or when another process is replaced.
        self._beginnings: Batcher[UUID, list[Told]] = Batcher(self._begin_all, limit=_FILL)
        self._watches: dict[UUID, set[Watch]] = defaultdict(set)
        self._of_account: Counter[UUID] = Counter()
        self._wanted = asyncio.Event()
        self._reads = asyncio.Event()  # from now on nothing is missed
        self._at: str | None = None
        self._filled_at = 0.0
        self._filled_to = outbox.FIRST  # what was settled before has been told to all who watch

    @property
    def count(self) -> int:
        """How many watch."""
        return sum(len(watches) for watches in self._watches.values())

    @contextmanager
    def watch(self, order_id: UUID, who: UUID, role: str) -> Iterator[Watch]:
        """Watch an order; call `begin` next. An account that is no longer there in this role is told no more."""
        watch = Watch(order_id, who, role)
        self._watches[order_id].add(watch)
        self._of_account[who] += 1
        self._wanted.set()
        try:
            yield watch
        finally:
            self._of_account[who] -= 1
            if not self._of_account[who]:
                del self._of_account[who]
            self._watches[order_id].discard(watch)
            if not self._watches[order_id]:
                del self._watches[order_id]
            if not self._watches:
                self._wanted.clear()

    def has_room(self, who: UUID, most: int | None) -> bool:
        """Whether one more may watch: of all, and of those of this account."""
        return self.count < _MOST and (most is None or self._of_account[who] < most)

    async def begin(self, watch: Watch, last: UUID | None, *, is_new_only: bool = False) -> None:
        """Tell it what has happened so far, after the event `last` (an unknown one is as none), or only what comes.

        Raises:
            DatabaseFault: what has happened can't be known now.
        """
        await self._reads.wait()
        events = await self._beginnings.submit(watch.order_id)
        ids = [one.id for one in events]
        seen = len(ids) if is_new_only else ids.index(last) + 1 if last in ids else 0
        watch.begin(ids[:seen], events[seen:])

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop."""
        try:
            await loop("feed", self._turn(stop), stop=stop, every=0)
        finally:
            self._end()

    def _turn(self, stop: asyncio.Event) -> Callable[[], Any]:
        async def turn() -> bool:
            if self._is_draining():
                self._end()
            if not self._watches:
                self._at = None
                self._reads.clear()
                await nap(1.0, self._wanted, stop)
                return True
            await self._read(stop)
            clock = asyncio.get_running_loop().time()
            if clock - self._filled_at > _FILL_EVERY:
                await self._fill()
            return True

        return turn

    async def _read(self, stop: asyncio.Event) -> None:
        try:
            if self._at is None:
                self._at = await self._streams.last_event()
                await self._fill()
            self._reads.set()
            events = await self._streams.events_after(self._at, _READ)
            if events:
                await self._tell([envelope for _, envelope in events])
                self._at = events[-1][0]
        except RedisFault:
            self._at = None
            self._reads.set()  # what is told comes from PostgreSQL meanwhile
            await self._fill()
            await nap(_OUTAGE_FILL_EVERY, stop)

    async def _tell(self, envelopes: Iterable[bytes]) -> None:
        news: list[tuple[Watch, Told]] = []
        for envelope in envelopes:
            try:
                seen = msgspec.json.decode(envelope, type=_Seen)
            except msgspec.DecodeError:
                _log.warning("an event can't be read", found=envelope[:200].decode(errors="replace"))
                continue
            order_id = seen.aggregate_id if seen.aggregate_type == "order" else _order_of(seen.data)
            told = Told(seen.id, seen.type, envelope)
            news += [(watch, told) for watch in self._watches.get(order_id, ())] if order_id is not None else []
        await self._end_strangers({watch for watch, _ in news})
        for watch, told in news:
            watch.tell(told)

    async def _end_strangers(self, watches: Collection[Watch]) -> None:
        """Before anything is told: whoever was switched off or has another role by now is sent away."""
        if not watches:
            return
        known = list({(watch.who, watch.role) for watch in watches})
        async with self._database.connection() as tx:
            still = await accounts.still(tx, known)
        for watch in watches:
            if (watch.who, watch.role) not in still:
                watch.end()

    async def _fill(self) -> None:
        """Tell everybody what they have missed since it was last done, or since they began."""
        await self._end_strangers({watch for watches in self._watches.values() for watch in watches})
        async with self._database.connection() as tx:
            to = await outbox.settled_up_to(tx)
        watched = list(self._watches)  # after that: who comes later looks up more than it
        for start in range(0, len(watched), _FILL):
            missed = await self._look_up(watched[start : start + _FILL], self._filled_to)
            for order_id, events in missed.items():
                for watch in list(self._watches.get(order_id, ())):
                    for event in events:
                        watch.tell(event)
        self._filled_to = to
        self._filled_at = asyncio.get_running_loop().time()

    async def _begin_all(self, order_ids: Sequence[UUID]) -> Sequence[list[Told] | Exception]:
        """What is known of each of these; if PostgreSQL is away, that is so for all of them."""
        try:
            known = await self._look_up(list(dict.fromkeys(order_ids)))  # many may watch one order
        except DatabaseFault as fault:
            return [fault] * len(order_ids)
        return [known.get(order_id, []) for order_id in order_ids]

    async def _look_up(self, order_ids: list[UUID], since: str = outbox.FIRST) -> dict[UUID, list[Told]]:
        found: dict[UUID, list[Told]] = defaultdict(list)
        async with self._database.connection() as tx:
            for order_id, row in await outbox.settled_of_orders(tx, order_ids, since):
                found[order_id].append(Told(row["id"], row["type"], outbox.envelope(row)))
        return found

    def _end(self) -> None:
        for watches in list(self._watches.values()):
            for watch in list(watches):
                watch.end()


def _order_of(data: Any) -> UUID | None:
    try:
        return UUID(data["orderId"])
    except (KeyError, TypeError, ValueError):
        return None
