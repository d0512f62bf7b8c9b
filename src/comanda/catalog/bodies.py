"""A product as it may come in: whole, or as a change of some of its fields."""

from typing import Any

from pydantic import model_validator

from comanda.fields import (
    Attributes,
    Body,
    Count,
    Currency,
    Description,
    Id,
    Images,
    Money,
    Name,
    ProductName,
    Sku,
    Tags,
    Weight,
    refuse_no_change,
)


class ProductBody(Body):
    name: ProductName
    sku: Sku
    price: Money
    currency: Currency = "USD"
    description: Description | None = None
    brand: Name | None = None
    tags: Tags = []  # noqa: RUF012 - each body has its own copy
    images: Images = []  # noqa: RUF012 - the same
    attributes: Attributes = {}  # noqa: RUF012 - the same
    category_id: Id | None = None
    weight: Weight | None = None
    cost_price: Money | None = None
    compare_at_price: Money | None = None
    track_inventory: bool = True
    minimum_stock: Count = 0
    is_active: bool = True


class ProductPatch(Body):
    """What is left out stays as it is; null empties a field that may be empty."""

    name: ProductName | None = None
    price: Money | None = None
    currency: Currency | None = None
    description: Description | None = None
    brand: Name | None = None
    tags: Tags | None = None
    images: Images | None = None
    attributes: Attributes | None = None
    category_id: Id | None = None
    weight: Weight | None = None
    cost_price: Money | None = None
    compare_at_price: Money | None = None
    track_inventory: bool | None = None
    minimum_stock: Count | None = None
    is_active: bool | None = None

    @model_validator(mode="after")
    def _is_a_change(self) -> "ProductPatch":
        refuse_no_change(self, _MAY_BE_EMPTY)
        return self

    def changes(self) -> dict[str, Any]:
        """The fields that were sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


_MAY_BE_EMPTY = {"description", "brand", "category_id", "weight", "cost_price", "compare_at_price"}
