"""What the mock providers sent, to be looked at."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from comanda.db import Tx, twin

_sql = twin(__file__)
LISTED = _sql["listed"]


@dataclass(frozen=True, slots=True)
class Mail:
    """One message, as its recipient would have got it."""

    key: str
    channel: str
    recipient: str
    subject: str
    body_text: str
    body_html: str | None
    order_id: UUID | None
    correlation_id: str | None
    sent_at: datetime


async def listed(
    tx: Tx, recipient: str | None, order_id: UUID | None, limit: int, *, of_orders_only: bool
) -> list[Mail]:
    """The newest messages: of a recipient, about an order, or all; with or without those about accounts."""
    rows = await LISTED.rows(tx, recipient, order_id, limit, of_orders_only)
    return [Mail(**dict(row)) for row in rows]
