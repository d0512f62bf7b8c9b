"""The breaker: closed, open, one probe, closed again."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from comanda.resilience.breaker import Breaker, Rule, State, admitted, after, probing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULE = Rule(threshold=5, pause=timedelta(seconds=5))


def test_it_opens_at_the_fifth_failure_in_a_row() -> None:
    breaker = after(Breaker(), [False] * 4, RULE, NOW)
    assert breaker.state is State.CLOSED
    assert after(breaker, [False], RULE, NOW).state is State.OPEN


def test_an_answer_between_failures_starts_the_count_anew() -> None:
    assert after(Breaker(), [False, False, False, False, True, False, False], RULE, NOW).state is State.CLOSED


def test_while_open_nobody_passes_until_the_probe_is_due() -> None:
    breaker = after(Breaker(), [False] * 5, RULE, NOW)
    assert admitted(breaker, 100, NOW) == 0
    assert admitted(breaker, 100, NOW + RULE.pause) == 1


def test_while_a_probe_is_out_nobody_else_passes() -> None:
    breaker = probing(after(Breaker(), [False] * 5, RULE, NOW), RULE, NOW)
    assert admitted(breaker, 100, NOW) == 0


def test_a_probe_that_never_came_back_is_followed_by_another() -> None:
    breaker = probing(after(Breaker(), [False] * 5, RULE, NOW), RULE, NOW)
    assert admitted(breaker, 100, NOW + RULE.pause) == 1


def test_an_answered_probe_closes_it_and_a_failed_one_opens_it_again() -> None:
    breaker = probing(after(Breaker(), [False] * 5, RULE, NOW), RULE, NOW)
    assert after(breaker, [True], RULE, NOW) == Breaker()
    again = after(breaker, [False], RULE, NOW)
    assert (again.state, again.probe_at) == (State.OPEN, NOW + RULE.pause)


class BreakerMachine(RuleBasedStateMachine):
    """Whatever happens: open means that at most one call passes in each pause."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = NOW
        self.failures_in_a_row = 0

    @rule(seconds=st.integers(0, 7))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(wanted=st.integers(1, 50), is_answer=st.booleans())
    def calls_go_out(self, wanted: int, is_answer: bool) -> None:
        count = admitted(self.breaker, wanted, self.now)
        assert count in {0, 1, wanted}
        if count and self.breaker.state is not State.CLOSED:
            assert count == 1
            self.breaker = probing(self.breaker, RULE, self.now)
            assert admitted(self.breaker, wanted, self.now) == 0
        self.breaker = after(self.breaker, [is_answer] * count, RULE, self.now)
        if count:
            self.failures_in_a_row = 0 if is_answer else self.failures_in_a_row + count

    @invariant()
    def it_is_open_after_five_failures_in_a_row_and_only_then(self) -> None:
        assert (self.breaker.state is not State.CLOSED) == (self.failures_in_a_row >= RULE.threshold)


BreakerMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40)
TestBreaker = BreakerMachine.TestCase
