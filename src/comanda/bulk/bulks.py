"""Acts on many: what they are about, as it was shown when they were confirmed, and how far they have come."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.bulk.filters import BulkVerb, Filter
from comanda.bulk.selection import Selected
from comanda.db import Record, Tx, twin

_sql = twin(__file__)
BEGIN = _sql["begin"]
SNAPSHOT = _sql["snapshot"]
FIND = _sql["find"]
PAGE = _sql["page"]
LATELY = _sql["lately"]
TAKE = _sql["take"]
FOLLOWING = _sql["following"]
SETTLE_ITEMS = _sql["settle_items"]
MOVE_ON = _sql["move_on"]
HOLD_BACK = _sql["hold_back"]
SWITCH = _sql["switch"]
CROWD = _sql["crowd"]
RATES = _sql["rates"]
RESULTS = _sql["results"]

State = Literal["RUNNING", "STOPPED", "ENDED"]
Outcome = Literal["done", "refused", "failed"]

_AT_ONCE = 10_000  # items in a statement


@dataclass(frozen=True, slots=True)
class Bulk:
    """One act on many. `is_held_back`: the queues are too full for it to go on right now."""

    id: UUID
    verb: BulkVerb
    filter: Filter
    actor: str
    reason: str
    state: State
    items: int
    done: int
    refused: int
    failed: int
    due_at: datetime
    is_held_back: bool
    created_at: datetime
    ended_at: datetime | None

    @property
    def worked(self) -> int:
        """The mark: so many items have an outcome, the first ones."""
        return self.done + self.refused + self.failed

    @property
    def left(self) -> int:
        return self.items - self.worked


@dataclass(frozen=True, slots=True)
class Item:
    """One of them. `stood`: where its saga stood when it was shown; empty without one."""

    position: int
    saga_id: UUID | None
    letter_id: UUID | None
    kind: str | None
    subject: UUID | None
    stood: str


@dataclass(frozen=True, slots=True)
class Came:
    """What came of an item: where its saga stands now, or why nothing was done."""

    position: int
    outcome: Outcome
    stands: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """An item with what came of it; `outcome` None: it waits."""

    position: int
    saga_id: UUID | None
    letter_id: UUID | None
    kind: str | None
    subject: UUID | None
    stood: str
    outcome: Outcome | None
    stands: str | None
    said: str | None
    acted_at: datetime | None


async def begin(
    tx: Tx, bulk_id: UUID, verb: BulkVerb, wanted: Filter, selected: Sequence[Selected], *, actor: str, reason: str
) -> Bulk | None:
    """Keep what was selected, to be acted on; None where that id has begun already."""
    filter_ = msgspec.json.encode(wanted.plain()).decode()
    row = await BEGIN.row(tx, bulk_id, verb, filter_, actor, reason, len(selected))
    if row is None:
        return None
    for at in range(0, len(selected), _AT_ONCE):
        some = selected[at : at + _AT_ONCE]
        await SNAPSHOT.run(
            tx,
            bulk_id,
            list(range(at + 1, at + len(some) + 1)),
            [one.saga_id for one in some],
            [one.letter_id for one in some],
            [one.kind for one in some],
            [one.subject for one in some],
            [one.stood for one in some],
        )
    detail = {"verb": verb, "items": len(selected), **{f"filter.{name}": it for name, it in wanted.plain().items()}}
    await acts.record(tx, [Act(actor, "bulk.start", str(bulk_id), reason, detail)])
    return _bulk(row)


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Bulk | None]:
    found = {row["id"]: _bulk(row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def page(tx: Tx, *, before: UUID | None, limit: int) -> list[Bulk]:
    """The newest first."""
    return [_bulk(row) for row in await PAGE.rows(tx, before, limit)]


async def lately(tx: Tx, limit: int) -> list[Bulk]:
    """The newest, and all that have not ended."""
    return [_bulk(row) for row in await LATELY.rows(tx, limit)]


async def take(tx: Tx, *, is_eager: bool = False) -> Bulk | None:
    """The one that is next, locked until the commit; None where nothing is to be done now.

    `is_eager`: though its pace says that it is too early.
    """
    row = await TAKE.row(tx, is_eager)
    return None if row is None else _bulk(row)


async def following(tx: Tx, one: Bulk, limit: int) -> list[Item]:
    """The next items after the mark."""
    return [Item(**dict(row)) for row in await FOLLOWING.rows(tx, one.id, one.worked, limit)]


async def settle(tx: Tx, one: Bulk, came: Sequence[Came], *, rest: timedelta) -> Bulk:
    """Write what came of the next items, and move the mark; the piece after them is due after `rest`."""
    await SETTLE_ITEMS.run(
        tx,
        one.id,
        [item.position for item in came],
        [item.outcome for item in came],
        [item.stands for item in came],
        [item.said for item in came],
    )
    counts = Counter(item.outcome for item in came)
    row = await MOVE_ON.row(tx, one.id, counts["done"], counts["refused"], counts["failed"], rest)
    assert row is not None  # it is locked
    return _bulk(row)


async def hold_back(tx: Tx, one: Bulk, pause: timedelta) -> Bulk:
    """Nothing for now: others are busy enough."""
    row = await HOLD_BACK.row(tx, one.id, pause)
    assert row is not None  # it is locked
    return _bulk(row)


async def stop(tx: Tx, ids: Sequence[UUID], *, actor: str, reason: str) -> list[Bulk | None]:
    """Do no more of these; what is done stays done. None where it does not run."""
    return await _switch(tx, ids, "RUNNING", "STOPPED", Act(actor, "bulk.stop", "", reason))


async def resume(tx: Tx, ids: Sequence[UUID], *, actor: str, reason: str) -> list[Bulk | None]:
    """Go on where they were stopped. None where it was not."""
    return await _switch(tx, ids, "STOPPED", "RUNNING", Act(actor, "bulk.resume", "", reason))


async def crowd(tx: Tx, most: int) -> int:
    """How many sagas workers could take right now; counted no further than `most`."""
    count: int = await CROWD.value(tx, most)
    return count


async def rates(tx: Tx) -> dict[UUID, float]:
    """Items a second of the one that is at work."""
    return {row["bulk_id"]: row["rate"] for row in await RATES.rows(tx)}


async def results(tx: Tx, bulk_id: UUID, *, after: int = 0, limit: int, without_done: bool = False) -> list[Result]:
    """Items after that position, in their order: all, or those that were refused or failed."""
    return [Result(**dict(row)) for row in await RESULTS.rows(tx, bulk_id, after, without_done, limit)]


async def _switch(tx: Tx, ids: Sequence[UUID], was: State, becomes: State, act: Act) -> list[Bulk | None]:
    found = {row["id"]: _bulk(row) for row in await SWITCH.rows(tx, ids, was, becomes)}
    await acts.record(
        tx,
        [
            Act(act.actor, act.act, str(one.id), act.reason, {"worked": one.worked, "items": one.items})
            for one in found.values()
        ],
    )
    return [found.get(one) for one in ids]


def _bulk(row: Record) -> Bulk:
    fields = dict(row)
    filter_ = msgspec.json.decode(fields["filter"], type=dict[str, str])
    of = filter_.pop("of")
    return Bulk(**{**fields, "filter": Filter(of, filter_)})  # type: ignore[arg-type]
