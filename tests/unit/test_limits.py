"""The token bucket: never more than the rate allows, never less than it promises."""

from hypothesis import given
from hypothesis import strategies as st

from comanda.resilience.limits import Bucket, take


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
