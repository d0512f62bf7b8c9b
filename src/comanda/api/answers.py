"""What goes out: camelCase, times in UTC, amounts in minor units."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from comanda.clock import rfc3339

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


class AdminProductPage(PageAnswer):
    items: Sequence[AdminProductAnswer]


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
