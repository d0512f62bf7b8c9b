"""Which fault happens when, and what became of it. Pure: the same seed, duration and count give the same schedule."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

LEAD = 0.04
"""Share of the duration before the first fault: something has to be under way that can be hurt."""

LAST = 0.92
"""Share of the duration at which the last fault is over, so that orders are sent after it."""

_SHUFFLES = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what it is called, which part it hurts, and how long it lasts (0: a blow)."""

    name: str
    part: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come.

    Args:
        number: from 1, in the order of time.
        at: seconds after the first order.
        kind: what happens.
        chance: from [0, 1), for whatever the fault has to choose: a victim, a byte.
    """

    number: int
    at: float
    kind: Kind
    chance: float

    @property
    def until(self) -> float:
        return self.at + self.kind.seconds

    def __str__(self) -> str:
        lasts = f"for {self.kind.seconds:g} s" if self.kind.seconds else ""
        return f"{self.number:>3}  {self.at:7.2f} s  {self.kind.part:<10} {self.kind.name} {lasts}".rstrip()


@dataclass(slots=True)
class Hurt:
    """A fault that was tried. Times in seconds since 1970; `until` is None while it lasts.

    Args:
        planned: as the schedule has it.
        began: when it began.
        until: when it was over.
        what: how it happened; empty: it did not.
        why_not: what kept it from happening.
    """

    planned: Planned
    began: float
    until: float | None = None
    what: str = ""
    why_not: str = ""

    @property
    def has_happened(self) -> bool:
        return bool(self.what)


def draw(kinds: Sequence[Kind], *, seed: int, duration: float, count: int) -> list[Planned]:
    """Spread `count` faults evenly, and a little unevenly, over the duration.

    First all kinds in a shuffled order, then random ones; each kind once at least if there are as many faults. Faults
    overlap, but those of one part only where there is no other way: a part that is hurt twice at once may be given up
    on by right.
    """
    chances = random.Random(f"{seed}/{duration:g}/{count}")  # noqa: S311 - a repeatable plan, no secret
    first, last = LEAD * duration, LAST * duration
    step = (last - first) / max(count, 1)
    times = [round(first + (number + 0.8 * chances.random()) * step, 2) for number in range(count)]
    best: list[Planned] = []
    for attempt in range(_SHUFFLES):
        more = [chances.choice(kinds) for _ in range(count - len(kinds))]
        dealt = _dealt([*chances.sample(kinds, min(count, len(kinds))), *more], times, last, chances)
        if not attempt or _clashes(dealt) < _clashes(best):
            best = dealt
        if not _clashes(best):
            break
    return best


def _dealt(deck: list[Kind], times: Sequence[float], last: float, chances: random.Random) -> list[Planned]:
    """Each time gets the first kind of the deck that fits there."""
    busy: dict[str, float] = {}
    planned = []
    for number, at in enumerate(times):
        urgent = _urgent(deck, times[number + 1 :], last)
        chosen = min(urgent or deck, key=lambda kind: _unfit(kind, at, last, busy))
        deck.remove(chosen)
        busy[chosen.part] = max(busy.get(chosen.part, 0.0), at + chosen.seconds)
        planned.append(Planned(number + 1, at, chosen, chances.random()))
    return planned


def _clashes(planned: Sequence[Planned]) -> int:
    """How often a part is hurt while it is being hurt."""
    busy: dict[str, float] = {}
    count = 0
    for one in planned:
        count += busy.get(one.kind.part, 0.0) > one.at
        busy[one.kind.part] = max(busy.get(one.kind.part, 0.0), one.until)
    return count


def _urgent(deck: Sequence[Kind], later: Sequence[float], last: float) -> list[Kind]:
    """Those of which one has to begin now, or not all of them can be over in time."""
    for seconds in sorted({kind.seconds for kind in deck}, reverse=True):
        as_long = [kind for kind in deck if kind.seconds >= seconds]
        if len(as_long) > sum(at + seconds <= last for at in later):
            return as_long
    return []


def _unfit(kind: Kind, at: float, last: float, busy: dict[str, float]) -> float:
    """How badly a kind fits here, in seconds: it lasts too long, or its part is hurt already. 0: it fits."""
    return max(0.0, at + kind.seconds - last) + max(0.0, busy.get(kind.part, 0.0) - at)
