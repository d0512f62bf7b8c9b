"""A request to each route that takes JSON, as the document shows it. Ids and codes stand for your own."""

from collections.abc import Mapping
from typing import Any

PRODUCT = "01930000-0000-7000-8000-000000000001"
RESERVATION = "01930000-0000-7000-8000-000000000002"
RENEWAL = "the refreshToken of your last sign-in"
CODE = "the code from the mail"
CHOSEN = "correct horse battery"
ANOTHER = "another horse battery"

_REGISTRATION = {"email": "ana@example.com", "password": CHOSEN, "firstName": "Ana", "lastName": "Ruiz"}
_UNITS = {"productId": PRODUCT, "quantity": 1}
_CATEGORY = {"name": "Tableware", "slug": "tableware", "position": 1}

_API = "/api/v1"
_ORDER = f"{_API}/orders/{{order_id}}"
BODIES: Mapping[tuple[str, str], dict[str, Any]] = {
    ("post", f"{_API}/auth/register"): {**_REGISTRATION, "language": "es"},
    ("post", f"{_API}/auth/verify-email"): {"token": CODE},
    ("post", f"{_API}/auth/login"): {"email": "ana@example.com", "password": CHOSEN},
    ("post", f"{_API}/auth/refresh"): {"refreshToken": RENEWAL},
    ("post", f"{_API}/auth/change-password"): {"currentPassword": CHOSEN, "newPassword": ANOTHER},
    ("post", f"{_API}/auth/forgot-password"): {"email": "ana@example.com"},
    ("post", f"{_API}/auth/reset-password"): {"token": CODE, "password": CHOSEN},
    ("post", f"{_API}/auth/logout"): {"refreshToken": RENEWAL},
    ("post", f"{_API}/users"): {**_REGISTRATION, "email": "luis@example.com", "role": "operator"},
    ("patch", f"{_API}/users/{{user_id}}"): {"role": "viewer", "phoneNumber": None},
    ("post", f"{_API}/products"): {
        "name": "Ceramic cup", "sku": "CUP-180", "price": 1250, "currency": "USD", "tags": ["tableware", "blue"],
        "attributes": {"ml": 180}, "compareAtPrice": 1500,
    },
    ("patch", f"{_API}/products/{{product_id}}"): {"price": 1150, "compareAtPrice": None},
    ("post", f"{_API}/categories"): _CATEGORY,
    ("put", f"{_API}/categories/{{category_id}}"): {**_CATEGORY, "description": "Cups and plates"},
    ("post", f"{_API}/inventory"): {"productId": PRODUCT, "initialStock": 100, "minimumStock": 10},
    ("post", f"{_API}/inventory/add-stock"): {**_UNITS, "quantity": 20, "reason": "delivery 4711"},
    ("post", f"{_API}/inventory/remove-stock"): {**_UNITS, "reason": "broken", "movementType": "DAMAGE"},
    ("post", f"{_API}/inventory/check-availability"): _UNITS,
    ("post", f"{_API}/inventory/reserve"): {**_UNITS, "expirationMinutes": 15},
    ("put", f"{_API}/inventory/release-reservation"): {"reservationId": RESERVATION, "reason": "changed their mind"},
    ("put", f"{_API}/inventory/fulfill-reservation"): {"reservationId": RESERVATION},
    ("post", f"{_API}/orders"): {
        "items": [{"productId": PRODUCT, "quantity": 3}], "paymentMethod": "pm_success",
        "shippingAddress": {"street": "Calle Mayor 1", "city": "Zaragoza", "country": "ES"},
    },
    ("post", f"{_ORDER}/cancel"): {"reason": "ordered twice"},
    ("post", f"{_ORDER}/shipments"): {"items": [_UNITS], "carrier": "Correos", "trackingNumber": "ES 123"},
    ("post", f"{_ORDER}/refunds"): {"reason": "one came chipped", "amount": 500},
    ("post", f"{_ORDER}/returns"): {"reason": "too small", "items": [_UNITS], "restock": True},
    ("post", f"{_ORDER}/notes"): {"text": "Rings twice", "isPublic": True},
    ("post", f"{_API}/webhooks"): {
        "url": "https://example.com/hooks", "eventTypes": ["OrderConfirmed", "OrderCancelled"],
    },
    ("patch", f"{_API}/webhooks/{{webhook_id}}"): {"isActive": True, "description": "the warehouse"},
    ("post", f"{_API}/webhooks/{{webhook_id}}/redeliver"): {"since": "2026-11-01T00:00:00Z"},
}  # fmt: skip
