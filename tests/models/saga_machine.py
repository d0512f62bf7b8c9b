"""A saga's moves against a story that knows nothing of positions: what was done, and what is still to be undone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition

from comanda.resilience.backoff import Policy
from comanda.saga import Done, Failed, Later, Refused, Saga
from comanda.saga.definition import Outcome, Step, nothing
from comanda.saga.transitions import ENDED, OPEN, Move, Standing, State, advance
from steps import Machine, Tally, step

ZERO = timedelta(0)
SECONDS = st.integers(1, 9).map(lambda number: timedelta(seconds=number))
POLICIES = st.one_of(
    st.builds(Policy, attempts=st.integers(1, 3), base=SECONDS),
    st.builds(Policy, attempts=st.none(), patience=SECONDS, base=SECONDS),
    st.builds(Policy, attempts=st.integers(1, 4), patience=SECONDS, base=SECONDS),
)
STEPS = st.builds(
    Step,
    name=st.just(""),
    action=st.just(nothing),
    compensate=st.just(nothing),
    queue=st.sampled_from(["a", "b", "c"]),
    reached=st.just(""),
    is_remote=st.booleans(),
    retry=POLICIES,
    undo_retry=POLICIES,
    exhausted=st.sampled_from(["undo", "undo", "stuck"]),
)
OUTCOMES = st.one_of(
    st.just(Done()),
    st.just(Done()),
    st.builds(Refused, st.sampled_from(["NO", "NEVER"]), is_unsure=st.booleans()),
    st.builds(Later, st.just("NOT_NOW"), SECONDS),
    st.builds(Failed, st.just("broken"), st.sampled_from(["BROKEN", "SILENT"])),
)


@dataclass
class Story:
    """What one saga went through.

    `debts`: what is to be undone, the next one last; None while nothing is. `spent`: outcomes here that count.
    """

    steps: Sequence[Step]
    done: list[str] = field(default_factory=list)
    debts: list[str] | None = None
    owed: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    spent: int = 0
    waited: timedelta = ZERO
    reason: str | None = None
    is_stuck: bool = False

    @property
    def state(self) -> State:
        if self.is_stuck:
            return "COMPENSATION_FAILED"
        if self.debts is not None:
            return "COMPENSATING" if self.debts else "COMPENSATED"
        return "RUNNING" if len(self.done) < len(self.steps) else "COMPLETED"

    @property
    def here(self) -> Step:
        name = self.debts[-1] if self.debts else self.steps[len(self.done)].name
        return next(one for one in self.steps if one.name == name)

    @property
    def policy(self) -> Policy:
        return self.here.retry if self.debts is None else self.here.undo_retry

    @property
    def is_out_of_patience(self) -> bool:
        return self.policy.patience is not None and self.waited >= self.policy.patience

    @property
    def is_spent(self) -> bool:
        return self.is_out_of_patience or (self.policy.attempts is not None and self.spent >= self.policy.attempts)

    def hear(self, outcome: Outcome) -> None:
        """Whoever goes on to another step starts there anew; who stays has one attempt less, if it counts."""
        self.spent += not isinstance(outcome, Later)
        match outcome:
            case Done() if self.debts is None:
                self.done.append(self.here.name)
                self.spent, self.waited = 0, ZERO
            case Done() if self.debts:
                self.undone.append(self.debts.pop())
                self.spent, self.waited = 0, ZERO
            case Refused(reason, is_unsure) if self.debts is None:
                self._turn(reason, it_may_have_happened=is_unsure)
            case Later(reason) if self.debts is None and self.is_out_of_patience:
                self._give_up(reason, it_may_have_happened=self.spent > 0)
            case Failed(_, code) if self.debts is None and self.is_spent:
                self._give_up(code, it_may_have_happened=self.here.is_remote)
            case Failed() | Refused() if self.debts is not None and self.is_spent:
                self.is_stuck = True

    def _give_up(self, reason: str, *, it_may_have_happened: bool) -> None:
        if self.here.exhausted == "stuck":
            self.is_stuck, self.reason = True, reason
        else:
            self._turn(reason, it_may_have_happened=it_may_have_happened)

    def _turn(self, reason: str, *, it_may_have_happened: bool) -> None:
        self.owed = [*self.done, self.here.name] if it_may_have_happened else [*self.done]
        self.debts, self.reason = list(self.owed), reason
        self.spent, self.waited = 0, ZERO


class SagaMachine(Machine):
    """Random definitions, random outcomes: every move is the story's, and every end keeps what a saga promises."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.saga: Saga
        self.story: Story
        self.at: Standing
        self.state: State
        self.wait: timedelta | None = None

    @initialize(steps=st.lists(STEPS, min_size=1, max_size=6))
    def a_saga_is_declared(self, steps: list[Step]) -> None:
        named = [
            Step(f"s{n}", one.action, one.compensate, one.queue, f"R{n}", one.is_remote, one.retry, one.undo_retry,
                 exhausted=one.exhausted)
            for n, one in enumerate(steps)
        ]  # fmt: skip
        self.saga = Saga("any", named)
        self._begins()

    def _begins(self) -> None:
        self.story = Story(self.saga.steps)
        self.at = Standing(self.saga.first.name, "forward", 0, ZERO, self.saga.started, None)
        self.state, self.wait = "RUNNING", None

    @precondition(lambda self: self.state in OPEN)
    @step(outcome=OUTCOMES, chance=st.floats(0, 1, exclude_max=True), late=st.integers(0, 3))
    def it_is_answered(self, outcome: Outcome, chance: float, late: int) -> None:
        passed = self.at.waited + (self.wait or ZERO) + timedelta(seconds=late)
        attempt = self.at.attempt + (not isinstance(outcome, Later))
        at = Standing(self.at.step, self.at.direction, attempt, passed, self.at.reached, self.at.reason)
        self.story.waited = passed
        before = self.story.here
        policy, tries = self.story.policy, self.story.spent + 1
        move = advance(self.saga, at, outcome, chance)
        self.story.hear(outcome)

        assert move.state == self.story.state
        assert move.reason == self.story.reason
        assert move.reached == (f"R{len(self.story.done) - 1}" if self.story.done else self.saga.started)
        self._waits_only_where_it_stays(at, move, outcome, policy, tries)
        if move.state in OPEN:
            assert move.step == self.story.here.name
            assert move.queue == self.story.here.queue
            assert move.direction == ("forward" if self.story.debts is None else "backward")
        elif move.is_stuck:
            assert move.step == before.name, "it is stuck where it stands: nothing is skipped"
            assert self.story.is_spent
        self.state, self.wait = move.state, move.wait
        waited = ZERO if move.is_new_step else passed
        self.at = Standing(move.step, move.direction, move.attempt, waited, move.reached, move.reason)
        self._an_end_keeps_its_promise()
        self.saw(move.state)

    @staticmethod
    def _waits_only_where_it_stays(at: Standing, move: Move, outcome: Outcome, policy: Policy, tries: int) -> None:
        is_again = move.wait is not None
        assert is_again == (move.step == at.step and move.direction == at.direction and move.state in OPEN)
        assert move.is_new_step == (not is_again and not move.is_stuck)
        assert move.attempt == (0 if move.is_new_step else at.attempt)
        if move.wait is None:
            return
        assert not isinstance(outcome, Done)
        if isinstance(outcome, Later):
            assert move.wait == outcome.after
        else:
            nominal = min(policy.base * 2 ** (tries - 1), policy.cap)
            assert 0.79 * nominal <= move.wait <= 1.21 * nominal
            assert policy.attempts is None or tries < policy.attempts
        if at.direction == "forward" and policy.patience is not None:
            assert at.waited < policy.patience, "patience is bounded"

    def _an_end_keeps_its_promise(self) -> None:
        """Written against the whole story and not against the last move."""
        names = [one.name for one in self.saga.steps]
        assert self.story.done == names[: len(self.story.done)]
        assert self.story.undone == self.story.owed[::-1][: len(self.story.undone)], "in reverse, nothing skipped"
        assert set(Counter(self.story.undone).values()) <= {1}, "each once"
        if self.state == "COMPLETED":
            assert self.story.done == names
            assert self.story.undone == []
        if self.state == "COMPENSATED":
            assert self.story.undone == self.story.owed[::-1]
            assert set(self.story.done) <= set(self.story.undone)
            assert self.story.reason is not None

    @precondition(lambda self: self.state in ENDED or (self.story.is_stuck and self.story.debts is None))
    @step()
    def it_is_over_and_the_next_one_begins(self) -> None:
        """Nothing claims a saga outside `OPEN`; an operator looks after one that is stuck on its way forward."""
        assert self.state not in OPEN
        self._begins()

    @precondition(lambda self: self.story.is_stuck and self.story.debts is not None)
    @step()
    def an_operator_sends_it_round_again(self) -> None:
        self.story.is_stuck = False
        self.story.spent, self.story.waited = 0, ZERO
        self.at = Standing(self.at.step, self.at.direction, 0, ZERO, self.at.reached, self.at.reason)
        self.state, self.wait = "COMPENSATING", None
        self.saw("redriven")
