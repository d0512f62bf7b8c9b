"""What was answered under a customer's key."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from comanda.db import Tx, twin
from comanda.idempotency.model import Remembered

_sql = twin(__file__)
ANSWERS = _sql["answers"]
FORGET_KEYS = _sql["forget_keys"]


async def answers(tx: Tx, keys: Sequence[tuple[UUID, str]]) -> list[Remembered | None]:
    """What each (customer, key) was answered; None where the key is new."""
    found: list[Remembered | None] = [None] * len(keys)
    rows = await ANSWERS.rows(tx, [customer for customer, _ in keys], [key for _, key in keys], list(range(len(keys))))
    for row in rows:
        found[row["n"]] = Remembered(row["fingerprint"], row["answer"])
    return found


async def forget(tx: Tx, age: timedelta, limit: int) -> int:
    """Delete keys older than `age`; how many."""
    return await FORGET_KEYS.run(tx, age, limit)
