"""What an operator does to a saga by hand: retry, skip, compensate, resolve. Audited, with a reason.

The verbs go through the same table of moves as every outcome does: an operator only says what the outcome was.

    retry        a stuck saga stands at its step again, with all attempts before it; one that waits is due at once
    skip         the step it stands at counts as done: whoever says so has seen that it is, or that it may be left out
    compensate   undo it from where it stands (a call that went out and was never accounted for is undone too)
    resolve      whatever was left to be undone has been undone by hand: it ends as undone
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.db import Tx
from comanda.messaging import dead_letters
from comanda.saga import log
from comanda.saga.batch import Batch, Result
from comanda.saga.definition import Direction, Done, Due, Outcome, Refused, Saga
from comanda.saga.log import Claimed
from comanda.saga.settling import Settling
from comanda.saga.transitions import ENDED, State

Verb = Literal["retry", "skip", "compensate", "resolve"]
CANCELLED = "CANCELLED_BY_OPERATOR"


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of one saga: where it stood, where it stands; or why nothing was done."""

    saga_id: UUID
    kind: str
    subject: UUID | None
    was: str
    now: str
    refusal: str | None = None


async def act(
    tx: Tx,
    settling: Settling,
    named: Sequence[UUID],
    verb: Verb,
    *,
    actor: str,
    reason: str,
    stood: Mapping[UUID, str] | None = None,
    bulk: UUID | None = None,
) -> tuple[list[Acted], Result]:
    """Do it to these sagas (or those of these subjects).

    Args:
        tx: the transaction of the act.
        settling: what settles the outcomes that are decided by hand.
        named: ids of sagas or subjects.
        verb: what is done.
        actor: who does it.
        reason: why.
        stood: where a saga stood when somebody looked (see `standing_of`); one that has moved on since is refused.
        bulk: the bulk act that this is a part of.

    Returns:
        What became of each, in the order of their ids, and what is to be hinted at after the commit.
    """
    batch = Batch([], is_chained=False)
    acted = [_unknown(one) for one in named]
    for one in await log.claim_named(tx, named):
        acted = [done for done in acted if done.saga_id not in {one.id, one.subject}]
        was, definition = _standing(one), settling.sagas.get((one.kind, one.version))
        refusal = _unversed(one) if definition is None else refused(verb, one, definition)
        if stood is not None and stood.get(one.id, was) != was:
            refusal = f"it has moved on since it was looked at: it stood as {stood[one.id]}"
        if refusal is None and definition is not None:
            batch.attempts.append(settling.attempt(one, 0, "operator", f"{verb}: {reason}", 0))
            await _do(tx, settling, batch, one, definition, verb)
        acted.append(Acted(one.id, one.kind, one.subject, was, _standing(one), refusal))
    await settling.write(tx, batch)
    taken = [one for one in acted if one.refusal is None]
    await dead_letters.close_of_sagas(tx, [one.saga_id for one in taken], actor=actor, reason=f"{verb}: {reason}")
    part: dict[str, Any] = {} if bulk is None else {"bulk": str(bulk)}
    await acts.record(
        tx,
        [
            Act(actor, f"saga.{verb}", str(one.saga_id), reason, {"kind": one.kind, "subject": str(one.subject),
                                                                 "was": one.was, "now": one.now, **part})
            for one in taken
        ],
    )  # fmt: skip
    return sorted(acted, key=lambda one: one.saga_id), batch.result


async def redrive(
    tx: Tx, settling: Settling, letters: Sequence[UUID] | None, *, actor: str, reason: str, limit: int
) -> tuple[list[Acted], Result]:
    """Send dead letters round again (None: all that are open, `limit` at the most): their sagas are retried."""
    marked = await dead_letters.mark_redriven(tx, letters, actor=actor, reason=reason, limit=limit)
    sagas = [saga for saga in marked.values() if saga is not None]
    return await act(tx, settling, sagas, "retry", actor=actor, reason=reason)


def refused(verb: Verb, one: Claimed, saga: Saga) -> str | None:
    """Why this can't be done to a saga as it stands, and what can; None: it can."""
    if one.state in ENDED:
        return f"it has ended as {one.state}: what is left to do is a new order or a refund"
    if one.lease_until is not None and _is_live(one.lease_until, one.now):
        return f"a call is out until {one.lease_until:%H:%M:%S} at the latest: ask again then"
    match verb:
        case "retry" if one.state != "COMPENSATION_FAILED" and not one.waits:
            return "it is due already: workers take it by themselves"
        case "compensate" | "resolve" if saga.is_for_good and saga[one.step].is_remote and _may_be_out(one):
            return "it may have gone out: retry it until it has, or is stuck; skip it if you have seen that it has"
        case "compensate" if one.direction == "backward":
            return "it is being undone already: retry, skip or resolve it"
        case "resolve" if one.direction == "forward" and saga.position(one.step):
            return "there is something before this step that would have to be undone: compensate it, or skip the step"
    return None


async def _do(tx: Tx, settling: Settling, batch: Batch, one: Claimed, saga: Saga, verb: Verb) -> None:
    match verb:
        case "retry":
            due = await log.resume(tx, [one.id]) + await log.hurry(tx, [one.id])
            _hint(batch, due)
            one.state = "RUNNING" if one.direction == "forward" else "COMPENSATING"
        case "skip":
            await _settle(tx, settling, batch, one, Done())
        case "compensate":
            is_unsure = saga[one.step].is_remote and one.attempt > 0
            await _settle(tx, settling, batch, one, Refused(CANCELLED, is_unsure))
        case "resolve" if one.direction == "forward":
            await _settle(tx, settling, batch, one, Refused(CANCELLED))
        case "resolve":
            while one.state not in ENDED:
                await _settle(tx, settling, batch, one, Done())


async def _settle(tx: Tx, settling: Settling, batch: Batch, one: Claimed, outcome: Outcome) -> None:
    await settling.settle(tx, batch, [(one, one.attempt, outcome)], 0)
    one.state = batch.moves[one.id].to.state


def _hint(batch: Batch, due: Sequence[Due]) -> None:
    for one in due:
        batch.result.hint(one.queue, one.priority, one.id)


def standing_of(state: State, step: str, direction: Direction) -> str:
    """Where a saga stands, in words that are compared as well: `stuck at process_payment (undoing)`."""
    if state in ENDED:
        return state
    undoing = " (undoing)" if direction == "backward" else ""
    return f"{'stuck' if state == 'COMPENSATION_FAILED' else state} at {step}{undoing}"


def _standing(one: Claimed) -> str:
    return standing_of(one.state, one.step, one.direction)


def _may_be_out(one: Claimed) -> bool:
    return one.attempt > 0 and one.state != "COMPENSATION_FAILED"


def _is_live(until: datetime, now: datetime) -> bool:
    return until > now


def _unknown(named: UUID) -> Acted:
    return Acted(named, "", None, "", "", "there is no such saga, and none of such an order or message")


def _unversed(one: Claimed) -> str:
    return f"this release does not know {one.kind} version {one.version}: use the one that started it"
