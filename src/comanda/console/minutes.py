"""The last hour by the minute: how many orders were placed, and how soon they were confirmed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from comanda.db import Tx, twin

_sql = twin(__file__)
PLACED = _sql["placed"]
TOOK = _sql["took"]

SHOWN = 60  # minutes
_MINUTE = timedelta(minutes=1)
_UNSETTLED = timedelta(minutes=10)  # orders of younger minutes may still end
# An order's id is made before its commit, by a clock that may be a little behind; what comes later yet is counted when
# the minute is over.
_COMMITTED_AFTER = timedelta(seconds=3)
_COUNTED_AFTER = timedelta(minutes=1)
_TOOK_EVERY = timedelta(seconds=5)  # percentiles move slowly, and cost what two thousand rows do


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute's orders; seconds to the confirmation: half of them, 95 %, 99 % were faster."""

    at: datetime
    placed: int = 0
    seconds: Sequence[float] | None = None


class Hour:
    """What each minute of the last hour was like.

    Of the minute that runs only what is new is counted; one that is over is counted once more, and then remembered.
    """

    def __init__(self) -> None:
        self._placed: dict[datetime, int] = {}
        self._took: dict[datetime, Sequence[float]] = {}
        self._counted: dict[datetime, tuple[datetime, int]] = {}  # up to when, and how many
        self._settled: set[datetime] = set()
        self._read_to: datetime | None = None
        self._took_at: datetime | None = None

    def minutes(self, now: datetime) -> list[Minute]:
        """As they were last read, oldest first; the last one runs."""
        return [Minute(at, self._placed.get(at, 0), self._took.get(at)) for at in _recent(SHOWN, now)]

    async def read_running(self, tx: Tx, now: datetime) -> None:
        """The minute that runs, and the one before it."""
        running = _recent(2, now)
        counted = [self._counted.get(at, (at, 0)) for at in running]
        until = now - _COMMITTED_AFTER
        rows = await PLACED.rows(tx, running, [since for since, _ in counted], until)
        known = {row["minute"]: row for row in rows}
        for at, (since, count) in zip(running, counted, strict=True):
            self._placed[at] = count + known[at]["placed"]
            self._counted[at] = max(since, until), count + known[at]["settled"]
        if self._took_at is None or now - self._took_at >= _TOOK_EVERY:
            await self._read_took(tx, running)
            self._took_at = now

    async def read_all(self, tx: Tx, now: datetime) -> None:
        """Whatever of the hour may have changed since it was last read."""
        shown = _recent(SHOWN, now)
        self._forget(shown[0])
        over = [at for at in shown if at not in self._settled and at + _MINUTE + _COUNTED_AFTER <= now]
        for row in await PLACED.rows(tx, over, over, now):
            self._placed[row["minute"]] = row["placed"]
        since = (self._read_to or shown[0]) - _UNSETTLED
        await self._read_took(tx, [at for at in shown if at >= since])
        self._settled.update(over)
        self._read_to = now

    async def _read_took(self, tx: Tx, minutes: Sequence[datetime]) -> None:
        for row in await TOOK.rows(tx, minutes):
            self._took[row["minute"]] = row["seconds"]

    def _forget(self, first: datetime) -> None:
        """What was before the first minute that is shown."""
        self._settled = {at for at in self._settled if at >= first}
        self._placed = {at: one for at, one in self._placed.items() if at >= first}
        self._took = {at: one for at, one in self._took.items() if at >= first}
        self._counted = {at: one for at, one in self._counted.items() if at >= first}


def _recent(count: int, now: datetime) -> list[datetime]:
    """The last minutes with the one that runs, oldest first."""
    this = now.replace(second=0, microsecond=0)
    return [this - _MINUTE * back for back in range(count - 1, -1, -1)]
