"""A worker: reads hints, lets the engine carry sagas on, makes the calls outside, hands on what others serve."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from comanda import telemetry, tracing
from comanda.db import Database
from comanda.errors import DatabaseFault, RedisFault
from comanda.failpoints import Boundary
from comanda.messaging import dead_letters, switches
from comanda.messaging.dead_letters import DeadLetter
from comanda.messaging.streams import Hint, Streams
from comanda.messaging.switches import Switch
from comanda.resilience.loops import loop, nap
from comanda.saga import Saga
from comanda.saga.batch import Call, Result
from comanda.saga.definition import Alarm, unheard
from comanda.saga.engine import Engine
from comanda.saga.rescue import by_queue

BURY = Boundary("queue.bury")

_log = telemetry.log("worker")
_BATCH = 384  # sagas in one transaction at the most
_MESSAGES = 100  # messages of one read: a batch is as large as what has come meanwhile
_WORTHWHILE = 50  # room for so many calls is waited for, when so many sagas wait: not a transaction for each
_SWITCHES_EVERY = 1.0
_GATHER = 0.03  # seconds between two reads of a queue where several come at a time: not a transaction for each few
_NAP = 0.05  # seconds until a paused or limited queue is looked at again
_DRAIN = 15.0  # seconds that calls may take to come back, at the end; then their sagas are left to be rescued


@dataclass
class _Lanes:
    """What the lanes of one worker share."""

    switches: dict[str, Switch] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    in_hand: Counter[str] = field(default_factory=Counter)  # of hints that were read, sagas not begun yet
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    freed: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """One process of workers.

    Args:
        database: the truth.
        streams: the hints.
        sagas: the definitions that it can run.
        name: in leases, history and logs.
        queues: those that it serves.
        lease: how long a call may go without a heartbeat.
        in_flight: calls of each queue that may be out at once.
        gather: seconds from one read of a queue to the next, where the last brought several sagas and left none.
        alarm: told about dead letters.
    """

    def __init__(
        self,
        database: Database,
        streams: Streams,
        sagas: Sequence[Saga],
        *,
        name: str,
        queues: Sequence[str],
        lease: timedelta,
        in_flight: int = 500,
        gather: float = _GATHER,
        alarm: Alarm = unheard,
    ) -> None:
        self._database = database
        self._streams = streams
        self._name = name
        self._queues = queues
        self._lease = lease
        self._limit = in_flight
        self._gather = gather
        self._lanes = _Lanes()
        self._alarm = alarm
        self._engine = Engine(
            database, sagas, worker=name, lease=lease, serves=self._serves_freely, room=self._room_to_pass, alarm=alarm
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve the queues until told to stop; then let the calls that are out come back, and end."""
        alive = asyncio.Event()
        heart = asyncio.create_task(loop("heartbeat", self._beat, stop=alive, every=self._lease.total_seconds() / 3))
        try:
            async with asyncio.TaskGroup() as lanes:
                lanes.create_task(loop("switches", self._read_switches, stop=stop, every=_SWITCHES_EVERY))
                for queue in self._queues:
                    lanes.create_task(loop(queue, self._turn(queue, stop), stop=stop, every=0))
                    lanes.create_task(
                        loop(
                            f"{queue} take-over",
                            self._take_over(queue, stop),
                            stop=stop,
                            every=self._lease.total_seconds(),
                        )
                    )
            await self._come_back()
        finally:
            alive.set()
            await heart

    async def _come_back(self) -> None:
        """Wait for the calls that are out. What PostgreSQL can't take in time is rescued later."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + _DRAIN
        while self._lanes.calls and (left := deadline - clock()) > 0:
            await asyncio.wait(self._lanes.calls, timeout=left)
        for call in self._lanes.calls:
            call.cancel()
        await asyncio.gather(*self._lanes.calls, return_exceptions=True)

    def _serves_freely(self, queue: str) -> bool:
        """Whether a step of that queue may be run right after another one: ours, not paused, no limit to count for."""
        switch = self._lanes.switches.get(queue, Switch())
        return queue in self._queues and not switch.is_paused and switch.rate_limit is None

    def _is_paused(self, queue: str) -> bool:
        """Nothing is begun before the switches have been read once."""
        return not self._lanes.switches or self._lanes.switches.get(queue, Switch()).is_paused

    def _room(self, queue: str) -> int:
        return self._limit - self._lanes.in_flight[queue]

    def _room_to_pass(self, queue: str) -> int:
        """Calls for sagas that come from a step before: none while others wait at that queue, who came earlier."""
        return 0 if self._lanes.in_hand[queue] else self._room(queue)

    async def _beat(self) -> bool:
        await self._engine.heartbeat()
        return False

    async def _read_switches(self) -> bool:
        async with self._database.connection() as tx:
            self._lanes.switches = await switches.read(tx)
        return False

    def _turn(self, queue: str, stop: asyncio.Event) -> Callable[[], Awaitable[bool]]:
        """One turn of a lane: read hints, or, with none there, look into PostgreSQL.

        Where several came at a time, more are on their way: the next read waits for them. A saga that comes alone, and
        one after a read that left some behind, is taken at once.
        """
        clock = asyncio.get_running_loop().time
        again_at = 0.0

        async def turn() -> bool:
            nonlocal again_at
            if self._is_paused(queue):
                await nap(_NAP, stop)
                return True
            if (pause := again_at - clock()) > 0:
                await nap(pause, stop)
                if stop.is_set():
                    return False
            hints = await self._read(queue, stop)
            read = sum(len(hint.ids or ()) for hint in hints)
            again_at = clock() + self._gather if read > 1 and len(hints) < _MESSAGES else 0.0
            if hints:
                await self._work_on(queue, hints, stop)
            elif not stop.is_set():
                await self._look(queue, stop)
            return True

        return turn

    async def _read(self, queue: str, stop: asyncio.Event) -> list[Hint]:
        """Hints, or none after a while; a read that waits is given up when the worker is told to stop."""
        reading = asyncio.ensure_future(self._streams.read(queue, self._name, _MESSAGES))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return []
            try:
                return reading.result()
            except RedisFault:
                await nap(0.2, stop)
                return []
        finally:
            reading.cancel()
            stopping.cancel()

    def _take_over(self, queue: str, stop: asyncio.Event) -> Callable[[], Awaitable[bool]]:
        """What a worker that died had read and not acknowledged."""

        async def turn() -> bool:
            if self._is_paused(queue):
                return False
            hints = await self._streams.take_over(queue, self._name, self._lease.total_seconds())
            if hints:
                await self._work_on(queue, hints, stop, is_again=True)
            return bool(hints)

        return turn

    async def _look(self, queue: str, stop: asyncio.Event) -> None:
        """Claim from PostgreSQL itself, as long as there is something."""
        while not stop.is_set() and not self._is_paused(queue):
            limit = await self._granted(queue, max(0, min(_BATCH, self._room(queue))))
            if limit == 0:
                return
            result = await self._engine.run_again(queue, None, limit)
            await self._act_on(queue, result)
            if result.claimed < limit:
                await self._granted(queue, result.claimed - limit)  # what was not used is there for the next
                return

    async def _work_on(self, queue: str, hints: Sequence[Hint], stop: asyncio.Event, *, is_again: bool = False) -> None:
        """Carry on what the hints name, in pieces that there is room for; then acknowledge.

        `is_again`: another worker had them before, and may have died of them.

        What is left when the worker is told to stop, or the queue to pause, is hinted at again.
        """
        ids = list(dict.fromkeys(one for hint in hints for one in hint.ids or []))
        self._lanes.in_hand[queue] += len(ids)
        try:
            while ids and not stop.is_set() and not self._is_paused(queue):
                self._lanes.freed.clear()
                limit = await self._granted(queue, self._worthwhile(queue, len(ids)))
                if limit <= 0:
                    await nap(_NAP, self._lanes.freed, stop)
                    continue
                piece, ids = ids[:limit], ids[limit:]
                self._lanes.in_hand[queue] -= len(piece)
                run = self._engine.run_again if is_again else self._engine.run
                result = await run(queue, piece, limit)
                await self._act_on(queue, result)
        finally:
            self._lanes.in_hand[queue] -= len(ids)
        unreadable = [hint for hint in hints if hint.ids is None]
        if unreadable:
            await self._bury(queue, unreadable)
        try:
            await self._streams.offer(queue, ids)
            await self._streams.acknowledge(hints)
        except RedisFault as fault:
            _log.warning("messages stay unacknowledged; working on them again is harmless", error=str(fault))

    def _worthwhile(self, queue: str, waiting: int) -> int:
        """How many of those that wait there is room for; none while that is too few for a transaction."""
        room = self._room(queue)
        return 0 if room < min(waiting, _WORTHWHILE, self._limit) else min(_BATCH, room, waiting)

    async def _granted(self, queue: str, wanted: int) -> int:
        if wanted == 0:
            return 0
        return await self._streams.grant(queue, self._lanes.switches.get(queue, Switch()).rate_limit, wanted)

    async def _act_on(self, queue: str, result: Result) -> None:
        """After a commit: start the calls, hint at what others carry on."""
        for call in result.calls:
            self._lanes.in_flight[call.step.queue] += 1
            task = asyncio.create_task(self._call(call))
            self._lanes.calls.add(task)
            task.add_done_callback(self._lanes.calls.discard)
        if result.onward or result.completed or result.failed:
            try:
                await self._streams.offer_all(result.onward, completed=result.completed, failed=result.failed)
            except RedisFault as fault:
                _log.warning("no hint could be given; workers look into PostgreSQL", queue=queue, error=str(fault))

    async def _call(self, call: Call) -> None:
        """One call, with the order's correlation id in every line that it logs."""
        with telemetry.correlated(call.correlation_id), tracing.within(call.traceparent):
            try:
                result = await self._engine.call(call)
            except DatabaseFault as fault:
                _log.warning(
                    "a result was not stored in time; its saga is rescued and asks the other side first",
                    saga=str(call.job.saga_id), error=str(fault),
                )  # fmt: skip
                return
            except Exception:  # noqa: BLE001 - whatever it was, its saga is rescued
                _log.exception("a call's result is lost; its saga is rescued", saga=str(call.job.saga_id))
                return
            finally:
                self._lanes.in_flight[call.step.queue] -= 1
                self._lanes.freed.set()
        await self._act_on(call.step.queue, result)

    async def _bury(self, queue: str, hints: Sequence[Hint]) -> None:
        letters = [
            DeadLetter(queue, "read", "forward", "unreadable message", payload={"body": repr(dict(hint.body))[:1000]})
            for hint in hints
        ]
        async with self._database.transaction(BURY) as tx:
            await dead_letters.bury(tx, letters)
            due = await self._alarm(tx, letters)
        _log.error("a message could not be read: `comanda dead-letters list` shows it", queue=queue, count=len(letters))
        await self._streams.offer_all(by_queue(due))
