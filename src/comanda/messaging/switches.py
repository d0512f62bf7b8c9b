"""What an operator sets for a queue while everything runs: a limit in jobs a second, a pause."""

from dataclasses import dataclass

from comanda.db import Tx, twin

_sql = twin(__file__)
READ = _sql["read"]
SET_LIMIT = _sql["set_limit"]
SET_PAUSED = _sql["set_paused"]


@dataclass(frozen=True, slots=True)
class Switch:
    """`rate_limit`: jobs a second for all workers together; None: no limit."""

    rate_limit: int | None = None
    is_paused: bool = False


async def read(tx: Tx) -> dict[str, Switch]:
    """The switch of each queue."""
    return {row["name"]: Switch(row["rate_limit"], row["is_paused"]) for row in await READ.rows(tx)}


async def set_limit(tx: Tx, queue: str, rate: int | None, *, actor: str) -> bool:
    """Change a queue's limit; False when there is no such queue. Workers see it within a second."""
    return await SET_LIMIT.run(tx, queue, rate, actor) == 1


async def set_paused(tx: Tx, queue: str, *, is_paused: bool, actor: str) -> bool:
    """Pause or resume a queue; False when there is no such queue."""
    return await SET_PAUSED.run(tx, queue, is_paused, actor) == 1
