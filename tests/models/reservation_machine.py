"""Reservations on the real database: every operation in any order, alone and two at a time, and time that runs out."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain, combinations, permutations
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from comanda.db import Tx
from comanda.inventory import stock
from comanda.saga import Done, Outcome
from shelves import Op, Shelves, arrive, look, places_of, put
from steps import Ground, Machine, Tally, step
from stockroom import confirmed

TTL = timedelta(minutes=10)
ORDERS = 6
PRODUCTS = 3
UNITS = st.dictionaries(st.sampled_from(["EAST", "MAIN"]), st.integers(0, 15), min_size=1)
BASKETS = st.dictionaries(st.integers(0, PRODUCTS - 1), st.integers(1, 4), min_size=1)
OPS: st.SearchStrategy[Op] = st.sampled_from(["reserve", "reserve", "extend", "confirm", "release", "restock"])
NUMBER = st.integers(0, ORDERS - 1)
PICKED = st.lists(NUMBER, min_size=1, max_size=ORDERS, unique=True)
MAY_HOLD_ANEW = {"extend", "confirm"}


class _CrashError(Exception):
    pass


class ReservationMachine(Machine):
    """A race ends one way today and the other way tomorrow, so which steps there are must not depend on it."""

    def __init__(self, tally: Tally, ground: Ground) -> None:
        super().__init__(tally)
        self.ground = ground
        self.products: list[UUID] = []
        self.orders: list[UUID] = []
        self.model = Shelves({})

    @initialize(
        units=st.lists(UNITS, min_size=PRODUCTS, max_size=PRODUCTS),
        wishes=st.lists(BASKETS, min_size=ORDERS, max_size=ORDERS),
    )
    def a_shop_opens(self, units: list[dict[str, int]], wishes: list[dict[int, int]]) -> None:
        async def opened(tx: Tx) -> None:
            await stock.expire(tx, 10_000)  # what another example has left
            self.products = await put(tx, units)
            baskets = [{self.products[number]: count for number, count in wish.items()} for wish in wishes]
            self.orders = await arrive(tx, baskets)
            self.model = Shelves(places_of(self.products, units), dict(zip(self.orders, baskets, strict=True)))

        self.ground.do(opened)

    def _picked(self, numbers: Sequence[int]) -> list[UUID]:
        return [self.orders[number] for number in numbers]

    def _hold(self, ids: Sequence[UUID]) -> None:
        """So that there is something to fight for."""
        answers = self.ground.do(lambda tx: _act(tx, "reserve", ids))
        assert answers == self.model.act("reserve", ids)

    @step(op=OPS, numbers=PICKED)
    def some_are(self, op: Op, numbers: list[int]) -> None:
        ids = self._picked(numbers)
        answers = self.ground.do(lambda tx: _act(tx, op, ids))
        assert answers == self.model.act(op, ids), "answers come in the order of the question"
        if op == "extend":
            self._they_have_time(ids)
        self.saw(op)

    def _they_have_time(self, ids: Sequence[UUID]) -> None:
        (row,) = self.ground.ask(
            "SELECT count(*) AS short FROM reservations WHERE order_id = ANY($1) AND state = 'ACTIVE'"
            " AND expires_at < now() + 0.8 * $2::interval",
            list(ids),
            TTL,
        )
        assert row["short"] == 0

    @step(numbers=PICKED)
    def what_is_verified_is_there_for_each_alone(self, numbers: list[int]) -> None:
        ids = self._picked(numbers)
        answers = self.ground.do(lambda tx: stock.verify(tx, ids))
        for one, answer in zip(ids, answers, strict=True):
            enough = all(
                sum(self.model.free(place) for place in self.model.on_hand if place[0] == product) >= wanted
                for product, wanted in self.model.baskets[one].items()
            )
            assert answer == (Done() if enough else stock.OUT_OF_STOCK)

    @step(op=OPS, numbers=PICKED)
    def a_crash_before_the_commit_leaves_nothing(self, op: Op, numbers: list[int]) -> None:
        async def crashed(tx: Tx) -> None:
            await _act(tx, op, self._picked(numbers))
            raise _CrashError

        try:
            self.ground.do(crashed)
        except _CrashError:
            self.saw("crash")

    @step(numbers=PICKED)
    def time_runs_out(self, numbers: list[int]) -> None:
        self._lapse(self._picked(numbers))

    def _lapse(self, ids: Sequence[UUID]) -> None:
        async def lapsed(tx: Tx) -> None:
            await tx.execute(
                "UPDATE reservations SET expires_at = now() WHERE order_id = ANY($1) AND state = 'ACTIVE'", list(ids)
            )

        self.ground.do(lapsed)
        self.model.lapsed |= self.model.held.keys() & set(ids)

    @step(limit=st.integers(1, ORDERS))
    def expiry_lets_go_of_who_is_late(self, limit: int) -> None:
        late = set(self.model.lapsed)
        count = self.ground.do(lambda tx: stock.expire(tx, limit))
        assert count == min(limit, len(late))
        held = self._still_active()
        gone = set(self.model.held) - held
        assert gone <= late
        assert len(gone) == count
        self.model.expire(gone)

    def _still_active(self) -> set[UUID]:
        rows = self.ground.ask(
            "SELECT order_id FROM reservations WHERE order_id = ANY($1) AND state = 'ACTIVE'", self.orders
        )
        return {row["order_id"] for row in rows}

    @step(op=OPS, numbers=PICKED, is_expiry_first=st.booleans())
    def expiry_comes_at_the_same_moment(self, op: Op, numbers: list[int], is_expiry_first: bool) -> None:
        self._against_expiry(op, numbers, is_expiry_first=is_expiry_first)

    @step(op=st.sampled_from(["confirm", "release"]), number=NUMBER, is_expiry_first=st.booleans())
    def one_order_ends_as_its_time_does(self, op: Op, number: int, is_expiry_first: bool) -> None:
        self._against_expiry(op, [number], is_expiry_first=is_expiry_first)

    def _against_expiry(self, op: Op, numbers: list[int], *, is_expiry_first: bool) -> None:
        """Each reservation ends one way or the other: before the operation, by it, or after it."""
        ids = self._picked(numbers)
        if op == "reserve":  # an order reserves once: who holds already is past that step
            ids = [one for one in ids if one not in self.model.held]
        else:
            self._hold(ids)
        self._lapse(self._picked(numbers))
        ended = self.model.copy().ended
        late, at_stake = set(self.model.lapsed), self.model.lapsed & set(ids)

        async def both() -> list[Outcome]:
            operation = self.ground.commit(lambda tx: _act(tx, op, ids))
            expiry = self.ground.commit(lambda tx: stock.expire(tx, 1000))
            if is_expiry_first:
                _, answers = await asyncio.gather(expiry, operation)
            else:
                answers, _ = await asyncio.gather(operation, expiry)
            return answers

        answers = self.ground.run(both())
        possible: list[tuple[object, Shelves]] = []
        for before in _parts(sorted(at_stake)):
            for first in ({*before}, {*before} | (late - at_stake)):
                after = self.model.copy()
                after.expire(first)
                said = after.act(op, ids)
                after.expire(late & after.lapsed)
                possible.append((said, after))
        self._is_one_of(answers, possible)
        if at_stake and op in {"confirm", "release"}:
            expired = [
                (self.model.ended.get(one, Counter()) - ended.get(one, Counter()))["EXPIRED"] for one in at_stake
            ]
            self.saw("expiry won" if any(expired) else "the order won")

    @step(op=OPS, numbers=PICKED, other=OPS, others=PICKED)
    def two_come_at_the_same_moment(self, op: Op, numbers: list[int], other: Op, others: list[int]) -> None:
        self._at_once(op, numbers, other, others)

    @step(pair=st.permutations(["confirm", "release"]), number=NUMBER)
    def one_order_is_confirmed_and_cancelled(self, pair: list[Op], number: int) -> None:
        self._at_once(pair[0], [number], pair[1], [number])
        states = self.model.seen()[1].get(self.orders[number], Counter())
        assert states["ACTIVE"] == 0
        assert states["FULFILLED"] <= 1

    def _at_once(self, op: Op, numbers: list[int], other: Op, others: list[int]) -> None:
        """For the order that both are about, one comes after the other; the rest of each batch is on its own.

        An order has one saga: nothing else happens to it while it reserves.
        """
        mine, theirs = self._picked(numbers), self._picked(others)
        shared = [one for one in theirs if one in mine][:1]
        self._hold(mine[:2])
        if "reserve" in {op, other} or {op, other} <= MAY_HOLD_ANEW:
            shared = []
        theirs = shared + [one for one in theirs if one not in mine]

        async def both() -> tuple[list[Outcome], list[Outcome]]:
            return await asyncio.gather(
                self.ground.commit(lambda tx: _act(tx, op, mine)),
                self.ground.commit(lambda tx: _act(tx, other, theirs)),
            )

        answers = self.ground.run(both())
        acts: list[tuple[int, Op, list[UUID]]] = [(0, op, mine), (1, other, theirs)]
        parts: list[tuple[int, Op, list[UUID]]] = [
            (side, what, part)
            for side, what, ids in acts
            for part in (shared, [one for one in ids if one not in shared])
        ]
        told = [dict(zip(ids, said, strict=True)) for (_, _, ids), said in zip(acts, answers, strict=True)]
        self._is_one_of(told, (self._after(order) for order in chain(permutations(acts), permutations(parts))))
        self.saw("a race of two")
        if shared and {op, other} == {"confirm", "release"}:
            self.saw("confirm against release")

    def _after(self, acts: Sequence[tuple[int, Op, list[UUID]]]) -> tuple[object, Shelves]:
        after = self.model.copy()
        said: list[dict[UUID, Outcome]] = [{}, {}]
        for side, op, ids in acts:
            said[side] |= dict(zip(ids, after.act(op, ids), strict=True))
        return said, after

    def _is_one_of(self, answers: object, possible: Iterable[tuple[object, Shelves]]) -> None:
        seen = look(self.ground, self.products, self.orders)
        tried = []
        for said, after in possible:
            if said == answers and after.seen() == seen:
                self.model = after
                return
            tried.append((said, after.seen()))
        raise AssertionError(f"no order of the two leads to {answers} and {seen}, but to {tried[:2]}")

    @invariant()
    def the_tables_say_what_the_model_says(self) -> None:
        assert look(self.ground, self.products, self.orders) == self.model.seen()
        assert all(units >= self.model.free(place) >= 0 for place, units in self.model.on_hand.items())


async def _act(tx: Tx, op: Op, ids: Sequence[UUID]) -> list[Outcome]:
    match op:
        case "reserve":
            return list(await stock.reserve(tx, ids, ttl=TTL))
        case "extend":
            return list(await stock.extend(tx, ids, ttl=TTL))
        case "confirm":
            return await confirmed(tx, ids, ttl=TTL)
        case "release":
            return list(await stock.release(tx, ids))
        case "restock":
            return list(await stock.restock(tx, ids))


def _parts(ids: Sequence[UUID]) -> Iterator[tuple[UUID, ...]]:
    return chain.from_iterable(combinations(ids, count) for count in range(len(ids) + 1))
