"""What is going to be ordered: known before it is sent, so that afterwards it can be compared. Pure."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comanda.proof.load.plan import Good, drawn

CUSTOMERS = 12
METHODS: Mapping[str, int] = {
    "pm_success": 58,
    "pm_decline_CARD_DECLINED": 8,
    "pm_flaky_1": 8,
    "pm_timeout_after_capture": 4,
    "pm_slow_300": 12,
    "pm_unavailable": 5,  # until patience ends, so that there is something to undo
    "": 6,  # the gateway decides by chance
}
_PLAIN, _SCARCE = 12, 3
_SCARCE_EVERY = 4  # one order in so many wants a scarce product too
_SCARCE_SHARE = 0.4  # of the demand is there
_TWICE_EVERY = 20
_SPARE = 20_000  # for those who only look whether anything works


@dataclass(frozen=True, slots=True)
class Intent:
    """One order as its customer means it: SKUs with quantities. `is_doubled`: sent twice at once under its key."""

    key: str
    customer: int
    lines: Sequence[tuple[str, int]]
    method: str
    is_doubled: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """Goods, the units of each that are there, and the orders in their turn."""

    goods: Sequence[Good]
    units: Mapping[str, int]
    orders: Sequence[Intent]

    @property
    def probed(self) -> str:
        """The SKU that never runs out."""
        return self.goods[0].sku


def made_up(*, seed: int, orders: int) -> Demand:
    """Draw it from the seed. Of the scarce products less is there than is wanted."""
    draw = random.Random(f"demand/{seed}/{orders}")  # noqa: S311 - a repeatable plan, no secret
    goods = [Good(f"CHAOS-{n:02}", f"Chaos product {n}", draw.randint(100, 5000)) for n in range(_PLAIN + _SCARCE)]
    plain, scarce = goods[:_PLAIN], goods[_PLAIN:]
    wanted = []
    for n in range(orders):
        chosen = draw.sample(plain, draw.randint(1, 3))
        if draw.random() < 1 / _SCARCE_EVERY:
            chosen.append(draw.choice(scarce))
        lines = [(good.sku, draw.randint(1, 2)) for good in chosen]
        is_doubled = draw.random() < 1 / _TWICE_EVERY
        wanted.append(Intent(f"chaos-{n}", n % CUSTOMERS, lines, drawn(METHODS, draw) or "", is_doubled))
    demand = Counter[str]()
    for one in wanted:
        demand.update(dict(one.lines))
    units = {good.sku: demand[good.sku] for good in plain}
    units |= {good.sku: max(1, int(demand[good.sku] * _SCARCE_SHARE)) for good in scarce}
    units[plain[0].sku] += _SPARE
    return Demand(goods, {sku: max(1, count) for sku, count in units.items()}, wanted)
