"""Who is let in: whoever waits for an order to be worked on closes the shop, and nothing else does."""

import pytest

from comanda.api.admission import Admission
from comanda.messaging.queues import QUEUES
from comanda.saga import log
from shop import shop

MOST = 3


@pytest.mark.parametrize(
    ("priority", "is_open"), [(0, True), (1, False), (2, True)], ids=["alerts", "orders", "mails and webhooks"]
)
async def test_orders_that_nobody_has_worked_on_close_the_shop_and_mails_and_webhooks_do_not(
    database_url: str, redis_url: str, priority: int, *, is_open: bool
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        product = (await here.sells(apple=10))["apple"]
        for _ in range(MOST):
            await here.order({product: 1})
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET priority = $1", priority)
        admission = Admission(here.database, most=MOST)
        await admission._look()
        assert admission.is_open is is_open
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET priority = 1, waits_until = now() + interval '1 hour'")
        await admission._look()
        assert admission.is_open, "for those no worker has anything to do"


async def test_what_is_ready_is_counted_for_each_queue_and_what_waits_or_is_under_way_is_not(
    database_url: str, redis_url: str
) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        product = (await here.sells(apple=10))["apple"]
        waits, is_out, *_ = [await here.order({product: 1}) for _ in range(4)]
        async with here.database.transaction() as tx:
            await tx.execute("UPDATE sagas SET updated_at = now() - interval '5 s'")
            await tx.execute("UPDATE sagas SET waits_until = now() WHERE subject = $1", waits)
            await tx.execute("UPDATE sagas SET lease_until = now() WHERE subject = $1", is_out)
        async with here.database.connection() as tx:
            found = {row["queue"]: row for row in await log.ready(tx)}
            told = {row["queue"]: row["ready"] for row in await log.depths(tx)}
        first = here.assembly.order.first.queue
        assert {queue: row["ready"] for queue, row in found.items()} == {
            queue: 2 * (queue == first) for queue in QUEUES
        }
        assert told == {queue: row["ready"] for queue, row in found.items()}
        assert 5 <= found[first]["oldest_seconds"] < 60
        assert {row["oldest_seconds"] for queue, row in found.items() if queue != first} == {0.0}
