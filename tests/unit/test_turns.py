"""A crowd that waits looks again no faster than it costs little, a few as soon as their pause is over."""

from hypothesis import given
from hypothesis import strategies as st

from comanda.resilience.turns import Turns

PAUSE, LONGEST = 5.0, 60.0


def test_a_few_come_again_after_their_pause() -> None:
    turns = Turns()
    for now in (0.0, 5.0, 10.0):
        waits = turns.next(200, PAUSE, now, 0.0)
        assert min(waits) >= PAUSE
        assert max(waits) < PAUSE + 0.5


def test_of_a_crowd_so_many_come_a_second_and_all_within_a_minute() -> None:
    turns = Turns()
    comes = [1.0 * n / 1000 for n in range(20_000)]  # twenty thousand, a thousand a second, each looks again in turn
    looks = [0] * 200
    for second in range(200):
        here = [at for at in comes if second <= at < second + 1]
        looks[second] = len(here)
        again = turns.next(len(here), PAUSE, second, 0.5)
        comes = [at for at in comes if at >= second + 1] + [second + wait for wait in again]
    assert sum(looks[100:]) / 100 < 600, looks
    waits = Turns().next(50_000, PAUSE, 0.0, 0.99)
    assert max(waits) <= LONGEST * 1.1


@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(0.1, 90), st.floats(0, 5), st.floats(0, 0.99)), max_size=30),
)
def test_nobody_comes_before_the_pause_is_over_nor_long_after_a_minute(
    asked: list[tuple[int, float, float, float]],
) -> None:
    turns, now = Turns(), 0.0
    for count, pause, later, chance in asked:
        now += later
        waits = turns.next(count, pause, now, chance)
        assert len(waits) == count
        assert all(pause - 1e-6 <= wait <= max(pause, LONGEST) * 1.1 + 1e-6 for wait in waits)
        assert list(waits) == sorted(waits)
