"""Comanda, put together by hand, top to bottom. Every collaborator is an argument; there is nothing global to find."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from comanda.db import Database
from comanda.messaging.streams import Streams
from comanda.settings import Settings


@dataclass(frozen=True)
class Assembly:
    """What the processes stand on."""

    settings: Settings
    database: Database
    streams: Streams


@asynccontextmanager
async def assemble(settings: Settings, *, name: str, pool: int = 10) -> AsyncIterator[Assembly]:
    """Connect, and close everything at the end.

    Args:
        settings: with DATABASE_URL and REDIS_URL set.
        name: of this process: `api-1`, `worker-2`.
        pool: connections to PostgreSQL at the most.
    """
    database = await Database.open(settings.database_url, name=f"comanda-{name}", size=pool)
    streams = Streams.open(settings.redis_url, name=name)
    try:
        yield Assembly(settings, database, streams)
    finally:
        await streams.close()
        await database.close()
