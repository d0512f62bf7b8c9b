"""Orders under idempotency keys, through `PlaceOrder` on the real database, over connections that break."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, cast
from uuid import UUID, uuid4

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from comanda.accounts import accounts
from comanda.catalog.cache import Catalogue
from comanda.checkout.place_order import ACCEPT, Accepted, PlaceOrder, Rejected, Wish
from comanda.clock import new_id
from comanda.db import Database, Tx
from comanda.db.database import translated
from comanda.errors import DatabaseFault
from comanda.failpoints import Boundary
from comanda.idempotency import keys
from comanda.messaging.streams import Streams
from comanda.saga import Saga, local, nothing
from steps import Ground, Machine, Tally, step

Cut = Literal["before", "after", "look-up"]
Asked = tuple[int, str | None, int]
"""Whose, under which key, which body."""
Answer = Accepted | Rejected

CUSTOMERS = 2
BODIES = 3
KEYS = st.sampled_from(["a", "b", "c", None])
ASKED = st.tuples(st.integers(0, CUSTOMERS - 1), KEYS, st.integers(0, BODIES - 1))
DAY = timedelta(days=1)
SAGA = Saga("order", steps=[local("only", nothing, nothing, queue="order-processing", reached="DONE")])


class BreakingDatabase(Database):
    """A database whose connections break when they are told to: before a commit reaches it, once it has answered, or
    after that, when a key that was taken is looked up.

    `cuts`: for the next commits in turn.
    """

    cuts: list[Cut]

    @asynccontextmanager
    async def connection(self, boundary: Boundary | None = None) -> AsyncIterator[Tx]:
        with translated():
            async with super().connection(boundary) as tx:
                yield cast(Tx, _Wire(tx, self.cuts)) if self.cuts else tx


class _Wire:
    def __init__(self, tx: Tx, cuts: list[Cut]) -> None:
        self._tx = tx
        self._cuts = cuts

    async def fetch(self, text: str, *arguments: Any) -> list[Any]:
        cut_at = keys.ANSWERS.text if self._cuts[:1] == ["look-up"] else ACCEPT.text
        if text != cut_at or not self._cuts:
            return list(await self._tx.fetch(text, *arguments))
        if self._cuts.pop(0) == "after":
            await self._tx.fetch(text, *arguments)  # nobody will hear of it
        self._tx.terminate()
        raise asyncpg.ConnectionDoesNotExistError("the connection was closed in the middle of an operation")


@dataclass
class Counter:
    """Where orders are placed: three products, and what it takes."""

    place_order: PlaceOrder
    catalogue: Catalogue
    database: BreakingDatabase
    products: list[UUID]


@contextmanager
def placing_on(ground: Ground) -> Iterator[Counter]:
    async def opened() -> tuple[BreakingDatabase, Streams, Counter]:
        database = await BreakingDatabase.open(ground.database.url, name="keys", size=4)
        assert isinstance(database, BreakingDatabase)
        database.cuts = []
        streams = Streams.open(ground.redis_url, name="keys")
        catalogue = Catalogue()
        products = [new_id() for _ in range(BODIES)]
        async with database.transaction() as tx:
            await tx.execute(
                "INSERT INTO products (id, sku, name, price) SELECT id, id::text, 'x', 100 FROM unnest($1::uuid[]) id",
                products,
            )
        placing = PlaceOrder(database, streams, catalogue, SAGA, most_open=None)
        return database, streams, Counter(placing, catalogue, database, products)

    async def closed(database: Database, streams: Streams, counter: Counter) -> None:
        await counter.place_order.drain()
        await streams.close()
        await database.close()

    database, streams, counter = ground.run(opened())
    try:
        yield counter
    finally:
        ground.run(closed(database, streams, counter))


@dataclass
class Book:
    """What the model knows: what each key was answered, to which body, and every order that there is."""

    keys: dict[tuple[int, str], tuple[int, Accepted]] = field(default_factory=dict)
    orders: set[tuple[int, str]] = field(default_factory=set)
    unanswered: dict[tuple[int, str], int] = field(default_factory=dict)


class KeyMachine(Machine):
    def __init__(self, tally: Tally, ground: Ground, counter: Counter) -> None:
        super().__init__(tally)
        self.ground = ground
        self.counter = counter
        self.customers: list[UUID] = []
        self.book = Book()
        self.has_been_cut = False
        self.has_been_cut_late = False

    @initialize()
    def customers_sign_up(self) -> None:
        async def signed_up(tx: Tx) -> None:
            people = [accounts.Registration(f"{uuid4()}@example.com", "no hash", "A", "B") for _ in range(CUSTOMERS)]
            made = await accounts.register(tx, people)
            self.customers = [one.id for one in made if isinstance(one, accounts.Account)]
            await tx.execute("UPDATE products SET is_active = true")

        self.ground.do(signed_up)

    def teardown(self) -> None:
        self.counter.database.cuts.clear()
        self.counter.catalogue.forget(self.counter.products)

    def _wish(self, asked: Asked, *, address: str | None = None) -> Wish:
        customer, key, body = asked
        quantities = {self.counter.products[body]: body + 1}
        return Wish(self.customers[customer], quantities, key, f"{body}{address}".encode(), "c", None, address)

    def _place(self, wishes: Sequence[Wish]) -> list[Answer | BaseException]:
        async def placed() -> list[Answer | BaseException]:
            placing = self.counter.place_order
            return await asyncio.gather(*(placing.place(wish) for wish in wishes), return_exceptions=True)

        return self.ground.run(placed())

    @step(asked=ASKED)
    def one_asks(self, asked: Asked) -> None:
        self._judge([asked], self._place([self._wish(asked)]))

    @step(batch=st.lists(ASKED, min_size=2, max_size=6))
    def several_ask_at_once(self, batch: list[Asked]) -> None:
        """They share a commit; of those with one new key, one gets it."""
        self._judge(batch, self._place([self._wish(asked) for asked in batch]))

    @step(batch=st.lists(ASKED, min_size=1, max_size=4), poisoned=ASKED, chance=st.randoms(use_true_random=False))
    def one_of_a_batch_is_poisoned(self, batch: list[Asked], poisoned: Asked, chance: random.Random) -> None:
        """No address is this one, and the statement that all share raises: the others don't notice."""
        wishes = [(asked, self._wish(asked)) for asked in batch]
        bad = self._wish((poisoned[0], None, poisoned[2]), address="{")
        place = chance.randint(0, len(wishes))
        answers = self._place([wish for _, wish in wishes[:place]] + [bad] + [wish for _, wish in wishes[place:]])
        assert isinstance(answers.pop(place), asyncpg.PostgresError)
        self._judge(batch, answers)
        self.saw("poisoned")

    @step(
        batch=st.lists(ASKED, min_size=1, max_size=3),
        cuts=st.sampled_from(["after", "before", "before after", "after before before", "before before before"]),
    )
    def the_connection_breaks(self, batch: list[Asked], cuts: str) -> None:
        """Once in an example: the way back takes its time. Who is told of a fault asks again, and hears what stands."""
        if not self.has_been_cut:
            self.has_been_cut = True
            self._ask_over_breaking(batch, cuts, has_committed="after" in cuts)
            self.saw("lost")

    @step(asked=ASKED, batch=st.lists(ASKED, min_size=1, max_size=2), times=st.integers(1, 3))
    def the_connection_breaks_at_a_look_up(self, asked: Asked, batch: list[Asked], times: int) -> None:
        """The commit stands, and which of its keys had been taken is not known yet. Once in an example too."""
        if self.has_been_cut_late:
            return
        self.has_been_cut_late = True
        known = (asked[0], asked[1] or "a", asked[2])
        self._judge([known], self._place([self._wish(known)]))
        self._ask_over_breaking([*batch, known], " ".join(["look-up"] * times), has_committed=True)
        self.saw("lost at a look-up")

    def _ask_over_breaking(self, batch: list[Asked], cuts: str, *, has_committed: bool) -> None:
        self._everybody_quotes_today()
        self.counter.database.cuts[:] = cast(list[Cut], cuts.split())
        answers = self._place([self._wish(asked) for asked in batch])
        assert "look-up" not in self.counter.database.cuts, "it was not cut as often as it should have been"
        self.counter.database.cuts.clear()
        faults = [one for one in answers if isinstance(one, DatabaseFault)]
        assert len(faults) in {0, len(answers)}
        if faults:
            self._expect_after_a_fault(batch, has_committed=has_committed)
        else:
            self._judge(batch, answers)

    def _everybody_quotes_today(self) -> None:
        """With all prices in memory, and right, those who ask at once share the commit that breaks."""
        self.counter.catalogue.forget(self.counter.products)
        self.ground.run(self.counter.catalogue.priced(self.counter.database, self.counter.products))

    def _expect_after_a_fault(self, batch: Sequence[Asked], *, has_committed: bool) -> None:
        """The orders of the commit stand, and those of new keys alone; a repeat is told of them as of its own."""
        rows = self.ground.ask("SELECT id, customer_id FROM orders WHERE customer_id = ANY($1)", self.customers)
        stand = {(self.customers.index(row["customer_id"]), str(row["id"])) for row in rows}
        fresh = stand - self.book.orders
        assert self.book.orders <= stand
        new_keys = {(who, key) for who, key, _ in batch if key is not None and (who, key) not in self.book.keys}
        keyless = sum(key is None for _, key, _ in batch)
        assert len(fresh) == (len(new_keys) + keyless if has_committed else 0)
        self.book.orders = stand
        for who, key in sorted(new_keys) if has_committed else []:
            bodies = sorted({body for one, name, body in batch if (one, name) == (who, key)})
            answers = self._place([self._wish((who, key, body)) for body in bodies])
            (stands,) = [(body, one) for body, one in zip(bodies, answers, strict=True) if isinstance(one, Accepted)]
            assert stands[1].is_replay
            assert (who, stands[1].order_id) in fresh
            self.book.keys[who, key] = stands

    @step(customer=st.integers(0, CUSTOMERS - 1), key=st.sampled_from(["a", "b", "c"]))
    def a_key_is_too_old(self, customer: int, key: str) -> None:
        async def forgotten(tx: Tx) -> int:
            await tx.execute(
                "UPDATE idempotency_keys SET created_at = now() - 2 * $3::interval WHERE customer_id = $1 AND key = $2",
                self.customers[customer], key, DAY,
            )  # fmt: skip
            return await keys.forget(tx, DAY, 100)

        known = self.book.keys.pop((customer, key), None)
        assert self.ground.do(forgotten) == (known is not None)
        if known is not None:
            self.saw("forgotten")

    @step(number=st.integers(0, BODIES - 1), price=st.integers(1, 500))
    def a_price_changes(self, number: int, price: int) -> None:
        """Whoever has the old one in memory quotes anew; what was answered stays what it was."""

        async def changed(tx: Tx) -> None:
            await tx.execute("UPDATE products SET price = $2 WHERE id = $1", self.counter.products[number], price)

        self.ground.do(changed)

    def _judge(self, batch: Sequence[Asked], answers: Sequence[Answer | BaseException]) -> None:
        for (who, key, body), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Accepted) and not answer.is_replay:
                assert (who, answer.order_id) not in self.book.orders
                assert key is None or (who, key) not in self.book.keys, "a key is good for one order"
                self.book.orders.add((who, answer.order_id))
                if key is not None:
                    self.book.keys[who, key] = (body, answer)
                self.saw("accepted")
        for (who, key, body), answer in zip(batch, answers, strict=True):
            if key is None:
                assert isinstance(answer, Accepted)
                assert not answer.is_replay
                continue
            first_body, first = self.book.keys[who, key]
            if body == first_body:
                assert isinstance(answer, Accepted)
                assert (answer.order_id, answer.answer) == (first.order_id, first.answer)
                self.saw("replayed" if answer.is_replay else "new")
            else:
                assert isinstance(answer, Rejected)
                assert answer.code == "IDEMPOTENCY_KEY_REUSED"
                self.saw("reused")

    @invariant()
    def the_orders_are_those_that_were_answered(self) -> None:
        rows = self.ground.ask(
            "SELECT orders.id, customer_id, (SELECT count(*) FROM sagas WHERE subject = orders.id) AS sagas,"
            " (SELECT count(*) FROM outbox WHERE aggregate_id = orders.id) AS events,"
            " (SELECT count(*) FROM order_lines WHERE order_id = orders.id) AS lines FROM orders"
            " WHERE customer_id = ANY($1)",
            self.customers,
        )
        assert {(self.customers.index(row["customer_id"]), str(row["id"])) for row in rows} == self.book.orders
        assert all((row["sagas"], row["events"], row["lines"]) == (1, 1, 1) for row in rows)
        known = self.ground.ask(
            "SELECT customer_id, key, subject FROM idempotency_keys WHERE customer_id = ANY($1)", self.customers
        )
        assert {(self.customers.index(row["customer_id"]), row["key"]): str(row["subject"]) for row in known} == {
            named: answer.order_id for named, (_, answer) in self.book.keys.items()
        }
