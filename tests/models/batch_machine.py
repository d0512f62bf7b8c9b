"""A batch decides as if its orders had come one by one: the rule alone, and on two copies of the real tables."""

import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from comanda.db import Tx
from comanda.inventory import stock
from comanda.inventory.model import Demand, Place, allocate
from comanda.saga import Done, Outcome
from shelves import arrive, look, places_of, put
from steps import Ground, Machine, Tally, step
from stockroom import confirmed

TTL = timedelta(minutes=10)
PRODUCTS = 3
LOCATIONS = ["EAST", "MAIN", "WEST"]
BASKETS = st.lists(st.dictionaries(st.integers(0, PRODUCTS - 1), st.integers(1, 5), min_size=1), min_size=1, max_size=8)
UNITS = st.dictionaries(st.sampled_from(LOCATIONS), st.integers(0, 40), min_size=1)
SHUFFLES = st.randoms(use_true_random=False)


class AllocationMachine(Machine):
    """The pure rule against somebody who carries unit after unit, order after order."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.free: dict[Place, int] = {}
        self.sold = 0
        self.arrived = 0
        self.orders = 0

    @step(number=st.integers(0, PRODUCTS - 1), location=st.sampled_from(LOCATIONS), units=st.integers(0, 20))
    def units_arrive(self, number: int, location: str, units: int) -> None:
        place = (UUID(int=number), location)
        self.free[place] = self.free.get(place, 0) + units
        self.arrived += units

    @step(baskets=BASKETS)
    def a_batch_comes(self, baskets: list[dict[int, int]]) -> None:
        demands = []
        for basket in baskets:
            self.orders += 1
            demands.append(Demand(UUID(int=self.orders), {UUID(int=n): units for n, units in basket.items()}))
        decided = allocate(dict(self.free), demands)
        assert list(decided) == [one.order_id for one in demands]
        for demand in demands:
            carried = self._carry(demand.quantities)
            shares = decided[demand.order_id]
            assert (shares is None) == (carried is None)
            told = {(one.product_id, one.location): one.quantity for one in shares or []}
            assert told == (carried or {})
            assert len(told) == len(shares or []), "one share for a place"
            self.saw("refused" if carried is None else "got it")
            if len(told) > len(demand.quantities):
                self.saw("shared between locations")

    def _carry(self, wanted: Mapping[UUID, int]) -> dict[Place, int] | None:
        left, carried = dict(self.free), dict[Place, int]()
        for product, units in wanted.items():
            for _ in range(units):
                filled = sorted(place for place, there in left.items() if place[0] == product and there)
                if not filled:
                    return None
                left[filled[0]] -= 1
                carried[filled[0]] = carried.get(filled[0], 0) + 1
        self.free = left
        self.sold += sum(carried.values())
        return carried

    @invariant()
    def nothing_is_sold_that_never_came(self) -> None:
        assert self.sold + sum(self.free.values()) == self.arrived
        assert all(units >= 0 for units in self.free.values())


class BatchMachine(Machine):
    """The same orders twice: in batches of any order to the one stock, one by one as they came to its copy."""

    def __init__(self, tally: Tally, ground: Ground) -> None:
        super().__init__(tally)
        self.ground = ground
        self.products: list[list[UUID]] = []
        self.orders: list[list[UUID]] = [[], []]
        self.units = 0

    @initialize(units=st.lists(UNITS, min_size=PRODUCTS, max_size=PRODUCTS))
    def two_shops_open(self, units: list[dict[str, int]]) -> None:
        async def opened(tx: Tx) -> None:
            self.products = [await put(tx, units), await put(tx, units)]
            self.units = sum(places_of(self.products[0], units).values())

        self.ground.do(opened)

    @step(baskets=BASKETS, again=st.integers(0, 3), chance=SHUFFLES)
    def a_batch_reserves(self, baskets: list[dict[int, int]], again: int, chance: random.Random) -> None:
        """With some who hold already, as after a crash."""

        async def come(tx: Tx) -> None:
            for shop, products in enumerate(self.products):
                wishes = [{products[n]: units for n, units in basket.items()} for basket in baskets]
                self.orders[shop] += await arrive(tx, wishes)

        self.ground.do(come)
        count = len(self.orders[0])
        numbers = [*range(count - len(baskets), count), *chance.sample(range(count), min(again, count))]
        for answer in self._both(stock.reserve, numbers, chance, ttl=TTL):
            self.saw("reserved" if answer == Done() else "refused")

    @step(chance=SHUFFLES)
    def a_batch_confirms(self, chance: random.Random) -> None:
        active = self._numbers("ACTIVE")
        for _ in self._both(confirmed, chance.sample(active, min(3, len(active))), chance, ttl=TTL):
            self.saw("sold")

    @step(chance=SHUFFLES, is_sold=st.booleans())
    def a_batch_gives_back(self, chance: random.Random, is_sold: bool) -> None:
        numbers = self._numbers("FULFILLED" if is_sold else "ACTIVE")
        picked = chance.sample(numbers, min(2, len(numbers)))
        self._both(stock.restock if is_sold else stock.release, picked, chance)

    def _both(self, act: Any, numbers: Sequence[int], chance: random.Random, **more: timedelta) -> list[Outcome]:
        picked = sorted(set(numbers))
        ids, copies = ([of[number] for number in picked] for of in self.orders)
        shuffled = chance.sample(ids, len(ids))

        async def one_by_one() -> dict[UUID, Outcome]:
            said: dict[UUID, Outcome] = {}
            for one, copy in zip(ids, copies, strict=True):
                (said[one],) = await self.ground.commit(partial(act, order_ids=[copy], **more))
            return said

        together = dict(zip(shuffled, self.ground.do(partial(act, order_ids=shuffled, **more)), strict=True))
        assert together == self.ground.run(one_by_one())
        return list(together.values())

    def _numbers(self, state: str) -> list[int]:
        rows = self.ground.ask(
            "SELECT order_id FROM reservations WHERE order_id = ANY($1) AND state = $2", self.orders[0], state
        )
        return sorted(self.orders[0].index(row["order_id"]) for row in rows)

    @invariant()
    def both_shops_are_the_same(self) -> None:
        seen = []
        for products, orders in zip(self.products, self.orders, strict=True):
            places, states = look(self.ground, products, orders)
            seen.append(
                (
                    {(products.index(product), location): units for (product, location), units in places.items()},
                    {orders.index(one): counts for one, counts in states.items()},
                    self._lines(products, orders),
                )
            )
        assert seen[:1] == seen[1:]
        for there, _, _ in seen[:1]:
            assert all(0 <= held <= on_hand for on_hand, held in there.values())
            assert sum(on_hand for on_hand, _ in there.values()) <= self.units, "never sold more than there was"

    def _lines(self, products: Sequence[UUID], orders: Sequence[UUID]) -> list[tuple[int, int, str, int]]:
        rows = self.ground.ask(
            "SELECT order_id, product_id, location, quantity FROM reservation_lines"
            " JOIN reservations ON reservations.id = reservation_id WHERE order_id = ANY($1)",
            list(orders),
        )
        return sorted(
            (orders.index(row["order_id"]), products.index(row["product_id"]), row["location"], row["quantity"])
            for row in rows
        )
