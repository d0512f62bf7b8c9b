"""After an outage those that waited come back at a pace that the other side knows."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from comanda.resilience.ramp import FACTOR, Ramp, admitted

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RATE = 10.0


def came_back(waiting: int, seconds: int, *, asks_each: float = 0.1) -> list[int]:
    """How many went out in each second, of a crowd that asks again and again while ten new ones come each second."""
    ramp: Ramp | None = Ramp.begin(RATE, NOW)
    out = [0] * seconds
    for n in range(int(seconds / asks_each)):
        now = NOW + timedelta(seconds=(n + 1) * asks_each)
        waiting += 1
        if ramp is None:
            count = waiting
        else:
            count, ramp = admitted(ramp, waiting, now)
        waiting -= count
        out[min(int((n + 1) * asks_each), seconds - 1)] += count
    return out


def test_a_crowd_comes_back_at_hardly_more_than_the_rate_before() -> None:
    out = came_back(200, 30)
    assert max(sum(out[n : n + 5]) for n in range(25)) <= 2 * RATE * 5
    assert sum(out[:5]) >= 4 * RATE * FACTOR, "what may go out does go out"


def test_it_gets_faster_when_the_crowd_does_not_get_smaller() -> None:
    out = came_back(3000, 240)
    assert sum(out[10:20]) == 10 * RATE * FACTOR
    assert sum(out[70:80]) == 20 * RATE * FACTOR
    assert sum(out[130:140]) == 40 * RATE * FACTOR


def test_it_is_over_when_nobody_was_held_back_for_a_while() -> None:
    ramp = Ramp.begin(RATE, NOW)
    assert admitted(ramp, 100, NOW + timedelta(seconds=9))[1] is not None
    assert admitted(ramp, 100, NOW + timedelta(seconds=10)) == (100, None)


def test_what_was_not_asked_for_is_not_saved_up() -> None:
    ramp = Ramp.begin(RATE, NOW)
    assert admitted(ramp, 100, NOW + timedelta(seconds=9))[0] == int(RATE * FACTOR)


@given(asks=st.lists(st.tuples(st.floats(-0.5, 3), st.integers(0, 50)), min_size=1, max_size=60))
def test_no_more_than_the_pace_and_a_second_ahead_ever_go_out(asks: list[tuple[float, int]]) -> None:
    """Clocks of different transactions go back now and then."""
    ramp, now, total = Ramp.begin(RATE, NOW), NOW, 0
    latest = NOW
    for seconds, wanted in asks:
        now += timedelta(seconds=seconds)
        latest = max(latest, now)
        count, after = admitted(ramp, wanted, now)
        if after is None:
            return
        assert 0 <= count <= wanted
        ramp, total = after, total + count
        elapsed = (latest - NOW).total_seconds()
        doubled = 2 ** int(elapsed // 60)
        assert total <= RATE * FACTOR * doubled * (elapsed + 1) + 1
