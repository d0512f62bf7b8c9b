"""Probes, when something is down."""

from api_client import running_api

NOWHERE = "redis://127.0.0.1:1/0"


async def test_without_redis_it_is_degraded_and_ready(database_url: str) -> None:
    async with running_api(database_url, NOWHERE) as api:
        assert (await api.get("/api/v1/health")).body["status"] == "degraded"
        ready = await api.get("/api/v1/health/ready")
        assert (ready.status, ready.body["checks"]["redis"]) == (200, "down")
        assert (await api.get("/api/v1/health/detailed")).body["checks"]["redis"] == "down"


async def test_without_postgres_it_is_alive_but_not_ready(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api:
        await api.database.close()
        assert (await api.get("/api/v1/health/live")).status == 200
        assert (await api.get("/api/v1/health")).body["status"] == "down"
        assert (await api.get("/api/v1/health/detailed")).body["status"] == "down"
        ready = await api.get("/api/v1/health/ready")
        assert (ready.status, ready.body["code"], ready.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
        products = await api.get("/api/v1/products")
        assert (products.status, products.body["code"]) == (503, "UNAVAILABLE")
        assert "PostgreSQL" not in products.body["detail"]


async def test_a_draining_process_is_not_ready(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, is_draining=lambda: True) as api:
        ready = await api.get("/api/v1/health/ready")
        assert (ready.status, ready.body["code"]) == (503, "DRAINING")
        assert (await api.get("/api/v1/health/live")).status == 200
