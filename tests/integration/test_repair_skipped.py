"""An operator skipped a step of an order; what the doctor proposes then leads to a shop that is whole."""

from uuid import UUID

import pytest
from test_repair import carry_out, look

from comanda.messaging.queues import QUEUES
from comanda.proof.repair import DECIDE, proposals
from comanda.saga import verbs
from shop import FakeGateway, Shop, shop, until


async def stands_at(here: Shop, step: str, order_id: UUID) -> bool:
    (row,) = await here.ask("SELECT step, attempt, lease_until FROM sagas WHERE subject = $1", order_id)
    is_tried = row["attempt"] > 0 or step != "process_payment"
    return bool(row["step"] == step and row["lease_until"] is None and is_tried)


@pytest.mark.parametrize(
    ("step", "queue", "check", "kinds"),
    [
        ("process_payment", "payment-processing", "payments_fit_orders", {"payment"}),
        ("confirm_reservation", "inventory-management", "confirmed_are_sold", {"sale"}),
        ("send_confirmation", "notification-sending", "customers_are_told", {"message"}),
    ],
)
async def test_what_an_operator_skipped_is_mended_by_what_is_proposed(
    database_url: str, redis_url: str, step: str, queue: str, check: str, kinds: set[str]
) -> None:
    gateway = FakeGateway(is_down=True)
    async with shop(database_url, redis_url, gateway=gateway) as here:
        goods = await here.sells(apple=10)
        order_id = await here.order({goods["apple"]: 2})
        await until(lambda: stands_at(here, "process_payment", order_id))
    gateway.is_down = step == "process_payment"
    others = [name for name in QUEUES if name != queue]
    async with shop(database_url, redis_url, gateway=gateway, queues=others) as here:
        await until(lambda: stands_at(here, step, order_id))
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET waits_until = now() + interval '1 hour' WHERE subject = $1", order_id)
            (one,), _ = await verbs.act(tx, here.by_hand, [order_id], "skip", actor="ana", reason="it is done")
            assert one.refusal is None
    async with shop(database_url, redis_url, gateway=gateway) as here:

        async def is_quiet() -> bool:
            return bool(await here.value("SELECT count(*) = 0 FROM sagas WHERE ended_at IS NULL"))

        await here.ended(order_id)
        await until(is_quiet)
        found = await look(database_url)
        assert check in {finding.name for finding in found}
        made = proposals(found)
        assert {proposal.kind for proposal in made} == kinds
        assert DECIDE not in kinds
        await carry_out(database_url, [*made, *made])  # twice does no harm
        await until(is_quiet)
        assert await look(database_url) == []
        assert await here.stock(goods["apple"]) == (8, 0)
