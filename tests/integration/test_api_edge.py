"""What holds for every request: problems, limits, correlation, the document. Who may what: test_api_access.py."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import aiohttp
import pytest

from api_client import PASSWORD, Client
from comanda.api import app

NOBODY = "01900000-0000-7000-8000-000000000000"
PRODUCT = {"name": "Coffee", "sku": "C-1", "price": 1250}


async def test_the_document_says_what_else_each_route_answers_with(api: Client) -> None:
    document = (await api.get("/api/openapi.json")).body
    for operations in document["paths"].values():
        for operation in operations.values():
            assert all(status in operation["responses"] for status in ("500", "503"))
            if "security" in operation:
                assert "401" in operation["responses"]
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
    assert "202" in document["paths"]["/api/v1/orders"]["post"]["responses"]
    assert {"401", "403"} <= document["paths"]["/api/v1/products"]["get"]["responses"].keys(), "what was deleted"


async def test_the_page_of_the_document_asks_nobody_else(api: Client) -> None:
    reply = await api.get("/api/docs")
    assert "/api/v1/orders" in reply.body
    assert "http://" not in reply.body.replace("http://www.w3.org", "")
    assert "https://" not in reply.body
    assert "<script" not in reply.body


async def test_the_document_is_made_once_however_many_ask(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def slowly() -> tuple[bytes, str]:
        begun.append(1)
        go_on.wait(60)
        return b"{}", "<!doctype html>"

    monkeypatch.setattr(app, "_shown", cache(slowly))
    asked = [asyncio.create_task(api.get(f"/api/{one}")) for one in ("openapi.json", "docs") * 10]
    for _ in asked:  # others are answered meanwhile
        assert (await api.get("/api/v1/products")).status == 200
    go_on.set()
    assert {one.status for one in await asyncio.gather(*asked)} == {200}
    assert len(begun) == 1


async def test_what_is_not_there_is_a_problem(api: Client) -> None:
    for path in ("/", "/api/v1/nothing", "/api/v1/products/", "/API/v1/products", "/api/v1/orders/x/y/z"):
        reply = await api.get(path)
        assert (path, reply.status, reply.body["code"]) == (path, 404, "ROUTE_NOT_FOUND")
    reply = await api.ask("PUT", "/api/v1/products")
    assert (reply.status, reply.body["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert set(reply.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    described = (await api.get(reply.body["type"])).body
    assert described["code"] == "METHOD_NOT_ALLOWED"
    assert (await api.get("/api/v1/problems/nothing")).status == 404


async def test_head_is_get_without_its_body(api: Client) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/api/v1/health/live", "/api/v1/products", "/api/openapi.json", "/api/v1/nothing"):
            async with session.get(api.url + path) as asked, session.head(api.url + path) as told:
                assert told.status == asked.status
                assert told.headers["Content-Type"] == asked.headers["Content-Type"]
                assert told.headers["Content-Length"] == str(len(await asked.read()))
                assert await told.read() == b""


async def test_two_idempotency_keys_are_no_key(api: Client) -> None:
    customer = await api.person()
    product = await api.product(await api.person("admin"))
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two"), ("Authorization", f"Bearer {customer.token}")]
    body = {"items": [{"productId": product["id"], "quantity": 1}]}
    url = f"{api.url}/api/v1/orders"
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, json=body) as reply:
        assert (reply.status, (await reply.json())["code"]) == (400, "MALFORMED_REQUEST")


async def test_two_people_are_nobody(api: Client) -> None:
    one, other = await api.person(), await api.person()
    headers = [("Authorization", f"Bearer {one.token}"), ("Authorization", f"Bearer {other.token}")]
    async with aiohttp.ClientSession(headers=headers) as session:
        for method, path in (("GET", "/api/v1/auth/me"), ("POST", "/api/v1/orders")):
            async with session.request(method, api.url + path, json={}) as reply:
                assert (reply.status, (await reply.json())["code"]) == (400, "MALFORMED_REQUEST")


@pytest.mark.parametrize("twice", ['"quantity":1,"\\u0071uantity":5', '"quantity":1,"quantity":5'])
async def test_a_name_that_stands_twice_is_refused_however_it_is_spelt(api: Client, twice: str) -> None:
    customer = await api.person()
    product = await api.product(await api.person("admin"))
    body = f'{{"items":[{{"productId":"{product["id"]}",{twice}}}]}}'
    reply = await api.ask(
        "POST", "/api/v1/orders", token=customer.token, data=body, headers={"Content-Type": "application/json"}
    )
    assert reply.status == 422, reply
    assert [one["message"] for one in reply.body["errors"]] == ["A name stands twice in one object"]


async def test_a_correlation_id_is_kept_if_it_is_harmless(api: Client) -> None:
    for sent in ("abc-1.2_3:4", "a" * 128):
        reply = await api.get("/api/v1/health/live", headers={"X-Correlation-Id": sent})
        assert reply.headers["X-Correlation-Id"] == sent
    for sent in ("a" * 129, "a b", "<script>", "{{7*7}}", "ñ", ""):
        reply = await api.get("/api/v1/health/live", headers={"X-Correlation-Id": sent})
        assert len(reply.headers["X-Correlation-Id"]) == 36
    admin = await api.person("admin")
    for path in ("/api/v1/orders", "/api/v1/products"):
        reply = await api.post(path, {}, token=admin.token, headers={"X-Correlation-Id": "mine"})
        assert (reply.status, reply.body["correlationId"]) == (422, "mine")


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65_536):
        yield b" " * 65_536
        await asyncio.sleep(0)


@pytest.mark.parametrize("path", ["/api/v1/products", "/api/v1/orders"])
async def test_a_body_has_its_limits(api: Client, path: str) -> None:
    admin = await api.person("admin")
    json_type = {"Content-Type": "application/json"}

    async def send(data: Any, **headers: str) -> tuple[int, str]:
        reply = await api.ask("POST", path, token=admin.token, data=data, headers=json_type | headers)
        return reply.status, reply.body["code"]

    assert await send(io.BytesIO(b" " * (1024 * 1024 + 1))) == (413, "BODY_TOO_LARGE")
    assert await send(_chunks(3 * 1024 * 1024)) == (413, "BODY_TOO_LARGE")
    assert (await send(_chunks(512 * 1024)))[0] in {400, 422}
    assert await send(b"\x1f\x8b", **{"Content-Encoding": "gzip"}) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert (await send(b"{}", **{"Content-Type": "text/plain"}))[0] == 415
    assert (await send(b"a=b", **{"Content-Type": "application/x-www-form-urlencoded"}))[0] == 415
    for broken in (b"", b"{", b"{]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"name": NaN}', b"null", b"[]"):
        assert (await send(broken))[0] in {400, 422}, broken[:20]


async def test_huge_headers_are_refused(api: Client) -> None:
    reply = await api.get("/api/v1/health/live", headers={f"X-{number}": "x" * 4000 for number in range(12)})
    assert (reply.status, reply.body["code"]) == (431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize(
    "raw",
    [
        "-1", "1.0", "1e3", "true", '"3"', "null", "9223372036854775808", "1" + "0" * 23, "NaN", "Infinity",
        "-Infinity", "1" * 5000, "[]", "{}", "1e400", "-0.5", "00", "+1", "0x10",
    ],
)  # fmt: skip
async def test_a_number_is_a_number(api: Client, raw: str) -> None:
    admin = await api.person("admin")
    for body, path in (
        (f'{{"name": "x", "sku": "x", "price": {raw}}}', "/api/v1/products"),
        (f'{{"productId": "{NOBODY}", "quantity": {raw}}}', "/api/v1/inventory/add-stock"),
        (f'{{"productId": "{NOBODY}", "initialStock": {raw}}}', "/api/v1/inventory"),
    ):
        headers = {"Content-Type": "application/json"}
        reply = await api.ask("POST", path, token=admin.token, data=body, headers=headers)
        assert (path, reply.status in {400, 422}) == (path, True), reply


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\x00b"},
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 256},
        {"sku": "\x00"},
        {"price": None},
        {"currency": "usd"},
        {"currency": "EURO"},
        {"tags": ["ok", 3]},
        {"tags": ["\x00"]},
        {"images": "no list"},
        {"attributes": {"a": {"b": "\x00"}}},
        {"attributes": {"\x00": 1}},
        {"attributes": [1]},
        {"attributes": {"a": [[[[[[[[[1]]]]]]]]]}},
        {"attributes": {"a": list(range(2000))}},
        {"weight": -1},
        {"weight": "1"},
        {"isActive": 1},
        {"isActive": "true"},
        {"minimumStock": 2**31},
        {"categoryId": "no uuid"},
        {"categoryId": 7},
        {"compare_at_price": 1},
        {"id": NOBODY},
        {"createdAt": "2026-01-01T00:00:00Z"},
        {"totalPrice": 1},
    ],
    ids=str,
)
async def test_a_product_is_a_closed_list(api: Client, change: dict[str, Any]) -> None:
    admin = await api.person("admin")
    reply = await api.post("/api/v1/products", PRODUCT | change, token=admin.token)
    assert (reply.status, reply.body["code"]) == (422, "VALIDATION_FAILED")
    assert reply.body["errors"][0]["field"].startswith(next(iter(change)))


async def test_half_a_surrogate_pair_is_refused_and_nothing_breaks(api: Client) -> None:
    admin = await api.person("admin")
    headers = {"Content-Type": "application/json"}
    for body in (
        r'{"name": "\ud800", "sku": "x", "price": 1}',
        r'{"name": "x", "sku": "x", "price": 1, "\udfff": 1}',
        r'{"name": "x", "sku": "x", "price": 1, "attributes": {"a": "\udc00"}}',
        r'{"name": "x", "sku": "x", "price": 1, "price": 2}',
        r'{"name": "x", "sku": "x", "price": 1, "attributes": {"a": 1, "a": 2}}',
    ):
        reply = await api.ask("POST", "/api/v1/products", token=admin.token, data=body, headers=headers)
        assert (reply.status, reply.body["code"]) == (422, "VALIDATION_FAILED"), body


async def test_odd_text_is_stored_literally(api: Client) -> None:
    admin = await api.person("admin")
    for number, text in enumerate(["<script>", "{{7*7}}", "=cmd()", "a\r\nb", "\u202eabc", "💥", "%00", "'; --"]):
        sku = f"{number} {text}".replace("\r\n", "-")  # the one thing that has to be a line
        product = await api.product(admin, name=text, sku=sku, attributes={text: text})
        found = (await api.get(f"/api/v1/products/{product['id']}")).body
        assert (found["name"], found["attributes"]) == (text, {text: text})


@pytest.mark.parametrize(
    "query",
    [
        "page=0", "page=-1", "page=x", "page=99999999999999999999", "limit=0", "limit=101", "status=gone",
        "minPrice=-1", "minPrice=9223372036854775808", "search=%00", "tags=%00", "tags=&" * 51, "sortBy=password_hash",
        "sortOrder=up", "onSale=perhaps",
    ],
)  # fmt: skip
async def test_a_wrong_filter_is_refused(api: Client, query: str) -> None:
    reply = await api.get(f"/api/v1/products?{query}")
    assert (reply.status, reply.body["errors"][0]["field"].partition(".")[0]) == (422, query.partition("=")[0])


async def test_the_metric_has_templates_and_no_ids(api: Client) -> None:
    await api.get(f"/api/v1/products/{NOBODY}")
    await api.get(f"/api/v1/{NOBODY}")
    await api.ask("PURGE", "/api/v1/products")
    text = (await api.get("/metrics")).body
    assert 'endpoint="/api/v1/products/{product_id}",method="GET"' in text
    assert 'endpoint="unmatched"' in text
    assert 'method="OTHER"' in text
    assert NOBODY not in text


async def test_health_shows_pool_redis_memory_disk_breaker_and_queues(api: Client) -> None:
    body = (await api.get("/api/v1/health/detailed")).body
    assert body["status"] == "up"
    assert body["checks"] == {"postgres": "up", "redis": "up"}
    assert body["pool"]["limit"] >= body["pool"]["size"] >= body["pool"]["idle"] >= 0
    assert body["memory"]["rss"] > 0
    assert body["disk"]["free"] > 0
    assert body["breaker"]["state"] == "CLOSED"
    assert len(body["queues"]) == 4
    assert "password" not in json.dumps(body)


async def test_no_answer_is_kept_unless_its_route_says_so(api: Client) -> None:
    """What has an ETag may be kept by whoever asks whether it has changed; nothing else may be kept at all."""
    admin = await api.person("admin")
    made = await api.post("/api/v1/products", PRODUCT, token=admin.token)
    signed_in = await api.post("/api/v1/auth/login", {"email": admin.email, "password": PASSWORD})
    replies = [made, signed_in, await api.get("/api/v1/auth/me")]
    replies += [
        await api.get(f"/api/v1{path}", token=admin.token)
        for path in ("/auth/me", "/users", "/orders", "/inventory", f"/products/{NOBODY}", "/nowhere", "/webhooks")
    ]
    assert {reply.status for reply in replies} == {200, 201, 401, 404}
    told = [reply.headers.getall("Cache-Control") for reply in replies if "ETag" not in reply.headers]
    assert len(told) >= 8
    assert all(one == ["no-store"] for one in told), told
    one = await api.get(f"/api/v1/products/{made.body['id']}")
    assert one.headers.getall("Cache-Control") == ["no-cache" if "ETag" in one.headers else "no-store"]
