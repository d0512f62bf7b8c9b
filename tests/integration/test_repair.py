"""What the doctor proposes, carried out as an operator would: the shop is whole again."""

import json
import shlex
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from comanda.db import Database
from comanda.db.database import connect
from comanda.inventory import stock
from comanda.proof import invariants
from comanda.proof.findings import Finding, broken
from comanda.proof.guards import DEFINITIONS, GUARDS
from comanda.proof.ledger import Ledger, NoLedger
from comanda.proof.repair import Proposal, proposals
from shop import FakeGateway, shop, until

NO_LEDGER = NoLedger("not asked")
OF = "(SELECT min(id::text)::uuid FROM orders WHERE state = '{}')"
CONFIRMED, CANCELLED = OF.format("CONFIRMED"), OF.format("CANCELLED")
LINES_OF_CANCELLED = (
    "(SELECT r.order_id, l.* FROM reservations r JOIN reservation_lines l ON reservation_id = r.id "
    f"WHERE order_id = {CANCELLED}) AS line"
)
STILL_HELD = (
    f"UPDATE reservations SET state = 'ACTIVE', ended_at = NULL WHERE order_id = {CANCELLED};"
    "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor) "
    f"SELECT uuid_v7(), product_id, location, 'RESERVATION', 0, quantity, order_id, 'x' FROM {LINES_OF_CANCELLED};"
    f"UPDATE stock SET held = held + quantity FROM {LINES_OF_CANCELLED} WHERE stock.product_id = line.product_id"
)
SOLD_ALL_THE_SAME = (
    f"UPDATE reservations SET state = 'FULFILLED' WHERE order_id = {CANCELLED};"
    "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, order_id, actor) "
    f"SELECT uuid_v7(), product_id, location, 'SALE', -quantity, 0, order_id, 'x' FROM {LINES_OF_CANCELLED};"
    f"UPDATE stock SET on_hand = on_hand - quantity FROM {LINES_OF_CANCELLED} WHERE stock.product_id = line.product_id"
)
# What is broken, and the kinds of what is proposed.
PLANTED = [
    ("UPDATE stock SET on_hand = on_hand + 1", {"movement"}),
    ("UPDATE stock SET held = held + 1", {"movement", "hold"}),
    ("UPDATE stock SET on_hand = on_hand + 3, held = held + 2", {"movement", "hold"}),
    ("UPDATE movements SET on_hand_delta = on_hand_delta - 1 WHERE kind = 'SALE'", {"movement"}),
    ("DELETE FROM movements WHERE kind = 'SALE'", {"movement"}),
    ("DELETE FROM movements", {"movement"}),
    (f"UPDATE reservations SET state = 'RELEASED' WHERE order_id = {CONFIRMED}", {"reservation"}),
    (f"UPDATE reservations SET state = 'ACTIVE', ended_at = NULL WHERE order_id = {CONFIRMED}", {"reservation"}),
    (STILL_HELD, {"release"}),
    (SOLD_ALL_THE_SAME, {"return"}),
    (f"UPDATE payments SET refunded = 1 WHERE order_id = {CONFIRMED}", {"payment"}),
    (f"UPDATE payments SET state = 'PROCESSING', captured = 0 WHERE order_id = {CONFIRMED}", {"payment"}),
    (f"UPDATE payments SET captured = amount WHERE order_id = {CANCELLED}", {"payment"}),
    (f"DELETE FROM payments WHERE order_id = {CONFIRMED}", {"payment"}),
    (
        f"UPDATE sagas SET state = 'RUNNING', ended_at = NULL WHERE subject = {CONFIRMED}",
        {"saga"},
    ),
]


async def look(database_url: str, gateway: Ledger | NoLedger = NO_LEDGER) -> list[Finding]:
    connection = await connect(database_url, name="doctor")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return broken(await invariants.check(connection, gateway))
    finally:
        await connection.close()


async def execute(database_url: str, *statements: str) -> None:
    connection = await connect(database_url, name="operator")
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def carry_out(database_url: str, made: Sequence[Proposal]) -> None:
    """As psql does; `comanda saga resolve` of an order that has ended ends its saga."""
    for one in made:
        words = shlex.split(one.command)
        if words[0] == "psql":
            await execute(database_url, words[-1])
        elif words[:3] == ["comanda", "saga", "resolve"]:
            end = f"UPDATE sagas SET state = 'COMPLETED', ended_at = now() WHERE id = '{UUID(words[3])}'"
            await execute(database_url, end)
        else:
            pytest.fail(f"nobody can carry out {one}")


async def a_day(database_url: str, redis_url: str) -> None:
    """Two orders that were confirmed, one that was declined, and all is quiet."""
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=20, pear=15)
        await here.ended(
            await here.order({goods["apple"]: 2, goods["pear"]: 1}),
            await here.order({goods["pear"]: 3}),
            await here.order({goods["apple"]: 1}, "pm_decline_CARD_DECLINED"),
        )

        async def is_quiet() -> bool:
            return bool(await here.value("SELECT count(*) = 0 FROM sagas WHERE ended_at IS NULL"))

        await until(is_quiet)


async def test_what_is_proposed_mends_it(database_url: str, redis_url: str) -> None:
    """One shop for all: each time it is whole again, or the next one would not begin whole."""
    await a_day(database_url, redis_url)
    assert await look(database_url) == []
    for statement, kinds in PLANTED:
        await execute(database_url, statement)
        made = proposals(await look(database_url))
        assert {one.kind for one in made} == kinds, statement
        await carry_out(database_url, made)
        await let_expire(database_url)
        assert await look(database_url) == [], statement


async def let_expire(database_url: str) -> None:
    """What the relay does each second."""
    database = await Database.open(database_url, name="relay")
    async with database.transaction() as tx:
        await stock.expire(tx, 500)
    await database.close()


async def test_several_breaks_at_once_are_mended_at_once(database_url: str, redis_url: str) -> None:
    await a_day(database_url, redis_url)
    await execute(
        database_url,
        "UPDATE stock SET on_hand = on_hand + 2, held = held + 1",
        f"UPDATE movements SET on_hand_delta = on_hand_delta - 1 WHERE kind = 'SALE' AND order_id = {CONFIRMED}",
        "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor) "
        "SELECT uuid_v7(), product_id, location, 'THEFT', -4, 0, 'x' FROM stock",
        "UPDATE reservations SET state = 'ACTIVE', ended_at = NULL "
        f"WHERE order_id <> {CONFIRMED} AND state = 'FULFILLED'",
    )
    assert len(await look(database_url)) >= 3
    await carry_out(database_url, [one for one in proposals(await look(database_url)) if one.kind != "decide"])
    # What was ACTIVE by hand has been booked as held: its order is confirmed, so its sale is decided by a person.
    assert {finding.name for finding in await look(database_url)} == {"confirmed_are_sold"}


async def test_an_adjustment_through_the_api_keeps_the_accounts_together(database_url: str, redis_url: str) -> None:
    """After the correction the goods are counted, and what was counted is booked the usual way."""
    from comanda.inventory import admin  # noqa: PLC0415 - what the API calls

    await a_day(database_url, redis_url)
    await execute(database_url, "UPDATE stock SET on_hand = on_hand + 5")
    await carry_out(database_url, proposals(await look(database_url)))
    database = await Database.open(database_url, name="api")
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT product_id FROM stock")
        counted = [admin.Change(row["product_id"], -5, "ADJUSTMENT", reason="counted") for row in rows]
        answers = await admin.change(tx, counted, actor=UUID(int=1), correlation_id=None)
    await database.close()
    assert all(isinstance(answer, admin.Stock) for answer in answers)
    assert await look(database_url) == []


@pytest.mark.parametrize("name", [name for _, name in GUARDS])
async def test_a_guard_is_put_back_as_it_was(database_url: str, name: str) -> None:
    assert name in DEFINITIONS
    relation = next(relation for relation, guard in GUARDS if guard == name)
    definition = f"SELECT coalesce((SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{name}' AND conrelid = '{relation}'::regclass), (SELECT indexdef FROM pg_indexes WHERE indexname = '{name}'))"  # noqa: E501
    connection = await connect(database_url, name="operator")
    before = await connection.fetchval(definition)
    assert before is not None
    is_constraint = await connection.fetchval("SELECT count(*) > 0 FROM pg_constraint WHERE conname = $1", name)
    await connection.execute(
        f"ALTER TABLE {relation} DROP CONSTRAINT {name}" if is_constraint else f"DROP INDEX {name}"
    )
    (one,) = proposals(await look(database_url))
    await connection.execute(shlex.split(one.command)[-1])
    assert await connection.fetchval(definition) == before
    await connection.close()
    assert await look(database_url) == []


@pytest.mark.parametrize("state", ["PENDING", "PROCESSING", "PAYMENT_PENDING", "PAYMENT_FAILED"])
async def test_an_order_without_a_saga_goes_on(database_url: str, redis_url: str, state: str) -> None:
    """Its saga is lost wherever it stood: begun again, it charges once or gives all back."""
    gateway = FakeGateway(is_down=True)
    async with shop(database_url, redis_url, gateway=gateway, workers=0 if state == "PENDING" else 1) as here:
        goods = await here.sells(apple=5)
        order_id = await here.order({goods["apple"]: 2})
        if state != "PENDING":

            async def waits_for_its_payment() -> bool:
                row = (
                    await here.ask(
                        "SELECT o.state, s.lease_until, s.attempt FROM orders o JOIN sagas s ON s.id = saga_id"
                    )
                )[0]
                return bool(row["state"] == "PAYMENT_PENDING" and row["lease_until"] is None and row["attempt"])

            await until(waits_for_its_payment)
    if state in {"PROCESSING", "PAYMENT_FAILED"}:
        move = (
            "DELETE FROM order_moves WHERE to_state = 'PAYMENT_PENDING'"
            if state == "PROCESSING"
            else "INSERT INTO order_moves (order_id, from_state, to_state, actor) "
            "SELECT id, 'PAYMENT_PENDING', 'PAYMENT_FAILED', 'x' FROM orders"
        )
        await execute(database_url, f"UPDATE orders SET state = '{state}'", move)
    await execute(database_url, "DELETE FROM sagas")
    (one,) = proposals(await look(database_url))
    assert one.kind == "saga"
    await carry_out(database_url, [one])
    gateway.is_down = False
    async with shop(database_url, redis_url, gateway=gateway) as here:
        (row,) = await here.ended(order_id)
        assert row["state"] == ("CANCELLED" if state == "PAYMENT_FAILED" else "CONFIRMED")
        assert gateway.kept(order_id) == (0 if state == "PAYMENT_FAILED" else 2000)

        async def is_whole() -> bool:
            return await look(database_url) == []

        await until(is_whole)


@pytest.mark.parametrize(("state", "kind"), [("CONFIRMED", "order_confirmation"), ("CANCELLED", "order_cancellation")])
async def test_who_was_not_told_is_told(database_url: str, redis_url: str, state: str, kind: str) -> None:
    """An operator skipped the message, or its row is gone."""
    await a_day(database_url, redis_url)
    order_id = OF.format(state)
    await execute(
        database_url,
        f"DELETE FROM sagas WHERE subject IN (SELECT id FROM notifications WHERE order_id = {order_id})",
        f"DELETE FROM mailbox WHERE order_id = {order_id}",
        f"DELETE FROM notifications WHERE order_id = {order_id}",
    )
    (one,) = proposals(await look(database_url))
    assert one.kind == "message"
    await carry_out(database_url, [one, one])
    async with shop(database_url, redis_url) as here:

        async def has_got_it() -> bool:
            sent = await here.value(
                f"SELECT count(*) FROM notifications WHERE order_id = {order_id} AND state = 'SENT'"
            )
            return bool(sent == 1)

        await until(has_got_it)
        assert await look(database_url) == []
        assert await here.value(f"SELECT kind FROM notifications WHERE order_id = {order_id}") == kind
        assert await here.value(f"SELECT count(*) FROM mailbox WHERE order_id = {order_id}") == 1


class Books:
    """A ledger that was written before."""

    def __init__(self, *lines: tuple[str, str, int]) -> None:
        self.lines: list[dict[str, Any]] = []
        for kind, order_id, amount in lines:
            self.add(kind, order_id, amount)

    def add(self, kind: str, order_id: str, amount: int) -> None:
        seq = len(self.lines) + 1
        self.lines.append(
            {
                "seq": seq,
                "type": kind,
                "orderId": order_id,
                "amount": amount,
                "currency": "USD",
                "key": f"k{seq}",
                "at": "",
            }
        )

    async def ledger(self, after: int, limit: int) -> list[dict[str, Any]]:
        return self.lines[after : after + limit]


async def test_money_that_was_kept_is_given_back(database_url: str, redis_url: str) -> None:
    await a_day(database_url, redis_url)
    connection = await connect(database_url, name="test")
    orders = {row["id"]: row for row in await connection.fetch("SELECT id::text, state, total_amount FROM orders")}
    await connection.close()
    books = Books()
    for order_id, row in orders.items():
        if row["state"] == "CONFIRMED":
            books.add("capture", order_id, row["total_amount"])
    assert await look(database_url, books) == []
    (cancelled,) = (order_id for order_id, row in orders.items() if row["state"] == "CANCELLED")
    stranger = str(UUID(int=2**127))
    books.add("capture", cancelled, 700)
    books.add("refund", cancelled, 100)
    books.add("capture", stranger, 300)
    found = await look(database_url, books)
    made = proposals(found)
    bodies = {one.subject: json.loads(shlex.split(one.command)[-1]) for one in made}
    assert {one.kind for one in made} == {"refund"}
    assert {subject: (body["chargeKey"], body["amount"]) for subject, body in bodies.items()} == {
        f"order {cancelled}": ("k3", 600),
        f"order {stranger}": ("k5", 300),
    }
    books.add("refund", cancelled, 600)
    assert {row["order_id"] for finding in await look(database_url, books) for row in finding.rows} == {stranger}


async def test_a_confirmed_order_that_was_not_paid_is_charged_or_undone(database_url: str, redis_url: str) -> None:
    await a_day(database_url, redis_url)
    (found,) = await look(database_url, Books())
    made = proposals([found])
    assert {one.kind for one in made} == {"charge"}
    assert sorted(one.amounts["amount"] for one in made) == [3000, 3000]
    assert all(json.loads(shlex.split(one.command)[-1])["key"].startswith("repair:") for one in made)


async def test_a_stuck_saga_is_retried_by_its_name(database_url: str, redis_url: str) -> None:
    await a_day(database_url, redis_url)
    stuck = f"UPDATE sagas SET state = 'COMPENSATION_FAILED', ended_at = NULL WHERE subject = {CANCELLED}"
    await execute(database_url, stuck)
    made = {one.check: one for one in proposals(await look(database_url))}
    assert shlex.split(made["nothing_is_stuck"].command)[:3] == ["comanda", "saga", "retry"]
    connection = await connect(database_url, name="test")
    saga_id = await connection.fetchval("SELECT id FROM sagas WHERE state = 'COMPENSATION_FAILED'")
    await connection.close()
    assert str(saga_id) in made["nothing_is_stuck"].command
