"""Stock on a real database, against a model that knows nothing of SQL; and under fire from several connections."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from typing import Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comanda.db import Database, Tx
from comanda.inventory import stock
from comanda.saga import Done, Outcome, Refused
from stockroom import Place, confirmed, orders, sells, standing

TTL = timedelta(minutes=10)
Op = Literal["reserve", "extend", "confirm", "release", "restock", "expire"]


@pytest.fixture
async def wide(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url, name="tests", size=25)
    yield database
    await database.close()


async def act(tx: Tx, op: Op, ids: Sequence[UUID]) -> Sequence[Outcome]:
    match op:
        case "reserve":
            return await stock.reserve(tx, ids, ttl=TTL)
        case "extend":
            return await stock.extend(tx, ids, ttl=TTL)
        case "confirm":
            return await confirmed(tx, ids, ttl=TTL)
        case "release":
            return await stock.release(tx, ids)
        case "restock":
            return await stock.restock(tx, ids)
        case "expire":
            await lapse(tx, ids)
            await stock.expire(tx, 1000)
            return [Done()] * len(ids)


async def lapse(tx: Tx, ids: Sequence[UUID]) -> None:
    await tx.execute(
        "UPDATE reservations SET expires_at = now() WHERE order_id = ANY($1) AND state = 'ACTIVE'", list(ids)
    )


@dataclass
class Model:
    """One order after the other, in plain Python."""

    on_hand: dict[Place, int]
    baskets: Mapping[UUID, Mapping[UUID, int]]
    held: dict[UUID, dict[Place, int]] = field(default_factory=dict)
    sold: dict[UUID, dict[Place, int]] = field(default_factory=dict)

    def free(self, place: Place) -> int:
        return self.on_hand[place] - sum(shares.get(place, 0) for shares in self.held.values())

    def act(self, op: Op, ids: Sequence[UUID]) -> list[Outcome]:
        if op == "confirm":  # what is held is sold first; then the late ones try again
            late = [one for one in ids if one not in self.held]
            for one in ids:
                self._sell(one)
            said = {one: self.reserve(one) for one in sorted(late)}
            for one in late:
                self._sell(one)
            return [self._expired(said.get(one, Done())) for one in ids]
        if op == "extend":
            said = {one: self.reserve(one) for one in sorted(ids)}
            return [self._expired(said[one]) for one in ids]
        if op == "reserve":
            said = {one: self.reserve(one) for one in sorted(ids)}
            return [said[one] for one in ids]
        for one in ids:
            if op == "restock":
                for place, count in self.sold.pop(one, {}).items():
                    self.on_hand[place] += count
            else:
                self.held.pop(one, None)
        return [Done()] * len(ids)

    @staticmethod
    def _expired(said: Outcome) -> Outcome:
        return stock.EXPIRED if isinstance(said, Refused) else said

    def _sell(self, one: UUID) -> None:
        if one in self.held:
            self.sold[one] = self.held.pop(one)
            for place, count in self.sold[one].items():
                self.on_hand[place] -= count

    def reserve(self, one: UUID) -> Outcome:
        if one in self.held or one in self.sold:
            return Done()
        shares: dict[Place, int] = {}
        for product, wanted in self.baskets[one].items():
            missing = wanted
            for place in sorted(place for place in self.on_hand if place[0] == product):
                shares[place] = min(missing, self.free(place))
                missing -= shares[place]
            if missing:
                return stock.OUT_OF_STOCK
        self.held[one] = {place: count for place, count in shares.items() if count}
        return Done()


OPS = st.sampled_from(["reserve", "reserve", "reserve", "extend", "confirm", "confirm", "release", "restock", "expire"])
UNITS = st.dictionaries(st.sampled_from(["EAST", "MAIN"]), st.integers(0, 5), min_size=1)


@given(
    units=st.lists(UNITS, min_size=3, max_size=3),
    wishes=st.lists(st.dictionaries(st.integers(0, 2), st.integers(1, 4), min_size=1), min_size=1, max_size=8),
    script=st.lists(
        st.tuples(OPS, st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True)), min_size=1, max_size=8
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_batch_decides_as_if_its_orders_had_come_one_by_one(
    database: Database, units: list[dict[str, int]], wishes: list[dict[int, int]], script: list[tuple[Op, list[int]]]
) -> None:
    products = await sells(database, units)
    baskets = [{products[number]: count for number, count in wish.items()} for wish in wishes]
    ids = await orders(database, baskets)
    places = {
        (one, location): count for one, there in zip(products, units, strict=True) for location, count in there.items()
    }
    model = Model(places, dict(zip(ids, baskets, strict=True)))
    for op, picked in script:
        asked = [ids[number] for number in picked if number < len(ids)]
        async with database.transaction() as tx:
            answers = list(await act(tx, op, asked))
        assert answers == model.act(op, asked), "answers come in the order of the question"
        expected = {place: (model.on_hand[place], model.on_hand[place] - model.free(place)) for place in places}
        assert await standing(database, products) == expected


async def test_twenty_transactions_at_once_get_what_there_is_and_no_more(wide: Database) -> None:
    (product,) = await sells(wide, [{"EAST": 5, "MAIN": 7}])
    ids = await orders(wide, [{product: 1}] * 20)

    async def alone(order: UUID) -> Outcome:
        async with wide.transaction() as tx:
            (said,) = await stock.reserve(tx, [order], ttl=TTL)
        return said

    said = Counter(await asyncio.gather(*(alone(order) for order in ids)))
    assert said == {Done(): 12, stock.OUT_OF_STOCK: 8}
    assert await standing(wide, [product]) == {(product, "EAST"): (5, 5), (product, "MAIN"): (7, 7)}


async def test_overlapping_baskets_from_four_connections_never_deadlock(wide: Database) -> None:
    """Each transaction is one function over a batch, as the engine calls it; a deadlock would raise."""
    chance = random.Random(7)
    products = await sells(wide, [{"MAIN": 120}] * 8)
    baskets = [{one: chance.randint(1, 3) for one in chance.sample(products, 4)} for _ in range(400)]
    ids = await orders(wide, baskets)
    chance.shuffle(ids)

    async def lane(mine: list[UUID]) -> None:
        for start, end in pairwise(range(0, len(mine) + 1, 10)):
            batch = mine[start:end]
            for op in ("reserve", chance.choice(["confirm", "release", "expire", "extend"])):
                async with wide.transaction() as tx:
                    await act(tx, op, batch)  # type: ignore[arg-type]

    await asyncio.gather(*(lane(ids[number::4]) for number in range(4)))
    assert all(0 <= held <= on_hand for on_hand, held in (await standing(wide, products)).values())


@pytest.mark.parametrize("op", ["confirm", "release"])
async def test_of_expiry_and_the_order_exactly_one_ends_a_reservation(wide: Database, op: Op) -> None:
    wins: Counter[str] = Counter()
    (product,) = await sells(wide, [{"MAIN": 100}])
    ids = await orders(wide, [{product: 1}] * 100)
    async with wide.transaction() as tx:
        await stock.reserve(tx, ids, ttl=TTL)

    async def expiry() -> int:
        async with wide.transaction() as tx:
            return await stock.expire(tx, 10)

    async def order(one: UUID) -> None:
        async with wide.transaction() as tx:
            assert list(await act(tx, op, [one])) == [Done()]

    for number, one in enumerate(ids):
        async with wide.transaction() as tx:
            await lapse(tx, [one])
        contenders = [expiry(), order(one)] if number % 2 else [order(one), expiry()]
        expired = sum(count for count in await asyncio.gather(*contenders) if count)
        async with wide.connection() as tx:
            rows = await tx.fetch(
                "SELECT state FROM reservations WHERE order_id = $1 ORDER BY created_at, ended_at", one
            )
        states = sorted(row["state"] for row in rows)
        ended = "FULFILLED" if op == "confirm" else "RELEASED"
        # A confirmation that lost reserves again and sells that.
        lost = ["EXPIRED", ended] if op == "confirm" else ["EXPIRED"]
        assert states == (lost if expired else [ended])
        wins["expiry" if expired else "order"] += 1
        on_hand = 99 - number if op == "confirm" else 100
        assert (await standing(wide, [product]))[product, "MAIN"] == (on_hand, 99 - number)
    assert min(wins["expiry"], wins["order"]) > 0, f"a race that one side always wins shows nothing: {wins}"
