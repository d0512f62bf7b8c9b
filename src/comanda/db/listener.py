"""LISTEN: be woken when a transaction commits that had something to say."""

import asyncio
from collections.abc import Iterable

import asyncpg

from comanda import telemetry
from comanda.db.database import connect, translated
from comanda.errors import DatabaseFault
from comanda.resilience.loops import nap

_log = telemetry.log("listener")
_LOOK_EVERY = 2.0  # seconds between questions whether the connection still lives
_AGAIN_AFTER = 0.5


async def listen(url: str, channel: str, *wakes: asyncio.Event, stop: asyncio.Event, name: str) -> None:
    """Set each of `wakes` at each notification until `stop`; a lost connection is made anew.

    A notification may be lost with the connection: whoever is woken looks by itself now and then too.
    """
    while not stop.is_set():
        try:
            connection = await connect(url, name=name)
        except DatabaseFault:
            await nap(_AGAIN_AFTER, stop)
            continue
        try:
            with translated():
                await connection.add_listener(channel, lambda *_: _set(wakes))
                _set(wakes)  # whatever came while nobody listened
                while not stop.is_set():
                    await nap(_LOOK_EVERY, stop)
                    await connection.fetchval("SELECT 1", timeout=_LOOK_EVERY)
        except (asyncpg.PostgresError, DatabaseFault) as fault:
            _log.warning("stopped listening; listens again", channel=channel, error=str(fault))
        finally:
            connection.terminate()


def _set(wakes: Iterable[asyncio.Event]) -> None:
    for wake in wakes:
        wake.set()
