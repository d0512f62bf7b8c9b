"""What a scenario is, and what comes of it. Pure."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from comanda.proof.matrix.scene import Scene

Verdict = Literal["met", "missed", "skipped", "later"]

COMMON: Mapping[str, str] = {
    "GATEWAY_LATENCY_MS": "0-50",
    "GATEWAY_OUTCOMES": "85/10/5",
    "RATE_LIMITS": "off",
    "LOG_LEVEL": "warning",
}
QUICK: Mapping[str, str] = {
    "LEASE_SECONDS": "1",
    "RETRY_BASE_SECONDS": "0.8",
    "PAYMENT_PATIENCE_SECONDS": "6",
    "GATEWAY_TIMEOUT_SECONDS": "1.5",
}
"""With which the same takes a tenth of the time; targets that speak of seconds are held with the defaults."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen. `is_met`: the target; None: it could not be tried, and `measured` says why."""

    saw: str
    measured: str
    is_met: bool | None


Run = Callable[["Scene"], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One failure.

    Args:
        name: on the command line; stable.
        group: under which heading it stands.
        failure: what goes wrong, in a word.
        how: it is caused.
        target: what has to hold.
        run: causes it and measures; None: it comes later, or needs no instance.
        settings: besides the common ones.
        apis, workers, customers: how many.
        tests: that are run instead: ids of pytest.
        disk: MiB of a file system of its own, if it needs one.
        skipped: why it is not run.
        later: why it is not there yet.
    """

    name: str
    group: str
    failure: str
    how: str
    target: str
    run: Run | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    apis: int = 1
    workers: int = 2
    customers: int = 12
    tests: Sequence[str] = ()
    disk: int = 0
    skipped: str = ""
    later: str = ""
