"""When a crowd that waits comes again: after a pause, and no more of them a second than costs little. Pure.

Fifty thousand that look every five seconds whether they may go on are ten thousand looks a second, in the way of those
who may.
"""

import math
from collections.abc import Sequence

_AT_ONCE = 500.0  # a second, by each who hands out turns
_LONGEST = 60.0  # seconds


class Turns:
    """Hands out waits, in seconds."""

    def __init__(self) -> None:
        self._last = -math.inf

    def are_out(self, now: float) -> bool:
        """Whether somebody's turn is still to come."""
        return self._last > now

    def next(self, count: int, pause: float, now: float, chance: float, *, crowds: int = 1) -> Sequence[float]:
        """The waits of so many, who come one after the other.

        Args:
            count: how many wait.
            pause: seconds that each waits at least.
            now: seconds of any monotonic clock.
            chance: a draw from [0, 1): several that hand out turns don't fall into step.
            crowds: how many share the looks of a second, each with turns of its own.
        """
        apart = crowds / _AT_ONCE
        first = max(self._last + apart, now + pause)
        turns = [min(first + n * apart, now + max(pause, _LONGEST)) for n in range(count)]
        self._last = turns[-1] if turns else self._last
        return [(turn - now) * (1 + 0.1 * chance) for turn in turns]
