"""Every standing that a saga can have, times every outcome."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise, product

import pytest

from comanda.errors import DefinitionFault
from comanda.resilience.backoff import Policy
from comanda.saga import Done, Failed, Later, Refused, Saga, local, nothing, remote
from comanda.saga.definition import Direction, Outcome
from comanda.saga.transitions import Move, Standing, advance

SECOND = timedelta(seconds=1)
PATIENCE = timedelta(seconds=60)


class _Charge:
    async def prepare(self, *_: object) -> list[object]:
        return []

    async def call(self, *_: object) -> None:
        return None

    async def record(self, *_: object) -> list[Outcome]:
        return []


SAGA = Saga(
    "order",
    steps=[
        local("verify", nothing, nothing, queue="a", reached="VERIFIED", retry=Policy(attempts=3)),
        local("reserve", nothing, nothing, queue="b", reached="RESERVED", retry=Policy(attempts=3)),
        remote(
            "pay",
            _Charge(),
            _Charge(),
            queue="c",
            reached="PAID",
            retry=Policy(attempts=None, patience=PATIENCE),
            undo_retry=Policy(attempts=3),
        ),
        local("complete", nothing, nothing, queue="a", reached="CONFIRMED", retry=Policy(attempts=3)),
        remote("deliver", _Charge(), nothing, queue="d", reached="SENT", retry=Policy(attempts=2), exhausted="stuck"),
    ],
)
NAMES = [step.name for step in SAGA.steps]
OUTCOMES: list[Outcome] = [Done(), Refused("NO"), Later("NOT_NOW", SECOND), Failed("broken", "BROKEN")]
DIRECTIONS: list[Direction] = ["forward", "backward"]
STANDINGS = list(product(NAMES, DIRECTIONS, range(5), [timedelta(0), PATIENCE], OUTCOMES))


def at(step: str, direction: Direction = "forward", attempt: int = 1, waited: timedelta = timedelta(0)) -> Standing:
    return Standing(step, direction, attempt, waited, "STARTED", "WHY" if direction == "backward" else None)


def go(standing: Standing, outcome: Outcome) -> Move:
    return advance(SAGA, standing, outcome, 0.5)


@pytest.mark.parametrize(("step", "direction", "attempt", "waited", "outcome"), STANDINGS)
def test_every_standing_has_a_move_that_makes_sense(
    step: str, direction: Direction, attempt: int, waited: timedelta, outcome: Outcome
) -> None:
    move = go(at(step, direction, attempt, waited), outcome)
    here, there = NAMES.index(step), NAMES.index(move.step)
    assert move.queue == SAGA[move.step].queue
    assert (move.state in {"RUNNING", "COMPLETED"}) <= (move.direction == "forward")
    assert (move.state in {"COMPENSATING", "COMPENSATED"}) <= (move.direction == "backward")
    assert (move.wait is None) or (not move.is_new_step and there == here and move.direction == direction)
    assert move.wait is None or move.wait > timedelta(0)
    if direction == "backward":
        assert move.direction == "backward", "what is being undone never goes forward again"
        assert there <= here
        assert not isinstance(outcome, Failed | Refused | Later) or there == here, "a compensation is never skipped"
    if move.state == "COMPENSATED":
        assert move.reason is not None
    if move.is_new_step:
        assert move.attempt == 0


@pytest.mark.parametrize(("here", "there"), list(pairwise(NAMES)))
def test_done_leads_to_the_next_step(here: str, there: str) -> None:
    move = go(at(here), Done())
    assert (move.state, move.step, move.reached, move.event) == ("RUNNING", there, SAGA[here].reached, "done")


def test_done_at_the_last_step_completes() -> None:
    move = go(at("deliver"), Done())
    assert (move.state, move.reached) == ("COMPLETED", "SENT")


def test_a_refusal_did_not_happen_so_the_steps_before_it_are_undone() -> None:
    move = go(at("pay"), Refused("CARD_DECLINED"))
    assert (move.state, move.step, move.reason, move.event) == ("COMPENSATING", "reserve", "CARD_DECLINED", "refused")


def test_a_refusal_after_a_call_that_nobody_answered_undoes_the_call_too() -> None:
    move = go(at("pay", attempt=2), Refused("RESERVATION_EXPIRED", is_unsure=True))
    assert (move.state, move.step) == ("COMPENSATING", "pay")


def test_a_refusal_at_the_first_step_leaves_nothing_to_undo() -> None:
    move = go(at("verify"), Refused("OUT_OF_STOCK"))
    assert (move.state, move.reason) == ("COMPENSATED", "OUT_OF_STOCK")


def test_compensation_goes_in_reverse_to_its_end() -> None:
    trail = []
    move = go(at("complete"), Refused("LATE"))
    while move.state == "COMPENSATING":
        trail.append(move.step)
        move = go(at(move.step, "backward"), Done())
    assert trail == ["pay", "reserve", "verify"]
    assert move.state == "COMPENSATED"


def test_a_remote_step_out_of_patience_may_have_happened_so_it_is_undone_too() -> None:
    move = go(at("pay", attempt=9, waited=PATIENCE), Failed("no answer", "PAYMENT_UNAVAILABLE"))
    assert (move.state, move.step, move.reason) == ("COMPENSATING", "pay", "PAYMENT_UNAVAILABLE")


def test_a_local_step_out_of_attempts_left_nothing_so_the_steps_before_it_are_undone() -> None:
    move = go(at("complete", attempt=3), Failed("bug", "STEP_FAILED"))
    assert (move.state, move.step, move.event) == ("COMPENSATING", "pay", "exhausted")


def test_later_counts_no_attempt_and_waits_as_told() -> None:
    move = go(at("pay", attempt=2), Later("PAYMENT_UNAVAILABLE", 5 * SECOND))
    assert (move.attempt, move.wait, move.state) == (2, 5 * SECOND, "RUNNING")


@pytest.mark.parametrize(("attempt", "undone_from"), [(0, "reserve"), (1, "pay")])
def test_patience_that_ends_behind_the_breaker_undoes_a_step_only_if_it_was_ever_tried(
    attempt: int, undone_from: str
) -> None:
    move = go(at("pay", attempt=attempt, waited=PATIENCE), Later("PAYMENT_UNAVAILABLE", SECOND))
    assert (move.state, move.step, move.event) == ("COMPENSATING", undone_from, "exhausted")


@pytest.mark.parametrize("outcome", [Failed("500"), Refused("NO")])
def test_a_compensation_out_of_attempts_is_stuck_never_skipped(outcome: Outcome) -> None:
    move = go(at("pay", "backward", attempt=3), outcome)
    assert (move.state, move.step, move.direction, move.reason) == ("COMPENSATION_FAILED", "pay", "backward", "WHY")


def test_a_step_that_may_not_be_undone_waits_for_an_operator() -> None:
    move = go(at("deliver", attempt=2), Failed("mail server is away"))
    assert (move.state, move.step, move.direction) == ("COMPENSATION_FAILED", "deliver", "forward")


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 2), (2, 4), (3, 8), (4, 8), (40, 8)])
def test_waits_double_up_to_their_cap(attempt: int, seconds: int) -> None:
    assert Policy(attempts=99).wait(attempt, 0.5) == timedelta(seconds=seconds)


def test_jitter_spreads_a_wait_by_a_fifth() -> None:
    policy = Policy()
    assert policy.wait(1, 0.0) == timedelta(seconds=1.6)
    assert policy.wait(1, 0.999999) == pytest.approx(timedelta(seconds=2.4), abs=timedelta(milliseconds=1))


def test_a_policy_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an end"):
        Policy(attempts=None)


def test_a_step_that_nobody_declared_is_a_fault() -> None:
    with pytest.raises(DefinitionFault, match="no step named vanish"):
        SAGA.position("vanish")


def test_two_steps_of_one_name_are_refused() -> None:
    step = local("same", nothing, nothing, queue="a", reached="X")
    with pytest.raises(DefinitionFault, match="name of its own"):
        Saga("twice", steps=[step, step])


def test_a_remote_step_with_a_rest_is_refused() -> None:
    async def finish(_tx: object, _rests: Sequence[object]) -> None:
        return

    step = remote("pay", _Charge(), nothing, queue="a", reached="PAID", finish=finish)
    with pytest.raises(DefinitionFault, match="pay: what a remote step leaves is in its `record`"):
        Saga("late", steps=[step])
