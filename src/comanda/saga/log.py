"""The sagas' rows and the history of their attempts."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from comanda.clock import new_id
from comanda.db import Record, Tx, twin
from comanda.saga.definition import Direction, Due, Saga
from comanda.saga.transitions import Move, Standing, State

_sql = twin(__file__)
START = _sql["start"]
CLAIM_HINTED = _sql["claim_hinted"]
CLAIM_DUE = _sql["claim_due"]
CLAIM_NAMED = _sql["claim_named"]
NAMED = _sql["named"]
MARK = _sql["mark"]
RELEASE = _sql["release"]
ACQUIT = _sql["acquit"]
HELD = _sql["held"]
MOVE = _sql["move"]
REMEMBER = _sql["remember"]
RENEW = _sql["renew"]
PROMOTE = _sql["promote"]
OVERDUE = _sql["overdue"]
BACKLOG = _sql["backlog"]
DEPTHS = _sql["depths"]
READY = _sql["ready"]
SHOW = _sql["show"]
HISTORY = _sql["history"]
LISTED = _sql["listed"]
UNENDED = _sql["unended"]
STUCK_COUNT = _sql["stuck_count"]
HURRY = _sql["hurry"]
FORGET = _sql["forget"]
RESUME = _sql["resume"]


class Start(msgspec.Struct, frozen=True):
    """A saga to be started; the id may be made beforehand, so that others can store it."""

    saga: Saga
    subject: UUID
    correlation_id: str
    id: UUID
    priority: int = 1
    traceparent: str | None = None

    @classmethod
    def of(
        cls, saga: Saga, subject: UUID, correlation_id: str, *, priority: int = 1, traceparent: str | None = None
    ) -> "Start":
        return cls(saga, subject, correlation_id, new_id(), priority, traceparent)


class Claimed(msgspec.Struct):
    """A saga that this transaction holds: a row, as the statements that claim answer it. Times are in Unix time.

    What `advance` moves are the fields of `standing`. `lost_worker`: whose lease ran out.
    `waits`: until a time was set.
    """

    id: UUID
    kind: str
    version: int
    subject: UUID
    state: State
    step: str
    direction: Direction
    queue: str
    priority: int
    reached: str
    attempt: int
    since: float
    now: float
    lease_until: float | None
    lost_worker: str | None
    token: int
    claims: int
    reason: str | None
    note: str | None
    correlation_id: str
    traceparent: str | None
    waits: bool

    def waited(self) -> timedelta:
        """For how long it has stood at its step."""
        return timedelta(seconds=self.now - self.since)

    def standing(self, attempt: int) -> Standing:
        return Standing(self.step, self.direction, attempt, self.waited(), self.reached, self.reason)

    def follow(self, move: Move) -> None:
        """Stand where the move leads."""
        self.step, self.direction, self.queue = move.step, move.direction, move.queue
        self.attempt, self.reached, self.reason = move.attempt, move.reached, move.reason
        if move.is_new_step:
            self.since = self.now


class Attempt(msgspec.Struct, frozen=True):
    """One line of history. Not stored: of which kind its saga is, its trace, since when it stood there, the time."""

    saga_id: UUID
    step: str
    direction: Direction
    attempt: int
    outcome: str
    detail: str | None
    worker: str
    duration_ms: float
    kind: str
    since: float
    traceparent: str | None
    at: float = msgspec.field(default_factory=time.time)


async def start(tx: Tx, starts: Sequence[Start]) -> list[Due]:
    """Start sagas; those whose subject already has one of that kind are left out of the answer."""
    rows = await START.rows(
        tx,
        [one.id for one in starts],
        [one.saga.name for one in starts],
        [one.saga.version for one in starts],
        [one.subject for one in starts],
        [one.saga.first.name for one in starts],
        [one.saga.first.queue for one in starts],
        [one.priority for one in starts],
        [one.saga.started for one in starts],
        [one.correlation_id for one in starts],
        [one.traceparent for one in starts],
    )
    began = {row["id"] for row in rows}
    return [Due(one.id, one.saga.first.queue, one.priority) for one in starts if one.id in began]


def step_of(kind: str, version: int, step: str) -> str:
    """A step of a definition in one word, as `claim_due` compares it."""
    return f"{kind} {version} {step}"


async def claim(tx: Tx, queue: str, ids: Sequence[UUID] | None, limit: int, known: Sequence[str]) -> list[Claimed]:
    """Lock what is due: of these ids, or, with None, of the whole queue, as far as it stands at `known` steps."""
    if ids is None:
        rows = await CLAIM_DUE.rows(tx, queue, limit, known)
    else:
        rows = await CLAIM_HINTED.rows(tx, ids, queue)
    return [Claimed(*row) for row in rows]


async def claim_named(tx: Tx, ids: Sequence[UUID]) -> list[Claimed]:
    """Lock these sagas, or those of these subjects, whatever their state; waits for whoever holds them."""
    return [Claimed(*row) for row in await CLAIM_NAMED.rows(tx, ids)]


async def mark(tx: Tx, ids: Sequence[UUID], *, lease: timedelta, worker: str) -> None:
    """Count that work on these sagas begins, and lease them: their tokens are one higher afterwards."""
    await MARK.run(tx, ids, lease, worker)


async def release(tx: Tx, marks: Sequence[tuple[UUID, int]]) -> None:
    """Take marks (saga, token) back."""
    await RELEASE.run(tx, [saga_id for saga_id, _ in marks], [token for _, token in marks])


async def acquit(tx: Tx, ids: Sequence[UUID]) -> None:
    """Whoever was thought to be lost with these sagas is not."""
    await ACQUIT.run(tx, ids)


async def held(tx: Tx, leases: Sequence[tuple[UUID, int]]) -> list[Claimed]:
    """Of these leases (saga, fencing token), those that still stand, locked."""
    rows = await HELD.rows(tx, [saga_id for saga_id, _ in leases], [token for _, token in leases])
    return [Claimed(*row) for row in rows]


class Moved(msgspec.Struct, frozen=True):
    """Where a saga goes: its move, whether a lease goes with it, what is to be noted of why it waits.

    `claims`: workers lost with it in a row.
    """

    saga_id: UUID
    to: Move
    is_leased: bool
    note: str | None
    claims: int


async def move(tx: Tx, moves: Sequence[Moved], *, lease: timedelta, worker: str) -> None:
    """Write where each saga goes."""
    places: dict[tuple[Move, bool, str | None, int], int] = {}
    numbers = [places.setdefault((one.to, one.is_leased, one.note, one.claims), len(places) + 1) for one in moves]
    await MOVE.run(
        tx,
        [one.saga_id for one in moves],
        numbers,
        [to.state for to, _, _, _ in places],
        [to.step for to, _, _, _ in places],
        [to.direction for to, _, _, _ in places],
        [to.queue for to, _, _, _ in places],
        [to.attempt for to, _, _, _ in places],
        [to.wait for to, _, _, _ in places],
        [to.reached for to, _, _, _ in places],
        [to.reason for to, _, _, _ in places],
        [note for _, _, note, _ in places],
        [to.is_new_step for to, _, _, _ in places],
        [is_leased for _, is_leased, _, _ in places],
        [claims for _, _, _, claims in places],
        lease,
        worker,
    )


async def remember(tx: Tx, attempts: Sequence[Attempt]) -> None:
    """Add to the history."""
    told: dict[tuple[str, str, int, str, str | None, str], int] = {}
    numbers = [
        told.setdefault((one.step, one.direction, one.attempt, one.outcome, one.detail, one.worker), len(told) + 1)
        for one in attempts
    ]
    await REMEMBER.run(
        tx,
        [one.saga_id for one in attempts],
        numbers,
        [one.duration_ms for one in attempts],
        *zip(*told, strict=True),
    )


async def renew(tx: Tx, leases: Sequence[tuple[UUID, int]], lease: timedelta) -> set[UUID]:
    """Prolong leases; the sagas of those that still stand."""
    rows = await RENEW.rows(tx, [saga_id for saga_id, _ in leases], [token for _, token in leases], lease)
    return {row["id"] for row in rows}


def _due(rows: Sequence[Record]) -> list[Due]:
    return [Due(row["id"], row["queue"], row["priority"]) for row in rows]


async def promote(tx: Tx, limit: int) -> list[Due]:
    """End the waits that are over."""
    return _due(await PROMOTE.rows(tx, limit))


class Overdue(Due, frozen=True):
    """Due for long. `is_orphan`: its worker died with it in hand, and no message of it is anywhere."""

    is_orphan: bool


async def overdue(tx: Tx, age: timedelta, limit: int) -> list[Overdue]:
    """What has been due for longer than `age` without being taken."""
    return [Overdue(**dict(row)) for row in await OVERDUE.rows(tx, age, limit)]


async def backlog(tx: Tx, most: int, *, priority: int) -> int:
    """How many sagas of a priority could go on right now; counted no further than `most`."""
    count: int = await BACKLOG.value(tx, priority, most)
    return count


async def ready(tx: Tx) -> list[Record]:
    """How many sagas of each queue are ready, and for how many seconds the oldest of them has been."""
    return await READY.rows(tx)


async def depths(tx: Tx) -> list[dict[str, Any]]:
    """Ready, delayed and running sagas of each queue, and the age in seconds of the oldest that is ready."""
    return [dict(row) for row in await DEPTHS.rows(tx)]


async def show(tx: Tx, subject_or_id: UUID) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The sagas of a subject (or one by its id), and all their attempts."""
    sagas = [dict(row) for row in await SHOW.rows(tx, subject_or_id)]
    return sagas, [dict(row) for row in await HISTORY.rows(tx, [saga["id"] for saga in sagas])]


async def listed(tx: Tx, states: Sequence[str] | None, queue: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest sagas, on a filter."""
    return [dict(row) for row in await LISTED.rows(tx, states, queue, limit)]


async def named(tx: Tx, ids_or_subjects: Sequence[UUID]) -> list[Record]:
    """Where these stand, without holding them: `id`, `kind`, `version`, `step`, `direction`, `attempt`, `token`."""
    return list(await NAMED.rows(tx, ids_or_subjects))


async def unended(tx: Tx, queue: str, limit: int) -> list[dict[str, Any]]:
    """The newest sagas that stand in a queue, those that are stuck there too."""
    return [dict(row) for row in await UNENDED.rows(tx, queue, limit)]


async def stuck_count(tx: Tx) -> int:
    count: int = await STUCK_COUNT.value(tx)
    return count


async def resume(tx: Tx, ids: Sequence[UUID]) -> list[Due]:
    """Put stuck sagas back to their step, with all attempts before them."""
    return _due(await RESUME.rows(tx, ids))


async def hurry(tx: Tx, ids: Sequence[UUID]) -> list[Due]:
    """End the waits of these sagas."""
    return _due(await HURRY.rows(tx, ids))


async def forget(tx: Tx, subjects: Sequence[UUID], kind: str) -> None:
    """Delete the ended sagas of subjects that are no more."""
    if subjects:
        await FORGET.run(tx, subjects, kind)
