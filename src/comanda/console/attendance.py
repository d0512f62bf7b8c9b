"""Who has a stream open in this process, and whether they still may: looked up for all of them together."""

import asyncio
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from comanda import telemetry
from comanda.accounts import console_sessions
from comanda.accounts.accounts import Role
from comanda.db import Database
from comanda.errors import DependencyFault

EVERY = 1.0  # seconds
_log = telemetry.log("console")


class Attendance:
    """Sessions by their tokens, looked up once a second at the most, and only while one has a stream open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: Counter[str] = Counter()
        self._roles: dict[str, Role | None] = {}
        self._looking: asyncio.Task[None] | None = None
        self._due_at = -math.inf

    @contextmanager
    def of(self, token: str) -> Iterator[None]:
        """A session that was let in has a stream open."""
        self._open[token] += 1
        try:
            yield
        finally:
            self._open[token] -= 1
            if not self._open[token]:
                del self._open[token]
                self._roles.pop(token, None)

    async def may_stay(self, token: str, roles: Sequence[str]) -> bool:
        """Whether it is signed in as one of these, as of a second ago; as it was while PostgreSQL does not answer."""
        if self._looking is None or (self._looking.done() and _now() >= self._due_at):
            self._looking = asyncio.create_task(self._look())
        # Who goes away takes nobody's look along.
        await asyncio.shield(self._looking)
        return token not in self._roles or self._roles[token] in roles

    async def _look(self) -> None:
        self._due_at, tokens = _now() + EVERY, list(self._open)
        try:
            async with self._database.connection() as tx:
                found = await console_sessions.roles(tx, tokens)
        except DependencyFault as fault:
            _log.warning("open streams' sessions could not be looked up", error=str(fault))
            return
        self._roles = {token: role for token, role in zip(tokens, found, strict=True) if token in self._open}


def _now() -> float:
    return asyncio.get_running_loop().time()
