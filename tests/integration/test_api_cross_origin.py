"""Pages of other origins: those that are named may ask, all others may not, and nobody's but its own the console."""

from collections.abc import Mapping

import aiohttp
import pytest

from api_client import running_api

SHOP, STRANGER = "https://shop.example", "https://evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower().startswith("access-control-")}


async def test_a_page_of_a_named_origin_may_ask_and_see_the_answer(database_url: str, redis_url: str) -> None:
    origins = f"{SHOP},http://localhost:3000"
    async with (
        running_api(database_url, redis_url, cors_origins=origins, is_limited=True, rate_read=(2, 300)) as api,
        aiohttp.ClientSession(api.url) as page,
    ):
        for path in ("/api/v1/orders", "/api/v1/products", "/api/v1/imports"):
            async with page.options(path, headers={"Origin": SHOP, **PREFLIGHT}) as reply:
                assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (200, SHOP)
                assert "POST" in reply.headers["Access-Control-Allow-Methods"]
                allowed = set(reply.headers["Access-Control-Allow-Headers"].split(", "))
                assert {"Idempotency-Key", "If-Match", "If-None-Match"} <= allowed
                assert "Origin" in reply.headers["Vary"]
                assert "Access-Control-Allow-Credentials" not in reply.headers
            async with page.options(path, headers={"Origin": STRANGER, **PREFLIGHT}) as reply:
                assert reply.status == 400
                assert "Access-Control-Allow-Origin" not in reply.headers
        customer = await api.person()
        # The route of orders is one of its own: what is refused there is seen as well.
        seen = await api.post("/api/v1/orders", {"items": []}, token=customer.token, headers={"Origin": SHOP})
        assert (seen.status, seen.headers["Access-Control-Allow-Origin"]) == (422, SHOP)
        for status in (200, 200, 429):
            seen = await api.get("/api/v1/products", headers={"Origin": "http://localhost:3000"})
            assert (seen.status, seen.headers["Access-Control-Allow-Origin"]) == (status, "http://localhost:3000")
            shown = set(seen.headers["Access-Control-Expose-Headers"].split(", "))
            assert {"ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After", "Deprecation",
                    "Idempotent-Replayed", "X-Correlation-Id"} <= shown  # fmt: skip
        for origin in (STRANGER, f"{SHOP}:8443", "null", "https://shop.example.evil.example"):
            seen = await api.get("/api/v1/health/live", headers={"Origin": origin})
            assert seen.status == 200
            assert "Access-Control-Allow-Origin" not in seen.headers
            assert "Origin" in seen.headers["Vary"], "caches keep the two apart"


@pytest.mark.parametrize("origins", ["", "none", SHOP, "*"])
async def test_no_page_of_others_may_ask_the_console(database_url: str, redis_url: str, origins: str) -> None:
    async with (
        running_api(database_url, redis_url, cors_origins=origins) as api,
        aiohttp.ClientSession(api.url) as page,
    ):
        for path in ("/admin", "/admin/login", "/admin/orders"):
            for method, more in (("GET", {}), ("OPTIONS", PREFLIGHT), ("POST", {})):
                asked = {"Origin": SHOP, **more}
                async with page.request(method, path, headers=asked, allow_redirects=False) as reply:
                    assert (path, method, _told(reply.headers)) == (path, method, {})
        async with page.get("/api/v1/health/live", headers={"Origin": SHOP}) as reply:
            told = _told(reply.headers)
        named = {SHOP: SHOP, "*": "*"}.get(origins)
        assert told.get("Access-Control-Allow-Origin") == named
        assert "Access-Control-Allow-Credentials" not in told
