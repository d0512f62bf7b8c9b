"""What an operator does to a saga by hand: retry, skip, compensate, resolve. Audited, with a reason.

The verbs go through the same table of moves as every outcome does: an operator only says what the outcome was.

    retry        a stuck saga stands at its step again, with all attempts before it; one that waits is due at once
    skip         the step that it is stuck or waits at counts as done: whoever says so has seen that it is, or that it
                 may be left out
    compensate   undo it from where it stands (a call that went out and was never accounted for is undone too)
    resolve      whatever was left to be undone has been undone by hand: it ends as undone

What can't be called back (`Saga.is_for_good`) is called off only where the other side says that it was never carried
out: whoever acts asks it first, with no transaction open (`doubts`, `look`), and hands on what was seen.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.db import Tx
from comanda.errors import Fault
from comanda.messaging import dead_letters
from comanda.saga import log
from comanda.saga.batch import Batch, Result, key_of
from comanda.saga.definition import Direction, Done, Due, Findable, Outcome, Refused, Saga
from comanda.saga.log import Claimed
from comanda.saga.settling import Settling
from comanda.saga.transitions import ENDED, State
from comanda.sentences import Sentence

Verb = Literal["retry", "skip", "compensate", "resolve"]
CANCELLED = "CANCELLED_BY_OPERATOR"


@dataclass(frozen=True, slots=True)
class Acted:
    """What became of one saga: where it stood, where it stands; or why nothing was done.

    `token`: of its last call, as it was; see `act`.
    """

    saga_id: UUID
    kind: str
    subject: UUID | None
    was: str
    now: str
    refusal: str | None = None
    token: int = 0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that may have been carried out: its key, and whom to ask. `token`: it is still the last one."""

    saga_id: UUID
    token: int
    key: str
    action: Findable


@dataclass(frozen=True, slots=True)
class Seen:
    """What the other side says of a call. `is_done` is None where it says nothing, and why stands in `error`."""

    token: int
    is_done: bool | None
    error: str = ""


async def doubts(tx: Tx, settling: Settling, named: Sequence[UUID], verb: Verb) -> list[Doubt]:
    """Of these sagas (or those of these subjects), the calls that have to be looked for before this is done."""
    if verb not in {"compensate", "resolve"}:
        return []
    found = []
    for row in await log.named(tx, named):
        saga = settling.sagas.get((row["kind"], row["version"]))
        if saga is None or row["direction"] == "backward" or not row["attempt"] or not saga.is_for_good:
            continue
        action = saga[row["step"]].handler(row["direction"])
        if isinstance(action, Findable):
            found.append(Doubt(row["id"], row["token"], key_of(row["id"], row["step"], row["direction"]), action))
    return found


async def look(doubtful: Sequence[Doubt], *, patience: float) -> dict[UUID, Seen]:
    """Ask the other side about each, by saga, for so many seconds at the most. No transaction may be open."""
    seen = await asyncio.gather(*(_look(one, patience) for one in doubtful))
    return {one.saga_id: answer for one, answer in zip(doubtful, seen, strict=True)}


async def _look(one: Doubt, patience: float) -> Seen:
    try:
        async with asyncio.timeout(patience):
            return Seen(one.token, await one.action.is_done(one.key))
    except TimeoutError:
        return Seen(one.token, None, f"no answer within {patience:g} s")
    except Fault as silence:
        return Seen(one.token, None, str(silence))


async def act(
    tx: Tx,
    settling: Settling,
    named: Sequence[UUID],
    verb: Verb,
    *,
    actor: str,
    reason: str,
    seen: Mapping[UUID, Seen] = {},
    stood: Mapping[UUID, str] | None = None,
    tokens: Mapping[UUID, int] | None = None,
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
        seen: by saga, what the other side says of its `doubts`.
        stood: where a saga stood when somebody looked (see `standing_of`); one that has moved on since is refused.
        tokens: the token that it had then; one that has called since is refused, though it may stand there again.
        bulk: the bulk act that this is a part of.

    Returns:
        What became of each, in the order of their ids, and what is to be hinted at after the commit.
    """
    batch = Batch([], is_chained=False)
    acted = [_unknown(one) for one in named]
    for one in await log.claim_named(tx, named):
        acted = [done for done in acted if done.saga_id not in {one.id, one.subject}]
        was, token, definition = _standing(one), one.token, settling.sagas.get((one.kind, one.version))
        refusal = _unversed(one) if definition is None else refused(verb, one, definition, seen.get(one.id))
        if stood is not None and stood.get(one.id, was) != was:
            refusal = Sentence("it has moved on since it was looked at, as {stood}: look again", stood=stood[one.id])
        elif tokens is not None and tokens.get(one.id, token) != token:
            refusal = "it has been tried once more since it was looked at: look again"
        if refusal is None and definition is not None:
            batch.attempts.append(settling.attempt(one, 0, "operator", f"{verb}: {reason}", 0))
            await _do(tx, settling, batch, one, definition, verb)
        acted.append(Acted(one.id, one.kind, one.subject, was, _standing(one), refusal, token))
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
    tx: Tx,
    settling: Settling,
    letters: Sequence[UUID] | None,
    *,
    actor: str,
    reason: str,
    limit: int,
    bulk: UUID | None = None,
) -> tuple[list[Acted], set[UUID], Result]:
    """Send dead letters round again: their sagas are retried, and a letter stays open whose saga is refused.

    Args:
        tx: the transaction of the act.
        settling: what settles.
        letters: which; None: all that are open.
        actor: who does it.
        reason: why.
        limit: so many letters at the most, the oldest.
        bulk: the bulk act that this is a part of.

    Returns:
        What became of each saga, which of the letters were open still, and what is to be hinted at after the commit.
    """
    found = await dead_letters.still_open(tx, letters, limit=limit)
    # Sagas are locked before letters, as by every verb: two operators at once would wait for one another for ever.
    await log.claim_named(tx, [saga for saga in found.values() if saga is not None])
    found = await dead_letters.still_open(tx, list(found), limit=limit)
    sagas = {saga: None for saga in found.values() if saga is not None}
    acted, result = await act(tx, settling, list(sagas), "retry", actor=actor, reason=reason, bulk=bulk)
    unreadable = [letter for letter, saga in found.items() if saga is None]
    await dead_letters.close(tx, unreadable, actor=actor, reason=reason)
    return acted, set(found), result


def refused(verb: Verb, one: Claimed, saga: Saga, seen: Seen | None = None) -> str | None:
    """Why this can't be done to a saga as it stands, and what can; None: it can.

    English, as a `Sentence` where something stands in it: pages say it in their own language.
    """
    if one.state in ENDED:
        return Sentence("it has ended as {state}: what is left to do is a new order or a refund", state=one.state)
    if one.lease_until is not None and _is_live(one.lease_until, one.now):
        until = f"{datetime.fromtimestamp(one.lease_until, UTC):%H:%M:%S} UTC"
        return Sentence("a call is out until {until} at the latest: ask again then", until=until)
    match verb:
        case "retry" | "skip" if one.state != "COMPENSATION_FAILED" and not one.waits:
            return "it is due already: workers take it by themselves"
        case "compensate" | "resolve" if saga.is_for_good and saga[one.step].is_remote and _may_be_out(one):
            return "it may have gone out: retry it until it has, or is stuck; skip it if you have seen that it has"
        case "compensate" | "resolve" if saga.is_for_good and one.direction == "forward" and saga.position(one.step):
            return "what can't be called back has been done: retry it, or skip the step"
        case "compensate" | "resolve" if saga.is_for_good and one.direction == "forward" and one.attempt:
            return _unsettled(one, seen)
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
            await _settle(tx, settling, batch, one, Done(is_by_hand=True))
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


def _unsettled(one: Claimed, seen: Seen | None) -> str | None:
    """Why it can't be said that its call was never carried out."""
    if seen is None or seen.token != one.token:
        return "the other side was not asked whether it has gone out: ask again, for this one alone"
    if seen.is_done is None:
        return Sentence(
            "the other side does not say whether it has gone out ({error}): ask again when it does", error=seen.error
        )
    return "it has gone out, says the other side: retry it, and it will be found" if seen.is_done else None


def _is_live(until: float, now: float) -> bool:
    return until > now


def _unknown(named: UUID) -> Acted:
    return Acted(named, "", None, "", "", "there is no such saga, and none of such an order or message")


def _unversed(one: Claimed) -> str:
    return Sentence(
        "this release does not know {kind} version {version}: use the one that started it",
        kind=one.kind, version=one.version,
    )  # fmt: skip
