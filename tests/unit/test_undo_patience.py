"""How long a compensation that fails is tried: longer than an outage of half a minute, and seen within a minute."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from comanda.checkout.order_saga import Patience

UNDO = Patience(timedelta(seconds=2), timedelta(minutes=15), timedelta(minutes=30)).undo()


def given_up_after(chances: list[float], call: float, *, back_at: float = float("inf")) -> float | None:
    """Seconds until it is given up, when each call takes so long to fail; None: it succeeded."""
    at = 0.0
    for attempt, chance in enumerate(chances, start=1):
        if at >= back_at:
            return None
        at += call
        if UNDO.is_over(attempt, timedelta(seconds=at)):
            return at
        at += UNDO.wait(attempt, chance).total_seconds()
    raise AssertionError("it goes on for ever")


CHANCES = st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20)


@given(CHANCES, st.floats(0, 5))
def test_what_fails_for_ever_is_given_up_within_a_minute_however_slowly_it_fails(
    chances: list[float], call: float
) -> None:
    after = given_up_after(chances, call)
    assert after is not None
    assert after <= 60


@given(CHANCES, st.floats(0, 5))
def test_what_fails_for_half_a_minute_succeeds(chances: list[float], call: float) -> None:
    assert given_up_after(chances, call, back_at=30) is None


def test_time_that_passed_while_nobody_worked_is_no_attempt() -> None:
    hours = timedelta(hours=3)
    assert [UNDO.is_over(attempt, hours) for attempt in range(1, 9)] == [False] * 4 + [True] * 4
