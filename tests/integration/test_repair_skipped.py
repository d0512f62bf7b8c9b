"""An operator skipped a step of an order; what the doctor proposes then leads to a shop that is whole."""

from uuid import UUID

import pytest

from comanda.proof.repair import DECIDE, proposals
from comanda.saga import switching, verbs
from shop import FakeGateway, Shop, shop, until
from test_repair import carry_out, look

PAYMENT = "payment-processing"


async def paused(here: Shop, queue: str, *, is_paused: bool) -> None:
    async with here.database.transaction() as tx:
        assert await switching.pause(tx, queue, is_paused=is_paused, actor="ana", reason="a look")


async def stands_at(here: Shop, step: str, order_id: UUID) -> bool:
    found = await here.ask("SELECT step, attempt, lease_until FROM sagas WHERE subject = $1", order_id)
    (row,) = found
    is_tried = row["attempt"] > 0 or step != "process_payment"
    return bool(row["step"] == step and row["lease_until"] is None and is_tried)


@pytest.mark.parametrize(
    ("step", "queue", "check"),
    [
        ("process_payment", PAYMENT, "payments_fit_orders"),
        ("confirm_reservation", "inventory-management", "confirmed_are_sold"),
        ("send_confirmation", "notification-sending", "customers_are_told"),
    ],
)
async def test_what_an_operator_skipped_is_mended_by_what_is_proposed(
    database_url: str, redis_url: str, step: str, queue: str, check: str
) -> None:
    gateway = FakeGateway(is_down=True)
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 2})
        await until(lambda: stands_at(here, "process_payment", order_id))
        if step != "process_payment":
            await paused(here, queue, is_paused=True)
            gateway.is_down = False
            await until(lambda: stands_at(here, step, order_id))
        async with here.database.transaction() as tx:
            (one,), result = await verbs.act(tx, here.by_hand, [order_id], "skip", actor="ana", reason="it is done")
            assert one.refusal is None
        await here.assembly.streams.offer_all(result.onward)
        await paused(here, queue, is_paused=False)
        await here.ended(order_id)

        async def is_quiet() -> bool:
            return bool(await here.value("SELECT count(*) = 0 FROM sagas WHERE ended_at IS NULL"))

        await until(is_quiet)
        found = await look(database_url)
        assert check in {finding.name for finding in found}
        made = proposals(found)
        assert DECIDE not in {proposal.kind for proposal in made}, made
        await carry_out(database_url, made)
        await until(is_quiet)
        assert await look(database_url) == []
