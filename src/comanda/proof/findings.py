"""What a look at a shop comes to, and how much of the shop it looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

SHOWN = 20
"""Rows of what is broken that a finding carries; its count is that of all."""

_CLOCKS_DIFFER_BY = timedelta(hours=1)  # an event, a key and a charge are stamped by other machines than their order
_EVERYTHING = UUID(int=0)
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)

Status = Literal["passed", "failed", "skipped", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to.

    Args:
        name: of the check; stable.
        invariant: its number in the list of invariants.
        meaning: what holds when it passes.
        status: `skipped`: there is nothing to compare with; `unknown`: what it needs does not answer.
        count: of the rows that break it.
        rows: the first of them.
        advice: what to do when it fails.
        note: why it was not checked.
        seconds: that it took.
    """

    name: str
    invariant: int
    meaning: str
    status: Status
    count: int
    rows: Sequence[Mapping[str, Any]]
    advice: str
    note: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What is looked at: orders with ids from `floor` on.

    Their events and reservations have ids from `later_floor` on; nothing of theirs is stamped before `moment`.
    """

    floor: UUID = _EVERYTHING
    later_floor: UUID = _EVERYTHING
    moment: datetime = _ALWAYS

    @property
    def is_everything(self) -> bool:
        return self.floor == _EVERYTHING

    @classmethod
    def since(cls, moment: datetime | None) -> "Scope":
        """Orders placed since then; None: all."""
        return cls() if moment is None else cls.of(_floor(moment))

    @classmethod
    def of(cls, floor: UUID) -> "Scope":
        """Orders from that UUIDv7 on."""
        moment = datetime.fromtimestamp((floor.int >> 80) / 1000, UTC) - _CLOCKS_DIFFER_BY
        return cls(floor, _floor(moment), moment)


def _floor(moment: datetime) -> UUID:
    """The smallest UUIDv7 of that millisecond."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def broken(findings: Sequence[Finding]) -> list[Finding]:
    """Those that failed."""
    return [finding for finding in findings if finding.status == "failed"]
