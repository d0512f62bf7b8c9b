"""What can be done next with what an answer tells of: OpenAPI's links, from placing an order to refunding it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Made:
    """A route that makes something, where its id stands in the answer, and under which path it can be found."""

    by: str
    id: str
    below: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A route that takes an id in its body, together with what else it needs."""

    after: str
    method: str
    path: str
    body: dict[str, Any]


_ORDER = "/api/v1/orders/{order_id}"
_MADE = (
    _Made("/api/v1/orders", "orderId", _ORDER),
    _Made(f"{_ORDER}/shipments", "shipmentId", f"{_ORDER}/shipments/{{shipment_id}}"),
    _Made(f"{_ORDER}/refunds", "refundId", f"{_ORDER}/refunds/{{refund_id}}"),
    _Made(f"{_ORDER}/returns", "refundId", f"{_ORDER}/refunds/{{refund_id}}"),
    _Made("/api/v1/products", "id", "/api/v1/products/{product_id}"),
    _Made("/api/v1/categories", "id", "/api/v1/categories/{category_id}"),
    _Made("/api/v1/users", "id", "/api/v1/users/{user_id}"),
    _Made("/api/v1/webhooks", "id", "/api/v1/webhooks/{webhook_id}"),
    _Made("/api/v1/webhooks/{webhook_id}/test", "id", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"),
    _Made("/api/v1/inventory", "productId", "/api/v1/inventory/product/{product_id}"),
    _Made("/api/v1/inventory/reserve", "reservationId", "/api/v1/inventory/reservations/{reservation_id}"),
)

_PRODUCT = "$response.body#/productId"
_RESERVATION = {"reservationId": "$response.body#/reservationId"}
_ASKED = (
    _Asked("/api/v1/products", "post", "/api/v1/inventory", {"productId": "$response.body#/id", "initialStock": 100}),
    _Asked("/api/v1/inventory", "post", "/api/v1/inventory/add-stock", {"productId": _PRODUCT, "quantity": 1}),
    _Asked("/api/v1/inventory", "post", "/api/v1/inventory/reserve", {"productId": _PRODUCT, "quantity": 1}),
    _Asked(
        "/api/v1/inventory", "post", "/api/v1/orders",
        {"items": [{"productId": _PRODUCT, "quantity": 1}], "paymentMethod": "pm_success"},
    ),
    _Asked("/api/v1/inventory/reserve", "put", "/api/v1/inventory/release-reservation", _RESERVATION),
    _Asked("/api/v1/inventory/reserve", "put", "/api/v1/inventory/fulfill-reservation", _RESERVATION),
)  # fmt: skip


def link(document: dict[str, Any]) -> None:
    """Write the links into the document."""
    paths = document["paths"]
    for made in _MADE:
        links = _links(paths, made.by)
        known = {one: f"$request.path.{one}" for one in _parameters(made.by)}
        known |= {one: f"$response.body#/{made.id}" for one in _parameters(made.below) if one not in known}
        for path, operations in paths.items():
            if (path == made.below or path.startswith(f"{made.below}/")) and set(_parameters(path)) <= known.keys():
                for operation in operations.values():
                    given = {one: known[one] for one in _parameters(path)}
                    links[_name(operation)] = {"operationId": operation["operationId"], "parameters": given}
    for asked in _ASKED:
        operation = paths[asked.path][asked.method]
        links = _links(paths, asked.after)
        links[_name(operation)] = {"operationId": operation["operationId"], "requestBody": asked.body}


def _links(paths: dict[str, Any], path: str) -> dict[str, Any]:
    """Those of the answer of the route that made it."""
    answers = paths[path]["post"]["responses"]
    (status,) = (one for one in answers if one.startswith("2"))
    links: dict[str, Any] = answers[status].setdefault("links", {})
    return links


def _name(operation: dict[str, Any]) -> str:
    name: str = operation["operationId"]
    return name.replace("_api_v1_", "_")


def _parameters(path: str) -> Iterator[str]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield part.strip("{}")
