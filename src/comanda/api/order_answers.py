"""What is told of an order, and of what came after it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from comanda.api.answers import Answer, Time
from comanda.orders.reads import Status


class OrderLineAnswer(Answer):
    product_id: UUID
    sku: str
    name: str
    quantity: int
    unit_price: int
    total_price: int


class OrderAnswer(Answer):
    order_id: UUID
    customer_id: UUID
    saga_id: UUID
    status: str
    saga_status: str | None
    current_step: str | None
    total_amount: int
    currency: str
    failure_reason: str | None
    items: Sequence[OrderLineAnswer]
    created_at: Time
    updated_at: Time
    ended_at: Time | None


class PaymentAnswer(Answer):
    payment_id: UUID
    status: str
    amount: int
    captured: int
    refunded: int
    currency: str
    decline_code: str | None
    updated_at: Time


class MoveAnswer(Answer):
    """`from` is null for the first."""

    from_status: str | None
    to_status: str
    reason: str | None
    at: Time


class UnitsAnswer(Answer):
    product_id: UUID
    quantity: int


class ShipmentAnswer(Answer):
    """A parcel. `deliveredAt` is null while it is on its way."""

    shipment_id: UUID
    order_id: UUID
    carrier: str | None
    tracking_number: str | None
    items: Sequence[UnitsAnswer]
    shipped_at: Time
    delivered_at: Time | None


class ShipmentList(Answer):
    items: Sequence[ShipmentAnswer]


class RefundAnswer(Answer):
    """`status`: PENDING until the gateway has given it back. `restocked`: its units go back into the stock."""

    refund_id: UUID
    order_id: UUID
    kind: str
    status: str
    amount: int
    currency: str
    restocked: bool
    reason: str
    items: Sequence[UnitsAnswer]
    created_at: Time
    ended_at: Time | None


class RefundList(Answer):
    items: Sequence[RefundAnswer]


class NoteAnswer(Answer):
    note_id: UUID
    text: str
    is_public: bool
    created_at: Time


class OrderDetailAnswer(OrderAnswer):
    """`remarks`: notes beside it; those that are not public are shown to staff alone."""

    payment_method: str | None
    shipping_address: Any
    notes: str | None
    correlation_id: str
    payment: PaymentAnswer | None
    history: Sequence[MoveAnswer]
    shipments: Sequence[ShipmentAnswer]
    refunds: Sequence[RefundAnswer]
    remarks: Sequence[NoteAnswer]


class OrderPage(Answer):
    """`nextCursor`: send it as `cursor` to read on; null at the end."""

    items: Sequence[OrderAnswer]
    next_cursor: str | None


class OrderStatusAnswer(Answer):
    order_id: UUID
    status: str
    saga_status: str | None
    current_step: str | None
    failure_reason: str | None
    updated_at: Time


def status_answer(found: Status) -> OrderStatusAnswer:
    """Where an order stands, as it is told."""
    return OrderStatusAnswer(
        order_id=found.id,
        status=found.state,
        saga_status=found.saga_state,
        current_step=found.reached,
        failure_reason=found.failure_reason,
        updated_at=found.updated_at,
    )


class PlacedOrderAnswer(Answer):
    """What a 202 says."""

    order_id: UUID
    saga_id: UUID
    status: str
    total_amount: int
    currency: str
    items: Sequence[OrderLineAnswer]
    created_at: Time
