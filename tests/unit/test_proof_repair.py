"""Proposals, judged by what they would do: to a shop in memory whose stock, movements and reservations disagree."""

import asyncio
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comanda.clock import rfc3339
from comanda.proof import ledger
from comanda.proof.findings import Finding
from comanda.proof.repair import MOVE, Proposal, proposals
from comanda.proof.shell import filled

Place = tuple[str, str]
PLACES = [("apple", "MAIN"), ("apple", "NORTH"), ("pear", "MAIN")]
ORDERS = ["o1", "o2", "o3"]
STATES = ["ACTIVE", "FULFILLED", "RELEASED"]
NOTHING = (0, 0)

few = st.integers(-3, 3)
pairs = st.tuples(few, few)


def failing(name: str, rows: list[dict[str, Any]], count: int = 0) -> Finding:
    return Finding(name, 2, "", "failed", count or len(rows), rows, "")


class Books:
    """The three accounts of stock. `lines`: what each order's reservation has where; `moved`: (on hand, held)."""

    def __init__(self, lines: Mapping[tuple[str, Place], int], states: Mapping[str, str]) -> None:
        self.lines, self.states = lines, dict(states)
        self.moved: dict[tuple[str | None, Place], tuple[int, int]] = defaultdict(lambda: NOTHING)
        for (order, place), units in lines.items():
            self.moved[order, place] = self.told(order, units)
        for place in PLACES:
            self.moved[None, place] = (100, 0)
        self.stock = {place: self.sums(place) for place in PLACES}

    def told(self, order: str, units: int) -> tuple[int, int]:
        return {"ACTIVE": (0, units), "FULFILLED": (-units, 0), "RELEASED": NOTHING}[self.states[order]]

    def sums(self, place: Place) -> tuple[int, int]:
        found = [deltas for (_, where), deltas in self.moved.items() if where == place]
        return sum(one for one, _ in found), sum(other for _, other in found)

    def reserved(self, place: Place) -> int:
        return sum(
            units for (order, where), units in self.lines.items() if where == place and self.states[order] == "ACTIVE"
        )

    def move(self, order: str | None, place: Place, by: tuple[int, int]) -> None:
        before = self.moved[order, place]
        self.moved[order, place] = (before[0] + by[0], before[1] + by[1])

    def look(self) -> list[Finding]:
        """As the statements in invariants.sql do."""
        drifts: list[dict[str, Any]] = []
        holds: list[dict[str, Any]] = []
        orders: list[dict[str, Any]] = []
        for place in PLACES:
            where = {"product_id": place[0], "location": place[1]}
            (on_hand, held), (booked, booked_held) = self.stock[place], self.sums(place)
            if (on_hand, held) != (booked, booked_held):
                drifts.append(
                    {**where, "on_hand": on_hand, "movements_on_hand": booked, "held": held,
                     "movements_held": booked_held}
                )  # fmt: skip
            if held != self.reserved(place):
                holds.append({**where, "held": held, "active_reservations": self.reserved(place) or None})
            for order in ORDERS:
                told = self.told(order, self.lines.get((order, place), 0))
                moved = self.moved[order, place]
                if told != moved:
                    orders.append(
                        {**where, "order_id": order, "movements_held": moved[1], "reserved_held": told[1],
                         "movements_sold": -moved[0], "reserved_sold": -told[0]}
                    )  # fmt: skip
        named = {
            "stock_is_its_movements": drifts,
            "held_is_reserved": holds,
            "bookings_match_reservations": orders,
        }
        return [failing(name, rows) for name, rows in named.items() if rows]

    def carry_out(self, proposal: Proposal) -> None:
        order = next(iter(re.findall(r"order (\w+)", proposal.subject)), None)
        place = next(iter(re.findall(r"product (\w+) at (\w+)", proposal.subject)), ("", ""))
        amounts = proposal.amounts
        match proposal.kind:
            case "movement":
                self.move(order, place, (amounts["onHand"], amounts["held"]))
            case "hold":
                on_hand, held = self.stock[place]
                self.stock[place] = (on_hand, held + amounts["held"])
                self.move(None, place, (0, amounts["held"]))
            case "reservation":
                assert order is not None
                self.states[order] = re.findall(r"SET state = '(\w+)'", shlex.split(proposal.command)[-1])[0]
            case kind:
                pytest.fail(f"{kind} is no proposal for stock")


books = st.builds(
    Books,
    st.dictionaries(st.tuples(st.sampled_from(ORDERS), st.sampled_from(PLACES)), st.integers(1, 5), min_size=1),
    st.fixed_dictionaries({order: st.sampled_from(STATES) for order in ORDERS}),
)
somewhere = st.sampled_from(PLACES)


@given(
    books,
    st.dictionaries(somewhere, pairs),
    st.dictionaries(st.tuples(st.sampled_from([*ORDERS, None]), somewhere), pairs),
    st.randoms(),
)
def test_all_proposals_together_make_the_three_accounts_agree(
    shop: Books,
    stock: dict[Place, tuple[int, int]],
    moved: dict[tuple[str | None, Place], tuple[int, int]],
    order: Any,
) -> None:
    for place, by in stock.items():
        on_hand, held = shop.stock[place]
        shop.stock[place] = (on_hand + by[0], held + by[1])
    for (whose, place), by in moved.items():
        shop.move(whose, place, by)
    # What an order's movements say alone, against a stock that agrees with them, is about its reservation: not here.
    for whose, place in moved:
        if whose is not None and shop.stock[place] == shop.sums(place):
            shop.stock[place] = (shop.stock[place][0] + 50, shop.stock[place][1])
    drifted = {place for place in PLACES if shop.stock[place] != shop.sums(place)}
    assert all(place in drifted for whose, place in moved if whose is not None)
    made = proposals(shop.look())
    order.shuffle(made)
    for one in made:
        shop.carry_out(one)
    assert shop.look() == []
    assert proposals([]) == []


@given(books, st.sampled_from(ORDERS), st.sampled_from(STATES))
def test_a_reservation_that_was_changed_by_hand_is_put_right(shop: Books, order: str, state: str) -> None:
    """Stock and movements agree: two against one."""
    true = dict(shop.states)
    shop.states[order] = state
    for one in proposals(shop.look()):
        assert one.kind == "reservation"
        shop.carry_out(one)
    assert shop.look() == []
    if any(whose == order for whose, _ in shop.lines):
        assert shop.states == true


def test_what_is_cut_off_is_not_summed() -> None:
    """A total over twenty of fifty orders would be booked as the truth."""
    row = {"product_id": "apple", "location": "MAIN"}
    drift = {**row, "on_hand": 9, "movements_on_hand": 4, "held": 0, "movements_held": 0}
    order = {
        **row, "order_id": "o1", "movements_held": 0, "reserved_held": 0, "movements_sold": 3, "reserved_sold": 2,
    }  # fmt: skip
    findings = [failing("stock_is_its_movements", [drift]), failing("bookings_match_reservations", [order], count=50)]
    assert [one.check for one in proposals(findings)] == ["bookings_match_reservations"]
    findings[1] = failing("bookings_match_reservations", [order])
    assert [(one.check, one.amounts["onHand"]) for one in proposals(findings)] == [
        ("bookings_match_reservations", 1),
        ("stock_is_its_movements", 4),
    ]


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_a_command_survives_the_shell(location: str) -> None:
    drift = {
        "product_id": "apple", "location": location, "on_hand": 1, "movements_on_hand": 0, "held": 0,
        "movements_held": 0,
    }  # fmt: skip
    (one,) = proposals([failing("stock_is_its_movements", [drift])])
    words = shlex.split(one.command)
    assert words[:3] == ["psql", "$COMANDA_DATABASE_URL", "-c"]
    assert words[3] == filled(MOVE, "apple", location, 1, 0, None, "reconciled by comanda doctor")


MONEY = {"state": "CANCELLED", "problem": "…", "currency": "USD"}


@given(st.integers(0, 500), st.lists(st.integers(1, 500), max_size=3), st.integers(0, 500))
def test_a_refund_is_what_was_kept_too_much_and_no_more_than_was_captured(
    due: int, captured: list[int], refunded: int
) -> None:
    kept = sum(captured) - refunded
    told = " ".join(f"{amount}:saga:{number}" for number, amount in enumerate(captured))
    row = {**MONEY, "order_id": "o1", "kept": kept, "due": due, "captures": told}
    (one,) = proposals([failing("money_is_exact", [row])])
    if kept > due and captured:
        body = json.loads(shlex.split(one.command)[-1])
        assert one.kind == "refund"
        assert 0 < body["amount"] <= min(kept - due, captured[-1])
        assert body["chargeKey"] == f"saga:{len(captured) - 1}"
        assert body["amount"] == one.amounts["amount"]
    else:
        assert one.kind == "decide", "nobody is charged for an order that was given up"


class Written:
    """A ledger in order of time; `looks` counts its pages."""

    def __init__(self, times: list[datetime]) -> None:
        self.lines = [
            {
                "seq": seq,
                "at": rfc3339(at),
                "orderId": str(UUID(int=seq)),
                "type": "capture",
                "amount": 1,
                "currency": "USD",
            }
            for seq, at in enumerate(times, 1)
        ]
        self.looks = 0

    async def ledger(self, after: int, limit: int) -> list[dict[str, Any]]:
        self.looks += 1
        return self.lines[after : after + limit]


EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.integers(0, 300).map(lambda seconds: EPOCH + timedelta(seconds=seconds))


@given(st.lists(moments, max_size=80).map(sorted), moments)
def test_the_ledger_is_read_from_where_a_moment_begins(times: list[datetime], moment: datetime) -> None:
    written = Written(times)
    after = asyncio.run(ledger.before(written, moment))
    assert after == sum(at < moment for at in times), "all earlier lines, and no later one, are passed over"
    assert written.looks <= 2 * len(times).bit_length() + 2


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3)), max_size=20), st.integers(1, 3))
def test_a_book_has_the_lines_of_each_order_once(lines: list[tuple[str, int]], amount: int) -> None:
    book = ledger.Book()
    for order_id, units in lines:
        book.add({"orderId": order_id, "type": "capture", "amount": units * amount, "currency": "USD"})
    for order_id in ("a", "b"):
        expected = [units * amount for one, units in lines if one == order_id]
        assert [line.amount for line in book.take(order_id)] == expected
        assert book.of(order_id) == ()
    assert book.lines == {}, "nothing is left that nobody owns"


@given(
    st.sampled_from(["CONFIRMED", "SHIPPED", "CANCELLED", "REFUNDED", "PENDING", "PAYMENT_FAILED"]),
    st.lists(
        st.tuples(st.sampled_from(["capture", "refund"]), st.integers(1, 3), st.sampled_from(["USD", "EUR"])),
        max_size=3,
    ),
    st.integers(0, 3),
)
def test_what_is_plain_is_exact(state: str, lines: list[tuple[str, int, str]], total: int) -> None:
    """The short cut never hides what the rule finds."""
    told = tuple(ledger.Line(*one) for one in lines)
    if ledger.is_plain(state, total, "USD", told):
        assert ledger.problem(ledger.Owed("o", state, total, "USD"), told, []) is None
