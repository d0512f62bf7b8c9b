"""Dead letters: what was given up on, with why, until somebody sends it round again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from comanda.clock import new_id
from comanda.db import Tx, twin

_sql = twin(__file__)
BURY = _sql["bury"]
LISTED = _sql["listed"]
ALIKE = _sql["alike"]
FIND = _sql["find"]
OPEN_COUNT = _sql["open_count"]
STILL_OPEN = _sql["still_open"]
CLOSE = _sql["close"]
CLOSE_OF_SAGAS = _sql["close_of_sagas"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Without a saga: a message that could not be read."""

    queue: str
    step: str
    direction: str
    error: str
    saga_id: UUID | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=new_id)


async def bury(tx: Tx, letters: Sequence[DeadLetter]) -> None:
    if not letters:
        return
    await BURY.run(
        tx,
        [letter.id for letter in letters],
        [letter.saga_id for letter in letters],
        [letter.queue for letter in letters],
        [letter.step for letter in letters],
        [letter.direction for letter in letters],
        [letter.error for letter in letters],
        [msgspec.json.encode(letter.payload).decode() for letter in letters],
    )


async def listed(
    tx: Tx, *, with_redriven: bool = False, queue: str | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """The newest dead letters."""
    return [dict(row) for row in await LISTED.rows(tx, with_redriven, queue, limit)]


async def alike(tx: Tx, fingerprint: str, limit: int) -> list[dict[str, Any]]:
    """Open letters that failed at one place with one error (but for numbers and ids in it), oldest first."""
    return [dict(row) for row in await ALIKE.rows(tx, fingerprint, limit)]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[dict[str, Any] | None]:
    """Letters by their ids, open or not; None where there is none."""
    found = {row["id"]: dict(row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def open_count(tx: Tx) -> int:
    """How many nobody has sent round again yet."""
    count: int = await OPEN_COUNT.value(tx)
    return count


async def still_open(tx: Tx, ids: Sequence[UUID] | None, *, limit: int) -> dict[UUID, UUID | None]:
    """Those that nobody has taken care of (None: of all), each with the saga that it is about; the oldest first."""
    return {row["id"]: row["saga_id"] for row in await STILL_OPEN.rows(tx, ids, limit)}


async def close(tx: Tx, ids: Sequence[UUID], *, actor: str, reason: str) -> None:
    """Somebody has taken care of these: they are no longer open. One that is about a saga is closed with that."""
    await CLOSE.run(tx, ids, actor, reason)


async def close_of_sagas(tx: Tx, saga_ids: Sequence[UUID], *, actor: str, reason: str) -> None:
    """Somebody has taken care of these sagas: their letters are no longer open."""
    await CLOSE_OF_SAGAS.run(tx, saga_ids, actor, reason)
