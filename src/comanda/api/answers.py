"""What goes out: camelCase, times in UTC, amounts in minor units."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from comanda.clock import rfc3339
from comanda.orders.reads import Status

Time = Annotated[
    datetime,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Answer(BaseModel):
    """Made by our own names, read by anybody's attributes."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, from_attributes=True, frozen=True
    )


class PageAnswer(Answer):
    """`total`: how many there are on all pages."""

    total: int
    page: int
    limit: int
    total_pages: int


def numbered(number: int, limit: int, total: int) -> dict[str, int]:
    """The fields of a `PageAnswer`: the page of that number, of so many in all."""
    return {"total": total, "page": number, "limit": limit, "total_pages": -(-total // limit)}


class AccountAnswer(Answer):
    id: UUID
    email: str
    first_name: str
    last_name: str
    phone_number: str | None
    language: str
    role: str
    is_active: bool
    email_verified: bool
    created_at: Time
    updated_at: Time


class AccountPage(PageAnswer):
    items: Sequence[AccountAnswer]


class SessionAnswer(Answer):
    """`expiresIn`: seconds that the access token lives."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int
    user: AccountAnswer


class CategoryAnswer(Answer):
    id: UUID
    slug: str
    name: str
    description: str | None
    parent_id: UUID | None
    position: int
    is_active: bool
    created_at: Time
    updated_at: Time


class CategoryPage(PageAnswer):
    items: Sequence[CategoryAnswer]


class CategoryBranch(CategoryAnswer):
    """A category with all that stands below it."""

    children: Sequence["CategoryBranch"]


class ProductAnswer(Answer):
    id: UUID
    sku: str
    name: str
    description: str | None
    brand: str | None
    tags: Sequence[str]
    images: Sequence[str]
    attributes: Mapping[str, Any]
    category_id: UUID | None
    weight: float | None
    price: int
    currency: str
    compare_at_price: int | None
    track_inventory: bool
    minimum_stock: int
    is_active: bool
    created_at: Time
    updated_at: Time


class AdminProductAnswer(ProductAnswer):
    cost_price: int | None
    deleted_at: Time | None


class ProductPage(PageAnswer):
    items: Sequence[ProductAnswer]


class StockAnswer(Answer):
    """One product at one location; physical = available + reserved."""

    product_id: UUID
    sku: str
    product_name: str
    location: str
    physical_stock: int
    reserved_stock: int
    available_stock: int
    status: str
    minimum_stock: int
    maximum_stock: int | None
    reorder_point: int | None
    reorder_quantity: int | None
    notes: str | None


class StockPage(PageAnswer):
    items: Sequence[StockAnswer]


class ProductStockAnswer(Answer):
    """Summed over the locations."""

    product_id: UUID
    physical_stock: int
    reserved_stock: int
    available_stock: int
    locations: Sequence[StockAnswer]


class AvailabilityAnswer(Answer):
    product_id: UUID
    location: str | None
    requested: int
    available_stock: int
    is_available: bool


class ReservedAnswer(Answer):
    product_id: UUID
    location: str
    quantity: int


class ReservationAnswer(Answer):
    """`orderId` is null for one that staff made."""

    reservation_id: UUID
    order_id: UUID | None
    status: str
    items: Sequence[ReservedAnswer]
    expires_at: Time
    created_at: Time
    ended_at: Time | None


class MovementAnswer(Answer):
    """A line of the ledger of stock. `reference`: the refund that brought goods back, or the import."""

    id: UUID
    product_id: UUID
    location: str
    kind: str
    on_hand_delta: int
    held_delta: int
    order_id: UUID | None
    actor: str
    reason: str | None
    reference: UUID | None
    at: Time


class MovementPage(Answer):
    """`nextCursor`: send it as `cursor` to read on; null at the end."""

    items: Sequence[MovementAnswer]
    next_cursor: str | None


class StockStatsAnswer(Answer):
    products: int
    locations: int
    physical_stock: int
    reserved_stock: int
    available_stock: int
    low_stock: int
    out_of_stock: int


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


class WebhookAnswer(Answer):
    """`disabledReason`: why nothing is sent there: SWITCHED_OFF, or GONE after it answered 410."""

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str]
    is_active: bool
    disabled_reason: str | None
    created_at: Time
    updated_at: Time


class WebhookSecretAnswer(Answer):
    """The secret is shown this once: `webhook-signature` is made with it, as Standard Webhooks have it."""

    id: UUID
    secret: str


class NewWebhookAnswer(WebhookAnswer):
    secret: str


class WebhookList(Answer):
    items: Sequence[WebhookAnswer]


class DeliveryAnswer(Answer):
    """`isAgain`: somebody asked for it once more."""

    id: UUID
    event_id: UUID
    event_type: str
    status: str
    is_again: bool
    created_at: Time
    ended_at: Time | None


class DeliveryPage(Answer):
    """`nextCursor`: send it as `cursor` to read on; null at the end."""

    items: Sequence[DeliveryAnswer]
    next_cursor: str | None


class DeliveryAttemptAnswer(Answer):
    """`status` is null where nobody answered; `error` says why. `answer`: its first 1,000 bytes."""

    attempt: int
    at: Time
    headers: Mapping[str, str]
    status: int | None
    answer: str | None
    error: str | None
    duration_ms: float


class DeliveryDetailAnswer(DeliveryAnswer):
    """`body` is what was signed, letter for letter."""

    body: str
    attempts: Sequence[DeliveryAttemptAnswer]


class RedeliveryAnswer(Answer):
    deliveries: int


class FieldErrorAnswer(Answer):
    """`code` is stable, `message` is for people."""

    field: str
    message: str
    code: str


class ProblemAnswer(Answer):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    instance: str
    correlation_id: str | None
    errors: Sequence[FieldErrorAnswer] = ()


class ProblemKindAnswer(Answer):
    type: str
    title: str
    status: int
    code: str


class HealthAnswer(Answer):
    status: str
    checks: Mapping[str, str]


class DetailedHealthAnswer(HealthAnswer):
    version: str
    uptime_seconds: float
    pool: Mapping[str, int]
    memory: Mapping[str, int]
    disk: Mapping[str, int]
    breaker: Mapping[str, Any] | None
    queues: Sequence[Mapping[str, Any]]
    replica: Mapping[str, Any] | None


class ImportAnswer(Answer):
    """A file that is worked off. `lines`: the file's; created, changed, unchanged and rejected count what they say."""

    id: UUID
    kind: str
    format: str
    state: str
    bytes: int
    bytes_read: int
    lines: int
    lines_read: int
    created: int
    changed: int
    unchanged: int
    rejected: int
    created_at: Time
    ended_at: Time | None


class ImportPage(Answer):
    """`nextCursor`: where the next page begins; null on the last one."""

    items: Sequence[ImportAnswer]
    next_cursor: str | None


class RejectionAnswer(Answer):
    """A line that was not done. `field` is empty where it is about the whole line; `text` is cut where it is long."""

    line: int
    text: str
    field: str
    code: str
    message: str


class RejectionPage(Answer):
    """`nextAfter`: the line after which the next page begins; null on the last one."""

    items: Sequence[RejectionAnswer]
    next_after: int | None
