"""What may come in. Bodies are closed: an unknown name, a wrong type or a text that can't be stored is a 422."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from comanda.accounts.accounts import Role
from comanda.accounts.passwords import LONGEST, SHORTEST
from comanda.field_errors import wrong
from comanda.fields import (
    MOST_MONEY,
    MOST_TAGS,
    Body,
    Count,
    Description,
    Email,
    Id,
    Location,
    Moment,
    Money,
    Name,
    Phone,
    ProductName,
    Sku,
    Storable,
    not_blank,
    refuse_no_change,
)
from comanda.inventory.admin import MOST, Addition, Removal

_MOST_UNITS = 1_000_000_000


def _listed(value: Any) -> Any:
    """`?tags=a,b` and `?tags=a&tags=b` are one; empty ones count for the document's limit and for nothing else."""
    if isinstance(value, list) and len(value) <= MOST_TAGS and all(isinstance(one, str) for one in value):
        return [tag for one in value for tag in one.split(",") if tag]
    return value


Password = Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST), Storable]
Token = Annotated[str, Field(min_length=1, max_length=200), Storable]
Stocked = Annotated[int, Field(ge=0, le=MOST)]
Quantity = Annotated[int, Field(ge=1, le=_MOST_UNITS)]
Reason = Annotated[str, Field(max_length=500), Storable]
Notes = Annotated[str, Field(max_length=2000), Storable]
Slug = Annotated[str, Field(min_length=1, max_length=100, pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]
MovementKind = Literal[
    "RESTOCK",
    "SALE",
    "RETURN",
    "ADJUSTMENT",
    "RESERVATION",
    "RELEASE_RESERVATION",
    "DAMAGE",
    "THEFT",
    "TRANSFER_IN",
    "TRANSFER_OUT",
    "EXPIRED",
    "QUALITY_CONTROL",
    "MANUAL_CORRECTION",
    "SYSTEM_CORRECTION",
]
EventType = Literal[
    "OrderCreated",
    "OrderConfirmed",
    "OrderFailed",
    "OrderCancelled",
    "OrderShipped",
    "OrderDelivered",
    "InventoryReserved",
    "ReservationConfirmed",
    "ReservationReleased",
    "ReservationExpired",
    "StockUpdated",
    "LowStock",
    "PaymentInitiated",
    "PaymentProcessed",
    "PaymentFailed",
    "PaymentRefunded",
    "PaymentCancelled",
    "PaymentStatusUpdated",
]

# In a query everything is a text.
Search = Annotated[str, Field(max_length=200), Storable]
Page = Annotated[int, Field(ge=1, le=1_000_000)]
Limit = Annotated[int, Field(ge=1, le=100)]
Bound = Annotated[int, Field(ge=0, le=MOST)]
Shown = Literal["active", "inactive", "all"]
IS_ACTIVE: Mapping[Shown, bool | None] = {"active": True, "inactive": False, "all": None}
QueryTags = Annotated[list[Search], BeforeValidator(_listed), Field(max_length=MOST_TAGS)]


class RegisterBody(Body):
    email: Email
    password: Password
    first_name: Name
    last_name: Name
    phone_number: Phone | None = None
    language: Literal["en", "es"] = "en"


class UserBody(RegisterBody):
    role: Role = "customer"


class UserPatch(Body):
    """What is left out stays as it is; null empties the phone number."""

    first_name: Name | None = None
    last_name: Name | None = None
    phone_number: Phone | None = None
    language: Literal["en", "es"] | None = None
    role: Role | None = None

    @model_validator(mode="after")
    def _is_a_change(self) -> "UserPatch":
        refuse_no_change(self, {"phone_number"})
        return self

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class LoginBody(Body):
    email: Annotated[str, Field(min_length=1, max_length=254), Storable]
    password: Annotated[str, Field(min_length=1, max_length=LONGEST), Storable]


class RefreshBody(Body):
    refresh_token: Token


class LogoutBody(Body):
    """Without a token every session of the account ends."""

    refresh_token: Token | None = None


class VerifyBody(Body):
    token: Token


class ForgotBody(Body):
    email: Annotated[str, Field(min_length=1, max_length=254), Storable]


class ResetBody(Body):
    token: Token
    password: Password


class ChangePasswordBody(Body):
    current_password: Annotated[str, Field(min_length=1, max_length=LONGEST), Storable]
    new_password: Password


class CategoryBody(Body):
    name: ProductName
    slug: Slug
    description: Description | None = None
    parent_id: Id | None = None
    position: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] = 0
    is_active: bool = True


class StockBody(Body):
    """`sku` may be sent for the sake of older clients; the product's own counts."""

    product_id: Id
    initial_stock: Stocked
    sku: Sku | None = None
    location: Location = "MAIN"
    minimum_stock: Count | None = None
    maximum_stock: Count | None = None
    reorder_point: Count | None = None
    reorder_quantity: Count | None = None
    notes: Notes | None = None


class AddStockBody(Body):
    product_id: Id
    quantity: Quantity
    location: Location = "MAIN"
    reason: Reason | None = None
    movement_type: Addition = "RESTOCK"


class RemoveStockBody(Body):
    product_id: Id
    quantity: Quantity
    location: Location = "MAIN"
    reason: Reason | None = None
    movement_type: Removal = "ADJUSTMENT"


class ReserveBody(Body):
    """Without a location: wherever they lie."""

    product_id: Id
    quantity: Quantity
    location: Location | None = None
    expiration_minutes: Annotated[int, Field(ge=1, le=60 * 24 * 30)] = 30
    reason: Reason | None = None


class EndReservationBody(Body):
    reservation_id: Id
    reason: Reason | None = None


class AvailabilityBody(Body):
    """Without a location: wherever it lies."""

    product_id: Id
    quantity: Quantity
    location: Location | None = None


class UnitsBody(Body):
    """Repeated lines of a product are summed."""

    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]


Items = Annotated[Sequence[UnitsBody], Field(min_length=1, max_length=1000)]
Why = Annotated[str, Field(min_length=1, max_length=500), Storable, AfterValidator(not_blank)]


class CancelBody(Body):
    reason: Why | None = None


class ShipmentBody(Body):
    """Without items: whatever is left of the order."""

    items: Items | None = None
    carrier: Name | None = None
    tracking_number: Name | None = None


class RefundBody(Body):
    """An amount, what some units cost (or less), or, with neither, all that is left. Restocking needs units."""

    reason: Why
    amount: Annotated[int, Field(ge=1, le=MOST_MONEY, description="In minor units (cents)")] | None = None
    items: Items | None = None
    restock: bool = False

    @model_validator(mode="after")
    def _names_what_goes_back(self) -> "RefundBody":
        if self.restock and self.items is None:
            raise wrong("restock_without_items")
        return self


class ReturnBody(Body):
    """Units that were shipped and are back; `amount` where less than they cost is given back."""

    reason: Why
    items: Items
    amount: Money | None = None
    restock: bool = True


class NoteBody(Body):
    text: Annotated[str, Field(min_length=1, max_length=2000), Storable, AfterValidator(not_blank)]
    is_public: bool = False


class WebhookBody(Body):
    """Without event types: all of them. Addresses that are not public have to be allowed by setting."""

    url: Annotated[str, Field(min_length=1, max_length=2000), Storable]
    description: Description | None = None
    event_types: Annotated[list[EventType], Field(max_length=50)] = []  # noqa: RUF012 - each body has its own copy


class WebhookPatch(Body):
    """What is left out stays as it is. `isActive: true` switches one on that was disabled."""

    url: Annotated[str, Field(min_length=1, max_length=2000), Storable] | None = None
    description: Description | None = None
    event_types: Annotated[list[EventType], Field(max_length=50)] | None = None
    is_active: bool | None = None

    @model_validator(mode="after")
    def _is_a_change(self) -> "WebhookPatch":
        refuse_no_change(self, {"description"})
        return self

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class RedeliverBody(Body):
    """What was first sent from `since` on, before `until`; left out: up to now."""

    since: Moment
    until: Moment | None = None


class OrderItemBody(Body):
    """Repeated lines of a product are summed."""

    product_id: Id
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]


class OrderBody(Body):
    """For the document: the route that places orders reads its body by itself."""

    items: Annotated[Sequence[OrderItemBody], Field(min_length=1, max_length=1000)]
    payment_method: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    shipping_address: dict[str, JsonValue] | None = None
    notes: Notes | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = None
