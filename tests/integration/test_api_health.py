"""Probes, when something is down."""

import pytest

from api_client import running_api
from comanda.errors import DiskFull

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
        categories = await api.get("/api/v1/categories")
        assert (categories.status, categories.body["code"]) == (503, "UNAVAILABLE")
        assert "PostgreSQL" not in categories.body["detail"]


async def test_a_draining_process_is_not_ready(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, is_draining=lambda: True) as api:
        ready = await api.get("/api/v1/health/ready")
        assert (ready.status, ready.body["code"]) == (503, "DRAINING")
        assert (await api.get("/api/v1/health/live")).status == 200


FULL_DISK = """
CREATE SCHEMA full_disk;
CREATE FUNCTION full_disk.generate_series(integer, integer) RETURNS SETOF integer LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
SET search_path = full_disk, public, pg_catalog;
"""


async def test_who_found_the_disk_full_is_not_ready_before_there_is_room(database_url: str, redis_url: str) -> None:
    """What needs room on the disk is told that there is none."""
    async with running_api(database_url, redis_url) as api:
        assert (await api.get("/api/v1/health/ready")).status == 200
        async with api.database.connection() as tx:
            await tx.execute(FULL_DISK)
        with pytest.raises(DiskFull, match="free some of it"):
            async with api.database.connection() as tx:
                await tx.fetch("SELECT generate_series(1, 2)")
        health = (await api.get("/api/v1/health")).body
        assert (health["status"], health["checks"]["postgres"]) == ("down", "full")
        ready = await api.get("/api/v1/health/ready")
        assert (ready.status, ready.body["detail"]) == (503, "PostgreSQL's disk is full")
        assert (await api.get("/api/v1/health/live")).status == 200
        async with api.database.connection() as tx:
            await tx.execute("DROP SCHEMA full_disk CASCADE")
        assert (await api.get("/api/v1/health/ready")).status == 200
        assert not api.database.is_full
