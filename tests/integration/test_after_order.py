"""Orders after the order, on real engines: shipped, refunded, brought back, cancelled; never more than there was."""

import asyncio
import signal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from test_gateway import Gateway

from comanda.checkout import after_order
from comanda.checkout.after_order import CancelWish, HasFollowed, RefundWish
from comanda.orders.model import OrderState, TooManyUnits, TooMuchMoney, WrongState
from comanda.orders.shipments import Shipment
from comanda.payments import refunds
from comanda.payments.gateway import Captured, ChargeRequest, Declined, HttpGateway
from comanda.payments.refunds import Refund
from comanda.proof.chaos.proxy import HttpProxy
from comanda.saga import verbs
from comanda.saga.log import Claimed
from comanda.saga.rescue import by_queue
from comanda.saga.verbs import Acted, Verb
from shop import FakeGateway, Shop, shop, until
from up import comanda

ANA = uuid4()


async def cancel(here: Shop, order_id: UUID, *, is_staff: bool) -> Any:
    async with here.database.transaction() as tx:
        (done,), result = await after_order.cancel(tx, [CancelWish(order_id, ANA, is_staff)], here.by_hand)
    await here.assembly.streams.offer_all(result.onward)
    return done


async def refunded(here: Shop, *found: Refund) -> None:
    """Wait until these are given back and all that follows is done."""
    ids = [one.id for one in found]
    ended = "SELECT count(*) FROM sagas WHERE subject = ANY($1) AND state = 'COMPLETED'"
    await until(lambda: _is(here, ended, len(ids), ids))


async def _is(here: Shop, statement: str, wanted: int, *arguments: Any) -> bool:
    return bool(await here.value(statement, *arguments) == wanted)


STUCK = "SELECT count(*) FROM sagas WHERE subject = $1 AND state = 'COMPENSATION_FAILED'"


async def bought(here: Shop) -> tuple[UUID, UUID]:
    """An order of three apples at 10.00, confirmed; and the apple."""
    goods = await here.sells(apple=10)
    order_id = await here.order({goods["apple"]: 3})
    await here.ended(order_id)
    return order_id, goods["apple"]


async def stuck(here: Shop, order_id: UUID, *asked: Any, **more: Any) -> Refund:
    """A refund that the gateway refuses until its attempts are used up."""
    here.gateway.refunds_fail = True
    found: Refund = await here.refund(order_id, *asked, **more)
    await until(lambda: _is(here, STUCK, 1, found.id))
    return found


async def unheard(here: Shop, order_id: UUID, amount: int) -> Refund:
    """A refund that goes out, and nobody hears of it until its attempts are used up."""
    here.gateway.answers_lost = True
    found: Refund = await here.refund(order_id, amount)
    await until(lambda: _is(here, f"{STUCK} AND note LIKE $2", 1, found.id, "%down%"))
    here.gateway.is_down = here.gateway.answers_lost = False
    return found


async def looked(here: Shop, found: Refund, verb: Verb) -> Acted:
    """Do it as an operator does: the gateway is asked first."""
    async with here.database.connection() as tx:
        doubtful = await verbs.doubts(tx, here.by_hand, [found.id], verb)
    seen = await verbs.look(doubtful, patience=5)
    async with here.database.transaction() as tx:
        (acted,), result = await verbs.act(
            tx, here.by_hand, [found.id], verb, actor="ana", reason="never arrived", seen=seen
        )
    await here.assembly.streams.offer_all(result.onward)
    return acted


async def tried_again(here: Shop, found: Refund) -> None:
    async with here.database.transaction() as tx:
        _, result = await verbs.act(tx, here.by_hand, [found.id], "retry", actor="ana", reason="it is back")
    await here.assembly.streams.offer_all(result.onward)


async def state_of(here: Shop, order_id: UUID) -> str:
    found: str = await here.value("SELECT state FROM orders WHERE id = $1", order_id)
    return found


async def test_two_parcels_ship_an_order_and_both_deliver_it(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10, pear=5)
        order_id = await here.order({goods["apple"]: 3, goods["pear"]: 1})
        await here.ended(order_id)
        first = await here.ship(order_id, {goods["apple"]: 2})
        assert isinstance(first, Shipment)
        assert await state_of(here, order_id) == "CONFIRMED"
        assert await here.ship(order_id, {goods["apple"]: 2}) == TooManyUnits(goods["apple"], 1)
        second = await here.ship(order_id)
        assert second.units == {goods["apple"]: 1, goods["pear"]: 1}
        assert await state_of(here, order_id) == "SHIPPED"
        async with here.database.transaction() as tx:
            (arrived,) = await after_order.deliver(tx, [(order_id, first.id)])
        assert arrived is not None
        assert arrived.delivered_at is not None
        assert await state_of(here, order_id) == "SHIPPED"
        async with here.database.transaction() as tx:
            again, last, strange = await after_order.deliver(
                tx, [(order_id, first.id), (order_id, second.id), (order_id, uuid4())]
            )
        assert again == arrived, "said twice is said once"
        assert last is not None
        assert strange is None
        assert await state_of(here, order_id) == "DELIVERED"
        assert {"OrderShipped", "OrderDelivered"} <= set(await here.events(order_id))
        mails = "SELECT body_text FROM mailbox WHERE order_id = $1 AND subject LIKE '%camino%' ORDER BY key"
        told = await until(lambda: _at_least(here, 2, mails, order_id))
        assert all("ES 123" in row["body_text"] for row in told)
        assert await here.stock(goods["apple"]) == (7, 0)


async def _at_least(here: Shop, count: int, statement: str, *arguments: Any) -> list[Any]:
    rows = await here.ask(statement, *arguments)
    return rows if len(rows) >= count else []


async def test_fifty_refunds_at_once_never_exceed_what_was_captured(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=2) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 3})  # 30.00
        await here.ended(order_id)
        asked = await asyncio.gather(*(here.refund(order_id, 100) for _ in range(50)))
        granted = [one for one in asked if isinstance(one, Refund)]
        assert len(granted) == 30
        # Who asks when all of it is given back already is told that.
        refusals = [one for one in asked if not isinstance(one, Refund)]
        assert all(
            one == TooMuchMoney(0) or (isinstance(one, WrongState) and one.state == "REFUNDED") for one in refusals
        ), refusals
        await refunded(here, *granted)
        assert here.gateway.kept(order_id) == 0
        (payment,) = await here.ask("SELECT * FROM payments WHERE order_id = $1", order_id)
        assert (payment["state"], payment["refunded"], payment["refunding"]) == ("REFUNDED", 3000, 0)
        assert await state_of(here, order_id) == "REFUNDED"
        assert await here.stock(goods["apple"]) == (7, 0), "money alone"
        moves = await here.ask("SELECT to_state FROM order_moves WHERE order_id = $1 ORDER BY seq", order_id)
        assert [row["to_state"] for row in moves][-2:] == ["CONFIRMED", "REFUNDED"]


async def test_refunds_of_one_call_are_decided_and_counted_together(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway()
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=10)
        twice, once = await here.order({goods["apple"]: 3}), await here.order({goods["apple"]: 3})
        await here.ended(twice, once)
        gateway.gate = asyncio.Event()  # nothing is given back before it is looked at what was promised
        wishes = [
            RefundWish(order_id, "REFUND", None, amount, is_restocked=False, reason="broken", actor=ANA)
            for order_id, amount in ((twice, 1400), (once, 900), (twice, 1700), (twice, 1600), (once, 2100), (twice, 1))
        ]
        async with here.database.transaction() as tx:
            asked, due = await after_order.refund(tx, wishes, here.assembly.definitions.refund)
        granted = [one for one in asked if isinstance(one, Refund)]
        assert [one.amount for one in granted] == [1400, 900, 1600, 2100]
        assert [one for one in asked if not isinstance(one, Refund)] == [TooMuchMoney(1600), TooMuchMoney(0)]
        sums = "SELECT order_id, refunding, refunded FROM payments"
        assert {tuple(row) for row in await here.ask(sums)} == {(twice, 3000, 0), (once, 3000, 0)}
        async with here.database.transaction() as tx:
            await refunds.succeed(tx, [one.id for one in granted])
        assert {tuple(row) for row in await here.ask(sums)} == {(twice, 0, 3000), (once, 0, 3000)}
        gateway.gate.set()
        await here.assembly.streams.offer_all(by_queue(due))
        await refunded(here, *granted)
        assert {tuple(row) for row in await here.ask(sums)} == {(twice, 0, 3000), (once, 0, 3000)}, "each counts once"
        assert (gateway.kept(twice), gateway.kept(once)) == (0, 0)
        assert [await state_of(here, one) for one in (twice, once)] == ["REFUNDED", "REFUNDED"]


async def test_units_go_back_to_where_they_were_sold_from(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=2)
        apple = goods["apple"]
        async with here.database.transaction() as tx:
            opening = "INSERT INTO stock (product_id, location, on_hand) VALUES ($1, 'ZARAGOZA', 5)"
            await tx.execute(opening, apple)
        order_id = await here.order({apple: 4})  # 2 from MAIN, 2 from ZARAGOZA
        await here.ended(order_id)
        withdrawn = await here.refund(order_id, units={apple: 1}, restock=True)
        assert withdrawn.amount == 1000
        await here.ship(order_id, {apple: 3})
        kept = await here.refund(order_id, units={apple: 1}, kind="RETURN", restock=False)
        back = await here.refund(order_id, 500, {apple: 2}, kind="RETURN", restock=True)
        assert await here.refund(order_id, units={apple: 1}, kind="RETURN") == TooManyUnits(apple, 0)
        await refunded(here, withdrawn, kept, back)
        rows = await here.ask("SELECT location, on_hand FROM stock WHERE product_id = $1 ORDER BY location", apple)
        assert [tuple(row) for row in rows] == [("MAIN", 2), ("ZARAGOZA", 4)]
        assert here.gateway.kept(order_id) == 4000 - 1000 - 1000 - 500
        booked = await here.ask(
            "SELECT reference, sum(on_hand_delta) AS n FROM movements WHERE kind = 'RETURN' GROUP BY 1"
        )
        assert {row["reference"]: row["n"] for row in booked} == {withdrawn.id: 1, back.id: 2}
        # Nothing is left to be sent, and what was sent may still arrive.
        assert await state_of(here, order_id) == "SHIPPED"


async def test_a_refund_that_the_gateway_keeps_refusing_is_stuck_and_can_be_tried_again(
    database_url: str, redis_url: str
) -> None:
    gateway = FakeGateway()
    async with shop(database_url, redis_url, gateway=gateway) as here:
        order_id, _ = await bought(here)
        asked = await stuck(here, order_id, 1000)
        assert await here.refund(order_id, 2001) == TooMuchMoney(2000), "promised is promised"
        gateway.refunds_fail = False
        await tried_again(here, asked)
        await refunded(here, asked)
        assert gateway.kept(order_id) == 2000
        assert len({key for call, key in gateway.calls if call == "refund"}) == 1, "one key, however often"


async def test_a_refund_that_went_out_unheard_is_asked_for_and_not_repeated(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway(forgets_keys=True)
    async with shop(database_url, redis_url, gateway=gateway) as here:
        order_id, _ = await bought(here)
        asked = await unheard(here, order_id, 1000)
        await tried_again(here, asked)
        await refunded(here, asked)
        assert gateway.kept(order_id) == 2000
        assert [call for call, _ in gateway.calls].count("refund") == 1, "nobody asks for money again without a look"
        assert len({key for call, key in gateway.calls if call in {"refund", "find_refund"}}) == 1


async def test_a_refund_under_whose_key_another_sum_went_out_is_left_to_a_person(
    database_url: str, redis_url: str
) -> None:
    gateway = FakeGateway()
    async with shop(database_url, redis_url, gateway=gateway) as here:
        order_id, _ = await bought(here)
        asked = await unheard(here, order_id, 1000)
        gateway.given_back = dict.fromkeys(gateway.given_back, 999)
        await tried_again(here, asked)
        said = f"{STUCK} AND note LIKE $2"
        await until(lambda: _is(here, said, 1, asked.id, "%999 under this key, 1000 were asked for%"))
        assert [call for call, _ in gateway.calls].count("refund") == 1


async def test_a_gateway_that_dies_of_a_refund_has_given_it_back_once(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """The mock itself, killed between the refund and its answer, and gone until the saga is stuck."""
    bank = Gateway(tmp_path / "gateway")
    proxy = HttpProxy(lambda: ("127.0.0.1", bank.port), name="gateway")
    await proxy.start()
    try:
        async with (
            HttpGateway(f"http://127.0.0.1:{proxy.port}", timeout=20) as client,
            shop(database_url, redis_url, gateway=ByHttp(client)) as here,
        ):
            order_id, _ = await bought(here)
            proxy.hold(1, "/refunds")
            asked = await here.refund(order_id, 1000)
            await until(lambda: _arrived(proxy))
            proxy.refuse(is_refusing=True)
            bank.stop(signal.SIGKILL)
            await until(lambda: _is(here, STUCK, 1, asked.id))
            address = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
            call_off = ("saga", "compensate", str(asked.id), "--reason", "never arrived", "--json")
            nobody = await comanda(*call_off, **address)
            assert (nobody.code, "COMANDA_GATEWAY_URL" in nobody.err) == (2, True), nobody
            address["GATEWAY_URL"] = f"http://127.0.0.1:{proxy.port}"
            silent = await comanda(*call_off, **address)
            assert (silent.code, "does not say whether it has gone out" in silent.out) == (1, True), silent
            bank.start()
            proxy.refuse(is_refusing=False)
            told = await comanda(*call_off, **address)
            assert (told.code, "it has gone out, says the other side" in told.out) == (1, True), told
            before = proxy.requests
            await tried_again(here, asked)
            await refunded(here, asked)
            assert proxy.requests == before + 1, "it was asked, and nothing else"
            lines = [line for line in await client.ledger(0, 100) if line["orderId"] == str(order_id)]
            assert [(line["type"], line["amount"]) for line in lines] == [("capture", 3000), ("refund", 1000)]
            (payment,) = await here.ask("SELECT * FROM payments WHERE order_id = $1", order_id)
            assert (payment["state"], payment["refunded"], payment["refunding"]) == ("PARTIALLY_REFUNDED", 1000, 0)
    finally:
        await proxy.stop()
        bank.close()


async def _arrived(proxy: HttpProxy) -> bool:
    """The gateway has made what its client hears nothing of."""
    return await proxy.deliver_held() == [200]


class ByHttp(FakeGateway):
    """The mock, by Comanda's own client."""

    def __init__(self, client: HttpGateway) -> None:
        super().__init__()
        self._client = client

    async def charge(self, request: ChargeRequest, key: str) -> Captured | Declined:
        return await self._client.charge(request, key)

    async def find(self, key: str) -> Captured | Declined | None:
        return await self._client.find(key)

    async def refund(self, charge_key: str, amount: int, key: str) -> None:
        await self._client.refund(charge_key, amount, key)

    async def find_refund(self, key: str) -> int | None:
        return await self._client.find_refund(key)


async def test_a_refund_that_was_given_up_is_free_again(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway()
    async with shop(database_url, redis_url, gateway=gateway) as here:
        order_id, apple = await bought(here)
        asked = await stuck(here, order_id, units={apple: 3}, restock=True)
        refused = await looked(here, asked, "compensate")
        assert "does not say whether it has gone out" in (refused.refusal or ""), "nobody guesses about money"
        gateway.refunds_fail = False
        assert (await looked(here, asked, "compensate")).refusal is None
        await until(lambda: _is(here, "SELECT count(*) FROM refunds WHERE id = $1 AND state = 'FAILED'", 1, asked.id))
        (payment,) = await here.ask("SELECT * FROM payments WHERE order_id = $1", order_id)
        assert (payment["state"], payment["refunded"], payment["refunding"]) == ("SUCCEEDED", 0, 0)
        assert isinstance(await here.ship(order_id), Shipment), "what was not withdrawn is shipped"


@pytest.mark.parametrize("verb", ["compensate", "resolve"])
async def test_a_refund_that_has_gone_out_is_never_called_off(database_url: str, redis_url: str, verb: Verb) -> None:
    """Stuck because nobody heard of it: the gateway is asked, and knows better than whoever would call it off."""
    async with shop(database_url, redis_url, gateway=FakeGateway()) as here:
        order_id, _ = await bought(here)
        asked = await unheard(here, order_id, 1000)
        async with here.database.transaction() as tx:
            (unasked,), _ = await verbs.act(tx, here.by_hand, [asked.id], verb, actor="ana", reason="never arrived")
        assert "was not asked" in (unasked.refusal or "")
        assert "it has gone out, says the other side" in ((await looked(here, asked, verb)).refusal or "")
        (payment,) = await here.ask("SELECT * FROM payments WHERE order_id = $1", order_id)
        assert (payment["refunded"], payment["refunding"]) == (0, 1000), "nothing of it is free to be given back again"
        assert await here.value("SELECT count(*) FROM audit") == 0
        await tried_again(here, asked)
        await refunded(here, asked)
        assert here.gateway.kept(order_id) == 2000


async def test_what_was_seen_of_one_call_says_nothing_of_the_next(database_url: str, redis_url: str) -> None:
    """Looked for, then retried by somebody else and gone out, then called off: by what was seen before."""
    async with shop(database_url, redis_url, gateway=FakeGateway()) as here:
        order_id, _ = await bought(here)
        asked = await stuck(here, order_id, 1000)
        here.gateway.refunds_fail = False
        async with here.database.connection() as tx:
            doubtful = await verbs.doubts(tx, here.by_hand, [asked.id], "compensate")
        seen = await verbs.look(doubtful, patience=5)
        assert [one.is_done for one in seen.values()] == [False]
        here.gateway.answers_lost = True
        await tried_again(here, asked)
        await until(lambda: _is(here, STUCK, 1, asked.id))
        async with here.database.transaction() as tx:
            (acted,), _ = await verbs.act(
                tx, here.by_hand, [asked.id], "compensate", actor="ana", reason="never arrived", seen=seen
            )
        assert "ask again" in (acted.refusal or "")


async def test_a_refund_that_was_paid_by_hand_is_skipped_and_all_the_rest_follows(
    database_url: str, redis_url: str
) -> None:
    gateway = FakeGateway()
    async with shop(database_url, redis_url, gateway=gateway) as here:
        order_id, apple = await bought(here)
        asked = await stuck(here, order_id, units={apple: 3}, restock=True)
        async with here.database.transaction() as tx:
            _, result = await verbs.act(tx, here.by_hand, [asked.id], "skip", actor="ana", reason="by bank transfer")
        await here.assembly.streams.offer_all(result.onward)
        await refunded(here, asked)
        (payment,) = await here.ask("SELECT * FROM payments WHERE order_id = $1", order_id)
        assert (payment["state"], payment["refunded"], payment["refunding"]) == ("REFUNDED", 3000, 0)
        assert await state_of(here, order_id) == "REFUNDED"
        assert await here.stock(apple) == (10, 0)


async def test_what_costs_nothing_comes_back_too(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(sample=10)
        await here.ask("UPDATE products SET price = 0 WHERE id = $1 RETURNING id", goods["sample"])
        order_id = await here.order({goods["sample"]: 2})
        await here.ended(order_id)
        await here.ask("DELETE FROM payments WHERE order_id = $1 RETURNING id", order_id)  # as after a skipped charge
        back = await here.refund(order_id, units={goods["sample"]: 2}, restock=True)
        await refunded(here, back)
        assert await here.stock(goods["sample"]) == (10, 0)
        assert await state_of(here, order_id) == "REFUNDED"


async def test_an_operator_cancels_a_confirmed_order_and_everything_is_given_back(
    database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 3})
        await here.ended(order_id)
        refused = await cancel(here, order_id, is_staff=False)
        assert isinstance(refused, WrongState)
        assert refused.state == OrderState.CONFIRMED
        assert isinstance(await cancel(here, order_id, is_staff=True), Claimed)
        assert isinstance(await cancel(here, order_id, is_staff=True), WrongState), "it is being undone already"
        (order,) = await here.ended(order_id)
        assert (order["state"], order["saga_state"], order["failure_reason"]) == (
            "CANCELLED", "COMPENSATED", "CANCELLED_BY_OPERATOR",
        )  # fmt: skip
        assert here.gateway.kept(order_id) == 0
        assert await here.stock(goods["apple"]) == (10, 0)
        told = await here.ask("SELECT kind FROM notifications WHERE order_id = $1 ORDER BY created_at", order_id)
        assert [row["kind"] for row in told] == ["order_confirmation", "order_cancellation"]


async def test_what_was_shipped_or_refunded_is_not_cancelled(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url) as here:
        goods = await here.sells(apple=10)
        sent, back = await here.order({goods["apple"]: 3}), await here.order({goods["apple"]: 3})
        await here.ended(sent, back)
        await here.ship(sent, {goods["apple"]: 1})
        asked = await here.refund(back, 1)
        assert await cancel(here, sent, is_staff=True) == HasFollowed()
        assert await cancel(here, back, is_staff=True) == HasFollowed()
        await refunded(here, asked)
        assert await cancel(here, back, is_staff=True) == HasFollowed()
        assert await cancel(here, uuid4(), is_staff=True) is None


async def test_nothing_is_shipped_or_refunded_while_an_order_is_being_undone(database_url: str, redis_url: str) -> None:
    gateway = FakeGateway()
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 3})
        await here.ended(order_id)
        gateway.refunds_fail = True
        await cancel(here, order_id, is_staff=True)
        refused = await here.ship(order_id), await here.refund(order_id, 1)
        assert all(isinstance(one, WrongState) and one.is_under_way for one in refused)


async def test_a_customer_cancels_until_the_charge(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, queues=[]) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 3})
        assert isinstance(await cancel(here, order_id, is_staff=False), Claimed)
        assert await state_of(here, order_id) == "CANCELLED"
        assert await here.value("SELECT failure_reason FROM orders WHERE id = $1", order_id) == "CANCELLED_BY_CUSTOMER"
        assert isinstance(await cancel(here, order_id, is_staff=False), WrongState)


async def test_cancelling_races_the_charge(database_url: str, redis_url: str) -> None:
    """Two hundred orders: each ends cancelled with no money held, or confirmed with all of it."""
    async with shop(database_url, redis_url, workers=2) as here:
        goods = await here.sells(apple=1000)

        async def race(number: int) -> tuple[UUID, bool]:
            order_id = await here.order({goods["apple"]: 1})
            for _ in range(number % 20):
                await here.value("SELECT 1")  # a little later each, however fast the machine is
            return order_id, isinstance(await cancel(here, order_id, is_staff=bool(number % 2)), Claimed)

        raced: list[tuple[UUID, bool]] = []
        for start in range(0, 200, 10):
            raced += await asyncio.gather(*(race(start + n) for n in range(10)))
        ended = {row["id"]: row for row in await here.ended(*(order_id for order_id, _ in raced), within=60)}
        for order_id, was_cancelled in raced:
            assert ended[order_id]["state"] == ("CANCELLED" if was_cancelled else "CONFIRMED"), ended[order_id]
            assert here.gateway.kept(order_id) == (0 if was_cancelled else 1000)
        confirmed = sum(not was_cancelled for _, was_cancelled in raced)
        assert await here.stock(goods["apple"]) == (1000 - confirmed, 0)
        assert 0 < confirmed < 200, "both happen, or it was no race"
