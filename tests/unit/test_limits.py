"""Token buckets: never more than the rate allows, never less than it promises."""

from hypothesis import given
from hypothesis import strategies as st

from comanda.resilience.limits import Bucket, Quota, admit, left, take, wait


@given(rate=st.integers(1, 100), calls=st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50)), max_size=40))
def test_over_any_time_no_more_than_the_rate_and_one_burst(rate: int, calls: list[tuple[float, int]]) -> None:
    bucket: Bucket | None = None
    now, granted = 0.0, 0
    for pause, wanted in calls:
        now += pause
        got, bucket = take(bucket, rate, wanted, now)
        granted += got
        assert granted <= rate + rate * now + 1e-6


def test_a_full_second_earns_a_full_burst() -> None:
    got, bucket = take(None, 10, 100, 0.0)
    assert got == 10
    assert take(bucket, 10, 100, 0.05)[0] == 0
    assert take(bucket, 10, 100, 1.0)[0] == 10


def test_a_clock_that_jumps_back_grants_nothing() -> None:
    _, bucket = take(None, 10, 10, 100.0)
    assert take(bucket, 10, 10, 50.0)[0] == 0


@given(
    requests=st.integers(1, 50),
    seconds=st.integers(1, 100),
    pauses=st.lists(st.floats(0, 20, allow_subnormal=False), max_size=120),
)
def test_in_any_window_no_more_than_the_quota_and_what_fills_up(
    requests: int, seconds: int, pauses: list[float]
) -> None:
    quota, now, full_at = Quota(requests, seconds), 0.0, 0.0
    came: list[float] = []
    for pause in pauses:
        now += pause
        promised, until = left(quota, full_at, now), wait(quota, full_at, now)
        after = admit(quota, full_at, now)
        assert (after is not None) == (promised > 0)
        if after is None:
            assert until > 0
            assert admit(quota, full_at, now + until + 1e-5) is not None, "it may come when it was told to"
            continue
        came.append(now)
        full_at = after
        for first in came:
            within = sum(first <= moment <= now for moment in came)
            assert within <= requests + (now - first) / quota.interval + 1e-3


def test_a_full_bucket_holds_its_quota_at_once() -> None:
    quota, full_at = Quota(3, 60), 0.0
    for remaining in (3, 2, 1):
        assert left(quota, full_at, 0.0) == remaining
        full_at = admit(quota, full_at, 0.0) or 0.0
    assert admit(quota, full_at, 0.0) is None
    assert wait(quota, full_at, 0.0) == 20
    assert admit(quota, full_at, 20.0) is not None
