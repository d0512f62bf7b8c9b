"""The circuit breaker's rules: closed, open after so many failures in a row, one probe, closed again.

Pure: where the state is kept is somebody else's business (for the gateway: a row in PostgreSQL, for all workers).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class State(StrEnum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, slots=True)
class Breaker:
    """`probe_at`: from when on one call may try whether the other side is back."""

    state: State = State.CLOSED
    failures: int = 0
    probe_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """Opens after `threshold` failures in a row; a probe each `pause`."""

    threshold: int = 5
    pause: timedelta = timedelta(seconds=5)


def admitted(breaker: Breaker, wanted: int, now: datetime) -> int:
    """How many of the wanted calls may go out now: all, one probe, or none."""
    if breaker.state is State.CLOSED:
        return wanted
    # A probe that never came back (its worker died) is followed by another one when its own time is over.
    is_due = breaker.probe_at is None or breaker.probe_at <= now
    return min(wanted, 1) if is_due else 0


def probing(breaker: Breaker, rule: Rule, now: datetime) -> Breaker:
    """The state while a probe is out; its `probe_at` says when the next one may follow if it never answers."""
    return replace(breaker, state=State.HALF_OPEN, probe_at=now + rule.pause)


def after(breaker: Breaker, answers: list[bool], rule: Rule, now: datetime) -> Breaker:
    """The state after these answers, in order: True for one that the other side gave, False for a failure."""
    for is_answer in answers:
        if is_answer:
            breaker = Breaker()
            continue
        failures = breaker.failures + 1
        is_open = breaker.state is not State.CLOSED or failures >= rule.threshold
        breaker = Breaker(State.OPEN, failures, now + rule.pause) if is_open else replace(breaker, failures=failures)
    return breaker
