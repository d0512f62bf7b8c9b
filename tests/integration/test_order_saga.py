"""An order's whole way, on real engines: confirmed, or wholly undone."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from comanda.checkout.place_order import Accepted, Rejected
from comanda.inventory import stock
from comanda.saga import verbs
from comanda.saga.batch import Result
from comanda.saga.engine import Engine
from comanda.saga.verbs import Verb
from shop import FakeGateway, shop, until

NOWHERE = "redis://127.0.0.1:1/0"


async def test_an_order_of_two_lines_is_confirmed(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10, pear=5)
        order_id = await here.order({goods["apple"]: 3, goods["pear"]: 1})
        (order,) = await here.ended(order_id)
        assert (order["state"], order["saga_state"], order["reached"]) == ("CONFIRMED", "COMPLETED", "CONFIRMED")
        assert await here.stock(goods["apple"]) == (7, 0)
        assert await here.stock(goods["pear"]) == (4, 0)
        assert here.gateway.kept(order_id) == 4000
        events = await here.events(order_id)
        assert events[0] == "OrderCreated"
        assert set(events) >= {
            "InventoryReserved", "PaymentInitiated", "PaymentProcessed", "ReservationConfirmed", "OrderConfirmed",
        }  # fmt: skip
        moves = await here.ask("SELECT to_state FROM order_moves WHERE order_id = $1 ORDER BY seq", order_id)
        assert [row["to_state"] for row in moves] == ["PENDING", "PROCESSING", "PAYMENT_PENDING", "CONFIRMED"]
        mail = await until(lambda: here.ask("SELECT * FROM mailbox WHERE order_id = $1", order_id))
        assert "30,00" in mail[0]["body_text"] or "40,00" in mail[0]["body_text"], "in the customer's own language"


@pytest.mark.parametrize("code", ["INSUFFICIENT_FUNDS", "CARD_STOLEN"])
async def test_a_decline_is_final_and_undoes_everything(database_url: str, redis_url: str, code: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 3}, f"pm_decline_{code}")
        (order,) = await here.ended(order_id)
        assert (order["state"], order["saga_state"], order["failure_reason"]) == ("CANCELLED", "COMPENSATED", code)
        assert await here.stock(goods["apple"]) == (10, 0)
        assert here.gateway.kept(order_id) == 0
        assert [call for call, _ in here.gateway.calls] == ["charge"], "never tried again"
        moves = await here.ask("SELECT to_state FROM order_moves WHERE order_id = $1 ORDER BY seq", order_id)
        assert [row["to_state"] for row in moves][-2:] == ["PAYMENT_FAILED", "CANCELLED"]
        mail = await until(lambda: here.ask("SELECT kind FROM notifications WHERE order_id = $1", order_id))
        assert [row["kind"] for row in mail] == ["payment_failure"]
        assert set(await here.events(order_id)) >= {
            "PaymentFailed",
            "OrderFailed",
            "ReservationReleased",
            "OrderCancelled",
        }


async def test_more_than_ten_thousand_is_refused_before_any_call(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(gold=5000)
        passes, suspect = await here.order({goods["gold"]: 1000}), await here.order({goods["gold"]: 1001})
        (fine, refused) = await here.ended(passes, suspect)
        assert fine["state"] == "CONFIRMED"
        assert (refused["state"], refused["failure_reason"]) == ("CANCELLED", "FRAUD_SUSPECTED")
        assert len(here.gateway.calls) == 1


async def test_out_of_stock_ends_cancelled_and_the_customer_is_told(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=2, pear=5)
        order_id = await here.order({goods["pear"]: 1, goods["apple"]: 3})
        (order,) = await here.ended(order_id)
        assert (order["state"], order["saga_state"], order["failure_reason"]) == (
            "CANCELLED",
            "COMPENSATED",
            "OUT_OF_STOCK",
        )
        assert await here.stock(goods["pear"]) == (5, 0)
        told = await here.ask("SELECT kind FROM notifications WHERE order_id = $1", order_id)
        assert [row["kind"] for row in told] == ["order_cancellation"]
        assert here.gateway.calls == []


async def test_retryable_failures_are_retried_until_the_money_is_there(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 1}, "pm_flaky_2")
        (order,) = await here.ended(order_id)
        assert order["state"] == "CONFIRMED"
        tried = await here.ask(
            "SELECT outcome FROM saga_attempts WHERE saga_id = $1 AND step = 'process_payment' ORDER BY at",
            order["saga_id"],
        )
        assert [row["outcome"] for row in tried] == ["failed", "failed", "done"]
        assert len({key for _, key in here.gateway.calls}) == 1, "one key for every attempt"


async def test_an_answer_that_never_came_is_asked_for_before_anything_is_repeated(
    database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 1}, "pm_timeout_after_capture")
        (order,) = await here.ended(order_id)
        assert order["state"] == "CONFIRMED"
        assert [call for call, _ in here.gateway.calls] == ["charge", "find"]
        assert here.gateway.kept(order_id) == 1000


async def test_the_breaker_opens_and_the_patient_are_served_when_it_closes(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(is_down=True)
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=100)
        orders = [await here.order({goods["apple"]: 1}) for _ in range(20)]
        await until(lambda: here.ask("SELECT 1 FROM breakers WHERE state <> 'CLOSED'"))
        calls = len(gateway.calls)
        held_back = await until(lambda: here.ask("SELECT 1 FROM saga_attempts WHERE outcome = 'later'"))
        assert held_back
        assert calls <= 60, "the open breaker keeps the crowd away"
        gateway.is_down = False
        assert {order["state"] for order in await here.ended(*orders)} == {"CONFIRMED"}
        assert await here.value("SELECT state FROM breakers") == "CLOSED"


async def test_declines_never_open_the_breaker(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=100)
        orders = [await here.order({goods["apple"]: 1}, "pm_decline_CARD_DECLINED") for _ in range(12)]
        await here.ended(*orders)
        assert await here.value("SELECT state FROM breakers") == "CLOSED"


async def test_patience_ends_for_those_whom_the_gateway_never_serves(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, patience=4.0) as here:
        goods = await here.sells(apple=100)
        hopeless = [await here.order({goods["apple"]: 1}, "pm_unavailable") for _ in range(6)]
        await until(lambda: here.ask("SELECT 1 FROM breakers WHERE state <> 'CLOSED'"))
        others = [await here.order({goods["apple"]: 1}) for _ in range(4)]
        undone = await here.ended(*hopeless)
        assert {(one["state"], one["failure_reason"]) for one in undone} == {("CANCELLED", "PAYMENT_UNAVAILABLE")}
        assert {one["state"] for one in await here.ended(*others)} == {"CONFIRMED"}
        assert await here.stock(goods["apple"]) == (96, 0)


async def test_a_charge_that_arrives_after_its_undoing_captures_nothing(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(gate=asyncio.Event())
    async with shop(database_url, redis_url, gateway=gateway, patience=0.5, lease=0.3) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 1})
        await until(lambda: asyncio.sleep(0, result=gateway.calls))
        # Somebody else takes over, as if this worker had been frozen past its lease, and undoes it.
        async with here.database.transaction() as tx:
            await tx.execute(
                "UPDATE sagas SET direction = 'backward', state = 'COMPENSATING', lease_until = NULL,"
                " token = token + 1, attempt = 0, reason = 'TEST' WHERE subject = $1", order_id
            )  # fmt: skip
        (order,) = await here.ended(order_id)
        assert order["state"] == "CANCELLED"
        assert gateway.gate is not None
        gateway.gate.set()
        await until(lambda: asyncio.sleep(0, result=here.gateway.voided))
        assert here.gateway.kept(order_id) == 0
        assert gateway.captures == {}


async def test_a_reservation_that_expired_is_made_anew_at_confirmation(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(gate=asyncio.Event())
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 4})
        await until(lambda: asyncio.sleep(0, result=gateway.calls))
        await expire(here.database)
        assert await here.stock(goods["apple"]) == (10, 0)
        assert gateway.gate is not None
        gateway.gate.set()
        (order,) = await here.ended(order_id)
        assert order["state"] == "CONFIRMED"
        assert await here.stock(goods["apple"]) == (6, 0)


async def test_a_confirmation_that_comes_too_late_gives_the_money_back(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(gate=asyncio.Event())
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=4)
        late = await here.order({goods["apple"]: 4})
        await until(lambda: asyncio.sleep(0, result=gateway.calls))
        await expire(here.database)
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE stock SET on_hand = 1")  # somebody else bought the rest
        assert gateway.gate is not None
        gateway.gate.set()
        (order,) = await here.ended(late)
        assert (order["state"], order["failure_reason"]) == ("CANCELLED", "RESERVATION_EXPIRED")
        assert len(gateway.captures) == 1
        assert gateway.kept(late) == 0
        assert set(await here.events(late)) >= {"ReservationExpired", "PaymentProcessed", "PaymentRefunded"}


async def test_what_a_void_does_not_give_back_is_refunded(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(gate=asyncio.Event(), void_gives_back=False)
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=4)
        late = await here.order({goods["apple"]: 4})
        await until(lambda: asyncio.sleep(0, result=gateway.calls))
        await expire(here.database)
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE stock SET on_hand = 1")  # somebody else bought the rest
        assert gateway.gate is not None
        gateway.gate.set()
        await here.ended(late)
        assert [call for call, _ in gateway.calls] == ["charge", "void", "refund"]
        assert (sum(gateway.captures.values()), sum(gateway.refunds.values())) == (4000, 4000)


async def test_stock_is_held_for_as_long_as_its_payment_may_take(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(gate=asyncio.Event())
    async with shop(database_url, redis_url, gateway=gateway, reservation=60, patience=600) as here:
        goods = await here.sells(apple=4)
        order_id = await here.order({goods["apple"]: 4})
        await until(lambda: asyncio.sleep(0, result=gateway.calls))
        assert await here.value("SELECT expires_at > now() + interval '600 s' FROM reservations")
        assert gateway.gate is not None
        gateway.gate.set()
        await here.ended(order_id)


async def test_an_order_that_can_not_be_completed_takes_everything_back(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        async with here.database.transaction() as tx:
            await tx.execute(NEVER_CONFIRMED)
            await tx.execute(DELIVERED_LATER)
        order_id = await here.order({goods["apple"]: 4})
        (order,) = await here.ended(order_id)
        assert (order["state"], order["saga_state"], order["failure_reason"]) == (
            "CANCELLED",
            "COMPENSATED",
            "STEP_FAILED",
        )
        assert await here.stock(goods["apple"]) == (10, 0)
        moved = await here.ask("SELECT kind FROM movements WHERE order_id = $1 ORDER BY at", order_id)
        assert [row["kind"] for row in moved] == ["RESERVATION", "SALE", "RETURN"]
        assert (len(here.gateway.captures), here.gateway.kept(order_id)) == (1, 0)
        told = await here.ask("SELECT kind, state FROM notifications WHERE order_id = $1 ORDER BY kind", order_id)
        assert [tuple(row) for row in told] == [("order_cancellation", "PENDING"), ("order_confirmation", "RETRACTED")]


NEVER_CONFIRMED = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
CREATE TRIGGER never BEFORE UPDATE ON orders FOR EACH ROW WHEN (NEW.state = 'CONFIRMED') EXECUTE FUNCTION refuse();
"""
DELIVERED_LATER = """
CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.waits_until := now() + interval '1 hour';
    RETURN NEW;
END $$;
CREATE TRIGGER later BEFORE INSERT ON sagas FOR EACH ROW WHEN (NEW.kind = 'notification') EXECUTE FUNCTION put_off();
"""


async def test_a_reservation_lost_between_two_attempts_undoes_the_charge_that_nobody_answered(
    database_url: str, redis_url: str
) -> None:
    gateway = FakeGateway(gate=asyncio.Event())
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=4)
        order_id = await here.order({goods["apple"]: 4}, "pm_timeout_after_capture")
        await until(lambda: asyncio.sleep(0, result=gateway.calls))
        await expire(here.database)
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE stock SET on_hand = 1")  # somebody else bought the rest
        assert gateway.gate is not None
        gateway.gate.set()
        (order,) = await here.ended(order_id)
        assert (order["state"], order["failure_reason"]) == ("CANCELLED", "RESERVATION_EXPIRED")
        assert len(gateway.captures) == 1
        assert gateway.kept(order_id) == 0


async def expire(database: object) -> None:
    async with database.transaction() as tx:  # type: ignore[attr-defined]
        await tx.execute("UPDATE reservations SET expires_at = now() - interval '1 s' WHERE state = 'ACTIVE'")
    async with database.transaction() as tx:  # type: ignore[attr-defined]
        await stock.expire(tx, 100)


async def test_a_refund_that_fails_is_stuck_visible_and_can_be_redriven(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(refunds_fail=True)
    async with shop(database_url, redis_url, gateway=gateway, patience=0.2) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 1}, "pm_unavailable")
        letters = await until(lambda: here.ask("SELECT * FROM dead_letters WHERE redriven_at IS NULL"))
        assert [(one["step"], one["direction"]) for one in letters] == [("process_payment", "backward")]
        assert await here.value("SELECT state FROM sagas WHERE subject = $1", order_id) == "COMPENSATION_FAILED"
        assert await here.stock(goods["apple"]) == (10, 1), "nothing is skipped: the stock is still held"
        gateway.refunds_fail = False
        async with here.database.transaction() as tx:
            await verbs.act(tx, here.by_hand, [order_id], "retry", actor="ana", reason="gateway repaired")
        (order,) = await here.ended(order_id)
        assert (order["state"], order["saga_state"]) == ("CANCELLED", "COMPENSATED")
        assert await here.stock(goods["apple"]) == (10, 0)
        who = await here.ask("SELECT worker, detail FROM saga_attempts WHERE outcome = 'operator'")
        assert [(row["worker"], row["detail"]) for row in who] == [("ana", "retry: gateway repaired")]
        assert await here.value("SELECT redriven_by FROM dead_letters") == "ana"


@pytest.mark.parametrize("verb", ["retry", "skip"])
async def test_an_order_whose_charge_took_its_workers_away_is_as_it_was_until_an_operator_decides(
    database_url: str, redis_url: str, verb: Verb
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 1})
        stands = "SELECT sagas.state, orders.state FROM sagas JOIN orders ON orders.saga_id = sagas.id"

        async def begin(queue: str, lease: timedelta = timedelta(0)) -> Result:
            sagas = here.assembly.sagas
            one = Engine(here.database, sagas, worker="w", lease=lease, serves=lambda _: True, room=lambda _: 1)
            return await one.run_again(queue, None, 10)

        await begin("order-processing")
        # Whoever begins the call dies of it.
        while (await here.ask(stands))[0][0] == "RUNNING":
            await begin("payment-processing")
        assert tuple((await here.ask(stands))[0]) == ("COMPENSATION_FAILED", "PAYMENT_PENDING")
        assert await here.value("SELECT reason FROM sagas WHERE subject = $1", order_id) == "WORKERS_LOST"
        assert "OrderFailed" not in await here.events(order_id), "nobody has given it up"
        async with here.database.transaction() as tx:
            await verbs.act(tx, here.by_hand, [order_id], verb, actor="ana", reason="the worker is mended")
        for queue in ("payment-processing", "inventory-management", "order-processing"):
            for call in (await begin(queue, timedelta(seconds=30))).calls:
                engine = Engine(
                    here.database, here.assembly.sagas, worker="w", lease=timedelta(seconds=30),
                    serves=lambda _: True, room=lambda _: 1,
                )  # fmt: skip
                await engine.call(call)
        (order,) = await here.ended(order_id)
        assert (order["state"], order["failure_reason"]) == ("CONFIRMED", None)
        assert here.gateway.kept(order_id) == (1000 if verb == "retry" else 0)


async def test_two_hundred_customers_at_once_for_twenty_pieces(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=2) as here:
        goods = await here.sells(ticket=20)
        orders = await asyncio.gather(*(here.order({goods["ticket"]: 1}) for _ in range(200)))
        states = [order["state"] for order in await here.ended(*orders, within=60)]
        assert states.count("CONFIRMED") == 20
        assert states.count("CANCELLED") == 180
        assert await here.stock(goods["ticket"]) == (0, 0)


async def test_mixed_baskets_never_oversell_and_never_deadlock(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=2) as here:
        goods = list((await here.sells(a=30, b=30, c=30, d=30)).values())
        baskets = [{goods[n % 4]: 1 + n % 3, goods[(n * 7 + 1) % 4]: 1 + n % 2} for n in range(120)]
        orders = await asyncio.gather(*(here.order(basket) for basket in baskets))
        ended = await here.ended(*orders, within=60)
        sold: dict[UUID, int] = dict.fromkeys(goods, 0)
        for order, basket in zip(ended, baskets, strict=True):
            if order["state"] == "CONFIRMED":
                for product, units in basket.items():
                    sold[product] += units
        for product in goods:
            assert await here.stock(product) == (30 - sold[product], 0)


async def test_one_key_twenty_times_at_once_is_one_order(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=100)
        answers = await asyncio.gather(*(here.place({goods["apple"]: 1}, key="mine") for _ in range(20)))
        assert all(isinstance(answer, Accepted) for answer in answers)
        assert len({answer.order_id for answer in answers if isinstance(answer, Accepted)}) == 1
        assert len({answer.answer for answer in answers if isinstance(answer, Accepted)}) == 1
        assert sum(not answer.is_replay for answer in answers if isinstance(answer, Accepted)) == 1
        assert await here.value("SELECT count(*) FROM orders") == 1
        other = await here.place({goods["apple"]: 2}, key="mine")
        assert isinstance(other, Rejected)
        assert other.code == "IDEMPOTENCY_KEY_REUSED"


async def test_a_price_that_changes_before_the_commit_is_quoted_anew(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=100)
        await here.order({goods["apple"]: 1})
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE products SET price = 1500")
        order_id = await here.order({goods["apple"]: 1})
        assert await here.value("SELECT total_amount FROM orders WHERE id = $1", order_id) == 1500


async def test_what_was_accepted_is_replayed_although_the_product_has_gone(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=100)
        first = await here.place({goods["apple"]: 1}, key="mine")
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE products SET is_active = false")
        again = await here.place({goods["apple"]: 1}, key="mine")
        assert isinstance(first, Accepted)
        assert isinstance(again, Accepted)
        assert (again.answer, again.is_replay) == (first.answer, True)


async def test_with_redis_down_orders_still_end(database_url: str) -> None:
    async with shop(database_url, NOWHERE) as here:
        goods = await here.sells(apple=10)
        orders = [await here.order({goods["apple"]: 1}) for _ in range(5)]
        assert {order["state"] for order in await here.ended(*orders)} == {"CONFIRMED"}


async def test_a_flushed_redis_costs_time_and_nothing_else(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=100)
        orders = []
        for _ in range(30):
            orders.append(await here.order({goods["apple"]: 1}))
            await here.assembly.streams._redis.flushdb()
        assert {order["state"] for order in await here.ended(*orders)} == {"CONFIRMED"}
