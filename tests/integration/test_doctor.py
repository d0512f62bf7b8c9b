"""The doctor finds what is broken, and nothing else."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from comanda import clock
from comanda.cli.doctor import doctor
from comanda.db import Database
from comanda.db.database import connect
from comanda.errors import ConfigurationFault, DatabaseFault, GatewayBusy
from comanda.proof import invariants
from comanda.proof.findings import Finding, broken
from comanda.proof.invariants import CHECKS
from comanda.proof.ledger import Ledger, NoLedger
from comanda.proof.repair import proposals
from comanda.settings import Settings
from shop import FakeGateway, Shop, shop, until

Line = dict[str, Any]
NAMES = {check.name for check in CHECKS} | {"money_is_exact", "states_have_histories"}


@dataclass
class Books:
    """A gateway's ledger, as a list. `is_down`: nobody answers."""

    lines: list[Line] = field(default_factory=list)
    is_down: bool = False

    @classmethod
    def of(cls, gateway: FakeGateway) -> "Books":
        books = cls()
        for key, amount in gateway.captures.items():
            books.add("capture", gateway.order_of[key], amount)
        for key, amount in gateway.refunds.items():
            if amount:
                books.add("refund", gateway.order_of[key], amount)
        return books

    def add(self, kind: str, order_id: object, amount: int) -> None:
        seq = len(self.lines) + 1
        self.lines.append(
            {
                "seq": seq,
                "type": kind,
                "orderId": str(order_id),
                "amount": amount,
                "currency": "USD",
                "key": f"k{seq}",
                "at": clock.rfc3339(clock.now()),
            }
        )

    async def ledger(self, after: int, limit: int) -> list[Line]:
        if self.is_down:
            raise GatewayBusy("down")
        return self.lines[after : after + limit]


async def busy_shop(database_url: str, redis_url: str) -> Books:
    """A day in a shop: confirmed, declined, out of stock, undone after the capture; all ended, all mails out."""
    async with shop(database_url, redis_url, patience=0.2) as here:
        goods = await here.sells(apple=20, pear=5, plum=1)
        orders = [
            await here.order({goods["apple"]: 2, goods["pear"]: 1}),
            await here.order({goods["apple"]: 1}, "pm_decline_CARD_DECLINED"),
            await here.order({goods["plum"]: 2}),
            await here.order({goods["apple"]: 1}, "pm_unavailable"),
            await here.order({goods["pear"]: 1}, "pm_timeout_after_capture"),
        ]
        keyed = await here.place({goods["apple"]: 3}, key="k")
        await here.ended(*orders)
        after = [await here.order({goods["apple"]: 2}) for _ in range(2)]
        await here.ended(*after)
        await here.ship(after[0], {goods["apple"]: 1})
        await here.refund(after[0], units={goods["apple"]: 1}, restock=True)
        await here.refund(after[0], 300, {goods["apple"]: 1}, kind="RETURN", restock=True)
        await here.refund(after[1])
        await until(lambda: _is_quiet(here))
        assert keyed is not None
        return Books.of(here.gateway)


async def _is_quiet(here: Shop) -> bool:
    waiting: int = await here.value("SELECT count(*) FROM sagas WHERE ended_at IS NULL")
    return waiting == 0


async def look(database_url: str, gateway: Ledger | NoLedger, **how: Any) -> list[Finding]:
    """As `comanda doctor` does: money is judged beside the rest."""
    connection, beside = [await connect(database_url, name="doctor") for _ in range(2)]
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await invariants.check(connection, gateway, beside=beside, **how)
    finally:
        await connection.close()
        await beside.close()


def failed(findings: Sequence[Finding]) -> set[str]:
    return {finding.name for finding in broken(findings)}


async def test_a_healthy_shop_passes(database_url: str, redis_url: str) -> None:
    books = await busy_shop(database_url, redis_url)
    findings = await look(database_url, books)
    assert {finding.name for finding in findings} == NAMES
    assert [finding for finding in findings if finding.status != "passed"] == []
    assert {finding.invariant for finding in findings} == {1, 2, 3, 4, 5, 6}


async def test_an_empty_shop_passes(database_url: str) -> None:
    assert failed(await look(database_url, Books())) == set()


CONFIRMED = "(SELECT min(id::text)::uuid FROM orders WHERE state = 'CONFIRMED')"
CANCELLED = "(SELECT min(id::text)::uuid FROM orders WHERE state = 'CANCELLED')"
BREAKS = [
    ("returns_are_booked", "DELETE FROM movements WHERE reference IS NOT NULL"),
    ("returns_are_booked", "UPDATE refunds SET is_restocked = false"),
    ("nothing_is_overshipped", "UPDATE shipment_lines SET quantity = quantity + 1"),
    ("nothing_is_overshipped", "UPDATE refund_lines SET quantity = quantity + 1"),
    ("refunds_go_on", "DELETE FROM sagas WHERE kind = 'refund'"),
    ("refunds_go_on", "UPDATE refunds SET state = 'FAILED'"),
    ("payments_fit_orders", "UPDATE payments SET refunded = refunded - 1 WHERE state = 'PARTIALLY_REFUNDED'"),
    ("states_have_histories", "UPDATE orders SET state = 'CONFIRMED' WHERE state = 'REFUNDED'"),
    ("money_is_exact", "UPDATE refunds SET amount = 299 WHERE amount = 300"),
    ("accepted_orders_exist", "DELETE FROM orders WHERE id = (SELECT subject FROM idempotency_keys)"),
    ("accepted_orders_exist", f"DELETE FROM orders WHERE id = {CONFIRMED}"),
    ("totals_are_sums", f"UPDATE orders SET total_amount = total_amount + 1 WHERE id = {CONFIRMED}"),
    ("totals_are_sums", f"DELETE FROM order_lines WHERE order_id = {CONFIRMED}"),
    ("orders_have_sagas", f"DELETE FROM sagas WHERE subject = {CONFIRMED}"),
    ("orders_have_sagas", f"UPDATE orders SET state = 'PENDING', ended_at = NULL WHERE id = {CONFIRMED}"),
    ("orders_have_sagas", f"UPDATE sagas SET state = 'COMPENSATED' WHERE subject = {CONFIRMED}"),
    (
        "nothing_is_stuck",
        f"UPDATE sagas SET state = 'COMPENSATION_FAILED', ended_at = NULL WHERE subject = {CONFIRMED}",
    ),
    (
        "nothing_is_overdue",
        (
            "UPDATE sagas SET state = 'RUNNING', ended_at = NULL, updated_at = now() - interval '61 s' "
            f"WHERE subject = {CONFIRMED}"
        ),
    ),
    (
        "nothing_is_overdue",
        (
            "UPDATE sagas SET state = 'RUNNING', ended_at = NULL, updated_at = now() - interval '5 min', "
            f"waits_until = now() - interval '61 s' WHERE subject = {CONFIRMED}"
        ),
    ),
    ("stock_is_its_movements", "UPDATE stock SET on_hand = on_hand + 1"),
    ("stock_is_its_movements", "DELETE FROM movements WHERE kind = 'SALE'"),
    ("held_is_reserved", "UPDATE stock SET held = held + 1"),
    ("guards_stand", "ALTER TABLE stock DROP CONSTRAINT stock_is_not_oversold"),
    ("guards_stand", "DROP INDEX reservations_one_for_an_order"),
    (
        "nothing_is_oversold",
        "ALTER TABLE stock DROP CONSTRAINT stock_is_not_oversold; UPDATE stock SET held = on_hand + 1",
    ),
    ("bookings_match_reservations", "UPDATE movements SET on_hand_delta = on_hand_delta - 1 WHERE kind = 'SALE'"),
    (
        "bookings_match_reservations",
        f"UPDATE reservations SET state = 'RELEASED' WHERE state = 'FULFILLED' AND order_id = {CONFIRMED}",
    ),
    (
        "cancelled_hold_nothing",
        (
            "UPDATE reservations SET state = 'ACTIVE', ended_at = NULL "
            "WHERE id = (SELECT r.id FROM reservations r JOIN orders o ON o.id = order_id "
            "WHERE o.state = 'CANCELLED' ORDER BY r.id LIMIT 1)"
        ),
    ),
    ("confirmed_are_sold", f"DELETE FROM reservations WHERE order_id = {CONFIRMED}"),
    ("confirmed_are_sold", f"UPDATE order_lines SET quantity = quantity + 1 WHERE order_id = {CONFIRMED}"),
    ("payments_fit_orders", f"DELETE FROM payments WHERE order_id = {CONFIRMED}"),
    ("payments_fit_orders", f"UPDATE payments SET refunded = 1 WHERE order_id = {CONFIRMED}"),
    (
        "payments_fit_orders",
        "UPDATE payments SET captured = amount FROM orders WHERE orders.id = order_id AND orders.state = 'CANCELLED'",
    ),
    ("customers_are_told", f"DELETE FROM notifications WHERE order_id = {CONFIRMED}"),
    ("customers_are_told", f"DELETE FROM notifications WHERE order_id = {CANCELLED}"),
    ("customers_are_told", f"UPDATE notifications SET kind = 'order_cancellation' WHERE order_id = {CONFIRMED}"),
    ("messages_go_out", "DELETE FROM sagas WHERE kind = 'notification'"),
    ("messages_go_out", "UPDATE notifications SET state = 'PENDING'"),
    ("messages_go_out_once", f"DELETE FROM mailbox WHERE order_id = {CONFIRMED}"),
    (
        "messages_go_out_once",
        (
            "INSERT INTO mailbox SELECT 'again', channel, recipient, subject, body_text, body_html, order_id "
            f"FROM mailbox WHERE order_id = {CONFIRMED}"
        ),
    ),
    ("events_are_there_once", f"DELETE FROM outbox WHERE type = 'OrderCreated' AND aggregate_id = {CONFIRMED}"),
    (
        "events_are_there_once",
        (
            "INSERT INTO outbox (id, type, aggregate_type, aggregate_id, payload) SELECT uuid_v7(), type, "
            f"aggregate_type, aggregate_id, payload FROM outbox "
            f"WHERE type = 'OrderConfirmed' AND aggregate_id = {CONFIRMED}"
        ),
    ),
    ("events_are_there_once", f"DELETE FROM outbox WHERE type = 'OrderCancelled' AND aggregate_id = {CANCELLED}"),
    (
        "events_move_on",
        (
            "UPDATE outbox_cursors SET xid = '0', id = uuid_floor(to_timestamp(0)); "
            "UPDATE outbox SET at = at - interval '61 s'"
        ),
    ),
    ("states_have_histories", f"DELETE FROM order_moves WHERE order_id = {CONFIRMED}"),
    ("states_have_histories", f"UPDATE orders SET state = 'SHIPPED' WHERE id = {CONFIRMED}"),
    (
        "states_have_histories",
        f"UPDATE order_moves SET from_state = 'PENDING' WHERE order_id = {CONFIRMED} AND to_state = 'CONFIRMED'",
    ),
    ("money_is_exact", f"UPDATE orders SET state = 'CANCELLED', failure_reason = 'x' WHERE id = {CONFIRMED}"),
    (
        "money_is_exact",
        f"UPDATE orders SET total_amount = total_amount - 1 WHERE id = {CONFIRMED}",
    ),
    ("money_is_exact", f"DELETE FROM orders WHERE id = {CONFIRMED}"),
]


# One of them may be mended by a proposal for another.
THREE_ACCOUNTS = {"stock_is_its_movements", "held_is_reserved", "bookings_match_reservations"}


async def test_each_break_is_found(database_url: str, redis_url: str) -> None:
    """One shop for all of them: each break is rolled back. (A day in a shop takes seconds, a check milliseconds.)"""
    books = await busy_shop(database_url, redis_url)
    connection = await connect(database_url, name="breaks")
    missed, unproposed = [], []
    for name, statement in BREAKS:
        turn = connection.transaction()
        await turn.start()
        await connection.execute(statement)
        findings = {finding.name: finding for finding in await invariants.check(connection, books)}
        await turn.rollback()
        found = findings[name]
        if found.status != "failed" or not found.rows or found.count < len(found.rows):
            missed.append((name, statement))
        proposed = {one.check for one in proposals(list(findings.values()))}
        if name not in proposed and not proposed & THREE_ACCOUNTS:
            unproposed.append((name, statement))
    await connection.close()
    assert missed == []
    assert unproposed == []
    assert {name for name, _ in BREAKS} == NAMES, "every check has been seen to fail"


async def test_rows_are_cut_off_and_counted(database_url: str, database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO order_moves (order_id, from_state, to_state, actor) "
            "SELECT uuid_v7(), NULL, 'PENDING', 'test' FROM generate_series(1, 50)"
        )
        await tx.execute(
            "INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor) "
            "SELECT uuid_v7(), uuid_v7(), 'MAIN', 'RESTOCK', 1, 0, 'test' FROM generate_series(1, 50)"
        )
    findings = {finding.name: finding for finding in await look(database_url, Books())}
    for name in ("states_have_histories", "stock_is_its_movements"):
        assert (findings[name].count, len(findings[name].rows)) == (50, 20)


@pytest.mark.parametrize(
    ("kind", "amount", "said"),
    [("capture", 3000, "captured 2 times"), ("refund", 1, "2999 kept of 3000"), ("refund", 3001, "1 more given back")],
)
async def test_money_is_compared_to_the_cent(
    database_url: str, redis_url: str, kind: str, amount: int, said: str
) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 3})
        await here.ended(order_id)
        books = Books.of(here.gateway)
    books.add(kind, order_id, amount)
    (finding,) = broken(await look(database_url, books))
    assert finding.name == "money_is_exact"
    assert finding.rows[0]["order_id"] == str(order_id)
    assert said in finding.rows[0]["problem"]


async def test_money_of_an_order_that_is_not_there(database_url: str) -> None:
    books = Books()
    books.add("capture", clock.new_id(), 5)
    (finding,) = broken(await look(database_url, books))
    assert "no such order: capture of 5 USD" in finding.rows[0]["problem"]


async def test_older_orders_are_left_out(database_url: str, database: Database, redis_url: str) -> None:
    books = await busy_shop(database_url, redis_url)
    async with database.transaction() as tx:
        await tx.execute(f"UPDATE orders SET total_amount = total_amount + 1 WHERE id = {CONFIRMED}")
    assert failed(await look(database_url, books, since=clock.now() - timedelta(hours=1))) >= {"totals_are_sums"}
    assert failed(await look(database_url, books, since=clock.now() + timedelta(hours=1))) == set()


async def test_orders_under_way_are_no_alarm(database_url: str, redis_url: str) -> None:
    """Looked at again and again while orders run, in each of their states."""
    async with shop(database_url, redis_url, workers=2) as here:
        goods = await here.sells(apple=60, pear=1000)
        methods = ["pm_success", "pm_decline_X", "pm_flaky_1", "pm_timeout_after_capture"]

        async def buy() -> list[Any]:
            return [
                await here.order({goods["apple"]: 1, goods["pear"]: 2}, methods[number % len(methods)])
                for number in range(100)
            ]

        buying = asyncio.create_task(buy())
        looks = 0
        books = LiveBooks(here.gateway)
        while not (buying.done() and await _is_quiet(here)):
            findings = await look(database_url, books)
            assert failed(findings) == set(), broken(findings)
            looks += 1
        await here.ended(*await buying)
        assert failed(await look(database_url, books)) == set()
        assert looks >= 3


@dataclass
class LiveBooks:
    """The ledger of a gateway that is at work: lines are appended as they are seen."""

    gateway: FakeGateway
    books: Books = field(default_factory=Books)
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def ledger(self, after: int, limit: int) -> list[Line]:
        for kind, amounts in (("capture", self.gateway.captures), ("refund", self.gateway.refunds)):
            for key, amount in amounts.items():
                if amount and (kind, key) not in self.seen:
                    self.seen.add((kind, key))
                    self.books.add(kind, self.gateway.order_of[key], amount)
        return await self.books.ledger(after, limit)


async def test_without_a_ledger_it_says_so(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(database_url=database_url, gateway="instant")
    assert await doctor(settings, data_dir=None, since_hours=None, json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["isHealthy"], report["orders"], report["ordersUnderWay"]) == (True, 0, 0)
    (money,) = (check for check in report["checks"] if check["name"] == "money_is_exact")
    assert money["status"] == "skipped"
    assert "instant" in money["note"]
    assert {check["name"] for check in report["checks"]} == NAMES


async def test_repairs_are_proposed_and_not_applied(
    database_url: str, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(database_url=database_url, gateway="instant")
    assert await doctor(settings, data_dir=None, since_hours=None, json=True, repair=True) == 0
    assert json.loads(capsys.readouterr().out)["proposals"] == []
    async with database.transaction() as tx:
        await tx.execute("DROP INDEX reservations_one_for_an_order")
    for _ in range(2):
        assert await doctor(settings, data_dir=None, since_hours=None, json=True, repair=True) == 3
        (one,) = json.loads(capsys.readouterr().out)["proposals"]
        assert (one["check"], one["kind"]) == ("guards_stand", "guard")
    assert await doctor(settings, data_dir=None, since_hours=None, json=False, repair=True) == 3
    assert one["command"] in capsys.readouterr().out, "a command is one line, to be copied whole"


async def test_exit_codes(database_url: str, database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    down = Settings(database_url=database_url, gateway_url="http://127.0.0.1:1")
    assert await doctor(down, data_dir=None, since_hours=None, json=True) == 4, "the gateway does not answer"
    async with database.transaction() as tx:
        await tx.execute("DROP INDEX reservations_one_for_an_order")
    assert await doctor(down, data_dir=None, since_hours=1, json=False) == 3, "what is broken weighs more"
    assert "guards_stand" in capsys.readouterr().out
    nobody = Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseFault):
        await doctor(nobody, data_dir=None, since_hours=None, json=True)


async def test_where_nothing_runs_it_says_so(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationFault, match="Nothing runs in"):
        await doctor(Settings(), data_dir=tmp_path, since_hours=None, json=True)
