"""What the mock providers sent, to be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from comanda.db import Tx, twin

_sql = twin(__file__)
LISTED = _sql["listed"]
PAGE = _sql["page"]
FIND = _sql["find"]

_NEWER_THAN_ALL = datetime.max.replace(tzinfo=UTC)


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


async def page(tx: Tx, *, before: tuple[datetime, str] | None, limit: int, of_orders_only: bool) -> list[Mail]:
    """The newest messages without their bodies; `before`: time and key of the last one that was seen."""
    at, key = before or (_NEWER_THAN_ALL, "")
    return [Mail(**dict(row)) for row in await PAGE.rows(tx, at, key, limit, of_orders_only)]


async def find(tx: Tx, keys: Sequence[str], *, of_orders_only: bool) -> list[Mail | None]:
    """Messages by their keys; None where there is none."""
    found = {row["key"]: Mail(**dict(row)) for row in await FIND.rows(tx, keys, of_orders_only)}
    return [found.get(one) for one in keys]
