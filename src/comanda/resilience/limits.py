"""A token bucket: so many a second, with a burst of one second. Pure; the shared one lives in Redis (messaging)."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Bucket:
    """`tokens` at the time `at` (seconds of any monotonic clock)."""

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
