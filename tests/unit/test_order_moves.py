"""The states of an order: what may follow what, and which passages of its saga lead there."""

from datetime import timedelta
from unittest.mock import Mock
from uuid import uuid4

import pytest

from comanda.checkout.order_saga import Patience, order_saga
from comanda.orders import model
from comanda.orders.model import LEGAL, MOVES, OrderState, marked, turned_back
from comanda.saga import Passage
from comanda.saga.definition import Direction

S = OrderState


def reachable(start: OrderState) -> set[OrderState]:
    found, waiting = {start}, [start]
    while waiting:
        ahead = MOVES[waiting.pop()] - found
        found |= ahead
        waiting += ahead
    return found


def test_every_state_has_its_moves_and_is_reached_from_pending() -> None:
    assert set(MOVES) == set(OrderState)
    assert reachable(S.PENDING) == set(OrderState)
    assert len(LEGAL) == len(set(LEGAL)) == sum(len(targets) for targets in MOVES.values())


def test_no_order_goes_round_in_circles() -> None:
    assert all(before not in reachable(after) for before, after in LEGAL)


def test_what_has_ended_is_never_under_way_again() -> None:
    under_way = {S.PENDING, S.PROCESSING, S.PAYMENT_PENDING, S.PAYMENT_FAILED}
    assert all(reachable(ended).isdisjoint(under_way) for ended in set(OrderState) - under_way)
    assert all(S.CANCELLED in reachable(state) for state in under_way), "whatever is under way can be undone"


@pytest.mark.parametrize(
    ("step", "direction", "event", "state"),
    [
        ("verify_stock", "forward", "done", S.PROCESSING),
        ("process_payment", "forward", "begun", S.PAYMENT_PENDING),
        ("process_payment", "forward", "refused", S.PAYMENT_FAILED),
        ("process_payment", "forward", "exhausted", S.PAYMENT_FAILED),
        ("process_payment", "backward", "begun", None),
        ("verify_stock", "forward", "refused", None),
        ("reserve_inventory", "forward", "done", None),
    ],
)
def test_passages_lead_to_states(step: str, direction: Direction, event: str, state: OrderState | None) -> None:
    assert marked(Passage(uuid4(), step, direction, event)) == state  # type: ignore[arg-type]


def test_the_steps_that_lead_to_states_are_steps_of_the_saga() -> None:
    second = timedelta(seconds=1)
    names = {step.name for step in order_saga(Mock(), Mock(), Mock(), Patience(second, second, second)).steps}
    assert {step for step, _, _ in model._MARKS} <= names


def test_orders_turn_back_where_a_step_refused_or_gave_up() -> None:
    passages = [
        Passage(uuid4(), "a", direction, event)
        for direction in ("forward", "backward")
        for event in ("begun", "done", "refused", "exhausted")
    ]  # fmt: skip
    assert turned_back(passages) == passages[2:4]  # type: ignore[arg-type,unused-ignore]
