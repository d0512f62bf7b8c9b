"""Acts on many, carried out in chunks: each in the transaction that also writes what came of it. And rehearsed."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from comanda import telemetry
from comanda.bulk import bulks, selection
from comanda.bulk.bulks import Bulk, Came, Item
from comanda.bulk.filters import BulkVerb, Filter
from comanda.bulk.selection import MOST, Selected
from comanda.db import Database, Tx
from comanda.errors import DependencyFault, Overrun
from comanda.failpoints import Boundary
from comanda.saga import verbs
from comanda.saga.settling import Settling
from comanda.sentences import Sentence

CHUNK = Boundary("bulk.chunk")

AT_ONCE = 100
"""Items of a chunk."""
SAMPLE = 500
"""Items that a rehearsal tries; of more these are taken evenly from all of them."""

_PAUSE = timedelta(seconds=1)
_CALM = 0.1  # of the backlog at which the shop closes: with more to do than this, it is not added to
_log = telemetry.log("bulk")

Onward = Mapping[tuple[str, int], Sequence[UUID]]
By = Callable[[str], Settling]
"""What settles what an actor decides by hand."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast: items a second, and from how many sagas that are due on nothing is added to them."""

    rate: int
    crowd: int

    @classmethod
    def of(cls, rate: int, most_backlog: int) -> "Pace":
        return cls(rate, max(1, int(most_backlog * _CALM)))


@dataclass(frozen=True, slots=True)
class Worked:
    """Where an act stands after a chunk, what came of its items, and which sagas are due now."""

    standing: Bulk
    counts: Counter[bulks.Outcome]
    onward: Onward


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What would come of an act, were it begun now. Nothing does.

    `selected` is all that matches (`is_cut`: there is more than one act can be about), `looked` how many of them were
    tried; `stands` and `refused` count what came of these. `groups`: where all of them stand, with how many. `seen_at`
    is what the act has to be begun with to be about nothing else.
    """

    selected: Sequence[Selected]
    is_cut: bool
    seen_at: datetime
    looked: int
    stands: Counter[str]
    refused: Counter[str]
    groups: Sequence[tuple[Selected, int]]
    orders: int
    amounts: Sequence[tuple[int, str]]

    @property
    def total(self) -> int:
        return len(self.selected)


async def advance(database: Database, by: By, pace: Pace) -> Worked | None:
    """Carry out the next chunk of the act that is next; None where there is nothing to do now.

    A chunk that raises is repeated one by one, and an item that raises alone has failed.
    """
    try:
        async with database.transaction(CHUNK) as tx:
            return await _chunk(tx, by, pace)
    except Overrun:
        _log.warning("a chunk took too long; its items are done one by one")
    except DependencyFault:
        raise
    except Exception:  # noqa: BLE001 - one item must not hold the others
        _log.exception("a chunk is repeated item by item")
    worked: Worked | None = None
    for _ in range(min(AT_ONCE, pace.rate)):
        one = await _alone(database, by, pace)
        if one is None or (worked is not None and one.standing.id != worked.standing.id):
            break
        worked = one if worked is None else _together(worked, one)
    return worked


async def _chunk(tx: Tx, by: By, pace: Pace) -> Worked | None:
    one = await bulks.take(tx)
    if one is None:
        return None
    if await bulks.crowd(tx, pace.crowd) >= pace.crowd:
        return Worked(await bulks.hold_back(tx, one, _PAUSE), Counter(), {})
    return await _carry(tx, by, pace, one, min(AT_ONCE, pace.rate))


async def _alone(database: Database, by: By, pace: Pace) -> Worked | None:
    tried: Bulk | None = None
    try:
        async with database.transaction(CHUNK) as tx:
            tried = await bulks.take(tx, is_eager=True)
            return None if tried is None else await _carry(tx, by, pace, tried, 1)
    except Overrun as fault:
        said = str(fault)
    except DependencyFault:
        raise
    except Exception as fault:  # noqa: BLE001 - it has failed, whatever it was
        _log.exception("an item of a bulk act raised")
        said = repr(fault)
    async with database.transaction(CHUNK) as tx:
        one = await bulks.take(tx, is_eager=True)
        if one is None or tried is None:
            return None
        if (one.id, one.worked) != (tried.id, tried.worked):
            return Worked(one, Counter(), {})  # somebody else had more luck with the item meanwhile
        return await _give_up(tx, pace, one, said)


async def _carry(tx: Tx, by: By, pace: Pace, one: Bulk, most: int) -> Worked:
    items = await bulks.following(tx, one, most)
    came, onward = await _apply(tx, by(one.actor), one.verb, items, actor=one.actor, reason=one.reason, bulk=one.id)
    return await _settled(tx, pace, one, came, onward)


async def _give_up(tx: Tx, pace: Pace, one: Bulk, said: str) -> Worked:
    items = await bulks.following(tx, one, 1)
    return await _settled(tx, pace, one, [Came(item.position, "failed", said=said) for item in items], {})


async def _settled(tx: Tx, pace: Pace, one: Bulk, came: Sequence[Came], onward: Onward) -> Worked:
    standing = await bulks.settle(tx, one, came, rest=timedelta(seconds=len(came) / pace.rate))
    return Worked(standing, Counter(item.outcome for item in came), onward)


def _together(first: Worked, second: Worked) -> Worked:
    onward: dict[tuple[str, int], list[UUID]] = defaultdict(list)
    for target, ids in (*first.onward.items(), *second.onward.items()):
        onward[target] += ids
    return Worked(second.standing, first.counts + second.counts, onward)


async def _apply(
    tx: Tx, settling: Settling, verb: BulkVerb, items: Sequence[Item], *, actor: str, reason: str, bulk: UUID
) -> tuple[list[Came], Onward]:
    """Do it to these; what came of each, in their order."""
    if verb == "redrive":
        return await _redrive(tx, settling, items, actor=actor, reason=reason, bulk=bulk)
    stood = {item.saga_id: item.stood for item in items if item.saga_id is not None}
    acted, result = await verbs.act(tx, settling, list(stood), verb, actor=actor, reason=reason, stood=stood, bulk=bulk)
    found = {one.saga_id: one for one in acted}
    return [_came(item, found[item.saga_id]) for item in items if item.saga_id is not None], result.onward


async def _redrive(
    tx: Tx, settling: Settling, items: Sequence[Item], *, actor: str, reason: str, bulk: UUID
) -> tuple[list[Came], Onward]:
    letters = [item.letter_id for item in items if item.letter_id is not None]
    acted, were_open, result = await verbs.redrive(
        tx, settling, letters, actor=actor, reason=reason, limit=len(letters), bulk=bulk
    )
    found = {one.saga_id: one for one in acted}
    came = []
    for item in items:
        if item.letter_id not in were_open:
            came.append(Came(item.position, "refused", said="somebody else has taken care of this letter"))
        elif item.saga_id is None:
            came.append(Came(item.position, "done", stands="closed: nobody could read it"))
        else:
            came.append(_came(item, found[item.saga_id]))
    return came, result.onward


def _came(item: Item, acted: verbs.Acted) -> Came:
    if acted.refusal is not None:
        return Came(item.position, "refused", said=acted.refusal)
    return Came(item.position, "done", stands=acted.now)


def _whenever(said: str) -> str:
    """Those that differ in the moment alone are one."""
    if isinstance(said, Sentence) and "until" in said.values:
        return Sentence(said.pattern, **{**said.values, "until": "…"})
    return said


class _TakenBack(Exception):
    """Everything was as it would be: now it is rolled back."""


async def rehearse(
    database: Database, lists: Database, by: By, wanted: Filter, verb: BulkVerb, actor: str
) -> Rehearsal:
    """What would come of it: all that matches is counted, and some of it is done in transactions that are rolled back.

    Args:
        database: where the acts are tried.
        lists: where is read what matches.
        by: what settles.
        wanted: the filter.
        verb: what is to be done.
        actor: who asks.
    """
    async with lists.connection() as tx:
        seen_at = await selection.moment(tx)
        found = await selection.select(tx, wanted, seen_at)
        orders, amounts = await selection.worth(tx, found)
    selected, is_cut = found[:MOST], len(found) > MOST
    looked = min(len(selected), SAMPLE)
    sample = [selected[at * len(selected) // looked] for at in range(looked)]
    items = [
        Item(number, one.saga_id, one.letter_id, one.kind, one.subject, one.stood) for number, one in enumerate(sample)
    ]
    came: list[Came] = []
    for at in range(0, len(items), AT_ONCE):
        came += await _tried(database, by, verb, items[at : at + AT_ONCE], actor)
    return Rehearsal(
        selected,
        is_cut,
        seen_at,
        looked,
        Counter(one.stands for one in came if one.outcome == "done" and one.stands),
        Counter(_whenever(one.said) for one in came if one.outcome != "done" and one.said),
        _groups(selected),
        orders,
        amounts,
    )


async def _tried(database: Database, by: By, verb: BulkVerb, items: Sequence[Item], actor: str) -> list[Came]:
    try:
        return await _taken_back(database, by, verb, items, actor)
    except DependencyFault:
        raise
    except Exception as fault:  # noqa: BLE001 - it would fail, whatever it was
        if len(items) == 1:
            return [Came(items[0].position, "failed", said=repr(fault))]
        return [came for item in items for came in await _tried(database, by, verb, [item], actor)]


async def _taken_back(database: Database, by: By, verb: BulkVerb, items: Sequence[Item], actor: str) -> list[Came]:
    came: list[Came] = []
    with contextlib.suppress(_TakenBack):
        async with database.transaction(CHUNK) as tx:
            came, _ = await _apply(tx, by(actor), verb, items, actor=actor, reason="rehearsal", bulk=UUID(int=0))
            raise _TakenBack
    return came


def _groups(selected: Sequence[Selected]) -> list[tuple[Selected, int]]:
    counts = Counter((one.kind, one.version, one.step, one.direction, one.state) for one in selected)
    first = {(one.kind, one.version, one.step, one.direction, one.state): one for one in reversed(selected)}
    return [(first[key], count) for key, count in counts.most_common()]
