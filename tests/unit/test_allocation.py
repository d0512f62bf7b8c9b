"""Who gets what: all of an order or nothing, as if the orders had come one by one."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from comanda.inventory.model import Demand, Place, allocate

PRODUCTS = [UUID(int=n) for n in range(4)]
free_stock = st.dictionaries(
    st.tuples(st.sampled_from(PRODUCTS), st.sampled_from(["EAST", "MAIN"])), st.integers(0, 12), max_size=8
)
wanted = st.lists(st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 8), min_size=1, max_size=3), max_size=12)


def demands_of(quantities: list[dict[UUID, int]]) -> list[Demand]:
    return [Demand(UUID(int=1000 + n), wants) for n, wants in enumerate(quantities)]


@given(free=free_stock, quantities=wanted)
def test_nobody_gets_what_is_not_there(free: dict[Place, int], quantities: list[dict[UUID, int]]) -> None:
    decided = allocate(free, demands_of(quantities))
    taken: dict[Place, int] = {}
    for shares in decided.values():
        for share in shares or []:
            assert share.quantity > 0
            place = (share.product_id, share.location)
            taken[place] = taken.get(place, 0) + share.quantity
    assert all(units <= free[place] for place, units in taken.items())


@given(free=free_stock, quantities=wanted)
def test_an_order_gets_all_or_nothing(free: dict[Place, int], quantities: list[dict[UUID, int]]) -> None:
    for demand in (demands := demands_of(quantities)):
        shares = allocate(free, demands)[demand.order_id]
        if shares is not None:
            got: dict[UUID, int] = {}
            for share in shares:
                got[share.product_id] = got.get(share.product_id, 0) + share.quantity
            assert got == demand.quantities


@given(free=free_stock, quantities=wanted)
def test_a_batch_decides_as_if_the_orders_had_come_one_by_one(
    free: dict[Place, int], quantities: list[dict[UUID, int]]
) -> None:
    demands = demands_of(quantities)
    together = allocate(free, demands)
    left = dict(free)
    for demand in demands:
        alone = allocate(left, [demand])[demand.order_id]
        assert alone == together[demand.order_id]
        for share in alone or []:
            left[share.product_id, share.location] -= share.quantity


def test_who_is_refused_has_taken_nothing() -> None:
    apple, pear = PRODUCTS[:2]
    free = {(apple, "MAIN"): 5, (pear, "MAIN"): 0}
    greedy, modest = Demand(UUID(int=1), {apple: 5, pear: 1}), Demand(UUID(int=2), {apple: 5})
    decided = allocate(free, [greedy, modest])
    assert decided[greedy.order_id] is None
    assert decided[modest.order_id] is not None
