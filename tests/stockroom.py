"""Products on shelves and orders for them, without a shop around them; and what the tables say of them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from comanda.clock import new_id
from comanda.db import Database, Tx
from comanda.inventory import stock
from comanda.saga.definition import Done, Outcome

Place = tuple[UUID, str]


async def sells(database: Database, units: Sequence[Mapping[str, int]]) -> list[UUID]:
    """Products with so many units at each location, booked as they are when somebody opens stock."""
    ids = [new_id() for _ in units]
    places = [
        (one, location, count) for one, there in zip(ids, units, strict=True) for location, count in there.items()
    ]
    async with database.transaction() as tx:
        await tx.executemany(
            "INSERT INTO products (id, sku, name, price) VALUES ($1::uuid, $1::uuid::text, 'x', 100)",
            [(one,) for one in ids],
        )
        await tx.executemany("INSERT INTO stock (product_id, location, on_hand) VALUES ($1, $2, $3)", places)
        await tx.executemany(
            "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor)"
            " VALUES (gen_random_uuid(), $1, $2, 'RESTOCK', $3, 0, 'test')",
            [place for place in places if place[2]],
        )
    return ids


async def confirmed(tx: Tx, order_ids: Sequence[UUID], *, ttl: timedelta) -> list[Outcome]:
    """Confirmed, and out of the stock, as the order's saga does it."""
    outcomes = await stock.confirm(tx, order_ids, ttl=ttl)
    await stock.sell(tx, [one.rest for one in outcomes if isinstance(one, Done) and one.rest is not None])
    return [Done() if isinstance(one, Done) else one for one in outcomes]


async def orders(database: Database, baskets: Sequence[Mapping[UUID, int]]) -> list[UUID]:
    """Orders with these lines; they came in the order of the answer."""
    ids = sorted(uuid4() for _ in baskets)
    lines = [
        (order, position, product, count)
        for order, basket in zip(ids, baskets, strict=True)
        for position, (product, count) in enumerate(basket.items())
    ]
    async with database.transaction() as tx:
        await tx.executemany(
            "INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price)"
            " VALUES ($1, $2, $3, 'x', 'x', $4, 100)", lines
        )  # fmt: skip
    return ids


async def standing(database: Database, products: Sequence[UUID]) -> dict[Place, tuple[int, int]]:
    """(on hand, held) of each place; the ledger of movements says the same."""
    async with database.connection() as tx:
        rows = await tx.fetch("SELECT * FROM stock WHERE product_id = ANY($1)", list(products))
        booked = await tx.fetch(
            "SELECT product_id, location, sum(on_hand_delta) AS on_hand, sum(held_delta) AS held FROM movements"
            " WHERE product_id = ANY($1) GROUP BY product_id, location", list(products)
        )  # fmt: skip
        held = await tx.fetch(
            "SELECT product_id, location, sum(quantity) AS held FROM reservation_lines JOIN reservations"
            " ON reservations.id = reservation_id WHERE state = 'ACTIVE' AND product_id = ANY($1)"
            " GROUP BY product_id, location",
            list(products),
        )
    found = {(row["product_id"], row["location"]): (row["on_hand"], row["held"]) for row in rows}
    ledger = {(row["product_id"], row["location"]): (int(row["on_hand"]), int(row["held"])) for row in booked}
    assert {place: ledger.get(place, (0, 0)) for place in found} == found, "the sums of movements are the stock"
    reserved = {(row["product_id"], row["location"]): row["held"] for row in held}
    assert {place: reserved.get(place, 0) for place in found} == {place: both[1] for place, both in found.items()}
    return found
