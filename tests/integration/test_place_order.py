"""What is accepted, and what is not, whatever happens at that very moment."""

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from uuid import UUID

import asyncpg
import pytest
from test_fault_proxy import postgres, shots, through

from comanda.catalog.cache import Catalogue
from comanda.checkout.place_order import Accepted, PlaceOrder, Rejected
from comanda.db import Database, Tx
from comanda.idempotency import keys
from comanda.idempotency.model import Remembered
from comanda.proof.chaos.proxy import PostgresProxy
from shop import shop

__all__ = ["postgres"]


async def test_nobody_has_more_orders_under_way_than_allowed(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        (product,) = (await here.sells(apple=100)).values()
        assembly = here.assembly
        most = PlaceOrder(here.database, assembly.streams, assembly.catalogue, assembly.order, most_open=3)
        # The first commit takes all of them.
        answers = await asyncio.gather(*(here.place({product: 1}, at=most) for _ in range(5)))
        assert sum(isinstance(one, Accepted) for one in answers) == 3
        assert [one.code for one in answers if isinstance(one, Rejected)] == ["TOO_MANY_OPEN_ORDERS"] * 2
        refused = await here.place({product: 1}, at=most)
        assert isinstance(refused, Rejected)
        (other,) = await here.customers(1)
        assert isinstance(await here.place({product: 1}, at=most, customer=other), Accepted)
        async with here.database.transaction() as tx:
            await tx.execute(
                "UPDATE orders SET state = 'CONFIRMED', ended_at = now()"
                " WHERE id = (SELECT id FROM orders WHERE customer_id = $1 LIMIT 1)", here.customer
            )  # fmt: skip
        again = await asyncio.gather(*(here.place({product: 1}, at=most) for _ in range(2)))
        assert sorted(type(one).__name__ for one in again) == ["Accepted", "Rejected"]
        await most.drain()


async def test_who_asks_again_for_the_last_that_was_allowed_is_told_that_it_was_accepted(
    database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        (product,) = (await here.sells(apple=100)).values()
        assembly = here.assembly
        most = PlaceOrder(here.database, assembly.streams, assembly.catalogue, assembly.order, most_open=1)
        first = await here.place({product: 1}, key="lost", at=most)
        assert isinstance(first, Accepted)
        again = await here.place({product: 1}, key="lost", at=most)
        assert again == Accepted(first.order_id, first.answer, is_replay=True)
        codes = [
            one.code
            for one in (await here.place({product: 2}, key="lost", at=most), await here.place({product: 1}, at=most))
            if isinstance(one, Rejected)
        ]
        assert codes == ["IDEMPOTENCY_KEY_REUSED", "TOO_MANY_OPEN_ORDERS"]
        assert await here.value("SELECT count(*) FROM orders") == 1
        await most.drain()


async def test_a_disabled_account_orders_nothing(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        (product,) = (await here.sells(apple=100)).values()
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE accounts SET is_active = false WHERE id = $1", here.customer)
        refused = await here.place({product: 1})
        assert isinstance(refused, Rejected)
        assert refused.code == "UNAUTHENTICATED"
        assert await here.value("SELECT count(*) FROM orders") == 0


async def test_nobody_is_refused_by_what_another_process_has_changed(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        goods = await here.sells(apple=100, pear=100)
        mine = here.assembly
        other = PlaceOrder(here.database, mine.streams, Catalogue(lifetime=3600), mine.order, most_open=None)
        basket = dict.fromkeys(goods.values(), 1)

        async def set_to(change: str) -> None:
            async with here.database.transaction() as tx:
                await tx.execute(f"UPDATE products SET {change} WHERE id = $1", goods["pear"])

        # What the other one has in memory, and what it was made of since.
        for off, on, code in (
            ("is_active = false", "is_active = true", "PRODUCT_INACTIVE"),
            ("currency = 'EUR'", "currency = 'USD'", "CURRENCIES_MIXED"),
            (f"price = {2**53}", "price = 1500", "AMOUNT_TOO_LARGE"),
        ):
            await set_to(off)
            # The first is refused by the commit, and from then on by memory.
            refused = [await here.place(basket, at=other) for _ in range(2)]
            assert [one.code for one in refused if isinstance(one, Rejected)] == [code] * 2
            await set_to(on)
            assert isinstance(await here.place(basket, at=other), Accepted), code
        assert await here.value("SELECT max(total_amount) FROM orders") == 2500
        await other.drain()


async def test_a_key_that_was_taken_is_no_verdict_before_it_is_looked_up(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is lost between the two: nobody is told of an order that is not there."""
    look_up, cuts = keys.answers, [1]

    async def cut(tx: Tx, named: Sequence[tuple[UUID, str]]) -> list[Remembered | None]:
        if cuts:
            cuts.pop()
            with contextlib.suppress(asyncpg.PostgresError):
                await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return await look_up(tx, named)

    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        (product,) = (await here.sells(apple=100)).values()
        first = await here.place({product: 1}, key="k")
        monkeypatch.setattr(keys, "answers", cut)
        again, reused = await asyncio.gather(here.place({product: 1}, key="k"), here.place({product: 2}, key="k"))
        assert isinstance(first, Accepted)
        assert isinstance(again, Accepted)
        assert (again.order_id, again.is_replay, cuts) == (first.order_id, True, [])
        assert isinstance(reused, Rejected)
        assert await here.value("SELECT count(*) FROM orders") == 1


async def test_an_order_whose_commit_was_not_answered_is_one_order(
    database_url: str, redis_url: str, postgres: PostgresProxy
) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(shop(database_url, redis_url, workers=0, has_relay=False))
        (product,) = (await here.sells(apple=100)).values()
        database = await Database.open(through(database_url, postgres), name="far", size=2)
        stack.push_async_callback(database.close)
        assembly = here.assembly
        far = PlaceOrder(database, assembly.streams, Catalogue(), assembly.order, most_open=None)
        answers = []
        for key in (None, "mine"):
            async with shots(postgres, 1) as cut:
                placed = await here.place({product: 1}, key=key, at=far)
                assert await cut == 1
            assert isinstance(placed, Accepted)
            assert await here.value("SELECT count(*) FROM orders WHERE id = $1", UUID(placed.order_id)) == 1
            answers.append(placed.answer)
        await far.drain()
        assert await here.value("SELECT count(*) FROM orders") == 2
        again = await here.place({product: 1}, key="mine")
        assert isinstance(again, Accepted)
        assert (again.answer, again.is_replay) == (answers[1], True)
