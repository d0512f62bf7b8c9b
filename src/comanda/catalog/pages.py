"""Written-out pages of the catalogue in memory, each good for as long as no product changes."""

from collections.abc import Awaitable, Callable, Hashable

LIMIT = 32 * 2**20
_LARGEST = LIMIT // 64


class Pages:
    """What was asked for lately, and how it was answered at which version of the catalogue.

    Never out of date: the version is read each time, from the primary and before the page is, so a page is at least as
    new as its version.

    Args:
        limit: bytes at the most; what was not asked for the longest goes first, and what is very large is not kept.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._kept: dict[Hashable, tuple[int, bytes]] = {}

    async def get(self, version: int, asked: Hashable, write: Callable[[], Awaitable[bytes]]) -> bytes:
        """What was asked for: from memory, or written anew, from products at this version or a later one."""
        kept = self._taken(asked)
        if kept is None or kept[0] != version:
            kept = version, await write()
        self._taken(asked)  # somebody else may have written it meanwhile
        if len(kept[1]) <= _LARGEST:
            self._kept[asked] = kept
            self._size += len(kept[1])
        while self._size > self._limit:
            self._taken(next(iter(self._kept)))
        return kept[1]

    def _taken(self, asked: Hashable) -> tuple[int, bytes] | None:
        kept = self._kept.pop(asked, None)
        if kept is not None:
            self._size -= len(kept[1])
        return kept
