"""The queues' Redis streams. They carry hints only: what is due stands in PostgreSQL, so all of this may vanish.

A queue has a stream for each priority, under one hash tag. A message is a pack of saga ids.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from comanda import telemetry
from comanda.clock import id_of
from comanda.errors import RedisFault
from comanda.failpoints import Boundary
from comanda.messaging.queues import PRIORITIES
from comanda.resilience import limits

GROUP = "workers"
EVENTS = "comanda:events"
_WROTE = "comanda:wrote:"
_INDEX = "comanda:{limits}:index"
OFFER = Boundary("redis.offer")
ACKNOWLEDGE = Boundary("redis.acknowledge")
TAKE_OVER = Boundary("redis.take_over")
READ = Boundary("redis.read")
GRANT = Boundary("redis.grant")
SETTLE = Boundary("redis.settle")
PUBLISH = Boundary("redis.publish")
MARK = Boundary("redis.mark")
FORGET = Boundary("redis.forget")
CREATE = Boundary("redis.create")

_log = telemetry.log("queues")
_PACK = 100  # ids in one message at the most
_CAP = 10_000  # messages that a stream keeps at the most: the relay offers again what falls off
_EVENTS_CAP = 100_000
_ID_BYTES = 16

# KEYS[1] the bucket; ARGV: rate (tokens a second, and the burst), wanted. Redis' clock, so that all workers share it.
_TAKE = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
local rate, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(rate, (tonumber(kept[1]) or rate) + math.max(0, at - (tonumber(kept[2]) or at)) * rate)
local granted = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens - granted), 'at', tostring(at))
redis.call('EXPIRE', KEYS[1], 60)
return granted
"""

# KEYS[1] names this index: whoever finds another name there knows that it was emptied. Then the buckets of clients,
# each the time at which it is full again. ARGV[1] is the name of an index that has none; then, for each bucket, the
# seconds until it is full as far as who asks knows, and those in which what was taken since fills up. Returns the name,
# and the seconds until each is full.
_SETTLE = """
local now = redis.call('TIME')
local at = now[1] + now[2] / 1000000
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local told = {redis.call('GET', KEYS[1])}
for i = 2, #KEYS do
    local known, taken = tonumber(ARGV[2 * i - 2]), tonumber(ARGV[2 * i - 1])
    local full_at = math.max(tonumber(redis.call('GET', KEYS[i])) or at, at + known) + taken
    redis.call('SET', KEYS[i], string.format('%.6f', full_at), 'PX', math.ceil((full_at - at) * 1000) + 1)
    told[i] = string.format('%.6f', full_at - at)
end
return told
"""

# KEYS[1] the stream; ARGV[1] its cap, then the events.
_PUBLISH = """
for i = 2, #ARGV do
    redis.call('XADD', KEYS[1], '*', 'event', ARGV[i])
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[1])
return #ARGV - 1
"""


class Hint(msgspec.Struct, frozen=True):
    """One message: the saga ids that it carries (None: unreadable), and what to acknowledge."""

    ids: list[UUID] | None
    stream: str
    message_id: bytes
    body: Mapping[bytes, bytes]


def stream_of(queue: str, priority: int) -> str:
    return f"comanda:{{{queue}}}:{priority}"


def _key(queue: str, what: str) -> str:
    return f"comanda:{{{queue}}}:{what}"


@contextmanager
def _translated(boundary: Boundary | None = None) -> Iterator[None]:
    """Redis' faults in our words; around a write, with its boundary."""
    try:
        if boundary is None:
            yield
        else:
            with boundary:
                yield
    # The event loop raises a bare RuntimeError when a connection is reset between its start and its first write.
    except (RedisError, OSError, TimeoutError, RuntimeError) as fault:
        raise RedisFault(f"Redis: {str(fault) or type(fault).__name__}") from fault


def pack(ids: Sequence[UUID]) -> list[bytes]:
    """Saga ids as the bodies of messages."""
    return [b"".join(one.bytes for one in ids[at : at + _PACK]) for at in range(0, len(ids), _PACK)]


def unpack(body: Mapping[bytes, bytes]) -> list[UUID] | None:
    """The saga ids of a message; None when it is not one of ours."""
    ids = body.get(b"ids")
    if not ids or len(ids) % _ID_BYTES:
        return None
    return [id_of(ids[at : at + _ID_BYTES]) for at in range(0, len(ids), _ID_BYTES)]


class Streams:
    """A client of the queues' streams. Every method raises `RedisFault` when Redis does not answer."""

    def __init__(self, redis: Redis, *, block: float) -> None:
        self._redis = redis
        self._block_ms = int(block * 1000)
        self._local_buckets: dict[str, limits.Bucket] = {}

    @classmethod
    def open(cls, url: str, *, name: str, block: float = 1.0) -> "Streams":
        """Make a client; it connects when it is first used.

        Args:
            url: of Redis or Valkey.
            name: shown in `CLIENT LIST`.
            block: seconds that a read waits for a message. The socket's time-out has to be longer, or idle reads
                look like failures.
        """
        redis = Redis.from_url(
            url,
            protocol=2,
            socket_timeout=block + 2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
            client_name=name,
            max_connections=64,
        )
        return cls(redis, block=block)

    async def close(self) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        with _translated():
            await self._redis.ping()

    async def offer(self, queue: str, ids: Sequence[UUID], *, priority: int = 1) -> None:
        """Hint that these sagas are due in this queue."""
        await self.offer_all({(queue, priority): ids})

    async def offer_all(
        self,
        due: Mapping[tuple[str, int], Sequence[UUID]],
        *,
        completed: Mapping[str, int] | None = None,
        failed: Mapping[str, int] | None = None,
    ) -> None:
        """Hint for several queues and priorities, and count the jobs that are done, in one round trip."""
        with _translated(OFFER):
            async with self._redis.pipeline(transaction=False) as pipe:
                for (queue, priority), ids in due.items():
                    for body in pack(ids):
                        pipe.xadd(stream_of(queue, priority), {"ids": body}, maxlen=_CAP)
                for name, counted in (("completed", completed), ("failed", failed)):
                    for queue, count in (counted or {}).items():
                        pipe.hincrby(_key(queue, "counters"), name, count)
                if len(pipe):
                    await pipe.execute()

    async def hint(self, due: Mapping[tuple[str, int], Sequence[UUID]], *, patience: float | None = None) -> None:
        """After a commit: tell the workers, who would find out by themselves; so nothing is raised.

        Args:
            due: sagas by queue and priority.
            patience: seconds that it may take, where somebody waits for it; None: as long as any command.
        """
        try:
            async with asyncio.timeout(patience):
                await self.offer_all(due)
        except (RedisFault, TimeoutError) as fault:
            _log.warning("no hint could be given; workers look into PostgreSQL", error=str(fault) or "no answer")

    async def read(self, queue: str, consumer: str, count: int) -> list[Hint]:
        """New messages, the most urgent first; waits for the first one, and is empty after a while."""
        streams: dict[Any, Any] = {stream_of(queue, priority): ">" for priority in PRIORITIES}
        with _translated(READ):
            try:
                answer = await self._redis.xreadgroup(GROUP, consumer, streams, count=count, block=self._block_ms)
            except ResponseError as refusal:
                if not str(refusal).startswith("NOGROUP"):
                    raise
                await self._create_groups(queue)
                return []
        pairs = cast("Sequence[tuple[bytes, Sequence[Any]]]", answer or [])
        return [hint for stream, messages in pairs for hint in self._hints(stream, messages)]

    async def take_over(self, queue: str, consumer: str, idle: float) -> list[Hint]:
        """Messages that a worker read and never acknowledged within so many seconds."""
        found: list[Hint] = []
        with _translated(TAKE_OVER):
            for priority in PRIORITIES:
                stream = stream_of(queue, priority)
                try:
                    answer = await self._redis.xautoclaim(stream, GROUP, consumer, int(idle * 1000), count=100)
                except ResponseError as refusal:
                    if not str(refusal).startswith("NOGROUP"):
                        raise
                    continue
                found += self._hints(stream, answer[1])
        return found

    async def acknowledge(self, hints: Sequence[Hint]) -> None:
        """Forget messages."""
        with _translated(ACKNOWLEDGE):
            async with self._redis.pipeline(transaction=False) as pipe:
                for stream in {hint.stream for hint in hints}:
                    ids = [hint.message_id for hint in hints if hint.stream == stream]
                    pipe.xack(stream, GROUP, *ids)
                    pipe.xdel(stream, *ids)
                await pipe.execute()

    async def unread(self, queue: str) -> int:
        """Messages that no worker has read yet."""
        unread = 0
        with _translated():
            for priority in PRIORITIES:
                try:
                    groups = await self._redis.xinfo_groups(stream_of(queue, priority))
                except ResponseError:
                    continue  # no such stream: nothing to read
                unread += sum(int(group["lag"] or 0) for group in groups)
        return unread

    async def counters(self, queue: str) -> dict[str, int]:
        """Jobs completed and failed since Redis was last empty."""
        with _translated():
            counted = cast("dict[bytes, bytes]", await self._redis.hgetall(_key(queue, "counters")))
        return {name.decode(): int(value) for name, value in counted.items()}

    async def grant(self, queue: str, rate: int | None, wanted: int) -> int:
        """How many of the wanted jobs may start now under the queue's limit, shared by all workers.

        A negative number gives back what was granted and not used.

        Without Redis each worker keeps a bucket of its own: the limit then holds for each of them.
        """
        if rate is None:
            return wanted
        try:
            with _translated(GRANT):
                return int(await self._redis.eval(_TAKE, 1, _key(queue, "bucket"), str(rate), str(wanted)))
        except RedisFault:
            granted, bucket = limits.take(self._local_buckets.get(queue), rate, wanted, time.monotonic())
            self._local_buckets[queue] = bucket
            return granted

    async def settle(self, told: Mapping[str, tuple[float, float]]) -> tuple[bytes, list[float]]:
        """What this process let in, told to the others.

        Args:
            told: by a client's name, the seconds until its bucket is full as far as is known (0: not said), and the
                seconds in which what was taken since then fills up.

        Returns:
            The index's name, which is another one once it was emptied; and the seconds until each client's bucket is
            full for all of them.
        """
        keys = [_INDEX, *(f"comanda:{{limits}}:{name}" for name in told)]
        seconds = [f"{max(0.0, one):.6f}" for pair in told.values() for one in pair]
        with _translated(SETTLE):
            answer = await self._redis.eval(_SETTLE, len(keys), *keys, uuid4().hex, *seconds)
        name, *ahead = cast("Sequence[bytes]", answer)
        return name, [float(one) for one in ahead]

    async def publish(self, events: Sequence[bytes]) -> None:
        """Add events (JSON) to the stream that other systems read, each in a field `event`."""
        # One command for all of them: the client spends more on a command and its answer than on an event.
        with _translated(PUBLISH):
            await self._redis.eval(_PUBLISH, 1, EVENTS, str(_EVENTS_CAP), *events)

    async def last_event(self) -> str:
        """Where the stream of events ends now."""
        with _translated(READ):
            found = cast("Sequence[tuple[bytes, Any]]", await self._redis.xrevrange(EVENTS, count=1))
        return found[0][0].decode() if found else "0-0"

    async def events_after(self, position: str, count: int) -> list[tuple[str, bytes]]:
        """Events after a position, each with its own; waits for the first one, and is empty after a while."""
        with _translated(READ):
            answer = await self._redis.xread({EVENTS: position}, count=count, block=self._block_ms)
        pairs = cast("Sequence[tuple[bytes, Sequence[Any]]]", answer or [])
        return [(at.decode(), body[b"event"]) for _, messages in pairs for at, body in messages]

    async def mark_writer(self, account: UUID, seconds: float) -> None:
        """Remember for so long that this account has just written."""
        with _translated(MARK):
            await self._redis.set(f"{_WROTE}{account}", b"", px=int(seconds * 1000))

    async def wrote_lately(self, account: UUID | None) -> tuple[bool, str]:
        """Whether it is remembered that this account has just written; and who remembers: another run, another id."""
        with _translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.exists(f"{_WROTE}{account}")
                pipe.info("server")
                marks, server = await pipe.execute()
        return marks > 0, server["run_id"]

    async def forget_consumers(self, queue: str, idle: float) -> None:
        """Drop the names of workers that have been gone for so many seconds and hold nothing."""
        with _translated(FORGET):
            for priority in PRIORITIES:
                stream = stream_of(queue, priority)
                try:
                    consumers = await self._redis.xinfo_consumers(stream, GROUP)
                except ResponseError:
                    continue
                for consumer in consumers:
                    if consumer["pending"] == 0 and consumer["idle"] > idle * 1000:
                        await self._redis.xgroup_delconsumer(stream, GROUP, consumer["name"])

    async def _create_groups(self, queue: str) -> None:
        with CREATE:
            for priority in PRIORITIES:
                try:
                    await self._redis.xgroup_create(stream_of(queue, priority), GROUP, id="0", mkstream=True)
                except ResponseError as refusal:
                    if not str(refusal).startswith("BUSYGROUP"):
                        raise

    @staticmethod
    def _hints(stream: bytes | str, messages: Sequence[Any]) -> Iterator[Hint]:
        name = stream.decode() if isinstance(stream, bytes) else stream
        for message_id, body in messages:
            if body is not None:  # deleted since it was read
                yield Hint(unpack(body), name, message_id, body)
