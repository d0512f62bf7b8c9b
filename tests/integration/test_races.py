"""Many at once, from a seed: for what is scarce, for the same rows in any order, for one reservation, under one key.

With `--seeds 20` each of them is run with twenty seeds.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import cycle
from uuid import UUID

from comanda.catalog.cache import Catalogue
from comanda.checkout.place_order import Accepted, PlaceOrder
from comanda.db import Database
from comanda.db.database import connect
from comanda.inventory import stock
from comanda.payments.gateway import Voided
from comanda.saga import Done, Outcome
from shop import FakeGateway, Shop, shop, until
from stockroom import confirmed, orders, sells, standing

CROWD, BASKETS, RESERVATIONS = 500, 200, 1000
DOORS, WORKERS = 20, 4
PRICE = 1000
TTL = timedelta(minutes=10)
Basket = Mapping[UUID, int]
Work = Callable[..., Awaitable[Sequence[Outcome]]]
ROLES: Sequence[Sequence[Work]] = [[confirmed], [stock.release], [confirmed, stock.release]]
# How a reservation ends, and how that is booked.
ENDS = {"FULFILLED": "SALE", "RELEASED": "RELEASE_RESERVATION", "EXPIRED": "EXPIRED"}


async def bought(here: Shop, baskets: Sequence[Basket], methods: Sequence[str | None]) -> list[UUID]:
    """Each by a customer of its own, all at once, through the doors of many processes."""
    customers, mine = await here.customers(len(baskets)), here.assembly
    doors = [PlaceOrder(here.database, mine.streams, mine.catalogue, mine.order, most_open=None) for _ in range(DOORS)]
    placed = await asyncio.gather(
        *(
            here.place(basket, method, customer=customer, at=door)
            for basket, method, customer, door in zip(baskets, methods, customers, cycle(doors), strict=False)
        )
    )
    accepted = [one for one in placed if isinstance(one, Accepted)]
    assert len(accepted) == len(baskets), "nobody is refused"
    for door in doors:
        await door.drain()
    return [UUID(one.order_id) for one in accepted]


async def sold(here: Shop, units: Mapping[UUID, int], ids: Sequence[UUID], baskets: Sequence[Basket]) -> Counter[UUID]:
    """What the orders have sold once all have ended; stock, movements and money say the same, to the unit and cent."""
    open_ones = "SELECT 1 FROM sagas WHERE kind = 'order' AND state IN ('RUNNING', 'COMPENSATING') LIMIT 1"
    await until(lambda: _none(here, open_ones), within=60)
    assert [tuple(row) for row in await here.ask("SELECT step, direction, error FROM dead_letters")] == []
    ended = await here.ended(*ids)
    assert {order["state"] for order in ended} <= {"CONFIRMED", "CANCELLED"}
    gone: Counter[UUID] = Counter()
    for order, basket in zip(ended, baskets, strict=True):
        is_confirmed = order["state"] == "CONFIRMED"
        gone.update(basket if is_confirmed else {})
        assert here.gateway.kept(order["id"]) == (PRICE * sum(basket.values()) if is_confirmed else 0)
    assert max(gone[one] - count for one, count in units.items()) <= 0, "sold more than was there"
    expected = {(one, "MAIN"): (count - gone[one], 0) for one, count in units.items()}
    assert await standing(here.database, list(units)) == expected
    return gone


async def test_five_hundred_customers_for_one_product_get_all_that_is_there(
    database_url: str, redis_url: str, each_seed: int
) -> None:
    chance = random.Random(each_seed)
    async with shop(database_url, redis_url, workers=WORKERS) as here:
        units = {product: chance.randint(1, CROWD) for product in (await here.sells(ticket=0)).values()}
        (product,) = units
        await stocked(here, units)
        ids = await bought(here, [{product: 1}] * CROWD, [None] * CROWD)
        assert await sold(here, units, ids, [{product: 1}] * CROWD) == units
        assert await here.ask("SELECT * FROM saga_attempts WHERE outcome = 'failed'") == []
        reasons = {order["failure_reason"] for order in await here.ended(*ids)}
        assert reasons <= {None, "OUT_OF_STOCK"}


async def test_five_hundred_mixed_baskets_empty_the_shelves(database_url: str, redis_url: str, each_seed: int) -> None:
    chance = random.Random(each_seed)
    async with shop(database_url, redis_url, workers=WORKERS) as here:
        products = list((await here.sells(**{f"p{number}": 0 for number in range(6)})).values())
        units = {product: chance.randint(1, 60) for product in products}
        await stocked(here, units)
        # For each product more customers who want one unit of it alone than there are units: demand suffices.
        baskets: list[Basket] = [{one: 1} for one in products for _ in range(61)]
        baskets += [any_basket(chance, products) for _ in range(CROWD - len(baskets))]
        chance.shuffle(baskets)
        ids = await bought(here, baskets, [None] * CROWD)
        assert await sold(here, units, ids, baskets) == units
        assert await here.ask("SELECT * FROM saga_attempts WHERE outcome = 'failed'") == []


async def test_what_declined_cards_give_back_is_sold_at_most_once(
    database_url: str, redis_url: str, each_seed: int
) -> None:
    chance = random.Random(each_seed)
    methods = ["pm_decline_CARD_DECLINED", "pm_flaky_1", "pm_timeout_after_capture", *[None] * 3]
    async with shop(database_url, redis_url, workers=WORKERS) as here:
        products = list((await here.sells(**{f"p{number}": 0 for number in range(4)})).values())
        units = {product: chance.randint(20, 100) for product in products}
        await stocked(here, units)
        baskets = [any_basket(chance, products) for _ in range(CROWD)]
        ids = await bought(here, baskets, [chance.choice(methods) for _ in baskets])
        assert await sold(here, units, ids, baskets), "nobody got anything: this shows nothing"


async def _none(here: Shop, statement: str) -> bool:
    return not await here.ask(statement)


def any_basket(chance: random.Random, products: Sequence[UUID]) -> Basket:
    """Some of the products, in any order."""
    return {one: chance.randint(1, 3) for one in chance.sample(products, chance.randint(1, len(products)))}


async def stocked(here: Shop, units: Mapping[UUID, int]) -> None:
    """So much lies there, and is booked."""
    async with here.database.transaction() as tx:
        await tx.executemany("UPDATE stock SET on_hand = $2 WHERE product_id = $1", list(units.items()))
        await tx.executemany(
            "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor)"
            " VALUES (gen_random_uuid(), $1, 'MAIN', 'RESTOCK', $2, 0, 'test')",
            list(units.items()),
        )


@asynccontextmanager
async def deadlocks(database_url: str, name: str) -> AsyncIterator[Counter[str]]:
    """How many deadlocks PostgreSQL broke in the block (`["deadlocks"]`), by whoever is called `name` in there.

    A session's share is certain once the session has ended: so their pool has to be closed in the block.
    """
    counted: Counter[str] = Counter()
    watcher = await connect(database_url, name="watcher")
    total = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

    async def have_ended() -> bool:
        here = "datname = current_database() AND application_name = $1"
        return not await watcher.fetch(f"SELECT 1 FROM pg_stat_activity WHERE {here}", name)

    try:
        before = await watcher.fetchval(total)
        yield counted
        await until(have_ended)
        await watcher.execute("SELECT pg_stat_clear_snapshot()")
        counted["deadlocks"] = await watcher.fetchval(total) - before
    finally:
        await watcher.close()


async def test_a_deadlock_would_be_counted(database_url: str) -> None:
    async with deadlocks(database_url, "shop") as counted:
        database = await Database.open(database_url, name="shop", size=3)
        one, other = await sells(database, [{"MAIN": 1}] * 2)
        locked = asyncio.Barrier(2)

        async def in_order(*products: UUID) -> None:
            async with database.transaction() as tx:
                for product in products:
                    await tx.execute("UPDATE stock SET held = 1 WHERE product_id = $1", product)
                    if product == products[0]:
                        await locked.wait()

        said = await asyncio.gather(in_order(one, other), in_order(other, one), return_exceptions=True)
        assert sum(one is not None for one in said) == 1
        await database.close()
    assert counted["deadlocks"] == 1


async def test_two_hundred_baskets_of_the_same_products_never_deadlock(
    database_url: str, redis_url: str, each_seed: int
) -> None:
    chance = random.Random(each_seed)
    methods = ["pm_decline_CARD_DECLINED", "pm_flaky_1", "pm_timeout_after_capture", *[None] * 5]
    async with deadlocks(database_url, "shop") as counted, shop(database_url, redis_url, workers=WORKERS) as here:
        products = list((await here.sells(**{f"p{number}": 0 for number in range(8)})).values())
        units = dict.fromkeys(products, 150)
        await stocked(here, units)
        baskets = [any_basket(chance, products) for _ in range(BASKETS)]
        ids = await bought(here, baskets, [chance.choice(methods) for _ in baskets])
        await sold(here, units, ids, baskets)
    assert counted["deadlocks"] == 0


class TakesNothing(FakeGateway):
    """Down for charges alone: they can be undone, so that whoever gives up lets go of stock at once."""

    async def void(self, key: str) -> Voided:
        self.calls.append(("void", key))
        self.voided.add(key)
        return Voided(0, 0)


async def test_nor_do_they_while_the_breaker_is_open_and_patience_ends(
    database_url: str, redis_url: str, each_seed: int
) -> None:
    """Who gives up lets go of stock after a look at the breaker's row; who comes in looks at it after taking stock."""
    chance = random.Random(each_seed)
    gateway = TakesNothing(is_down=True)
    gave_up = "SELECT count(*) FROM orders WHERE state = 'CANCELLED'"
    async with (
        deadlocks(database_url, "shop") as counted,
        shop(database_url, redis_url, workers=2, gateway=gateway, patience=0.5) as here,
    ):
        products = list((await here.sells(**{f"p{number}": 0 for number in range(8)})).values())
        units = dict.fromkeys(products, 1000)
        await stocked(here, units)
        baskets = [any_basket(chance, products) for _ in range(BASKETS)]
        waves = [baskets[start : start + 20] for start in range(0, BASKETS, 20)]
        ids: list[UUID] = []
        for number, wave in enumerate(waves):
            if number == len(waves) - 3:
                await until(lambda: here.ask("SELECT 1 FROM breakers WHERE state <> 'CLOSED'"))
                gateway.is_down = False
            ids += await bought(here, wave, [None] * len(wave))
            if number % 3 == 2 and gateway.is_down:
                already = await here.value(gave_up)
                await until(partial(here.ask, f"SELECT 1 WHERE ({gave_up}) > $1", already))
        await sold(here, units, ids, baskets)
        states = Counter(order["state"] for order in await here.ended(*ids))
        assert min(states["CONFIRMED"], states["CANCELLED"]) > 0, f"this shows nothing: {states}"
    assert counted["deadlocks"] == 0


async def test_of_expiry_confirmation_and_release_exactly_one_ends_each_reservation(database_url: str) -> None:
    """A thousand reservations whose time is over within 5 ms of that moment; newcomers take what is set free."""
    chance = random.Random(5)
    database = await Database.open(database_url, name="tests", size=20)
    products = await sells(database, [{"MAIN": RESERVATIONS // 10}] * 10)
    ids = await orders(database, [{products[number % 10]: 1} for number in range(RESERVATIONS)])
    newcomers = await orders(database, [{chance.choice(products): 1} for _ in range(RESERVATIONS // 10)])
    async with database.transaction() as tx:
        assert set(await stock.reserve(tx, ids, ttl=TTL)) == {Done()}
    chance.shuffle(ids)
    told: dict[UUID, Outcome] = {}

    async def alone(work: Work, one: UUID, **more: timedelta) -> None:
        async with database.transaction() as tx:
            (said,) = await work(tx, [one], **more)
        if work is not stock.release:
            told[one] = said

    async def expiry(batch: Sequence[UUID]) -> None:
        left = "SELECT 1 FROM reservations WHERE order_id = ANY($1) AND state = 'ACTIVE' LIMIT 1"
        while True:
            async with database.transaction() as tx:
                await stock.expire(tx, 3)
            async with database.connection() as tx:
                if not await tx.fetch(left, batch):
                    return

    asked: dict[UUID, Sequence[Work]] = {}
    for start in range(0, RESERVATIONS, 20):
        batch = ids[start : start + 20]
        at = [(one, timedelta(milliseconds=chance.uniform(-5, 5))) for one in batch]
        async with database.transaction() as tx:
            await tx.executemany(
                "UPDATE reservations SET expires_at = clock_timestamp() + $2::interval WHERE order_id = $1", at
            )
        contenders: list[Awaitable[None]] = [expiry(batch), expiry(batch)]
        for number, one in enumerate(batch):
            asked[one] = ROLES[number % 3]
            contenders += [alone(work, one, ttl=TTL) if work is confirmed else alone(work, one) for work in asked[one]]
        contenders += [alone(stock.reserve, one, ttl=TTL) for one in newcomers[start // 10 : start // 10 + 2]]
        chance.shuffle(contenders)
        await asyncio.gather(*contenders)

    states, booked = await what_became(database)
    for one in ids:
        others = ["EXPIRED", *(["RELEASED"] if stock.release in asked[one] else [])]
        # A confirmation that came too late reserves again and sells that, unless somebody else has it by then.
        sold = [["FULFILLED"], *(sorted([other, "FULFILLED"]) for other in others)]
        assert told.get(one) in {Done(), stock.EXPIRED} if confirmed in asked[one] else one not in told
        assert sorted(states[one]) in (sold if told.get(one) == Done() else [[other] for other in others])
        assert booked[one] == Counter(ENDS[state] for state in states[one]) + Counter(RESERVATION=len(states[one]))
    for one in newcomers:
        assert states[one] == (["ACTIVE"] if told[one] == Done() else [])
    await standing(database, products)
    seen = Counter(state for one in ids for state in states[one])
    assert len(seen) == 3, f"a race that one side always wins shows nothing: {seen}"
    await database.close()


async def what_became(database: Database) -> tuple[dict[UUID, list[str]], dict[UUID, Counter[str]]]:
    """The states of each order's reservations; how often which movement was booked for it."""
    states: dict[UUID, list[str]] = defaultdict(list)
    booked: dict[UUID, Counter[str]] = defaultdict(Counter)
    async with database.connection() as tx:
        for row in await tx.fetch("SELECT order_id, state, ended_at >= expires_at AS is_over FROM reservations"):
            states[row["order_id"]].append(row["state"])
            assert row["is_over"] or row["state"] != "EXPIRED", "nothing expires before its time"
        for row in await tx.fetch("SELECT order_id, kind FROM movements WHERE order_id IS NOT NULL"):
            booked[row["order_id"]][row["kind"]] += 1
    return states, booked


async def test_fifty_orders_under_one_key_at_two_processes_are_one(
    database_url: str, redis_url: str, each_seed: int
) -> None:
    chance = random.Random(each_seed)
    async with shop(database_url, redis_url) as here:
        (product,) = (await here.sells(apple=1000)).values()
        database = await Database.open(database_url, name="other", size=5)
        theirs = here.assembly
        other = PlaceOrder(database, theirs.streams, Catalogue(), theirs.order, most_open=None)
        ways = [other, theirs.place_order] * 25
        winners: Counter[PlaceOrder] = Counter()
        keys = [f"key-{number}" for number in range(20)]
        for key in keys:
            chance.shuffle(ways)
            answers = await asyncio.gather(*(here.place({product: 1}, key=key, at=way) for way in ways))
            accepted = [one for one in answers if isinstance(one, Accepted)]
            assert len(accepted) == 50
            assert len({(one.order_id, one.answer) for one in accepted}) == 1
            (winner,) = [way for way, one in zip(ways, accepted, strict=True) if not one.is_replay]
            winners[winner] += 1
        ids = [row["id"] for row in await here.ask("SELECT id FROM orders")]
        assert len(ids) == len(keys)
        assert await here.value("SELECT count(*) FROM sagas WHERE kind = 'order'") == len(keys)
        assert await here.value("SELECT count(*) FROM outbox WHERE type = 'OrderCreated'") == len(keys)
        assert {order["state"] for order in await here.ended(*ids)} == {"CONFIRMED"}
        assert await here.stock(product) == (1000 - len(keys), 0)
        assert len(here.gateway.captures) == len(keys)
        assert len(winners) == 2, f"one of the two always came first, and the test shows nothing: {winners}"
        await other.drain()
        await database.close()
