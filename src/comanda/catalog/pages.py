"""Written-out pages of the catalogue in memory, each good for as long as no product changes."""

from collections.abc import Awaitable, Callable, Hashable

from comanda.catalog import products
from comanda.db import Tx

LIMIT = 512


class Pages:
    """What was asked for lately, and how it was answered at which version of the catalogue.

    Never out of date: the version is read each time, before the page is, so a page is at least as new as its version.

    Args:
        limit: pages at the most; what was not asked for the longest goes first.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[Hashable, tuple[int, bytes]] = {}

    async def get(self, tx: Tx, asked: Hashable, write: Callable[[], Awaitable[bytes]]) -> tuple[int, bytes]:
        """The version, and what was asked for: from memory, or written anew."""
        version = await products.version(tx)
        kept = self._kept.pop(asked, None)
        if kept is None or kept[0] != version:
            kept = version, await write()
        self._kept[asked] = kept
        if len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]
        return kept
