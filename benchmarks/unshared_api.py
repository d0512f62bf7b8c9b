"""The reference of accept.py: the same handler, with a transaction for each request."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvloop

from comanda import settings
from comanda.checkout import place_order
from comanda.cli import processes


class Unshared:
    """A batcher that never lets anybody share."""

    depth = 0

    def __init__(
        self,
        write: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]],
        *,
        limit: int,  # noqa: ARG002 - how they are shared
        gather: float,  # noqa: ARG002
        enough: int,  # noqa: ARG002
        patience: float,
    ) -> None:
        self._write = write
        self._patience = patience

    def submit(self, item: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self._alone(item))

    async def drain(self) -> None:
        return

    async def _alone(self, item: Any) -> Any:
        async with asyncio.timeout(self._patience):
            (answer,) = await self._write([item])
        if isinstance(answer, Exception):
            raise answer
        return answer


if __name__ == "__main__":
    setattr(place_order, "Batcher", Unshared)  # noqa: B010 - a benchmark puts a reference in its place
    uvloop.run(processes.api(settings.load(), host="127.0.0.1", port=int(sys.argv[1]), fd=None))
