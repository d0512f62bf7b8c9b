"""How often somebody may try: a count in a window of time, in this process."""

import time
from collections.abc import Callable, Hashable

_KNOWN = 10_000


class Throttle:
    """So many tries of one key in a window.

    Args:
        tries: None: no limit.
        window: seconds.
        clock: seconds, monotonic.
    """

    def __init__(self, tries: int | None, *, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries = tries
        self._window = window
        self._clock = clock
        self._counted: dict[Hashable, tuple[int, float]] = {}

    def wait(self, key: Hashable) -> float:
        """Seconds until the key may try again; 0: now."""
        count, since = self._counted.get(key, (0, 0.0))
        left = since + self._window - self._clock()
        return left if self._tries is not None and count >= self._tries and left > 0 else 0.0

    def count(self, key: Hashable) -> None:
        """One try; the window begins with the first."""
        count, since = self._counted.pop(key, (0, 0.0))
        now = self._clock()
        if since + self._window <= now:
            count, since = 0, now
        if len(self._counted) >= _KNOWN:
            del self._counted[next(iter(self._counted))]
        self._counted[key] = (count + 1, since)

    def forget(self, key: Hashable) -> None:
        """It got in: its tries don't count."""
        self._counted.pop(key, None)
