"""A stage for small sagas on a real database: what steps answer, and what they have done."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from comanda.db import Database, Tx
from comanda.messaging.streams import Streams
from comanda.resilience.backoff import Policy
from comanda.saga import Done, Failed, Job, Later, Outcome, Refused, Saga, Start, Step, local, remote, start
from comanda.saga.batch import Call, Result
from comanda.saga.definition import Direction, unheard
from comanda.saga.engine import Engine
from comanda.saga.settling import Settling
from comanda.worker import Worker
from shop import until

A, B, C = "order-processing", "payment-processing", "inventory-management"
AT_ONCE = Policy(attempts=3, base=timedelta(0))
LEASE = timedelta(seconds=0.2)

Answer = Callable[[UUID], Outcome]


def _done(_: UUID) -> Outcome:
    return Done()


@dataclass
class Stage:
    """What steps answer, and what they have done: in a table, so that what is rolled back has not happened."""

    database: Database
    answers: dict[tuple[str, Direction], Answer] = field(default_factory=dict)
    batches: list[tuple[str, Direction, list[UUID]]] = field(default_factory=list)

    def local(self, name: str, queue: str = A, **more: Any) -> Step:
        more = {"retry": AT_ONCE, "undo_retry": AT_ONCE, **more}
        forward, backward = self._act(name, "forward"), self._act(name, "backward")
        return local(name, forward, backward, queue=queue, reached=name.upper(), **more)

    def remote(self, name: str, queue: str = B, **more: Any) -> tuple[Step, "Outside"]:
        outside = Outside(self, name)
        more = {"retry": AT_ONCE, "undo_retry": AT_ONCE, **more}
        step = remote(name, outside, self._act(name, "backward"), queue=queue, reached=name.upper(), **more)
        return step, outside

    def _act(self, name: str, direction: Direction) -> Callable[[Tx, Sequence[UUID]], Awaitable[Sequence[Outcome]]]:
        async def act(tx: Tx, subjects: Sequence[UUID]) -> Sequence[Outcome]:
            self.batches.append((name, direction, list(subjects)))
            told = [self.answers.get((name, direction), _done)(subject) for subject in subjects]
            done = [subject for subject, said in zip(subjects, told, strict=True) if isinstance(said, Done)]
            await self.note(tx, done, name, direction)
            return told

        return act

    async def note(self, tx: Tx, subjects: Sequence[UUID], what: str, direction: str) -> None:
        await tx.execute(
            "INSERT INTO effects (subject, what, direction) SELECT subject, $2, $3 FROM unnest($1::uuid[]) AS subject",
            subjects, what, direction,
        )  # fmt: skip

    async def begin(self, saga: Saga, count: int = 1, **more: Any) -> list[UUID]:
        """Sagas of new subjects; the subjects, in the order of the sagas."""
        subjects = [uuid4() for _ in range(count)]
        async with self.database.transaction() as tx:
            await start(tx, [Start.of(saga, subject, "test", **more) for subject in subjects])
        return subjects

    async def ask(self, statement: str, *arguments: Any) -> list[Any]:
        async with self.database.connection() as tx:
            return list(await tx.fetch(statement, *arguments))

    async def saga(self, subject: UUID) -> Any:
        return (await self.ask("SELECT *, clock_timestamp() AS clock FROM sagas WHERE subject = $1", subject))[0]

    async def states(self) -> Counter[str]:
        return Counter(row["state"] for row in await self.ask("SELECT state FROM sagas"))

    async def effects(self, subject: UUID) -> list[str]:
        """In order; `-pay` is the undoing of `pay`."""
        rows = await self.ask("SELECT what, direction FROM effects WHERE subject = $1 ORDER BY number", subject)
        return [row["what"] if row["direction"] == "forward" else f"-{row['what']}" for row in rows]

    async def history(self, subject: UUID) -> list[tuple[str, str, int, str]]:
        rows = await self.ask(
            "SELECT saga_attempts.step, saga_attempts.direction, saga_attempts.attempt, outcome FROM saga_attempts"
            " JOIN sagas ON sagas.id = saga_id WHERE subject = $1 ORDER BY at, saga_attempts.ctid", subject
        )  # fmt: skip
        return [tuple(row) for row in rows]


@dataclass
class Outside:
    """A remote action. `reply` is what the other side does; each call is remembered by its key."""

    stage: Stage
    name: str
    reply: Callable[[UUID, str], Awaitable[Any]] | None = None
    calls: list[tuple[UUID, str]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    breaks_recording: bool = False

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[Any]:
        self.jobs += jobs
        await self.stage.note(tx, [job.subject for job in jobs], f"{self.name} intended", "forward")
        told = [self.stage.answers.get((self.name, "forward"), _done)(job.subject) for job in jobs]
        return [job.subject if isinstance(said, Done) else said for job, said in zip(jobs, told, strict=True)]

    async def call(self, request: UUID, key: str) -> Any:
        self.calls.append((request, key))
        return await self.reply(request, key) if self.reply else "fine"

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        if self.breaks_recording:
            raise RuntimeError("can't be recorded")
        told = [self._outcome(answer) for answer in answers]
        done = [job.subject for job, said in zip(jobs, told, strict=True) if isinstance(said, Done)]
        await self.stage.note(tx, done, self.name, "forward")
        return told

    @staticmethod
    def _outcome(answer: Any) -> Outcome:
        if isinstance(answer, Exception):
            return Failed(str(answer), "SILENT")
        return answer if isinstance(answer, Refused | Later) else Done()


@pytest.fixture
async def stage(database: Database) -> Stage:
    async with database.transaction() as tx:
        await tx.execute(
            "CREATE TABLE effects (number bigserial PRIMARY KEY, subject uuid NOT NULL, what text NOT NULL,"
            " direction text NOT NULL, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp())"
        )
    return Stage(database)


def engine(
    stage: Stage,
    *sagas: Saga,
    worker: str = "first",
    lease: timedelta = timedelta(seconds=30),
    serves: Sequence[str] = (A, B, C),
) -> Engine:
    return Engine(stage.database, sagas, worker=worker, lease=lease, serves=serves.__contains__, room=lambda _: 100)


def by_hand(*sagas: Saga) -> Settling:
    """What settles what an operator decides."""
    return Settling(sagas, worker="ana", lease=LEASE, serves=lambda _: False, room=lambda _: 0, alarm=unheard)


async def pump(engine: Engine, *queues: str, limit: int = 100) -> Counter[str]:
    """Run queues, and the calls that come of it, until nothing is due there any more; how many went through each."""
    claimed: Counter[str] = Counter()
    is_busy = True
    while is_busy:
        is_busy = False
        for queue in queues or (A, B, C):
            waiting = [await engine.run(queue, None, limit)]
            claimed[queue] += waiting[0].claimed
            is_busy = is_busy or waiting[0].claimed > 0
            while waiting:
                result = waiting.pop()
                waiting += await asyncio.gather(*(engine.call(call) for call in result.calls))
    return claimed


async def called(one: Engine, queue: str = B) -> Call:
    """The one call that is due in a queue, its intent committed."""
    result: Result = await until(lambda: _claimed(one, queue))
    (call,) = result.calls
    return call


async def _claimed(one: Engine, queue: str) -> Result | None:
    result = await one.run(queue, None, 10)
    return result if result.claimed else None


@asynccontextmanager
async def working(
    stage: Stage,
    redis_url: str,
    *sagas: Saga,
    queues: Sequence[str] = (A, B, C),
    in_flight: int = 200,
    gather: float = 0,
) -> AsyncIterator[Streams]:
    streams = Streams.open(redis_url, name="test", block=0.1)
    stop = asyncio.Event()
    lease = timedelta(seconds=0.5)
    worker = Worker(
        stage.database, streams, sagas, name="worker", queues=queues, lease=lease, in_flight=in_flight, gather=gather
    )
    try:
        async with asyncio.TaskGroup() as running:
            running.create_task(worker.run(stop))
            try:
                yield streams
            finally:
                stop.set()
    finally:
        await streams.close()
