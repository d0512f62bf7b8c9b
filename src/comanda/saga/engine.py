"""Carries sagas from step to step, a batch in each transaction.

The order of things is PROTOCOL.md's. A *local* step runs inside the transaction that moves its saga on. A *remote* one
commits its intent with a lease first, is called with nothing open, and its result is committed only if the fencing
token still stands. Adjacent steps whose queues this worker serves share the transaction.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from comanda import telemetry, tracing
from comanda.db import Batcher, Database, Tx
from comanda.errors import DatabaseFault, Deadlock, Overrun
from comanda.failpoints import Boundary
from comanda.saga import log
from comanda.saga.batch import Answered, Batch, Call, Result, Unrecordable, attempted, counted, key_of, unsure
from comanda.saga.definition import Alarm, Direction, Done, Failed, Job, Later, Outcome, Refused, Saga, Step, unheard
from comanda.saga.log import Claimed, Moved
from comanda.saga.settling import Settling
from comanda.saga.transitions import Move, State

ADVANCE = Boundary("saga.advance")
MARK = Boundary("saga.mark")
COUNT_FAILURE = Boundary("saga.count_failure")
RECORD = Boundary("saga.record")
RENEW = Boundary("saga.renew")

_log = telemetry.log("saga")
_RECORD_AGAIN_AFTER = 0.25  # seconds between tries to store a result while PostgreSQL is away
_GATHER = 0.03  # seconds between two recordings while answers come one by one
_DEADLOCK_TRIES = 3
_LOST_AT_MOST = 5  # workers that a remote step without a limit of its own may cost once its patience is over
_LOST = "its workers were lost"
_MARKS_AT_MOST = 4  # with the worker that was lost before the first mark: a dead letter after five claims
_SURVIVED_AT_MOST = 10_000


def _carry(claimed: Sequence[Claimed]) -> None:
    if tracing.is_on():
        tracing.carry({one.subject: one.traceparent for one in claimed if one.traceparent is not None})


@dataclass
class Marks:
    """Claims that were committed before the work: their tokens, and the workers that had them before and were lost."""

    tokens: dict[UUID, int] = field(default_factory=dict)
    lost: dict[UUID, str] = field(default_factory=dict)


class Engine:
    """The engine of one worker.

    Args:
        database: where everything that is due stands.
        sagas: the definitions that this worker can run, old versions too.
        worker: its name, in leases and history.
        lease: how long a remote step may go without a sign of life.
        serves: whether adjacent steps of a queue may be run here right away.
        room: how many more remote calls of a queue may be started now.
        alarm: told about dead letters in their own transaction; may start sagas.
    """

    def __init__(
        self,
        database: Database,
        sagas: Iterable[Saga],
        *,
        worker: str,
        lease: timedelta,
        serves: Callable[[str], bool],
        room: Callable[[str], int],
        alarm: Alarm = unheard,
    ) -> None:
        self._database = database
        self._settling = Settling(sagas, worker=worker, lease=lease, serves=serves, room=room, alarm=alarm)
        self._steps = [
            log.step_of(*key, step.name) for key, saga in self._settling.sagas.items() for step in saga.steps
        ]
        self._lease = lease
        self._leases: dict[UUID, int] = {}
        self._worker = worker
        self._survived: dict[UUID, int] = {}
        self._late: set[UUID] = set()
        # One for each queue: while the answers of payments are stored, those of mails don't wait for them.
        self._recording: defaultdict[str, Batcher[Answered, Result]] = defaultdict(
            lambda: Batcher(self._record, limit=500, gather=_GATHER, enough=200)
        )

    async def run(self, queue: str, ids: Sequence[UUID] | None, limit: int) -> Result:
        """Claim what is due in a queue and carry it on; commit.

        Args:
            queue: whose steps.
            ids: those that a hint named; None: whatever is due.
            limit: sagas at the most when there is no hint.

        Returns:
            What to call and what to hand on, now that the commit stands.
        """
        if ids is None:
            return await self.run_again(queue, None, limit)
        result = await self._run(queue, ids, None)
        return await self._each(queue, result.suspects, self._run_alone, result)

    async def run_again(self, queue: str, ids: Sequence[UUID] | None, limit: int) -> Result:
        """The same for what comes second-hand: read by a worker and never acknowledged, or due without a hint.

        Somebody may have died of it, so it is marked before it is begun. What was marked before and never came to a
        result is run alone, and after some marks not any more: it becomes a dead letter.
        """
        claimed, marks = await self._mark(queue, ids, limit, is_fresh_only=True)
        done = None
        if marks.tokens:
            with self._surviving(marks):
                done = await self._run(queue, list(marks.tokens), marks)
        suspects = sorted(one.id for one in claimed if one.id not in marks.tokens)
        total = await self._each(queue, suspects, self._run_alone, done)
        total.claimed = len(claimed)
        return total

    async def _run_alone(self, queue: str, saga_id: UUID) -> Result:
        _, marks = await self._mark(queue, [saga_id], 1, is_fresh_only=False)
        with self._surviving(marks):
            return await self._one_by_one(queue, list(marks.tokens), marks)

    async def _mark(
        self, queue: str, ids: Sequence[UUID] | None, limit: int, *, is_fresh_only: bool
    ) -> tuple[list[Claimed], Marks]:
        """Claim, and commit that before anything is done; suspects are only looked at when fresh ones are wanted."""
        marks = Marks()
        with self._surviving(marks):
            async with self._database.transaction(MARK) as tx:
                if self._survived:
                    await log.release(tx, list(self._survived.items()))
                if late := list(self._late):
                    await log.acquit(tx, late)
                claimed = self._known(await log.claim(tx, queue, ids, limit, self._steps))
                for one in claimed:
                    if not one.claims or not is_fresh_only:
                        marks.tokens[one.id] = one.token + 1
                        if one.lost_worker:
                            marks.lost[one.id] = one.lost_worker
                if marks.tokens:
                    await log.mark(tx, list(marks.tokens), lease=self._lease, worker=self._worker)
        self._survived.clear()
        self._late.difference_update(late)
        return claimed, marks

    @contextmanager
    def _surviving(self, marks: Marks) -> Iterator[None]:
        """PostgreSQL went away in the middle: no fault of these sagas. Their marks are taken back next time."""
        try:
            yield
        except DatabaseFault:
            if len(self._survived) < _SURVIVED_AT_MOST:
                self._survived.update(marks.tokens)
            raise

    async def _run(self, queue: str, ids: Sequence[UUID], marks: Marks | None) -> Result:
        for _ in range(_DEADLOCK_TRIES):
            try:
                return await self._transact(queue, ids, marks, is_chained=True)
            except Deadlock:
                continue
            except Overrun:
                break
            except DatabaseFault:
                raise
            except Exception as fault:  # noqa: BLE001 - one poisoned saga can't hold the others
                _log.warning("a batch raised; its sagas are run one by one", queue=queue, error=repr(fault))
                break
        return await self._one_by_one(queue, ids, marks)

    async def call(self, call: Call) -> Result:
        """Make one call outside, with no transaction open, and commit its answer (shared with its neighbours')."""
        # From here on its lease is kept alive: one that nobody came to call has to run out.
        self._leases[call.job.saga_id] = call.token
        begun, began = time.monotonic(), time.time()
        handler = call.step.handler(call.direction)
        try:
            answer: Any = await handler.call(call.request, call.job.key)
        except Exception as fault:  # noqa: BLE001 - whatever it was: the call is not known to have happened
            answer = fault
        answered = Answered(call, answer, (time.monotonic() - begun) * 1000, began)
        is_told = False
        try:
            while True:
                try:
                    return await self._recording[call.step.queue].submit(answered)
                except DatabaseFault as fault:
                    if self._leases.get(call.job.saga_id) != call.token:
                        self._late.add(call.job.saga_id)
                        raise
                    if not is_told:
                        _log.warning("a result waits for PostgreSQL", saga=str(call.job.saga_id), error=str(fault))
                        is_told = True
                    await asyncio.sleep(_RECORD_AGAIN_AFTER)
                except Exception as fault:
                    if isinstance(answered.answer, Unrecordable):
                        raise  # not even that it failed can be stored: the lease runs out, and it is rescued
                    _log.exception("a result could not be recorded", saga=str(call.job.saga_id))
                    answered = Answered(call, Unrecordable(repr(fault)), answered.duration_ms, began)
        finally:
            if self._leases.get(call.job.saga_id) == call.token:
                del self._leases[call.job.saga_id]

    async def heartbeat(self) -> None:
        """Prolong the leases of all calls under way. Those that are lost are seen when their result is refused."""
        leases = list(self._leases.items())
        if leases:
            async with self._database.connection(RENEW) as tx:
                await log.renew(tx, leases, self._lease)

    async def _claim(self, tx: Tx, queue: str, ids: Sequence[UUID], marks: Marks | None) -> list[Claimed]:
        """Lock these: what is due, or what is marked, if its mark still stands."""
        if marks is None:
            claimed = self._known(await log.claim(tx, queue, ids, len(ids), self._steps))
            _carry(claimed)
            return claimed
        claimed = await log.held(tx, [(one, marks.tokens[one]) for one in ids])
        for one in claimed:
            one.lost_worker = marks.lost.get(one.id)
        _carry(claimed)
        return claimed

    async def _transact(self, queue: str, ids: Sequence[UUID], marks: Marks | None, *, is_chained: bool) -> Result:
        about: list[str] = []
        async with self._database.transaction(ADVANCE, about) as tx:
            found = await self._claim(tx, queue, ids, marks)
            claimed = [one for one in found if marks is not None or not one.claims]
            batch = Batch([], is_chained, about=about)
            batch.result.claimed = len(claimed)
            batch.result.suspects = [one.id for one in found if marks is None and one.claims]
            spent: list[tuple[Claimed, int, Outcome]] = []
            for one in claimed:
                if one.lost_worker:
                    one.claims += 1 if marks is None else 0
                    lost = self._settling.attempt(one, one.attempt, "lost", "its lease ran out", 0, one.lost_worker)
                    batch.attempts.append(lost)
                if one.lost_worker and self._is_spent(one):
                    spent.append((one, one.attempt, Failed(_LOST)))
                elif one.claims > _MARKS_AT_MOST:
                    self._settling.abandon(batch, one, "WORKERS_LOST", _LOST)
                else:
                    batch.frontier.append(one)
            # Whatever it is that takes its workers away: it is not called for ever.
            await self._settling.settle(tx, batch, spent, 0)
            await self._carry(tx, batch)
            await self._settling.write(tx, batch)
            if marks is not None and (idle := [one for one in claimed if one.id not in batch.moves]):
                await log.release(tx, [(one.id, one.token) for one in idle])
        self._settling.count(batch)
        return batch.result

    async def _one_by_one(self, queue: str, ids: Sequence[UUID], marks: Marks | None) -> Result:
        async def one(queue: str, saga_id: UUID) -> Result:
            return await self._one(queue, saga_id, marks)

        return await self._each(queue, ids, one, None)

    async def _one(self, queue: str, saga_id: UUID, marks: Marks | None) -> Result:
        """One saga in a transaction of its own."""
        try:
            return await self._transact(queue, [saga_id], marks, is_chained=False)
        except Overrun as fault:
            return await self._fail(queue, saga_id, marks, fault)
        except DatabaseFault:
            raise
        except Exception as fault:  # noqa: BLE001 - an attempt that raised is counted, whatever it was
            _log.exception("a step raised", saga=str(saga_id), queue=queue)
            return await self._fail(queue, saga_id, marks, fault)

    @staticmethod
    async def _each(
        queue: str, ids: Sequence[UUID], run: Callable[[str, UUID], Awaitable[Result]], done: Result | None
    ) -> Result:
        """One after the other, and what that led to, with what is done already.

        When PostgreSQL goes away on the way, what has been committed stands: its calls have to be made. Only the rest
        is left, and hinted at again.
        """
        for at, one in enumerate(ids):
            try:
                result = await run(queue, one)
            except DatabaseFault:
                if done is None:
                    raise
                for left in ids[at:]:
                    done.hint(queue, 1, left)
                break
            if done is None:
                done = result
            else:
                done.add(result)
        return Result() if done is None else done

    async def _fail(self, queue: str, saga_id: UUID, marks: Marks | None, fault: Exception) -> Result:
        """Count an attempt that raised, in a transaction of its own: its own one is gone."""
        async with self._database.transaction(COUNT_FAILURE) as tx:
            batch = Batch(await self._claim(tx, queue, [saga_id], marks), is_chained=False)
            batch.result.claimed = len(batch.frontier)
            for one in batch.frontier:
                await self._settling.settle(tx, batch, [(one, one.attempt + 1, Failed(repr(fault)))], 0)
            if batch.frontier:
                await self._settling.write(tx, batch)
        self._settling.count(batch)
        return batch.result

    async def _record(self, answered: Sequence[Answered]) -> Sequence[Result | Exception]:
        """Store the answers that have come, if their tokens still stand, and carry those sagas on."""
        try:
            return await self._store(answered, is_chained=True)
        except DatabaseFault:
            raise
        except Exception as fault:
            if len(answered) > 1:
                raise  # the batcher repeats them one by one
            # If it was a step that follows: that one fails by itself, where it stands.
            _log.warning("an answer is recorded alone", saga=str(answered[0].call.job.saga_id), error=repr(fault))
            return await self._store(answered, is_chained=False)

    async def _store(self, answered: Sequence[Answered], *, is_chained: bool) -> Sequence[Result]:
        # By its token: an engine that was late may hold an older answer of the same saga too.
        by_lease = {(one.call.job.saga_id, one.call.token): one for one in answered}
        about: list[str] = []
        async with self._database.transaction(RECORD, about) as tx:
            held = await log.held(tx, list(by_lease))
            _carry(held)
            by_saga = {one.id: by_lease[one.id, one.token] for one in held}
            batch = Batch([], is_chained, about=about)
            batch.result.claimed = len(held)
            groups: dict[tuple[str, int, str, Direction], list[Claimed]] = defaultdict(list)
            for one in held:
                groups[one.kind, one.version, one.step, one.direction].append(one)
                batch.called_at[one.id, one.step, one.direction] = by_saga[one.id].began
            for (kind, _, step, direction), group in groups.items():
                about.append(f"result:{kind}.{step}.{direction}")
                answers = [by_saga[one.id] for one in group]
                handler = answers[0].call.step.handler(answers[0].call.direction)
                readable = [given for given in answers if not isinstance(given.answer, Unrecordable)]
                stored: Sequence[Outcome] = []
                if readable:
                    stored = await handler.record(
                        tx, [given.call.job for given in readable], [given.answer for given in readable]
                    )
                outcome_of = {given.call.job.saga_id: told for given, told in zip(readable, stored, strict=True)}
                told = [
                    (one, one.attempt, outcome_of.get(one.id) or Failed(str(by_saga[one.id].answer))) for one in group
                ]
                slowest = max(given.duration_ms for given in answers)
                await self._settling.settle(
                    tx, batch, told, slowest, {one.id: by_saga[one.id].duration_ms for one in group}
                )
            await self._carry(tx, batch)
            await self._settling.write(tx, batch)
            if len(held) < len(answered):
                await log.acquit(tx, [saga_id for saga_id, _ in by_lease if saga_id not in by_saga])
        lost = len(answered) - len(held)
        if lost:
            telemetry.LEASES_LOST.inc(lost)
            _log.warning("results came after their lease was lost and were refused", count=lost)
        self._settling.count(batch)
        # One of them carries what is to be done next; the others have nothing left to do.
        return [batch.result, *(Result() for _ in answered[1:])]

    async def _carry(self, tx: Tx, batch: Batch) -> None:
        """Run steps until nobody in the batch can go on here."""
        while batch.frontier:
            frontier, batch.frontier = batch.frontier, []
            groups: dict[tuple[str, int, str, Direction], list[Claimed]] = defaultdict(list)
            for one in frontier:
                groups[one.kind, one.version, one.step, one.direction].append(one)
            for (kind, version, name, direction), group in groups.items():
                saga = self._settling.sagas[kind, version]
                step = saga[name]
                batch.about.append(f"step:{kind}.{name}.{direction}")
                if step.locks is not None and step.locks in batch.locked:
                    for one in group:
                        batch.result.hint(one.queue, one.priority, one.id)
                    continue
                if step.locks is not None:
                    batch.locked.add(step.locks)
                if step.acts_remotely(direction):
                    await self._prepare(tx, batch, saga, step, group)
                else:
                    await self._act(tx, batch, saga, step, group)

    async def _act(self, tx: Tx, batch: Batch, saga: Saga, step: Step, group: list[Claimed]) -> None:
        """A local step, for all of a group."""
        direction = group[0].direction
        begun = time.monotonic()
        if step is saga.steps[-1]:
            await self._settling.tell(tx, batch, saga)
        outcomes = await step.handler(direction)(tx, [one.subject for one in group])
        if step.finish is not None and direction == "forward":
            rests = [said.rest for said in outcomes if isinstance(said, Done) and said.rest is not None]
            batch.rests.append((step.finish, rests))
        self._settling.note_begun(batch, saga, step, group)
        told = [(one, counted(one, outcome), outcome) for one, outcome in zip(group, outcomes, strict=True)]
        await self._settling.settle(tx, batch, told, (time.monotonic() - begun) * 1000)

    async def _prepare(self, tx: Tx, batch: Batch, saga: Saga, step: Step, group: list[Claimed]) -> None:
        """The intents of a remote step, and leases on those that will be called after the commit."""
        direction = group[0].direction
        begun = time.monotonic()
        ready = group
        if step.alongside is not None and direction == "forward":
            said = await step.alongside(tx, [one.subject for one in group])
            outcomes = [unsure(one, outcome) for one, outcome in zip(group, said, strict=True)]
            refusals = [
                (one, counted(one, said), said)
                for one, said in zip(group, outcomes, strict=True)
                if not isinstance(said, Done)
            ]
            ready = [one for one, said in zip(group, outcomes, strict=True) if isinstance(said, Done)]
            await self._settling.settle(tx, batch, refusals, (time.monotonic() - begun) * 1000)
        if not ready:
            return
        jobs = [
            Job(one.id, one.subject, key_of(one.id, step.name, direction), one.attempt + 1, one.since) for one in ready
        ]
        prepared = await step.handler(direction).prepare(tx, jobs)
        settled: list[tuple[Claimed, int, Outcome]] = []
        called: list[Claimed] = []
        for one, job, request in zip(ready, jobs, prepared, strict=True):
            if isinstance(request, Done | Refused | Later | Failed):
                settled.append((one, counted(one, request), unsure(one, request)))
                continue
            mark = step.under_way if direction == "forward" and step.under_way else one.reached
            state: State = "RUNNING" if direction == "forward" else "COMPENSATING"
            is_new = one.id in batch.moves and batch.moves[one.id].to.is_new_step
            move = Move(
                state, step.name, direction, step.queue, job.attempt, None, mark, one.reason, is_new_step=is_new
            )
            batch.moves[one.id] = Moved(one.id, move, is_leased=True, note=one.note, claims=one.claims)
            above = tracing.named(one.traceparent, *attempted(one.id, step.name, direction, one.since, job.attempt))
            batch.result.calls.append(
                Call(saga, step, direction, job, request, one.token + 1, one.correlation_id, above)
            )
            called.append(one)
        self._settling.note_begun(batch, saga, step, called)
        await self._settling.settle(tx, batch, settled, (time.monotonic() - begun) * 1000)

    def _known(self, claimed: list[Claimed]) -> list[Claimed]:
        """Sagas of a definition that only another release knows are left to the workers of that release."""
        unknown = {step for one in claimed if (step := log.step_of(one.kind, one.version, one.step)) not in self._steps}
        for step in sorted(unknown):
            _log.error("no worker here knows this step: run the release that started it alongside", step=step)
        return [one for one in claimed if log.step_of(one.kind, one.version, one.step) not in unknown]

    def _is_spent(self, one: Claimed) -> bool:
        """Whether a remote step whose worker was lost has used up its attempts."""
        policy = self._settling.saga(one)[one.step].policy(one.direction)
        return one.attempt >= (policy.attempts or _LOST_AT_MOST) and policy.is_over(one.attempt, one.waited())
