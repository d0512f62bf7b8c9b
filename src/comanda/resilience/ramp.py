"""How a crowd comes back: after an outage, calls go out hardly faster than before it, until nobody is held back.

Pure: where the state is kept is somebody else's business (for the gateway: the breaker's row in PostgreSQL).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

FACTOR = 1.6
"""Times the rate before the outage: what is due goes on, and what has waited is worked off beside it."""

_DOUBLES_EVERY = timedelta(minutes=1)  # the rate before may have been that of the night
_AHEAD = timedelta(seconds=1)  # what is not asked for in time may be asked for so much later
_OVER_AFTER = timedelta(seconds=10)  # nobody held back: longer than any of them waits


@dataclass(frozen=True, slots=True)
class Ramp:
    """`rate`: calls a second before the outage. `tokens`: calls that may go out, as of `at`."""

    rate: float
    since: datetime
    at: datetime
    tokens: float
    held_at: datetime

    @classmethod
    def begin(cls, rate: float, now: datetime) -> "Ramp":
        return cls(rate, now, now, 0, now)

    def pace(self, now: datetime) -> float:
        """Calls a second that may go out now."""
        return float(self.rate * FACTOR * 2 ** ((now - self.since) // _DOUBLES_EVERY))


def admitted(ramp: Ramp, wanted: int, now: datetime) -> tuple[int, Ramp | None]:
    """How many of the wanted calls may go out now, and what comes of the ramp; None: it is over."""
    if now - ramp.held_at >= _OVER_AFTER:
        return wanted, None
    pace = ramp.pace(now)
    elapsed = max(now - ramp.at, timedelta(0)).total_seconds()
    tokens = min(max(pace * _AHEAD.total_seconds(), 1), ramp.tokens + pace * elapsed)
    count = min(wanted, int(tokens))
    held_at = now if count < wanted else ramp.held_at
    return count, replace(ramp, at=max(now, ramp.at), tokens=tokens - count, held_at=held_at)
