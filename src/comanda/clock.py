"""Time and identifiers. Time that decides (leases, due times, expiry) is PostgreSQL's, never this one."""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A UUIDv7: sorts by the time it was made, to the millisecond."""
    return uuid7()


def now() -> datetime:
    """The wall clock in UTC: for logs and answers."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """As every time in an answer is written: `2026-11-24T09:30:00.123456Z`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
