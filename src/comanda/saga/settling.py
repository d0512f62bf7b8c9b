"""What outcomes lead to: moves, history, passages, dead letters. Decided in memory, written before the commit."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from msgspec import structs

from comanda import telemetry, tracing
from comanda.clock import seconds_since
from comanda.db import Tx
from comanda.messaging import dead_letters
from comanda.messaging.dead_letters import DeadLetter
from comanda.saga import log
from comanda.saga.batch import Batch, attempted
from comanda.saga.definition import Alarm, Done, Failed, Later, Outcome, Passage, Refused, Saga, Step, unheard
from comanda.saga.log import Attempt, Claimed, Moved
from comanda.saga.rescue import by_queue
from comanda.saga.transitions import Move, abandon, advance

_log = telemetry.log("saga")
_TRIED = frozenset({"done", "refused", "failed"})
_WENT_WRONG = frozenset({"failed", "lost", "stuck"})
_OUTCOMES: dict[type[Outcome], str] = {Done: "done", Refused: "refused", Later: "later", Failed: "failed"}


class Settling:
    """Settles the sagas of a batch.

    Args:
        sagas: the definitions.
        worker: who it is, in leases and history.
        lease: how long a remote step may go without a sign of life.
        serves: whether adjacent steps of a queue may be run here right away.
        room: how many more remote calls of a queue may be started now.
        alarm: told about dead letters in their own transaction.
    """

    def __init__(
        self,
        sagas: Iterable[Saga],
        *,
        worker: str,
        lease: timedelta,
        serves: Callable[[str], bool],
        room: Callable[[str], int],
        alarm: Alarm,
    ) -> None:
        self.sagas = {(saga.name, saga.version): saga for saga in sagas}
        self._worker = worker
        self._lease = lease
        self._serves = serves
        self._room = room
        self._alarm = alarm

    @classmethod
    def by_hand(cls, sagas: Iterable[Saga], *, actor: str, lease: timedelta, alarm: Alarm = unheard) -> "Settling":
        """For somebody who decides outcomes and runs no steps: whatever is due afterwards is the workers'."""
        return cls(sagas, worker=actor, lease=lease, serves=lambda _queue: False, room=lambda _queue: 0, alarm=alarm)

    def saga(self, one: Claimed) -> Saga:
        return self.sagas[one.kind, one.version]

    async def settle(
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
                if batch.is_chained and self._may_go_on(batch, self.saga(one), move):
                    batch.frontier.append(one)
                else:
                    batch.result.hint(move.queue, one.priority, one.id)
        for key, group in undone.items():
            saga = self.sagas[key]
            await self.tell(tx, batch, saga)
            started = await saga.undone(tx, [one.subject for one in group], [one.reason or "" for one in group])
            for due in started:
                batch.result.hint(due.queue, due.priority, due.id)

    def abandon(self, batch: Batch, one: Claimed, reason: str, error: str) -> None:
        """Don't even try: an operator has to look at it."""
        move = abandon(self.saga(one), one.standing(one.attempt), reason)
        passage = Passage(one.subject, one.step, one.direction, "stuck", move.reason)
        batch.passages[one.kind, one.version].append(passage)
        self._give_up(batch, one, one.attempt, error)
        batch.moves[one.id] = Moved(one.id, move, is_leased=False, note=error, claims=one.claims)

    async def write(self, tx: Tx, batch: Batch) -> None:
        """Everything that the batch came to, in a few statements."""
        for key in list(batch.passages):
            await self.tell(tx, batch, self.sagas[key])
        moves = list(batch.moves.values())
        if moves:
            await log.move(tx, moves, lease=self._lease, worker=self._worker)
        if batch.attempts:
            await log.remember(tx, batch.attempts)
        if batch.letters:
            await dead_letters.bury(tx, batch.letters)
            for (queue, priority), ids in by_queue(await self._alarm(tx, batch.letters)).items():
                batch.result.onward[queue, priority] += ids
        for finish, rests in batch.rests:
            await finish(tx, rests)

    async def tell(self, tx: Tx, batch: Batch, saga: Saga) -> None:
        """Tell the definition about the passages so far."""
        passages = batch.passages.pop((saga.name, saga.version), [])
        if passages:
            await saga.follow(tx, passages)

    @staticmethod
    def count(batch: Batch) -> None:
        """After the commit: counters and log tell the truth."""
        for queue, count in batch.result.completed.items():
            telemetry.JOBS.labels(queue).inc(count)
        for outcome, count in Counter(attempt.outcome for attempt in batch.attempts).items():
            telemetry.ATTEMPTS.labels(outcome).inc(count)
        for names, count in Counter((one.kind, one.step, one.outcome) for one in batch.attempts).items():
            telemetry.STEP_ATTEMPTS.labels(*names).inc(count)
        took: dict[tuple[str, str], float] = defaultdict(float)
        for one in batch.attempts:
            took[one.kind, one.step] += one.duration_ms / 1000
        for about, seconds in took.items():
            telemetry.STEP_SECONDS.labels(*about).inc(seconds)
        for kind, state, saga_id in batch.ended:
            telemetry.SAGAS.labels(kind, state).observe(seconds_since(saga_id))
        if tracing.is_on():
            _trace(batch)
        if batch.result.claimed:
            telemetry.BATCHES.labels("saga").observe(batch.result.claimed)
        for letter in batch.letters:
            _log.error(
                "a saga is stuck: look at it with `comanda saga show`, then retry, skip, compensate or resolve it",
                saga=str(letter.saga_id), step=letter.step, direction=letter.direction, error=letter.error,
                correlationId=letter.payload["correlationId"],
            )  # fmt: skip

    def attempt(
        self, one: Claimed, attempt: int, outcome: str, detail: str | None, took: float, worker: str | None = None
    ) -> Attempt:
        """A line of history."""
        by = worker or self._worker
        return Attempt(
            one.id, one.step, one.direction, attempt, outcome, detail, by, took, one.kind, one.since, one.traceparent
        )

    @staticmethod
    def note_begun(batch: Batch, saga: Saga, step: Step, group: Sequence[Claimed]) -> None:
        batch.passages[saga.name, saga.version] += [
            Passage(one.subject, step.name, one.direction, "begun") for one in group
        ]

    def _decide(self, batch: Batch, one: Claimed, attempt: int, outcome: Outcome, took: float) -> Move:
        """One outcome: the move, its line of history, its passage, its dead letter. The saga stands where it leads."""
        saga = self.saga(one)
        step, direction, queue = saga[one.step], one.direction, one.queue
        move = advance(saga, one.standing(attempt), outcome, random.random())  # noqa: S311 - jitter, no secret
        detail = outcome.error if isinstance(outcome, Failed) else getattr(outcome, "reason", None)
        # Patience is one line of history, however often it looks.
        if not (isinstance(outcome, Later) and detail == one.note):
            batch.attempts.append(self.attempt(one, attempt, _OUTCOMES[type(outcome)], detail, took))
        match outcome:
            case Failed():
                batch.result.failed[queue] += 1
            case Done(started=started):
                batch.result.completed[queue] += 1
                for due in started:
                    batch.result.hint(due.queue, due.priority, due.id)
            case Refused():
                batch.result.completed[queue] += 1
        if move.event is not None:
            reason = move.reason if move.event != "done" else None
            is_by_hand = isinstance(outcome, Done) and outcome.is_by_hand
            passage = Passage(one.subject, step.name, direction, move.event, reason, is_by_hand)
            batch.passages[one.kind, one.version].append(passage)
        if move.is_ended:
            batch.ended.append((one.kind, move.state, one.id))
        if move.is_stuck:
            self._give_up(batch, one, attempt, str(detail))
        known = batch.moves.get(one.id)
        if known is not None and known.to.is_new_step and not move.is_new_step:
            # It came to this step within this very transaction: its patience starts here.
            move = structs.replace(move, is_new_step=True)
        one.note = detail if move.wait is not None or move.is_stuck else None
        batch.moves[one.id] = Moved(one.id, move, is_leased=False, note=one.note, claims=0)
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

    def _give_up(self, batch: Batch, one: Claimed, attempt: int, error: str) -> None:
        batch.attempts.append(self.attempt(one, attempt, "stuck", error, 0))
        payload = {
            "kind": one.kind,
            "subject": str(one.subject),
            "attempts": attempt,
            "correlationId": one.correlation_id,
        }
        batch.letters.append(DeadLetter(one.queue, one.step, one.direction, error, one.id, payload))


def _trace(batch: Batch) -> None:
    """Tell each attempt in its saga's trace, and, where there were several, the commit that they shared."""
    told = [one for one in batch.attempts if one.traceparent is not None]
    if not told:
        return
    traces = dict.fromkeys(one.traceparent for one in told)
    if len(traces) > 1:
        tracing.tell_together("saga batch", traces, began=batch.began, size=batch.result.claimed, kind="CONSUMER")
    for one in told:
        assert one.traceparent is not None
        names = attempted(one.saga_id, one.step, one.direction, one.since, one.attempt)
        called_at = batch.called_at.get((one.saga_id, one.step, one.direction))
        before = tracing.named(one.traceparent, *names[:-1], one.attempt - 1) if one.attempt > 1 else None
        tracing.tell(
            f"{one.kind}.{one.step}" if one.direction == "forward" else f"{one.kind}.{one.step} undo",
            one.traceparent,
            names=names if one.outcome in _TRIED else None,
            links=() if before is None else (before,),
            attributes={
                "comanda.saga": str(one.saga_id),
                "comanda.outcome": one.outcome,
                **({"comanda.attempt": one.attempt} if one.attempt > 1 else {}),
                **({"comanda.detail": telemetry.masked(one.detail)} if one.detail else {}),
            },
            began=called_at or one.at - one.duration_ms / 1000,
            ended=one.at,
            error=one.outcome if one.outcome in _WENT_WRONG else None,
        )
