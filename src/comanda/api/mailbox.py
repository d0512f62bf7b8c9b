"""What the mock providers sent to customers, for staff to look at.

Mails about accounts carry codes with which anybody can choose a password: of all staff only admins see them, who may
make and end accounts anyhow.
"""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query

from comanda.api.answers import Answer, Time
from comanda.api.bodies import Limit, Search
from comanda.api.parts import Given
from comanda.api.security import Staff, router
from comanda.db import Tx
from comanda.notifications import mailbox
from comanda.notifications.mailbox import Mail

routes = router("/mailbox", "mailbox")


class MailAnswer(Answer):
    key: str
    channel: str
    recipient: str
    subject: str
    body_text: str
    body_html: str | None
    order_id: UUID | None
    correlation_id: str | None
    sent_at: Time


class MailboxAnswer(Answer):
    items: Sequence[MailAnswer]


@routes.get("")
async def listed(
    account: Staff,
    parts: Given,
    recipient: Search | None = None,
    order_id: Annotated[UUID | None, Query(alias="orderId")] = None,
    limit: Limit = 50,
) -> MailboxAnswer:
    """The newest messages: to a recipient, about an order, or all. Those about accounts are shown to admins only."""
    of_orders_only = account.role != "admin"

    async def read(tx: Tx) -> list[Mail]:
        return await mailbox.listed(tx, recipient, order_id, limit, of_orders_only=of_orders_only)

    found = await parts.lists.read(account.id, read)
    return MailboxAnswer(items=[MailAnswer.model_validate(one) for one in found])
