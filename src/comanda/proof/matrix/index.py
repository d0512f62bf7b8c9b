"""Redis goes away or forgets; wake-ups are lost."""

import asyncio
import time

from comanda.messaging import outbox
from comanda.messaging.queues import PRIORITIES, QUEUES
from comanda.messaging.relay import SINK
from comanda.messaging.streams import stream_of
from comanda.proof.matrix import looks
from comanda.proof.matrix.scenario import Outcome
from comanda.proof.matrix.scene import Scene

_JOBS = 10_000
_POISON = 3
_LEASE = 10  # seconds, after which a message that was not acknowledged is claimed again
_POLL_AND_A_HALF = 1.0  # seconds: the relay's poll and 0.5 s


async def flushed(scene: Scene) -> Outcome:
    """Ten thousand jobs are queued while their queue is paused; Redis forgets all of them; the queue goes on."""
    queue = QUEUES[0]
    await scene.comanda("queue", "pause", queue, "--reason", "it is hurt")
    await asyncio.sleep(1.5)
    began = time.monotonic()
    buying = asyncio.create_task(scene.buy(_JOBS, at_once=64))
    while not buying.done():
        scene.told(f"{scene.buyers.accepted:,} of {_JOBS:,} jobs queued")
        await asyncio.wait({buying}, timeout=2)
    buying.result()
    queued = time.monotonic() - began
    await scene.stage.redis("FLUSHALL")
    await scene.comanda("queue", "resume", queue, "--reason", "it was hurt")
    resumed, now = time.monotonic(), time.time()
    first = await scene.until(lambda: _ended(scene, now, 1), 120)
    await scene.until(lambda: _ended(scene, now, _JOBS), 400)
    took = time.monotonic() - resumed
    return Outcome(
        f"{_JOBS:,} times 202 in {queued:.0f} s, nothing else",
        f"orders end again {first:.1f} s after the queue went on; all {_JOBS:,} had ended after {took:.0f} s",
        first <= 10,
    )


async def _ended(scene: Scene, moment: float, many: int) -> bool:
    ended: int = await scene.value(looks.ENDED_SINCE, moment)
    return ended >= many


async def killed(scene: Scene) -> Outcome:
    return await _blow(scene, "redis killed -9")


async def file_cut(scene: Scene) -> Outcome:
    return await _blow(scene, "append-only file cut")


async def _blow(scene: Scene, kind: str) -> Outcome:
    """Three times: how long until an order that was placed after it has ended."""
    accepts, ends = [], []
    async with scene.load(20):
        for _ in range(3):
            await asyncio.sleep(3)
            moment = time.time()
            async with scene.hurt(kind):
                pass
            accepts.append(await scene.next_accepted(moment))
            await scene.until(lambda moment=moment: scene.value(looks.FIRST_ENDED, moment), 60)  # type: ignore[misc]
            ends.append((await scene.value(looks.FIRST_ENDED, moment)).timestamp() - moment)
    return Outcome(
        f"tries again: {dict(scene.retried) or 'none'}",
        f"next 202 at the slowest after {max(accepts):.1f} s, and ended after {max(ends):.1f} s (3 times)",
        max(ends) <= 10,
    )


async def away(scene: Scene) -> Outcome:
    """Nobody listens for twenty seconds; as many orders as go through, before and meanwhile."""
    rates, link = [], scene.stage.redis_link

    async def one(_: int) -> None:
        await scene.buyers.place(scene.intent())

    async with scene.crowd(24, one):
        await asyncio.sleep(4)
        rates.append(await _rate(scene, 8))
        link.refuse(is_refusing=True)
        try:
            rates.append(await _rate(scene, 20))
        finally:
            link.refuse(is_refusing=False)
        over = time.time()
        await scene.until(lambda: _ended(scene, over, 1), 60)
    (accepted, ended), (meanwhile, ended_meanwhile) = rates
    return Outcome(
        f"tries again: {dict(scene.retried) or 'none'}",
        f"{accepted:.0f} accepted and {ended:.0f} ended a second before, {meanwhile:.0f} and {ended_meanwhile:.0f} "
        "while Redis is down",
        meanwhile > 0 and ended_meanwhile > 0 and not scene.retried["503"],
    )


async def _rate(scene: Scene, seconds: float) -> tuple[float, float]:
    began, accepted = time.time(), scene.buyers.accepted
    await asyncio.sleep(seconds)
    ended = await scene.value(looks.ENDED_SINCE, began)
    return (scene.buyers.accepted - accepted) / seconds, ended / seconds


async def wake_ups_lost(scene: Scene) -> Outcome:
    """Notifications vanish and the connection that listens is killed, five times; one order each time."""
    late, back = [], []
    for _ in range(5):
        async with scene.hurt("notifications lost"):
            ended = time.monotonic()
            await scene.buy(1)
            ordered = time.monotonic()
            await scene.until(lambda: _is_published(scene), 30)
            late.append(time.monotonic() - ordered)
            await scene.until(lambda: _listens(scene), 30)
            back.append(time.monotonic() - ended)
    return Outcome(
        "nothing",
        f"events picked up after {max(late):.2f} s at the most; it listens again after {max(back):.1f} s",
        max(late) <= _POLL_AND_A_HALF and max(back) <= 5,
    )


async def _is_published(scene: Scene) -> bool:
    async with scene.stage.database() as tx:
        return (await outbox.lag(tx, SINK))[0] == 0


async def _listens(scene: Scene) -> bool:
    return bool(await scene.value(looks.LISTENERS))


async def unreadable(scene: Scene) -> Outcome:
    """Messages that nobody can read, among those of orders."""
    async with scene.load(20):
        await asyncio.sleep(3)
        calm = time.time()
        for n in range(_POISON):
            await scene.stage.redis(f"XADD {stream_of(QUEUES[0], PRIORITIES[0])} * ids nonsense-{n}")
        took = await scene.until(lambda: _are_buried(scene), 30)
        await asyncio.sleep(5)
    took_before, took_after = _p99(scene, 0, calm), _p99(scene, calm, calm + 5)
    return Outcome(
        "nothing",
        f"{_POISON} dead letters after {took:.1f} s, before a second claim (10 s); p99 of the others' 202s "
        f"{took_before * 1000:.0f} ms before, {took_after * 1000:.0f} ms after",
        took < _LEASE and took_after <= max(0.1, 2 * took_before),
    )


async def _are_buried(scene: Scene) -> bool:
    return bool(await scene.value(looks.LETTERS) >= _POISON)


def _p99(scene: Scene, since: float, until: float) -> float:
    took = sorted(
        (one.accepted or 0) - one.sent for one in scene.buyers.asked if since <= one.sent < until and one.accepted
    )
    return took[int(len(took) * 0.99)] if took else 0.0
