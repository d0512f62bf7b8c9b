"""Stock in plain Python, one order after the other; and the look into the tables that has to say the same."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Tx
from comanda.inventory import stock
from comanda.saga import Done, Outcome, Refused
from steps import Ground

Op = Literal["reserve", "extend", "confirm", "release", "restock"]
Place = tuple[UUID, str]
Units = Mapping[str, int]
Seen = tuple[dict[Place, tuple[int, int]], dict[UUID, Counter[str]]]
"""(on hand, held) of each place, and the states of each order's reservations."""


@dataclass
class Shelves:
    """What is on hand, who holds it, who bought it; `lapsed`: who holds although the time is over."""

    on_hand: dict[Place, int]
    baskets: dict[UUID, Mapping[UUID, int]] = field(default_factory=dict)
    held: dict[UUID, dict[Place, int]] = field(default_factory=dict)
    sold: dict[UUID, dict[Place, int]] = field(default_factory=dict)
    lapsed: set[UUID] = field(default_factory=set)
    ended: dict[UUID, Counter[str]] = field(default_factory=dict)

    def copy(self) -> "Shelves":
        """Shares of one order never change: only who has them does."""
        return Shelves(
            dict(self.on_hand), self.baskets, dict(self.held), dict(self.sold), set(self.lapsed),
            {one: Counter(states) for one, states in self.ended.items()},
        )  # fmt: skip

    def free(self, place: Place) -> int:
        return self.on_hand[place] - sum(shares.get(place, 0) for shares in self.held.values())

    def seen(self) -> Seen:
        places = {place: (units, units - self.free(place)) for place, units in self.on_hand.items()}
        states = {}
        for one in self.baskets:
            states[one] = Counter(self.ended.get(one, Counter()))
            states[one]["ACTIVE"] += one in self.held
            states[one]["FULFILLED"] += one in self.sold
        return places, {one: +counts for one, counts in states.items() if +counts}

    def act(self, op: Op, ids: Sequence[UUID]) -> list[Outcome]:
        """As `stock` does it: what is held goes first, then the late ones try again in the order of their arrival."""
        said: dict[UUID, Outcome] = {}
        match op:
            case "reserve":
                said = {one: self._reserve(one) for one in sorted(ids)}
            case "extend":
                self.lapsed -= set(ids)
                said = {one: _expired(self._reserve(one)) for one in sorted(ids)}
            case "confirm":
                late = [one for one in sorted(ids) if one not in self.held]
                self._sell(ids)
                said = {one: _expired(self._reserve(one)) for one in late}
                self._sell(ids)
            case "release":
                for one in self.held.keys() & set(ids):
                    self._let_go(one, "RELEASED")
            case "restock":
                for one in self.sold.keys() & set(ids):
                    for place, count in self.sold.pop(one).items():
                        self.on_hand[place] += count
                    self.ended.setdefault(one, Counter())["RELEASED"] += 1
        return [said.get(one, Done()) for one in ids]

    def expire(self, ids: Collection[UUID]) -> None:
        for one in ids:
            self._let_go(one, "EXPIRED")

    def _let_go(self, one: UUID, state: str) -> None:
        del self.held[one]
        self.lapsed.discard(one)
        self.ended.setdefault(one, Counter())[state] += 1

    def _sell(self, ids: Sequence[UUID]) -> None:
        for one in self.held.keys() & set(ids):
            self.lapsed.discard(one)
            self.sold[one] = self.held.pop(one)
            for place, count in self.sold[one].items():
                self.on_hand[place] -= count

    def _reserve(self, one: UUID) -> Outcome:
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


def _expired(said: Outcome) -> Outcome:
    return stock.EXPIRED if isinstance(said, Refused) else said


async def put(tx: Tx, units: Sequence[Units]) -> list[UUID]:
    """Products with so many units at each location, booked as when somebody opens stock."""
    ids = [new_id() for _ in units]
    places = [(one, location, n) for one, there in zip(ids, units, strict=True) for location, n in there.items()]
    await tx.execute(
        "INSERT INTO products (id, sku, name, price) SELECT id, id::text, 'x', 100 FROM unnest($1::uuid[]) AS id", ids
    )
    await tx.executemany("INSERT INTO stock (product_id, location, on_hand) VALUES ($1, $2, $3)", places)
    await tx.executemany(
        "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor)"
        " VALUES (gen_random_uuid(), $1, $2, 'RESTOCK', $3, 0, 'test')",
        [place for place in places if place[2]],
    )
    return ids


def places_of(products: Sequence[UUID], units: Sequence[Units]) -> dict[Place, int]:
    return {(one, place): n for one, there in zip(products, units, strict=True) for place, n in there.items()}


async def arrive(tx: Tx, baskets: Sequence[Mapping[UUID, int]]) -> list[UUID]:
    """Orders with these lines; they came in the order of the answer."""
    ids = sorted(new_id() for _ in baskets)
    await tx.executemany(
        "INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price)"
        " VALUES ($1, $2, $3, 'x', 'x', $4, 100)",
        [
            (order, position, product, count)
            for order, basket in zip(ids, baskets, strict=True)
            for position, (product, count) in enumerate(basket.items())
        ],
    )
    return ids


def look(ground: Ground, products: Sequence[UUID], orders: Sequence[UUID]) -> Seen:
    """What stands there. The ledger of movements and the lines of reservations have to say the same."""
    rows = ground.ask(
        "SELECT product_id, location, on_hand, held,"
        " (SELECT coalesce(sum(on_hand_delta), 0)::bigint FROM movements WHERE movements.product_id = stock.product_id"
        "   AND movements.location = stock.location) AS booked,"
        " (SELECT coalesce(sum(held_delta), 0)::bigint FROM movements WHERE movements.product_id = stock.product_id"
        "   AND movements.location = stock.location) AS booked_held FROM stock WHERE product_id = ANY($1)",
        list(products),
    )
    for row in rows:
        assert (row["booked"], row["booked_held"]) == (row["on_hand"], row["held"]), "movements sum to the stock"
    states: dict[UUID, Counter[str]] = {}
    for row in ground.ask("SELECT order_id, state FROM reservations WHERE order_id = ANY($1)", list(orders)):
        states.setdefault(row["order_id"], Counter())[row["state"]] += 1
    return {(row["product_id"], row["location"]): (row["on_hand"], row["held"]) for row in rows}, states
