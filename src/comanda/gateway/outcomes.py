"""What a charge answers, by its payment method. Pure: no clock, no I/O; chance is handed in."""

import random
import re
from typing import Literal

import msgspec

DECLINE_CODES = (
    "CARD_DECLINED",
    "INSUFFICIENT_FUNDS",
    "CARD_EXPIRED",
    "CVV_FAILED",
    "INVALID_CARD",
    "LIMIT_EXCEEDED",
    "CARD_NOT_ACTIVATED",
    "CARD_STOLEN",
    "INVALID_BILLING_ADDRESS",
    "CARD_TYPE_NOT_ACCEPTED",
)
NEVER = 2**63 - 1  # more attempts than anybody makes

Verdict = Literal["capture", "decline", "busy"]

_DECLINE = re.compile(r"pm_decline_([A-Z][A-Z0-9_]{0,63})")
_FLAKY = re.compile(r"pm_flaky_([0-9]{1,9})")
_SLOW = re.compile(r"pm_slow_([0-9]{1,8})")


class Plan(msgspec.Struct, frozen=True):
    """How one attempt will go.

    Args:
        wait_ms: how long the card network takes.
        decline_code: set where the card is refused for good.
        busy_attempts: so many attempts under one key answer busy before the rest of the plan counts.
        loses_answer: captures, but the caller never hears of it.
    """

    wait_ms: int
    decline_code: str | None = None
    busy_attempts: int = 0
    loses_answer: bool = False

    @property
    def counts_attempts(self) -> bool:
        """Whether the answer depends on how many attempts came before."""
        return 0 < self.busy_attempts < NEVER

    def verdict(self, attempt: int) -> Verdict:
        """What the attempt with this number (from 1) under its key answers."""
        if attempt <= self.busy_attempts:
            return "busy"
        return "capture" if self.decline_code is None else "decline"


def plan(
    method: str | None, *, latency_ms: tuple[int, int], outcomes: tuple[int, int, int], draw: random.Random
) -> Plan:
    """Plan one attempt.

    Args:
        method: the `paymentMethod` of the request; what has no name here is left to chance.
        latency_ms: shortest and longest wait; both included.
        outcomes: success, retryable failure, permanent decline, in per cent.
        draw: a new outcome is drawn for each attempt.
    """
    method = method or ""
    if found := _SLOW.fullmatch(method):
        return Plan(wait_ms=int(found[1]))
    low, high = latency_ms
    wait_ms = draw.randint(low, high) if low < high else low
    return _named(method, wait_ms) or _drawn(outcomes, draw, wait_ms)


def _named(method: str, wait_ms: int) -> Plan | None:
    match method:
        case "pm_success":
            return Plan(wait_ms)
        case "pm_unavailable":
            return Plan(wait_ms, busy_attempts=NEVER)
        case "pm_timeout_after_capture":
            return Plan(wait_ms, loses_answer=True)
    if found := _DECLINE.fullmatch(method):
        return Plan(wait_ms, decline_code=found[1])
    if found := _FLAKY.fullmatch(method):
        return Plan(wait_ms, busy_attempts=int(found[1]))
    return None


def _drawn(outcomes: tuple[int, int, int], draw: random.Random, wait_ms: int) -> Plan:
    success, retryable, declined = outcomes
    drawn = draw.random() * (success + retryable + declined)
    if drawn < success:
        return Plan(wait_ms)
    if drawn < success + retryable:
        return Plan(wait_ms, busy_attempts=NEVER)
    return Plan(wait_ms, decline_code=draw.choice(DECLINE_CODES))
