"""Loops have one shape: run, nap until a wake-up or a time-out, end when told to."""

import asyncio
from collections.abc import Awaitable, Callable

from comanda import telemetry
from comanda.errors import DependencyFault

_log = telemetry.log("loop")
_OUTAGE_NAP = 0.25  # seconds between tries while something that is needed is away


async def nap(seconds: float, *wakers: asyncio.Event) -> None:
    """Return when an event is set, at the latest after so many seconds."""
    waits = [asyncio.ensure_future(event.wait()) for event in wakers]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def loop(
    name: str,
    once: Callable[[], Awaitable[bool]],
    *,
    stop: asyncio.Event,
    every: float,
    wake: asyncio.Event | None = None,
) -> None:
    """Run `once` until `stop` is set; at once again when it answers True, else after a nap.

    What is away (`DependencyFault`) is waited for, and said once. Any other exception ends the loop: the process dies
    loudly and its supervisor starts it anew.
    """
    is_out = False
    while not stop.is_set():
        try:
            if wake is not None:
                wake.clear()
            is_busy = await once()
            if is_out:
                _log.info("back", loop=name)
                is_out = False
        except DependencyFault as fault:
            if not is_out:
                _log.warning("waits for what is away", loop=name, error=str(fault))
                is_out = True
            await nap(_OUTAGE_NAP, stop)
            continue
        if not is_busy:
            await nap(every, stop, *([wake] if wake is not None else []))
