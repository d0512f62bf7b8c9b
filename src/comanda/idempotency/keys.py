"""What was answered under a customer's key."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from comanda.db import Tx, twin
from comanda.idempotency.model import Remembered

_sql = twin(__file__)
ANSWERS = _sql["answers"]
REMEMBER = _sql["remember"]
FORGET_KEYS = _sql["forget_keys"]


async def answers(tx: Tx, keys: Sequence[tuple[UUID, str]]) -> list[Remembered | None]:
    """What each (customer, key) was answered; None where the key is new."""
    found: list[Remembered | None] = [None] * len(keys)
    rows = await ANSWERS.rows(tx, [customer for customer, _ in keys], [key for _, key in keys], list(range(len(keys))))
    for row in rows:
        found[row["n"]] = Remembered(row["fingerprint"], row["answer"])
    return found


async def remember(tx: Tx, new: Sequence[tuple[UUID, str, str, UUID, Remembered]]) -> list[bool]:
    """Keep (customer, key, kind, subject, what was answered); False where somebody else has that key."""
    in_order = sorted(new, key=lambda one: one[:2])
    rows = await REMEMBER.rows(
        tx,
        [customer for customer, _, _, _, _ in in_order],
        [key for _, key, _, _, _ in in_order],
        [kind for _, _, kind, _, _ in in_order],
        [subject for _, _, _, subject, _ in in_order],
        [answer.fingerprint for _, _, _, _, answer in in_order],
        [answer.answer for _, _, _, _, answer in in_order],
    )
    won = {row["subject"] for row in rows}
    return [subject in won for _, _, _, subject, _ in new]


async def forget(tx: Tx, age: timedelta, limit: int) -> int:
    """Delete keys older than `age`; how many."""
    return await FORGET_KEYS.run(tx, age, limit)
