"""How often anybody may try: counted in PostgreSQL, for all processes, over restarts.

A try is counted before anybody looks whether it is right, so that guesses made at once are not free; one that was right
is given back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from comanda.db import Tx, twin

_sql = twin(__file__)
LOCK = _sql["lock"]
WRITE = _sql["write"]
GIVE_BACK = _sql["give_back"]
CLEAR = _sql["clear"]
FAMILIAR = _sql["familiar"]
REMEMBER = _sql["remember"]
FORGET = _sql["forget"]
FORGET_ADDRESSES = _sql["forget_addresses"]

_FAMILIAR_FOR = timedelta(days=30)
_NOTHING = timedelta()
EVER = datetime.fromtimestamp(0, UTC)
"""Since then everybody is free who was never made to wait. Not `now`: of transactions at once one began earlier."""
_DOUBLINGS = 30  # more would not fit a time


@dataclass(frozen=True, slots=True)
class Limit:
    """So many tries in a window, which begins with the first.

    After the last of them there is a pause, and after each one more a pause twice as long, up to `longest`. With the
    window's end everything is forgotten.
    """

    scope: str
    tries: int
    window: timedelta
    pause: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class Standing:
    """Tries that were counted; when the next one may be made; when all is forgotten."""

    tries: int
    free_at: datetime
    ends_at: datetime

    def wait(self, now: datetime) -> timedelta:
        """Until the next try may be made; none: now."""
        return max(min(self.free_at, self.ends_at) - now, _NOTHING)

    def counted(self, limit: Limit, now: datetime) -> "Standing":
        """One try later."""
        if self.ends_at <= now:
            return Standing(0, EVER, now + limit.window).counted(limit, now)
        one_more = replace(self, tries=self.tries + 1)
        beyond = one_more.tries - limit.tries
        if beyond < 0:
            return one_more
        return replace(one_more, free_at=now + min(limit.longest, limit.pause * 2 ** min(beyond, _DOUBLINGS)))


Try = tuple[Limit, str]
"""What is limited, and who tries: an e-mail in any spelling, an address, an id."""


async def take(tx: Tx, asked: Sequence[Sequence[Try]]) -> list[timedelta]:
    """Count what each one tries, one after the other; how long they have to wait instead, none for those that may.

    Who has to wait for one of its limits is counted for none of them: to ask in vain holds nobody up for longer.
    """
    tries = [one for each in asked for one in each]
    rows = await LOCK.rows(tx, [limit.scope for limit, _ in tries], [who for _, who in tries])
    held = {(row["scope"], row["key"]): Standing(row["tries"], row["free_at"], row["ends_at"]) for row in rows}
    waits = []
    following = iter(rows)
    for each in asked:
        mine = [(limit, next(following)) for limit, _ in each]
        waits.append(max((held[row["scope"], row["key"]].wait(row["now"]) for _, row in mine), default=_NOTHING))
        for limit, row in mine if not waits[-1] else ():
            key = row["scope"], row["key"]
            held[key] = held[key].counted(limit, row["now"])
    await WRITE.run(
        tx,
        [scope for scope, _ in held],
        [key for _, key in held],
        [one.tries for one in held.values()],
        [one.free_at for one in held.values()],
        [one.ends_at for one in held.values()],
    )
    return waits


async def give_back(tx: Tx, tries: Sequence[Try]) -> None:
    """They were right: not counted."""
    await GIVE_BACK.run(tx, [limit.scope for limit, _ in tries], [who for _, who in tries])


async def clear(tx: Tx, tries: Sequence[Try]) -> None:
    """Whatever was counted for these is forgotten."""
    await CLEAR.run(tx, [limit.scope for limit, _ in tries], [who for _, who in tries])


async def familiar(tx: Tx, who: Sequence[str]) -> list[bool]:
    """Whether each, an e-mail at an address, signed in there within 30 days."""
    return [row["is_familiar"] for row in await FAMILIAR.rows(tx, who)]


async def remember(tx: Tx, who: Sequence[str]) -> None:
    """They signed in there."""
    await REMEMBER.run(tx, who, _FAMILIAR_FOR)


async def forget(tx: Tx, limit: int) -> int:
    """Delete up to so many rows of either kind that count for nothing any more; how many went of the one with more."""
    return max(await FORGET.run(tx, limit), await FORGET_ADDRESSES.run(tx, limit))
