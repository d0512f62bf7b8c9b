"""Is it alive, is it ready, how is it: for probes and for people. And the metrics, for Prometheus."""

import asyncio
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

import comanda
from comanda.api.answers import Answer
from comanda.api.document import answers
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import router
from comanda.clock import rfc3339
from comanda.db import Replica, Tx, twin
from comanda.errors import DependencyFault, DiskFull
from comanda.saga import log

_sql = twin(__file__)
ALIVE = _sql["alive"]
SPARE_MEMORY = _sql["spare_memory"]
SPILL = _sql["spill"]
BREAKERS = _sql["breakers"]

_PATIENCE = 2.0

routes = router("/health", "health")
metrics_route = APIRouter()
_began = time.monotonic()


class HealthAnswer(Answer):
    status: str
    checks: Mapping[str, str]


class DetailedHealthAnswer(HealthAnswer):
    version: str
    uptime_seconds: float
    pool: Mapping[str, int]
    memory: Mapping[str, int]
    disk: Mapping[str, int]
    breaker: Mapping[str, Any] | None
    queues: Sequence[Mapping[str, Any]]
    replica: Mapping[str, Any] | None


async def _database(parts: Parts) -> str:
    try:
        async with asyncio.timeout(_PATIENCE), parts.database.connection() as tx:
            await ALIVE.value(tx)
            if parts.database.is_full:
                await _find_room(tx)
                parts.database.is_full = False
    except DiskFull:
        return "full"
    except (DependencyFault, TimeoutError):
        return "down"
    return "up"


async def _find_room(tx: Tx) -> None:
    """Once a commit has found the disk full, nobody should come here until there is room on it."""
    async with tx.transaction(readonly=True):
        await SPARE_MEMORY.run(tx)
        await SPILL.value(tx)


async def _redis(parts: Parts) -> str:
    try:
        async with asyncio.timeout(_PATIENCE):
            await parts.assembly.streams.ping()
    except (DependencyFault, TimeoutError):
        return "down"
    return "up"


async def _checked(parts: Parts) -> HealthAnswer:
    database, redis = await asyncio.gather(_database(parts), _redis(parts))
    # Without Redis orders are accepted and end all the same, only slower.
    status = "down" if database != "up" else "degraded" if redis == "down" else "up"
    return HealthAnswer(status=status, checks={"postgres": database, "redis": redis})


@routes.get("")
async def health(parts: Given) -> HealthAnswer:
    """What answers: `up`, `degraded` (Redis is down, orders go on), `down` (also: PostgreSQL's disk is full)."""
    return await _checked(parts)


@routes.get("/live")
async def live() -> HealthAnswer:
    """The process runs; it asks nobody else."""
    return HealthAnswer(status="up", checks={})


@routes.get("/ready", responses=answers("DRAINING"))
async def ready(parts: Given) -> HealthAnswer:
    """Whether requests should come here: PostgreSQL answers, and the process is not about to stop."""
    if parts.is_draining():
        raise Problem("DRAINING")
    checked = await _checked(parts)
    if checked.status == "down":
        is_full = checked.checks["postgres"] == "full"
        raise Problem("UNAVAILABLE", "PostgreSQL's disk is full" if is_full else "PostgreSQL does not answer")
    return checked


@routes.get("/detailed")
async def detailed(parts: Given) -> DetailedHealthAnswer:
    """The connection pool, Redis, memory and disk in bytes, the breaker, the queues, the replica."""
    checked = await _checked(parts)
    breaker, queues = await _inside(parts) if checked.status != "down" else (None, [])
    memory, disk = psutil.virtual_memory(), await asyncio.to_thread(shutil.disk_usage, parts.data_dir)
    return DetailedHealthAnswer(
        status=checked.status,
        checks=checked.checks,
        version=comanda.__version__,
        uptime_seconds=round(time.monotonic() - _began, 3),
        pool={"size": parts.database.size, "idle": parts.database.idle, "limit": parts.database.limit},
        memory={
            "rss": psutil.Process().memory_info().rss,
            "available": memory.available,
            "total": memory.total,
        },
        disk={"free": disk.free, "total": disk.total},
        breaker=breaker,
        queues=queues,
        replica=None if parts.lists.replica is None else _replica(parts.lists.replica),
    )


async def _inside(parts: Parts) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    try:
        async with asyncio.timeout(_PATIENCE), parts.database.connection() as tx:
            breakers = await BREAKERS.rows(tx)
            queues = await log.depths(tx)
    except (DependencyFault, TimeoutError):
        return None, []
    shown = [
        {
            "queue": one["queue"],
            "ready": one["ready"],
            "delayed": one["delayed"],
            "running": one["running"],
            "oldestSeconds": one["oldest_seconds"],
        }
        for one in queues
    ]
    breaker = next((one for one in breakers if one["name"] == "gateway"), None)
    if breaker is None:
        return None, shown
    probe_at = breaker["probe_at"]
    return {
        "state": breaker["state"],
        "failures": breaker["failures"],
        "probeAt": None if probe_at is None else rfc3339(probe_at),
    }, shown


def _replica(replica: Replica) -> dict[str, Any]:
    behind = replica.behind
    is_used = replica.is_fresh
    return {
        "isUsed": is_used,
        "lagSeconds": round(behind, 3) if math.isfinite(behind) else None,
        "why": None if is_used else replica.why or "it is too far behind",
    }


def _scrape() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    # What a process had at hand when it was killed is nobody's any more; what it counted stays.
    for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


@metrics_route.get("/metrics", tags=["health"], response_class=Response)
async def metrics() -> Response:
    """Every metric of every process of this machine, in the format of Prometheus."""
    return Response(await asyncio.to_thread(_scrape), media_type=CONTENT_TYPE_LATEST)
