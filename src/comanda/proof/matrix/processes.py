"""Processes that die, stand still, or are asked to go."""

import asyncio
import signal
import time

import psutil

from comanda.proof.matrix import looks
from comanda.proof.matrix.scenario import Outcome
from comanda.proof.matrix.scene import Bought, Scene

_STALE = "saga_leases_lost_total"
_MIB = 1 << 20


async def worker_killed(scene: Scene) -> Outcome:
    """Its calls are out; how long until the last of their sagas is taken over."""
    async with scene.load(20):
        await asyncio.sleep(5)
        await scene.stage.kill("worker-1")
        orphans = await scene.rows(looks.LEASED, "worker-1")
        ids, tokens = [row["id"] for row in orphans], [row["token"] for row in orphans]
        took = await scene.until(lambda: _nobodys(scene, ids, tokens), 60)
    slowest = max(((one.accepted or 0) - one.sent for one in scene.buyers.asked if one.accepted), default=0)
    saw = f"every order accepted, at the slowest after {slowest:.2f} s"
    return Outcome(
        saw, f"{len(ids)} calls were out; the last was taken over after {took:.1f} s", bool(ids) and took <= 15
    )


async def _nobodys(scene: Scene, ids: list[object], tokens: list[int]) -> bool:
    return not await scene.value(looks.STILL_LEASED, ids, tokens)


async def zombie(scene: Scene) -> Outcome:
    """Frozen with calls out, past its lease, until another has its sagas; then it wakes and tells what it thinks."""
    async with scene.load(20):
        await asyncio.sleep(3)
        frozen = await scene.stage.freeze("worker-1")
        try:
            orphans = await scene.rows(looks.LEASED, "worker-1")
            ids, tokens = [row["id"] for row in orphans], [row["token"] for row in orphans]
            took = await scene.until(lambda: _nobodys(scene, ids, tokens), 30)
        finally:
            frozen.resume()
        before = await scene.metric(_STALE)
        await scene.until(lambda: _refused(scene, before), 20)
        await asyncio.sleep(2)
        refused = await scene.metric(_STALE) - before
    return Outcome(
        "nothing",
        f"{len(ids)} sagas taken over after {took:.1f} s; {refused:.0f} late results refused",
        refused >= 1,
    )


async def _refused(scene: Scene, before: float) -> bool:
    return await scene.metric(_STALE) > before


async def api_killed(scene: Scene) -> Outcome:
    """The only one, five times."""
    times = []
    async with scene.load(20):
        for _ in range(5):
            await asyncio.sleep(3)
            moment = time.time()
            await scene.stage.kill("api-1")
            times.append(await scene.next_accepted(moment))
    tries = sum(scene.retried.values())
    return Outcome(
        f"{tries} requests without an answer, repeated under their keys",
        f"next 202 at the slowest after {max(times):.1f} s (5 kills, one API process)",
        is_met=True,
    )


async def relay_killed(scene: Scene) -> Outcome:
    """How late events and hints are; orders end without it."""
    late = []
    async with scene.load(10):
        for _ in range(5):
            await asyncio.sleep(3)
            await scene.stage.kill("relay")
            now = await scene.value(looks.NOW)
            await scene.until(lambda now=now: _published_since(scene, now), 30)  # type: ignore[misc]
            late.append(((await scene.value(looks.NOW)) - now).total_seconds())
    return Outcome(
        "nothing", f"the next event was published at the slowest {max(late):.1f} s later (5 kills)", max(late) <= 5
    )


async def _published_since(scene: Scene, moment: object) -> bool:
    return bool(await scene.value(looks.PUBLISHED_SINCE, moment))


async def deploy(scene: Scene) -> Outcome:
    """SIGTERM to each API and each worker, one after the other; clients don't try again."""
    bought, left = Bought(), 0
    async with scene.single_requests(20, bought):
        await asyncio.sleep(2)
        for name in ("api-1", "api-2", "worker-1", "worker-2"):
            old = await scene.stage.kill(name, signal.SIGTERM)
            if name.startswith("worker"):
                left += await scene.value(looks.LEASES, name)
            await scene.until(lambda name=name, old=old: _another(scene, name, old), 30)  # type: ignore[misc]
            await asyncio.sleep(3)
    failed = bought.failed()
    return Outcome(
        f"{len(bought.replies)} requests: {bought.statuses}",
        f"{len(failed)} failed requests, {left} leases left behind; slowest request {bought.slowest:.2f} s",
        not failed and not left,
    )


async def _another(scene: Scene, name: str, old: int) -> bool:
    """Another process of that name is there, and has got as far as PostgreSQL."""
    is_another = (await scene.stage.living(name)).pid != old
    return is_another and bool(await scene.value(looks.CONNECTED, f"comanda-{name}"))


async def shutdown(scene: Scene) -> Outcome:
    """SIGTERM to `comanda up` itself, under load; its supervisor starts it again."""
    async with scene.load(20):
        await asyncio.sleep(4)
        process = await scene.stage.living("up")
        began = time.time()
        process.send_signal(signal.SIGTERM)
        await scene.until(lambda: not psutil.pid_exists(process.pid) or process.status() == psutil.STATUS_ZOMBIE, 60)
        stopped = time.time() - began
        await scene.until((scene.stage.up_folder / "up.json").exists, 60)
        scene.follow()
        again = await scene.next_accepted(began + stopped, 60)
    code = next((one for one in scene.restarts if one.startswith("up:")), "up: no word")
    is_clean = "exit code 0" in code
    told = "exit code 0" if is_clean else code
    return Outcome(
        "refused connections until it runs again",
        f"{told} after {stopped:.1f} s; accepts again {again:.1f} s later",
        is_clean,
    )


async def backpressure(scene: Scene) -> Outcome:
    """Both workers stand still for five minutes while orders come."""
    api = await scene.stage.living("api-1")
    frozen = [await scene.stage.freeze(name) for name in ("worker-1", "worker-2")]
    began, bought = time.monotonic(), Bought()
    await asyncio.sleep(4)
    held = await scene.value(looks.IN_TRANSACTION)
    before = most = api.memory_info().rss
    try:
        async with scene.single_requests(25, bought):
            while time.monotonic() - began < 300:
                scene.told(
                    f"workers stand still: {time.monotonic() - began:.0f} of 300 s, {len(bought.replies)} requests"
                )
                await asyncio.sleep(2)
                most = max(most, api.memory_info().rss)
    finally:
        for process in frozen:
            process.resume()
    shed = [reply for _, reply in bought.replies if reply.code == "OVERLOADED"]
    for one in scene.buyers.asked:
        if not one.answers and one.key in bought.shed:
            one.refusal = "OVERLOADED"
    took = sorted(reply.took for reply in shed) or [99.0]
    named = all(reply.retry_after is not None for reply in shed)
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    grown = (most - before) / _MIB
    others = len(bought.failed()) - len(shed)
    return Outcome(
        f"{len(bought.replies) - len(bought.failed())} times 202, then {len(shed)} times 503 OVERLOADED with "
        f"Retry-After, {others} others",
        f"API {before / _MIB:.0f} MiB, +{grown:.1f} MiB; 503 after {p50 * 1000:.0f} ms (p99 {p99 * 1000:.0f} ms); "
        f"transactions held by frozen workers: {held}",
        bool(shed) and named and grown <= 50 and p99 <= 0.05 and not held and not others,
    )
