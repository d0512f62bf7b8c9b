"""Limits over HTTP: two APIs on one Redis, and what a client can't talk its way out of."""

import os
import re
import signal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from api_client import running_api
from comanda.engines import valkey
from up import eventually

UNREACHABLE = "redis://127.0.0.1:1/0"


async def test_a_client_is_told_what_is_left_and_refused_with_a_time(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, is_limited=True, rate_read=(5, 300)) as api:
        for left in (4, 3, 2, 1, 0):
            reply = await api.get("/api/v1/products")
            assert reply.status == 200
            assert reply.headers["RateLimit-Policy"] == '"read";q=5;w=300'
            assert re.fullmatch(rf'"read";r={left};t=\d+', reply.headers["RateLimit"]), reply.headers["RateLimit"]
        refused = await api.get("/api/v1/products")
        assert (refused.status, refused.body["code"]) == (429, "TOO_MANY_REQUESTS")
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        for variant in ("/api/v1/products/", "//api/v1/products", "/api/v1/PRODUCTS", "/api/v1/%70roducts", "/nothing"):
            assert (await api.get(variant)).status == 429, "whatever it is called"
        for forged in (
            {"X-Forwarded-For": "198.51.100.1"},
            {"Forwarded": "for=198.51.100.1"},
            {"X-Real-IP": "1.1.1.1"},
        ):
            assert (await api.ask("GET", "/api/v1/products", headers=forged)).status == 429
        assert (await api.ask("GET", "/api/v1/products", token="x.y.z")).status == 429, "a token that is none"
        for probe in ("/api/v1/health", "/api/v1/health/live", "/api/v1/health/ready", "/metrics"):
            reply = await api.get(probe)
            assert reply.status == 200
            assert "RateLimit" not in reply.headers
        assert 'http_requests_limited_total{class="read"}' in (await api.get("/metrics")).body


async def test_each_account_has_its_own_and_orders_and_polling_are_counted_apart(
    database_url: str, redis_url: str
) -> None:
    limits: dict[str, Any] = {"rate_read": (3, 300), "rate_orders": (2, 300), "rate_status": (60, 60)}
    async with running_api(database_url, redis_url, is_limited=True, **limits) as api:
        ana, luis = await api.person(), await api.person()
        for _ in range(3):
            assert (await api.get("/api/v1/orders", token=ana.token)).status == 200
        assert (await api.get("/api/v1/orders", token=ana.token)).status == 429
        assert (await api.get("/api/v1/orders", token=luis.token)).status == 200
        for expected in (422, 422, 429):
            reply = await api.post("/api/v1/orders", {"items": []}, token=ana.token)
            assert reply.status == expected, reply
        assert reply.headers["RateLimit"].startswith('"orders";r=0')
        path = "/api/v1/orders/00000000-0000-7000-8000-000000000009/status"
        statuses = [(await api.get(path, token=ana.token)).status for _ in range(20)]
        assert set(statuses) == {404}, "twenty times a minute is what clients are told"


async def test_two_processes_share_a_limit(database_url: str, redis_url: str) -> None:
    limit: dict[str, Any] = {"rate_read": (10, 600)}
    async with (
        running_api(database_url, redis_url, is_limited=True, **limit) as one,
        running_api(database_url, redis_url, is_limited=True, **limit) as other,
    ):
        for _ in range(10):
            assert (await one.get("/api/v1/products")).status == 200

        async def has_heard() -> bool:
            return (await other.get("/api/v1/products")).status == 429

        await eventually(has_heard)


async def test_without_redis_the_limit_holds_and_nobody_waits(database_url: str) -> None:
    async with running_api(database_url, UNREACHABLE, is_limited=True, rate_read=(5, 300)) as api:
        assert [(await api.get("/api/v1/products")).status for _ in range(7)] == [200] * 5 + [429] * 2


async def test_behind_a_proxy_of_ours_each_client_has_its_own(database_url: str, redis_url: str) -> None:
    async with running_api(
        database_url, redis_url, is_limited=True, rate_read=(2, 300), trusted_proxies="127.0.0.0/8"
    ) as api:

        async def asked(forwarded: str) -> int:
            reply = await api.ask("GET", "/api/v1/products", headers={"X-Forwarded-For": forwarded})
            return reply.status

        assert [await asked("198.51.100.1") for _ in range(3)] == [200, 200, 429]
        assert await asked("198.51.100.2") == 200
        assert await asked("203.0.113.9, 198.51.100.1") == 429, "what a client says of itself is not heeded"
        assert [await asked(f"2001:db8:0:1::{n}") for n in range(3)] == [200, 200, 429], "one customer's addresses"


async def test_a_flushed_redis_is_told_again_who_has_had_enough(
    database_url: str, redis_url: str, redis: Redis
) -> None:
    limit: dict[str, Any] = {"rate_read": (10, 600)}
    async with (
        running_api(database_url, redis_url, is_limited=True, **limit) as one,
        running_api(database_url, redis_url, is_limited=True, **limit) as other,
    ):
        assert [(await one.get("/api/v1/products")).status for _ in range(11)] == [200] * 10 + [429]

        async def is_told() -> bool:
            (bucket,) = await redis.keys("comanda:{limits}:read:*") or [b""]
            return await redis.pttl(bucket) > 500_000  # of ten minutes in which it fills up

        await eventually(is_told)
        await redis.flushdb()
        await eventually(is_told)  # by a process to which nothing new has come

        async def has_heard() -> bool:
            return (await other.get("/api/v1/products")).status == 429

        await eventually(has_heard)


async def test_a_redis_that_hangs_costs_nobody_an_answer(database_url: str, tmp_path: Path) -> None:
    """Stopped, not gone: its connections stand, and nothing comes. A request may take less than Redis is given."""
    running = await valkey.start(tmp_path)
    redis = Redis.from_url(running.url)
    try:
        limit: dict[str, Any] = {"rate_read": (5, 300), "request_seconds": 2.0}
        async with (
            running_api(database_url, running.url, is_limited=True, **limit) as one,
            running_api(database_url, running.url, is_limited=True, **limit) as other,
        ):
            ana = await one.person()
            assert (await one.get("/api/v1/orders", token=ana.token)).status == 200
            await eventually(lambda: _has(redis, 1))
            os.kill(running.pid, signal.SIGSTOP)
            try:
                statuses = [(await one.get("/api/v1/orders", token=ana.token)).status for _ in range(6)]
                assert statuses == [200] * 4 + [429] * 2, "the limit holds in each process"
                # Its mail is hinted at after the commit: the worker finds it by itself.
                body = {"email": "eva@example.com", "password": "correct horse", "firstName": "E", "lastName": "R"}
                assert (await one.post("/api/v1/auth/register", body)).status == 201
            finally:
                os.kill(running.pid, signal.SIGCONT)

            async def has_heard() -> bool:
                return (await other.get("/api/v1/orders", token=ana.token)).status == 429

            await eventually(has_heard)
    finally:
        await redis.aclose()
        await running.stop()


async def _has(redis: Redis, count: int) -> bool:
    return len(await redis.keys("comanda:{limits}:read:*")) == count
