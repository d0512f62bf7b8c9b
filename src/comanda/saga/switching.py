"""What an operator does to a queue: a limit, a pause. Audited, with a reason."""

from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.db import Tx
from comanda.messaging import switches


async def limit(tx: Tx, queue: str, rate: int | None, *, actor: str, reason: str) -> bool:
    """At most so many jobs a second for all workers together, None: no limit; False: there is no such queue."""
    if not await switches.set_limit(tx, queue, rate, actor=actor):
        return False
    await acts.record(tx, [Act(actor, "queue.limit", queue, reason, {"rate": rate})])
    return True


async def pause(tx: Tx, queue: str, *, is_paused: bool, actor: str, reason: str) -> bool:
    """Start nothing more in a queue, or work on it again; False: there is no such queue."""
    if not await switches.set_paused(tx, queue, is_paused=is_paused, actor=actor):
        return False
    await acts.record(tx, [Act(actor, "queue.pause" if is_paused else "queue.resume", queue, reason)])
    return True
