"""Carries sagas from step to step, a batch in each transaction.

The order of things is PROTOCOL.md's. A *local* step runs inside the transaction that moves its saga on. A *remote* one
commits its intent with a lease first, is called with nothing open, and its result is committed only if the fencing
token still stands. Adjacent steps whose queues this worker serves share the transaction.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from comanda import telemetry
from comanda.db import Batcher, Database, Tx
from comanda.errors import DatabaseFault, Deadlock, Overrun
from comanda.failpoints import Boundary
from comanda.messaging import dead_letters
from comanda.messaging.dead_letters import DeadLetter
from comanda.saga import log
from comanda.saga.batch import Answered, Batch, Call, Result, Unrecordable, counted, key_of, unsure
from comanda.saga.definition import Direction, Done, Failed, Job, Later, Outcome, Passage, Refused, Saga, Step
from comanda.saga.log import Attempt, Claimed
from comanda.saga.transitions import Move, State, advance

ADVANCE = Boundary("saga.advance")
LIST_DUE = Boundary("saga.list_due")
COUNT_FAILURE = Boundary("saga.count_failure")
RECORD = Boundary("saga.record")
RENEW = Boundary("saga.renew")

_log = telemetry.log("saga")
_OUTCOMES: dict[type[Outcome], str] = {Done: "done", Refused: "refused", Later: "later", Failed: "failed"}
_RECORD_AGAIN_AFTER = 0.25  # seconds between tries to store a result while PostgreSQL is away
_DEADLOCK_TRIES = 3
_LOST_AT_MOST = 5  # workers that a remote step without a limit of its own may cost once its patience is over


class Engine:
    """The engine of one worker.

    Args:
        database: where everything that is due stands.
        sagas: the definitions that this worker can run, old versions too.
        worker: its name, in leases and history.
        lease: how long a remote step may go without a sign of life.
        serves: whether adjacent steps of a queue may be run here right away.
        room: how many more remote calls of a queue may be started now.
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
    ) -> None:
        self._database = database
        self._sagas = {(saga.name, saga.version): saga for saga in sagas}
        self._steps = [log.step_of(*key, step.name) for key, saga in self._sagas.items() for step in saga.steps]
        self._worker = worker
        self._lease = lease
        self._serves = serves
        self._room = room
        self._leases: dict[UUID, int] = {}
        self._recording: Batcher[Answered, Result] = Batcher(self._record, limit=200)

    async def run(self, queue: str, ids: Sequence[UUID] | None, limit: int) -> Result:
        """Claim what is due in a queue and carry it on; commit.

        Args:
            queue: whose steps.
            ids: those that a hint named; None: whatever is due.
            limit: sagas at the most when there is no hint.

        Returns:
            What to call and what to hand on, now that the commit stands.
        """
        for _ in range(_DEADLOCK_TRIES):
            try:
                return await self._transact(queue, ids, limit, is_chained=True)
            except Deadlock:
                continue
            except Overrun:
                break
            except DatabaseFault:
                raise
            except Exception as fault:  # noqa: BLE001 - one poisoned saga can't hold the others
                _log.warning("a batch raised; its sagas are run one by one", queue=queue, error=repr(fault))
                break
        return await self._one_by_one(queue, ids, limit)

    async def call(self, call: Call) -> Result:
        """Make one call outside, with no transaction open, and commit its answer (shared with its neighbours')."""
        begun = time.monotonic()
        handler = call.step.handler(call.direction)
        try:
            answer: Any = await handler.call(call.request, call.job.key)
        except Exception as fault:  # noqa: BLE001 - whatever it was: the call is not known to have happened
            answer = fault
        answered = Answered(call, answer, (time.monotonic() - begun) * 1000)
        is_told = False
        try:
            while True:
                try:
                    return await self._recording.submit(answered)
                except DatabaseFault as fault:
                    if self._leases.get(call.job.saga_id) != call.token:
                        raise
                    if not is_told:
                        _log.warning("a result waits for PostgreSQL", saga=str(call.job.saga_id), error=str(fault))
                        is_told = True
                    await asyncio.sleep(_RECORD_AGAIN_AFTER)
                except Exception as fault:
                    if isinstance(answered.answer, Unrecordable):
                        raise  # not even that it failed can be stored: the lease runs out, and it is rescued
                    _log.exception("a result could not be recorded", saga=str(call.job.saga_id))
                    answered = Answered(call, Unrecordable(repr(fault)), answered.duration_ms)
        finally:
            if self._leases.get(call.job.saga_id) == call.token:
                del self._leases[call.job.saga_id]

    async def heartbeat(self) -> None:
        """Prolong the leases of all calls under way. Those that are lost are seen when their result is refused."""
        leases = list(self._leases.items())
        if leases:
            async with self._database.connection(RENEW) as tx:
                await log.renew(tx, leases, self._lease)

    async def _transact(self, queue: str, ids: Sequence[UUID] | None, limit: int, *, is_chained: bool) -> Result:
        about: list[str] = []
        async with self._database.transaction(ADVANCE, about) as tx:
            claimed = self._known(await log.claim(tx, queue, ids, limit, self._steps))
            if not claimed:
                return Result()
            spent = [one for one in claimed if one.lost_worker and self._is_spent(one)]
            batch = Batch([one for one in claimed if one not in spent], is_chained, about=about)
            batch.result.claimed = len(claimed)
            for one in claimed:
                if one.lost_worker:
                    lost = self._attempt(one, one.attempt, "lost", "its lease ran out", 0, one.lost_worker)
                    batch.attempts.append(lost)
            # Whatever it is that takes its workers away: it is not called for ever.
            await self._settle(tx, batch, [(one, one.attempt, Failed("its workers were lost")) for one in spent], 0)
            await self._carry(tx, batch)
            await self._write(tx, batch)
        self._commit(batch)
        return batch.result

    async def _one_by_one(self, queue: str, ids: Sequence[UUID] | None, limit: int) -> Result:
        if ids is None:
            async with self._database.transaction(LIST_DUE) as tx:
                ids = [one.id for one in await log.claim(tx, queue, None, limit, self._steps)]
        total = Result()
        for one in ids:
            try:
                result = await self._transact(queue, [one], 1, is_chained=False)
            except Overrun as fault:
                result = await self._fail(queue, one, fault)
            except DatabaseFault:
                raise
            except Exception as fault:  # noqa: BLE001 - an attempt that raised is counted, whatever it was
                _log.exception("a step raised", saga=str(one), queue=queue)
                result = await self._fail(queue, one, fault)
            total.claimed += result.claimed
            total.calls += result.calls
            for target, some in result.onward.items():
                total.onward[target] += some
            total.completed += result.completed
            total.failed += result.failed
        return total

    async def _fail(self, queue: str, saga_id: UUID, fault: Exception) -> Result:
        """Count an attempt that raised, in a transaction of its own: its own one is gone."""
        async with self._database.transaction(COUNT_FAILURE) as tx:
            claimed = self._known(await log.claim(tx, queue, [saga_id], 1, self._steps))
            batch = Batch(claimed, is_chained=False)
            batch.result.claimed = len(batch.frontier)
            for one in batch.frontier:
                await self._settle(tx, batch, [(one, one.attempt + 1, Failed(repr(fault)))], 0)
            if batch.frontier:
                await self._write(tx, batch)
        self._commit(batch)
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
            by_saga = {one.id: by_lease[one.id, one.token] for one in held}
            batch = Batch([], is_chained, about=about)
            batch.result.claimed = len(held)
            groups: dict[tuple[str, int, str, Direction], list[Claimed]] = defaultdict(list)
            for one in held:
                groups[one.kind, one.version, one.step, one.direction].append(one)
            for (kind, _, step, direction), group in groups.items():
                about.append(f"{kind}.{step}.{direction}")
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
                await self._settle(tx, batch, told, slowest, {one.id: by_saga[one.id].duration_ms for one in group})
            await self._carry(tx, batch)
            await self._write(tx, batch)
        lost = len(answered) - len(held)
        if lost:
            telemetry.LEASES_LOST.inc(lost)
            _log.warning("results came after their lease was lost and were refused", count=lost)
        self._commit(batch)
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
                saga = self._saga(kind, version)
                step = saga[name]
                batch.about.append(f"{kind}.{name}.{direction}")
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
            await self._tell(tx, batch, saga)
        outcomes = await step.handler(direction)(tx, [one.subject for one in group])
        self._note_begun(batch, saga, step, group)
        told = [(one, counted(one, outcome), outcome) for one, outcome in zip(group, outcomes, strict=True)]
        await self._settle(tx, batch, told, (time.monotonic() - begun) * 1000)

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
            await self._settle(tx, batch, refusals, (time.monotonic() - begun) * 1000)
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
            is_new = one.id in batch.moves and batch.moves[one.id][0].is_new_step
            move = Move(
                state, step.name, direction, step.queue, job.attempt, None, mark, one.reason, is_new_step=is_new
            )
            batch.moves[one.id] = (move, True, one.note)
            batch.result.calls.append(Call(saga, step, direction, job, request, one.token + 1, one.correlation_id))
            called.append(one)
        self._note_begun(batch, saga, step, called)
        await self._settle(tx, batch, settled, (time.monotonic() - begun) * 1000)

    async def _settle(
        self,
        tx: Tx,
        batch: Batch,
        told: Sequence[tuple[Claimed, int, Outcome]],
        duration_ms: float,
        durations: Mapping[UUID, float] | None = None,
    ) -> None:
        """Turn outcomes into moves, history and passages; who may go on here joins the frontier again."""
        undone: dict[tuple[str, int], list[Claimed]] = defaultdict(list)
        for one, attempt, outcome in told:
            took = durations[one.id] if durations else duration_ms
            move = self._decide(batch, one, attempt, outcome, took)
            if move.state == "COMPENSATED":
                undone[one.kind, one.version].append(one)
            elif move.wait is None and not move.is_ended and not move.is_stuck:
                if batch.is_chained and self._may_go_on(batch, self._saga(one.kind, one.version), move):
                    batch.frontier.append(one)
                else:
                    batch.result.hint(move.queue, one.priority, one.id)
        for (kind, version), group in undone.items():
            saga = self._saga(kind, version)
            await self._tell(tx, batch, saga)
            started = await saga.undone(tx, [one.subject for one in group], [one.reason or "" for one in group])
            for due in started:
                batch.result.hint(due.queue, due.priority, due.id)

    def _decide(self, batch: Batch, one: Claimed, attempt: int, outcome: Outcome, took: float) -> Move:
        """One outcome: the move, its line of history, its passage, its dead letter. The saga stands where it leads."""
        saga = self._saga(one.kind, one.version)
        step, direction, queue = saga[one.step], one.direction, one.queue
        move = advance(saga, one.standing(attempt), outcome, random.random())  # noqa: S311 - jitter, no secret
        detail = outcome.error if isinstance(outcome, Failed) else getattr(outcome, "reason", None)
        # Patience is one line of history, however often it looks.
        if not (isinstance(outcome, Later) and detail == one.note):
            batch.attempts.append(self._attempt(one, attempt, _OUTCOMES[type(outcome)], detail, took))
        match outcome:
            case Failed():
                batch.result.failed[queue] += 1
            case Done(started):
                batch.result.completed[queue] += 1
                for due in started:
                    batch.result.hint(due.queue, due.priority, due.id)
            case Refused():
                batch.result.completed[queue] += 1
        if move.event is not None:
            reason = move.reason if move.event != "done" else None
            batch.passages[one.kind, one.version].append(Passage(one.subject, step.name, direction, move.event, reason))
        if move.is_stuck:
            self._give_up(batch, one, attempt, str(detail))
        known = batch.moves.get(one.id)
        if known is not None and known[0].is_new_step and not move.is_new_step:
            # It came to this step within this very transaction: its patience starts here.
            move = replace(move, is_new_step=True)
        one.note = detail if move.wait is not None or move.is_stuck else None
        batch.moves[one.id] = (move, False, one.note)
        one.follow(move)
        return move

    def _may_go_on(self, batch: Batch, saga: Saga, move: Move) -> bool:
        if not self._serves(move.queue):
            return False
        if not saga[move.step].acts_remotely(move.direction):
            return True
        if batch.bound[move.queue] >= self._room(move.queue):
            return False
        batch.bound[move.queue] += 1
        return True

    async def _tell(self, tx: Tx, batch: Batch, saga: Saga) -> None:
        passages = batch.passages.pop((saga.name, saga.version), [])
        if passages:
            await saga.follow(tx, passages)

    async def _write(self, tx: Tx, batch: Batch) -> None:
        for kind, version in list(batch.passages):
            await self._tell(tx, batch, self._saga(kind, version))
        moves = [(saga_id, *what) for saga_id, what in batch.moves.items()]
        if moves:
            await log.move(tx, moves, lease=self._lease, worker=self._worker)
        if batch.attempts:
            await log.remember(tx, batch.attempts)
        await dead_letters.bury(tx, batch.letters)

    def _commit(self, batch: Batch) -> None:
        """After the commit: the leases are ours to keep alive, the counters tell the truth."""
        for call in batch.result.calls:
            self._leases[call.job.saga_id] = call.token
        for queue, count in batch.result.completed.items():
            telemetry.JOBS.labels(queue).inc(count)
        for outcome, count in Counter(attempt.outcome for attempt in batch.attempts).items():
            telemetry.ATTEMPTS.labels(outcome).inc(count)
        for letter in batch.letters:
            _log.error(
                "a saga is stuck: look at it with `comanda saga show`, then `comanda dead-letters redrive`",
                saga=str(letter.saga_id), step=letter.step, direction=letter.direction, error=letter.error,
            )  # fmt: skip

    def _give_up(self, batch: Batch, one: Claimed, attempt: int, error: str) -> None:
        batch.attempts.append(self._attempt(one, attempt, "stuck", error, 0))
        payload = {"kind": one.kind, "subject": str(one.subject), "attempts": attempt}
        batch.letters.append(DeadLetter(one.queue, one.step, one.direction, error, one.id, payload))

    @staticmethod
    def _note_begun(batch: Batch, saga: Saga, step: Step, group: Sequence[Claimed]) -> None:
        batch.passages[saga.name, saga.version] += [
            Passage(one.subject, step.name, one.direction, "begun") for one in group
        ]

    def _attempt(
        self, one: Claimed, attempt: int, outcome: str, detail: str | None, took: float, worker: str | None = None
    ) -> Attempt:
        return Attempt(one.id, one.step, one.direction, attempt, outcome, detail, worker or self._worker, took)

    def _saga(self, kind: str, version: int) -> Saga:
        return self._sagas[kind, version]

    def _known(self, claimed: list[Claimed]) -> list[Claimed]:
        """Sagas of a definition that only another release knows are left to the workers of that release."""
        unknown = {step for one in claimed if (step := log.step_of(one.kind, one.version, one.step)) not in self._steps}
        for step in sorted(unknown):
            _log.error("no worker here knows this step: run the release that started it alongside", step=step)
        return [one for one in claimed if log.step_of(one.kind, one.version, one.step) not in unknown]

    def _is_spent(self, one: Claimed) -> bool:
        """Whether a remote step whose worker was lost has used up its attempts."""
        policy = self._saga(one.kind, one.version)[one.step].policy(one.direction)
        return one.attempt >= (policy.attempts or _LOST_AT_MOST) and policy.is_over(one.attempt, one.now - one.since)
