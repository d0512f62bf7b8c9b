"""What is ordered by whom, paid how, and when. Pure: the same seed gives the same plan."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from comanda.errors import ConfigurationFault

FRAUD_ABOVE = 1_000_000
"""Minor units: an order of more than that is refused as fraud."""

_MOST_LINES = 4
_MOST_UNITS = 3
_PRICES = (100, 5000)
_METHOD = re.compile(r"(?P<name>[A-Za-z0-9_]{1,100})=(?P<weight>\d{1,6})")


@dataclass(frozen=True, slots=True)
class Good:
    """A product as it has to be there: its price in minor units."""

    sku: str
    name: str
    price: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order to be placed: SKUs with quantities as they are sent, repeated ones too."""

    customer: int
    lines: Sequence[tuple[str, int]]
    method: str | None = None

    def total(self, prices: Mapping[str, int]) -> int:
        """What it has to cost, in minor units."""
        return sum(prices[sku] * quantity for sku, quantity in self.lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """Goods that have to be there, and the orders in their turn."""

    goods: Sequence[Good]
    orders: Sequence[Wanted]

    @property
    def customers(self) -> list[int]:
        """Who order, by their numbers."""
        return sorted({wanted.customer for wanted in self.orders})


def made_up(*, orders: int, customers: int, products: int, seed: int, methods: Mapping[str, int]) -> Plan:
    """Orders of one to four lines from a catalogue of its own, drawn from the seed."""
    draw = random.Random(seed)  # noqa: S311 - a repeatable plan, no secret
    goods = [Good(f"LOAD-{seed}-{n:05}", f"Load product {n}", draw.randint(*_PRICES)) for n in range(products)]
    wanted = []
    for n in range(orders):
        chosen = draw.sample(goods, min(len(goods), draw.randint(1, _MOST_LINES)))
        lines = [(good.sku, draw.randint(1, _MOST_UNITS)) for good in chosen]
        wanted.append(Wanted(n % customers, lines, drawn(methods, draw)))
    return Plan(goods, wanted)


def drawn(methods: Mapping[str, int], draw: random.Random) -> str | None:
    """A payment method by its weight; None: the gateway decides by itself."""
    return draw.choices(list(methods), list(methods.values()))[0] if methods else None


def methods_of(text: str) -> dict[str, int]:
    """`pm_success=80,pm_decline_CARD_DECLINED=10` as weights; nothing: no method is sent.

    Raises:
        ConfigurationFault: it does not read like that.
    """
    weights: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _METHOD.fullmatch(part)
        if found is None:
            raise ConfigurationFault(f"--methods: {part!r} must read like pm_success=80")
        weights[found["name"]] = weights.get(found["name"], 0) + int(found["weight"])
    if weights and not sum(weights.values()):
        raise ConfigurationFault("--methods: one weight at least must be above 0")
    return weights


def due_at(number: int, rate: float) -> float:
    """Seconds after the start at which an order is sent, counted from 0; with a rate of 0 all at once."""
    return number / rate if rate > 0 else 0.0
