"""Shared commits: whoever arrives while one write runs shares the next.

On an idle system nobody waits for company. Where somebody came while a write ran, more are coming: the next write may
gather them for some milliseconds (docs/decisions/0014-gathering.md).
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Hands items to `write` in batches, one batch at a time, and each answer back to who asked.

    Args:
        write: `(items) -> answers` in the order of the items. An answer that is an exception is raised to its own
            caller. When `write` itself raises, the batch is repeated one by one, so that a poisoned item fails alone.
        limit: the most items of one batch.
        gather: seconds between the beginnings of two writes while items keep coming one by one; 0: none.
        enough: a write of so many has spread its fixed cost, and waits no longer.
        patience: seconds that an item waits for its answer before its caller gets a `TimeoutError`; the write goes on.
            One timer counts them all. None: for ever.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        limit: int,
        gather: float = 0,
        enough: int = 16,
        patience: float | None = None,
    ) -> None:
        self._write = write
        self._limit = limit
        self._gather = gather
        self._enough = enough
        self._patience = patience
        self._asked: deque[tuple[float, asyncio.Future[Answer]]] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._is_enough = asyncio.Event()
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._writer: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Items that wait for the next batch."""
        return len(self._waiting)

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Queue an item. Cancelling the returned future never cancels the write."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if self._patience is not None:
            self._asked.append((loop.time() + self._patience, future))
            if self._expiry is None:
                self._expiry = loop.call_later(self._patience, self._expire)
        if len(self._waiting) >= self._enough:
            self._is_enough.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._run())
        return future

    async def drain(self) -> None:
        """Return when everything submitted so far has been answered."""
        while self._writer is not None:
            await asyncio.wait([self._writer])

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
                began = asyncio.get_running_loop().time()
                await self._settle(batch)
                if self._gather and 0 < len(self._waiting) < self._enough:
                    await self._wait_for_more(began + self._gather)
        finally:
            self._writer = None

    async def _wait_for_more(self, until: float) -> None:
        self._is_enough.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._is_enough.wait()

    def _expire(self) -> None:
        """Whoever has waited too long is told so; the timer is set for who is next."""
        loop = asyncio.get_running_loop()
        self._forget()
        while self._asked and self._asked[0][0] <= loop.time():
            self._asked[0][1].set_exception(TimeoutError(f"no answer within {self._patience} s"))
            self._forget()
        self._expiry = loop.call_at(self._asked[0][0], self._expire) if self._asked else None

    def _forget(self) -> None:
        """Of those who wait longest, who has been answered or has gone away."""
        while self._asked and self._asked[0][1].done():
            self._asked.popleft()

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._write([item for item, _ in batch])
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is handed to who asked
            if len(batch) > 1:
                for pair in batch:
                    await self._settle([pair])
                return
            answers = [fault]
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():  # whoever asked has gone away, or lost patience; the write counts all the same
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        self._forget()
