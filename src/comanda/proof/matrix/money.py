"""The gateway is away, loses answers, or does not give money back; the mail does not go out."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from comanda.payments.gateway import HttpGateway
from comanda.proof.ledger import PAGE
from comanda.proof.matrix import looks
from comanda.proof.matrix.scenario import Outcome
from comanda.proof.matrix.scene import Scene

_ORDERS = 20
_STEP = 0.5  # seconds
MAILBOX_FULL = """
CREATE FUNCTION refuse_mail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the mail provider is down';
END $$;
CREATE TRIGGER refuse_mail BEFORE INSERT ON mailbox FOR EACH ROW EXECUTE FUNCTION refuse_mail();
"""
MAILBOX_MENDED = "DROP TRIGGER refuse_mail ON mailbox; DROP FUNCTION refuse_mail();"


async def gateway_down(scene: Scene) -> Outcome:
    """Killed and refusing connections for a minute under a steady load; calls are counted at the proxy."""
    async with scene.load(10):
        await asyncio.sleep(5)
        before = await _calls(scene, 10)
        steady = sum(before) / len(before)
        async with scene.hurt("gateway killed and down"):
            opened = await scene.until(lambda: _breaker_is(scene, "OPEN", "HALF_OPEN"), 30)
            scene.told("the gateway is down for a minute")
            await asyncio.sleep(60 - opened)
            waiting = await _count(scene, "CONFIRMED")
        back = await _calls(scene, 40)
        await scene.until(lambda: _breaker_is(scene, "CLOSED"), 60)
    peak_of_five = max(sum(back[n : n + 10]) / 10 for n in range(len(back) - 9))
    return Outcome(
        "202 all the time; orders wait for their payment",
        f"breaker open after {opened:.1f} s; {waiting} orders waited; calls: steady {steady * 2:.0f}/s, when it is "
        f"back {max(back) * 2:.0f}/s in the worst half second, {peak_of_five * 2:.0f}/s in the worst 5 s; all ended",
        peak_of_five <= 2 * steady,
    )


async def _calls(scene: Scene, seconds: float) -> list[int]:
    """Requests that reached the proxy, in each half second."""
    counts, link = [], scene.stage.gateway_link
    for _ in range(int(seconds / _STEP)):
        before = link.requests
        await asyncio.sleep(_STEP)
        counts.append(link.requests - before)
    return counts


async def _breaker_is(scene: Scene, *states: str) -> bool:
    return await scene.value(looks.BREAKER) in states


async def _count(scene: Scene, *ended: str) -> int:
    """Orders in other states than these."""
    rows = await scene.rows(looks.STATES)
    return sum(row["orders"] for row in rows if row["state"] not in {*ended, "CANCELLED"})


async def _states(scene: Scene) -> dict[str, int]:
    return {row["state"]: row["orders"] for row in await scene.rows(looks.STATES)}


async def _all_ended(scene: Scene) -> bool:
    return not await _count(scene, "CONFIRMED")


async def answers_lost(scene: Scene) -> Outcome:
    """The gateway captures; its answer is cut off."""
    link = scene.stage.gateway_link
    link.lose_answers(_ORDERS)
    return await _charged_once(scene, "pm_success", lambda: f"{link.cuts['answer_lost']} answers lost; ")


async def gateway_times_out(scene: Scene) -> Outcome:
    """The gateway captures and answers 504."""
    return await _charged_once(scene, "pm_timeout_after_capture", lambda: "")


async def answers_late(scene: Scene) -> Outcome:
    """The gateway takes thirty seconds, its client gives up after five."""
    return await _charged_once(scene, "pm_slow_30000", lambda: "")


async def _charged_once(scene: Scene, method: str, more: Callable[[], str]) -> Outcome:
    began = time.monotonic()
    ids = await scene.buy(_ORDERS, method)
    await scene.until(lambda: _all_ended(scene), 180)
    took = time.monotonic() - began
    captured, refunded = await _ledger(scene)
    twice = sum(count > 1 for count in captured.values())
    return Outcome(
        f"{len(ids)} times 202, then {await _states(scene)}",
        f"{more()}{len(captured)} captures for {len(ids)} orders, {twice} doubled, {sum(refunded.values())} given "
        f"back; all had ended after {took:.0f} s",
        not twice and len(captured) == len(ids),
    )


async def _ledger(scene: Scene) -> tuple[Counter[str], Counter[str]]:
    """Captures and refunds of each order, by the gateway's own books."""
    captured, refunded, after = Counter[str](), Counter[str](), 0
    async with HttpGateway(scene.stage.gateway_url, timeout=30) as gateway:
        while page := await gateway.ledger(after, PAGE):
            for line in page:
                (captured if line["type"] == "capture" else refunded)[line["orderId"]] += 1
            after = page[-1]["seq"]
    return captured, refunded


async def charges_held(scene: Scene) -> Outcome:
    """Charges stand still at the proxy until their orders are undone, and arrive then."""
    async with scene.hurt("charges arrive too late") as what:
        ids = await scene.buy(_ORDERS)
        await scene.until(lambda: _all_ended(scene), 90)
    await asyncio.sleep(1)
    captured, _ = await _ledger(scene)
    return Outcome(
        f"{len(ids)} times 202, then {await _states(scene)}",
        f"{', '.join(what.told)}; {sum(captured.values())} captures",
        not captured,
    )


async def _paid_and_unheard(scene: Scene) -> list[str]:
    """Orders whose money is taken, and nobody knows: the gateway does not answer anything any more."""
    link = scene.stage.gateway_link
    link.lose_answers(_ORDERS)
    ids = await scene.buy(_ORDERS)
    await scene.until(lambda: link.cuts["answer_lost"] >= _ORDERS, 30)
    link.fail("*")
    return ids


async def refunds_fail(scene: Scene) -> Outcome:
    """For thirty seconds from the first try on."""
    ids = await _paid_and_unheard(scene)
    link = scene.stage.gateway_link
    await scene.until(lambda: _undoing(scene, 1), 60)
    await asyncio.sleep(30)
    failed = link.cuts["answered_500"]
    link.fail()
    took = await scene.until(lambda: _all_ended(scene), 60)
    captured, refunded = await _ledger(scene)
    return Outcome(
        f"{len(ids)} times 202, then {await _states(scene)}",
        f"{sum(captured.values())} captured, {failed} tries answered 500; all given back ({sum(refunded.values())}) "
        f"{took:.1f} s after it works again",
        captured == refunded and len(captured) == len(ids),
    )


async def _undoing(scene: Scene, least: int) -> bool:
    rows = await scene.rows(looks.UNDOING)
    return len(rows) >= least


async def refunds_fail_for_ever(scene: Scene) -> Outcome:
    """Until somebody is told; then it is mended, and an operator says `retry`."""
    await _paid_and_unheard(scene)
    await scene.until(lambda: _undoing(scene, 1), 60)
    undone = time.monotonic()
    scene.told("waits until it is seen as stuck")
    stuck = await scene.until(lambda: _is_stuck(scene), 120)
    await scene.until(lambda: _metric_tells(scene), 60)
    metric = time.monotonic() - undone
    await scene.until(lambda: bool(scene.pager.heard), 60)
    paged = time.monotonic() - undone
    await scene.until(lambda: _all_stuck(scene), 60)
    listed = await scene.comanda("saga", "list", "--stuck", "--json")
    scene.stage.gateway_link.fail()
    mended = time.monotonic()
    await scene.comanda(
        "saga", "retry", *(str(row["subject"]) for row in await scene.rows(looks.STUCK)), "--reason", "mended"
    )
    await scene.until(lambda: _all_ended(scene), 60)
    ended = time.monotonic() - mended
    captured, refunded = await _ledger(scene)
    return Outcome(
        f"{await _states(scene)}, once it was mended",
        f"stuck {stuck:.0f} s after the first try; metric after {metric:.0f} s, operator called after {paged:.0f} s, "
        f"{len(listed)} by `saga list --stuck`; `saga retry` ended all in {ended:.1f} s; "
        f"{sum(captured.values())} captured, {sum(refunded.values())} given back",
        max(stuck, metric, paged) <= 60 and bool(listed) and captured == refunded,
    )


async def _is_stuck(scene: Scene) -> bool:
    return bool(await scene.rows(looks.STUCK))


async def _all_stuck(scene: Scene) -> bool:
    return len(await scene.rows(looks.STUCK)) == _ORDERS


async def _metric_tells(scene: Scene) -> bool:
    return await scene.metric("sagas_stuck") > 0


async def mail_down(scene: Scene) -> Outcome:
    """The provider refuses every message for ten seconds and more."""
    await scene.execute(MAILBOX_FULL)
    ids = await scene.buy(_ORDERS)
    took = await scene.until(lambda: _all_ended(scene), 60)
    await asyncio.sleep(10)
    waiting = await _messages(scene)
    await scene.execute(MAILBOX_MENDED)
    sent = await scene.until(lambda: _are_sent(scene), 120)
    return Outcome(
        f"{len(ids)} times 202, then {await _states(scene)}",
        f"orders ended after {took:.1f} s; messages meanwhile {waiting}; all sent {sent:.1f} s after it was mended",
        await _states(scene) == {"CONFIRMED": len(ids)} and "SENT" not in waiting,
    )


async def _messages(scene: Scene) -> dict[str, int]:
    return {row["state"]: row["messages"] for row in await scene.rows(looks.MESSAGES)}


async def _are_sent(scene: Scene) -> bool:
    return set(await _messages(scene)) == {"SENT"}
