"""Many customers at once."""

import asyncio
import random

from comanda.proof.matrix import looks
from comanda.proof.matrix.scenario import Outcome
from comanda.proof.matrix.scene import GOODS, SCARCE, SCARCE_UNITS, Scene

_BUYERS, _BASKETS = 500, 200


async def oversold(scene: Scene) -> Outcome:
    """All at once want one unit of what there are 200 of."""
    intents = [scene.intent(lines=[(SCARCE, 1)]) for _ in range(_BUYERS)]
    await asyncio.gather(*(scene.buyers.place(intent) for intent in intents))
    await scene.until(lambda: _all_ended(scene), 120)
    states = await _states(scene)
    sold = states.get("CONFIRMED", 0)
    return Outcome(f"{_BUYERS} times 202, then {states}", f"{sold} sold of {SCARCE_UNITS}", sold == SCARCE_UNITS)


async def overlapping(scene: Scene) -> Outcome:
    """Baskets of eight of twelve products, in random order; a third is declined and given back."""
    draw = random.Random()  # noqa: S311 - no secret
    plain = [good.sku for good in GOODS if good.sku != SCARCE]
    before = await scene.value(looks.DEADLOCKS)

    def basket(n: int) -> list[tuple[str, int]]:
        del n
        return [(sku, draw.randint(1, 3)) for sku in draw.sample(plain, 8)]

    methods = ["pm_success", "pm_decline_CARD_DECLINED", "pm_flaky_1"]
    intents = [scene.intent(draw.choice(methods), basket(n)) for n in range(_BASKETS)]
    await asyncio.gather(*(scene.buyers.place(intent) for intent in intents))
    await scene.until(lambda: _all_ended(scene), 120)
    await asyncio.sleep(1)  # backends tell their counts now and then
    deadlocks = await scene.value(looks.DEADLOCKS) - before
    errors = sum(count for code, count in scene.retried.items() if code.startswith("5"))
    return Outcome(
        f"{_BASKETS} times 202, then {await _states(scene)}",
        f"{deadlocks} deadlocks in pg_stat_database, {errors} answers of 5xx",
        deadlocks == 0 and errors == 0,
    )


async def _states(scene: Scene) -> dict[str, int]:
    return {row["state"]: row["orders"] for row in await scene.rows(looks.STATES)}


async def _all_ended(scene: Scene) -> bool:
    return set(await _states(scene)) <= {"CONFIRMED", "CANCELLED"}
