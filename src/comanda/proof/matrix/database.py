"""PostgreSQL goes away, is slow, or says nothing; its disk is full."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from comanda.errors import DatabaseFault
from comanda.proof.chaos.proxy import Proxy
from comanda.proof.chaos.stage import Stage
from comanda.proof.matrix import looks
from comanda.proof.matrix.scenario import Outcome, Run
from comanda.proof.matrix.scene import Bought, Missed, Scene

_UP, _DOWN = 200, 503
_LIVE, _READY = "/health/live", "/health/ready"


async def restarted(scene: Scene) -> Outcome:
    """Immediate shutdown, three times; the time counts from when it accepts connections again."""
    after, away = [], []
    async with scene.load(20):
        for _ in range(3):
            await asyncio.sleep(4)
            began = time.time()
            async with scene.hurt("immediate restart"):
                pass
            await scene.until(lambda: _answers(scene), 60)
            back = time.time()
            after.append(await scene.next_accepted(back))
            away.append(back - began)
    return Outcome(
        f"503 or no answer, {sum(scene.retried.values())} tries again under the same keys",
        f"first success at the slowest {max(after):.1f} s after it accepts connections ({max(away):.1f} s after the "
        "blow) (3 restarts)",
        max(after) <= 5,
    )


async def _answers(scene: Scene) -> bool:
    try:
        await scene.value(looks.NOW)
    except (DatabaseFault, OSError):
        return False
    return True


async def terminated(scene: Scene) -> Outcome:
    """pg_terminate_backend of everybody, five times."""
    return await _blows(scene, "backends terminated", 5)


async def commits_unheard(scene: Scene) -> Outcome:
    """Three connections are cut between COMMIT and its answer, ten times."""
    return await _blows(scene, "commits unheard", 10)


async def _blows(scene: Scene, kind: str, times: int) -> Outcome:
    after, what = [], []
    async with scene.load(20):
        for _ in range(times):
            await asyncio.sleep(1.5)
            async with scene.hurt(kind) as happening:
                moment = time.time()
            after.append(await scene.next_accepted(moment))
            what += happening.told
    total = sum(int(one.split()[0]) for one in what)
    return Outcome(
        f"tries again under the same keys: {dict(scene.retried) or 'none'}",
        f"{total} connections hurt; next 202 at the slowest after {max(after):.1f} s",
        max(after) <= 5 and not scene.retried["500"],
    )


async def pool_exhausted(scene: Scene) -> Outcome:
    """200 clients at once, half of them reading, while each word of PostgreSQL's comes late."""
    bought, reads, alive = Bought(), [], []

    async def one(number: int) -> None:
        if number % 2:
            token = scene.buyers.people[number % len(scene.buyers.people)].token
            reply = await scene.buyers.api.ask("GET", "/orders?limit=5", token=token, patience=0)
            reads.append((reply.status, reply.took))
        else:
            bought.replies.append((time.time(), await scene.buyers.once(scene.intent())))
        await asyncio.sleep(0.05)

    async def look(_: int) -> None:
        alive.append(await scene.status(_LIVE))
        await asyncio.sleep(0.2)

    scene.stage.database_link.delay(0.1)
    try:
        async with scene.crowd(200, one), scene.crowd(1, look):
            await asyncio.sleep(15)
    finally:
        scene.stage.database_link.delay(0)
    pool = (await scene.buyers.api.expect(200, "GET", "/health/detailed", token=scene.buyers.people[0].token))["pool"]
    slowest_read, slowest_look = max(took for _, took in reads), max(took for _, took in alive)
    dead = sum(status != _UP for status, _ in alive)
    codes = {status: sum(one == status for one, _ in reads) for status in sorted({one for one, _ in reads})}
    return Outcome(
        f"orders {bought.statuses}; reads {codes}",
        f"a pool of {pool['limit']}; slowest order {bought.slowest:.1f} s, slowest read {slowest_read:.1f} s; liveness "
        f"200 in {len(alive) - dead} of {len(alive)} looks, at the slowest after {slowest_look:.2f} s",
        max(bought.slowest, slowest_read) <= 3 and not dead and 0 not in codes,
    )


async def disk_full(scene: Scene) -> Outcome:
    """Everything lies on one small file system, which is filled, and freed again."""
    ballast = scene.stage.folder / "ballast"
    bought = Bought()
    async with scene.single_requests(10, bought):
        await asyncio.sleep(3)
        _fill(ballast)
        full = time.time()
        try:
            refused = await scene.until(
                lambda: any(at > full and one.status == _DOWN for at, one in bought.replies), 60
            )
            statuses = []
            while time.time() - full < refused + 10:
                statuses.append((await scene.status(_READY))[0])
                _fill(ballast)
                await asyncio.sleep(0.5)
        finally:
            ballast.unlink()
        freed = time.time()
        took = await scene.next_accepted(freed, 90)
        await scene.until(lambda: _is_ready(scene), 60)
    hung = sum(reply.status == 0 for reply in bought.failed())
    return Outcome(
        f"{bought.statuses}",
        f"first 503 {refused:.1f} s after the disk was full; readiness {'503' if _DOWN in statuses else 'stayed 200'} "
        f"meanwhile; next 202 {took:.1f} s after it was freed; {hung} requests without an answer",
        took <= 30 and _DOWN in statuses,
    )


def _fill(ballast: Path) -> None:
    """To the last byte."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    os.write(descriptor, b"\0" * size)
            except OSError:
                continue
    finally:
        os.close(descriptor)


async def _is_ready(scene: Scene) -> bool:
    return (await scene.status(_READY))[0] == _UP


async def readiness(scene: Scene) -> Outcome:
    """PostgreSQL refuses connections for ten seconds, seen by probes."""
    before = await scene.status(_READY)
    link = scene.stage.database_link
    ready, live = [], []
    link.refuse(is_refusing=True)
    began = time.monotonic()
    try:
        down = await scene.until(lambda: _is_down(scene), 20)
        while time.monotonic() - began < 10:
            ready.append(await scene.status(_READY))
            live.append(await scene.status(_LIVE))
            await asyncio.sleep(0.2)
    finally:
        link.refuse(is_refusing=False)
    back = await scene.until(lambda: _is_ready(scene), 60)
    statuses, alive = {one for one, _ in ready}, {one for one, _ in live}
    slowest = max(took for _, took in [*ready, *live])
    return Outcome(
        f"/health/ready {before[0]}, then {statuses}, then 200; /health/live {alive}",
        f"down after {down:.1f} s, up again {back:.1f} s after PostgreSQL; a probe took {slowest:.2f} s at most",
        statuses == {_DOWN} and alive == {_UP} and back <= 5,
    )


async def _is_down(scene: Scene) -> bool:
    return (await scene.status(_READY))[0] == _DOWN


def half_open(link: Callable[[Stage], Proxy]) -> Run:
    """Connections stay open and carry nothing for ten seconds."""

    async def run(scene: Scene) -> Outcome:
        bought, proxy = Bought(), link(scene.stage)
        async with scene.single_requests(10, bought):
            await asyncio.sleep(3)
            began = time.time()
            proxy.swallow(is_swallowing=True)
            await asyncio.sleep(10)
            proxy.swallow(is_swallowing=False)
            over = time.time()
            again = await scene.next_accepted(over)
            try:
                ended = await scene.until(lambda: scene.value(looks.FIRST_ENDED, over), 30)
            except Missed:
                ended = 99.0
        failed = [reply for at, reply in bought.replies if at > began and reply.status != 202]
        slowest = max((reply.took for at, reply in bought.replies if at > began), default=0.0)
        return Outcome(
            f"{bought.statuses}",
            f"{len(failed)} requests failed, the slowest took {slowest:.1f} s; accepts again after {again:.1f} s, "
            f"orders end again after {ended:.1f} s",
            slowest <= 5,
        )

    return run
