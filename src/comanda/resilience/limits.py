"""Token buckets. Pure; the shared ones live in Redis (messaging)."""

from dataclasses import dataclass, replace

_ROUNDING = 1e-6  # seconds


@dataclass(frozen=True, slots=True)
class Bucket:
    """So many a second, with a burst of one second: `tokens` at the time `at` (seconds of any monotonic clock)."""

    tokens: float
    at: float


def take(bucket: Bucket | None, rate: int, wanted: int, now: float) -> tuple[int, Bucket]:
    """Grant up to `wanted` tokens; a negative number gives some back.

    Args:
        bucket: the state so far; None: full.
        rate: tokens a second, and the most that are saved up.
        wanted: how many are asked for.
        now: seconds.
    """
    if bucket is None:
        bucket = Bucket(float(rate), now)
    tokens = min(float(rate), bucket.tokens + max(0.0, now - bucket.at) * rate)
    granted = min(wanted, int(tokens))
    return granted, replace(bucket, tokens=tokens - granted, at=max(now, bucket.at))


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests in so many seconds, as many at once, one more each `interval`."""

    requests: int
    seconds: float

    @property
    def interval(self) -> float:
        return self.seconds / self.requests


def admit(quota: Quota, full_at: float, now: float) -> float | None:
    """When a bucket is full again after one more request; None: the request comes too early.

    A bucket is one number (the generic cell rate algorithm): what is full says nothing, and can be forgotten.

    Args:
        quota: what the bucket holds.
        full_at: when it is full again if nothing more is taken, in seconds.
        now: seconds.
    """
    after = max(full_at, now) + quota.interval
    return after if after <= now + quota.seconds + _ROUNDING else None


def left(quota: Quota, full_at: float, now: float) -> int:
    """Requests that may still come at once."""
    return max(0, int((now + quota.seconds - max(full_at, now) + _ROUNDING) / quota.interval))


def wait(quota: Quota, full_at: float, now: float) -> float:
    """Seconds until the next request may come; 0: now."""
    return max(0.0, full_at + quota.interval - quota.seconds - now)
