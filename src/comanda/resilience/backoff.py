"""How long to wait before the next attempt: 2, 4, 8 seconds, with jitter and a cap."""

from dataclasses import dataclass
from datetime import timedelta

_NEVER_MORE_THAN = 30  # doublings: keeps the power small, the cap decides long before


@dataclass(frozen=True, slots=True)
class Policy:
    """When a step is tried again, and when it is given up.

    Args:
        attempts: tries in all; None: only patience ends it.
        patience: how long the step may take with all its waits; None: only attempts end it.
        least: attempts that are made even when the patience is over: it may have passed while nobody worked.
        schedule: the waits one by one, instead of doubling ones; with the last of them it ends.
        base: the wait after the first failure; it doubles with each.
        cap: the longest wait before jitter.
        jitter: each wait is stretched or shortened by up to this share, so that a crowd doesn't return at once.
    """

    attempts: int | None = 5
    patience: timedelta | None = None
    base: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(seconds=8)
    jitter: float = 0.2
    least: int = 1
    schedule: tuple[timedelta, ...] = ()

    def __post_init__(self) -> None:
        if self.attempts is None and self.patience is None:
            raise ValueError("a policy needs an end: attempts or patience")

    def wait(self, attempt: int, chance: float) -> timedelta:
        """The wait after a failed attempt.

        Args:
            attempt: 1 for the first.
            chance: a draw from [0, 1).
        """
        if self.schedule:
            nominal = self.schedule[min(max(attempt, 1), len(self.schedule)) - 1]
        else:
            nominal = min(self.base * (1 << min(max(attempt - 1, 0), _NEVER_MORE_THAN)), self.cap)
        return nominal * (1 + self.jitter * (2 * chance - 1))

    def is_over(self, attempt: int, waited: timedelta) -> bool:
        """Whether nothing more is tried after this many attempts and this long at the step."""
        if self.schedule:
            return attempt > len(self.schedule)
        if self.attempts is not None and attempt >= self.attempts:
            return True
        return self.patience is not None and waited >= self.patience and attempt >= self.least
