"""The examples of the document, sent as they stand there: ids and codes are put in, and every answer is a good one."""

import io
import json
from typing import Any
from uuid import UUID

from api_client import KEY, Client, running_api
from comanda.accounts import one_time
from comanda.accounts.one_time import OneTime, Purpose
from comanda.api import examples
from shop import shop

CODES = OneTime(KEY)
# Each after what it needs.
ORDER = "/api/v1/orders/{order_id}"
TURNS = [
    ("post", "/api/v1/auth/register"), ("post", "/api/v1/auth/verify-email"), ("post", "/api/v1/auth/login"),
    ("post", "/api/v1/auth/refresh"), ("post", "/api/v1/auth/change-password"),
    ("post", "/api/v1/auth/forgot-password"), ("post", "/api/v1/auth/reset-password"),
    ("post", "/api/v1/auth/login"), ("post", "/api/v1/auth/logout"), ("post", "/api/v1/users"),
    ("patch", "/api/v1/users/{user_id}"), ("post", "/api/v1/categories"),
    ("put", "/api/v1/categories/{category_id}"), ("post", "/api/v1/products"),
    ("patch", "/api/v1/products/{product_id}"), ("post", "/api/v1/inventory"), ("post", "/api/v1/inventory/add-stock"),
    ("post", "/api/v1/inventory/remove-stock"), ("post", "/api/v1/inventory/check-availability"),
    ("post", "/api/v1/inventory/reserve"), ("put", "/api/v1/inventory/release-reservation"),
    ("post", "/api/v1/inventory/reserve"), ("put", "/api/v1/inventory/fulfill-reservation"),
    ("post", "/api/v1/orders"), ("post", f"{ORDER}/cancel"), ("post", "/api/v1/orders"), ("post", f"{ORDER}/notes"),
    ("post", f"{ORDER}/shipments"), ("post", f"{ORDER}/refunds"), ("post", f"{ORDER}/returns"),
    ("post", "/api/v1/webhooks"), ("patch", "/api/v1/webhooks/{webhook_id}"),
    ("post", "/api/v1/webhooks/{webhook_id}/redeliver"),
]  # fmt: skip


async def test_every_example_of_the_document_is_answered_well(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api, shop(database_url, redis_url, has_relay=False) as here:
        admin = await api.person("admin")
        document = (await api.get("/api/openapi.json")).body
        shown = _examples(document)
        assert {(method, path) for method, path, kind in shown if kind == "application/json"} == set(TURNS)
        known = {"token": admin.token}
        for method, path in TURNS:
            body = shown[method, path, "application/json"]
            if examples.CODE in json.dumps(body):
                purpose: Purpose = "verify_email" if path.endswith("verify-email") else "reset_password"
                async with api.database.transaction() as tx:
                    (token_id,) = await one_time.issue(tx, CODES, [UUID(known["account"])], purpose)
                known[examples.CODE] = CODES.token(token_id)
            reply = await _sent(api, known, method, path, body)
            assert str(reply.status) in document["paths"][path][method]["responses"], (method, path, reply)
            assert 200 <= reply.status < 300, (method, path, reply)
            _learn(known, path, reply.body)
            if path == "/api/v1/orders":
                await here.ended(UUID(reply.body["orderId"]))


async def test_the_examples_of_files_are_imported(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api:
        admin = await api.person("admin")
        shown = _examples((await api.get("/api/openapi.json")).body)
        files = {kind: text for (_, path, kind), text in shown.items() if path == "/api/v1/imports"}
        assert set(files) == {"text/csv", "application/x-ndjson"}
        for kind, text in files.items():
            reply = await api.ask(
                "POST", "/api/v1/imports?kind=products", token=admin.token, data=io.BytesIO(text.encode()),
                headers={"Content-Type": kind},
            )  # fmt: skip
            assert reply.status == 202, reply


def _examples(document: dict[str, Any]) -> dict[tuple[str, str, str], Any]:
    """By method, path and media type; a body without one is a gap."""
    found = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for kind, content in operation.get("requestBody", {"content": {}})["content"].items():
                found[method, path, kind] = content["example"]
    return found


async def _sent(api: Client, known: dict[str, str], method: str, path: str, body: Any) -> Any:
    text = json.dumps(body)
    for placed in (examples.CODE, examples.RENEWAL, examples.PRODUCT, examples.RESERVATION):
        text = text.replace(placed, known.get(placed, placed))
    headers = {"Idempotency-Key": path} if path.endswith(("/cancel", "/refunds", "/returns")) else {}
    signed_in = known.get("session") if path.endswith(("change-password", "logout")) else known["token"]
    return await api.ask(
        method.upper(), path.format_map(known), token=signed_in, data=io.BytesIO(text.encode()),
        headers={"Content-Type": "application/json", **headers},
    )  # fmt: skip


def _learn(known: dict[str, str], path: str, body: Any) -> None:
    """What the next ones stand on."""
    if not isinstance(body, dict):
        return
    if "refreshToken" in body:
        known |= {
            examples.RENEWAL: body["refreshToken"],
            "session": body["accessToken"],
            "account": body["user"]["id"],
        }
    if "orderId" in body and path == "/api/v1/orders":
        known["order_id"] = body["orderId"]
    if "reservationId" in body:
        known[examples.RESERVATION] = body["reservationId"]
    of = {"users": "user_id", "categories": "category_id", "products": "product_id", "webhooks": "webhook_id"}
    made = of.get(path.rpartition("/")[2])
    if made is not None:
        known[made] = body["id"]
    if made == "product_id":
        known[examples.PRODUCT] = body["id"]
