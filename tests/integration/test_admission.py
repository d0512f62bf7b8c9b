"""Who is let in: whoever waits for an order to be worked on closes the shop, and nothing else does."""

import pytest

from comanda.api.admission import Admission
from shop import shop

MOST = 3


@pytest.mark.parametrize(
    ("kind", "is_open"), [("order", False), ("refund", False), ("notification", True), ("webhook", True)]
)
async def test_orders_that_nobody_has_worked_on_close_the_shop_and_mails_and_webhooks_do_not(
    database_url: str, redis_url: str, kind: str, *, is_open: bool
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        product = (await here.sells(apple=10))["apple"]
        for _ in range(MOST):
            await here.order({product: 1})
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET kind = $1", kind)
        admission = Admission(here.database, most=MOST)
        await admission._look()
        assert admission.is_open is is_open
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET kind = 'order', waits_until = now() + interval '1 hour'")
        await admission._look()
        assert admission.is_open, "for those no worker has anything to do"
