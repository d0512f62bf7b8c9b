"""Messages, and what may become of them while they are on their way."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from comanda.db import Tx
from comanda.errors import DependencyFault
from comanda.notifications.notifications import Delivery, Notifications, delivery_saga
from comanda.notifications.providers import MockProvider, Outgoing
from comanda.resilience.backoff import Policy
from comanda.saga import Done, Job, verbs
from shop import shop


@asynccontextmanager
async def confirmed(
    database_url: str, redis_url: str
) -> AsyncIterator[tuple[Tx, Notifications, Delivery, UUID, list[Job]]]:
    """An order's confirmation that is to be delivered: in a transaction, the order, and the delivery's one job."""
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        order_id = await here.order({(await here.sells(apple=1))["apple"]: 1})
        delivery = Delivery(provider := MockProvider(here.database))
        notifications = Notifications(delivery_saga(provider, Policy()))
        async with here.database.transaction() as tx:
            await notifications.confirm(tx, [order_id])
            ((message,),) = await tx.fetch("SELECT id FROM notifications")
            yield tx, notifications, delivery, order_id, [Job(message, message, "k", 1, time.time())]


async def test_a_confirmation_that_was_retracted_during_its_call_is_not_tried_again(
    database_url: str, redis_url: str
) -> None:
    async with confirmed(database_url, redis_url) as (tx, notifications, delivery, order_id, jobs):
        assert isinstance((await delivery.prepare(tx, jobs))[0], Outgoing)
        await notifications.retract(tx, [order_id])
        await delivery.record(tx, jobs, [DependencyFault("nobody answers")])
        assert await delivery.prepare(tx, jobs) == [Done()]
        assert await tx.fetchval("SELECT state FROM notifications") == "RETRACTED"
        # If it went out all the same, that is what is true.
        await delivery.record(tx, jobs, ["provider-1"])
        assert await tx.fetchval("SELECT state FROM notifications") == "SENT"


async def test_a_confirmation_that_was_given_up_on_is_not_sent_round_again_once_its_order_is_cancelled(
    database_url: str, redis_url: str
) -> None:
    async with confirmed(database_url, redis_url) as (tx, notifications, delivery, order_id, jobs):
        await tx.execute("UPDATE notifications SET state = 'FAILED', error = 'given up on'")
        assert isinstance((await delivery.prepare(tx, jobs))[0], Outgoing), "who redrives its letter sends it"
        await notifications.retract(tx, [order_id])
        assert await delivery.prepare(tx, jobs) == [Done()]


async def test_a_message_that_is_skipped_counts_as_sent(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url, workers=0, has_relay=False) as here:
        order_id = await here.order({(await here.sells(apple=1))["apple"]: 1})
        async with here.database.transaction() as tx:
            await here.assembly.definitions.notifications.confirm(tx, [order_id])
            await tx.execute("UPDATE notifications SET state = 'FAILED', error = 'given up on'")
            await tx.execute("UPDATE sagas SET state = 'COMPENSATION_FAILED', attempt = 9 WHERE kind = 'notification'")
            ((message,),) = await tx.fetch("SELECT id FROM notifications")
            (acted,), _ = await verbs.act(tx, here.by_hand, [message], "skip", actor="ana", reason="told by phone")
        assert (acted.now, acted.refusal) == ("COMPLETED", None)
        (row,) = await here.ask("SELECT state, error, sent_at IS NOT NULL AS is_timed FROM notifications")
        assert tuple(row) == ("SENT", None, True)
        async with here.database.transaction() as tx:  # one that was retracted stays so
            await tx.execute("UPDATE notifications SET state = 'RETRACTED'")
            await tx.execute(
                "UPDATE sagas SET state = 'COMPENSATION_FAILED', ended_at = NULL WHERE kind = 'notification'"
            )
            await verbs.act(tx, here.by_hand, [message], "skip", actor="ana", reason="seen to")
        assert await here.value("SELECT state FROM notifications") == "RETRACTED"
