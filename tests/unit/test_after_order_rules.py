"""What may still be shipped, refunded and brought back of an order: pure rules."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import given

from comanda.checkout.order_saga import Patience
from comanda.checkout.refund_saga import refund_saga
from comanda.notifications.notifications import Notifications
from comanda.orders import model
from comanda.orders.model import Granted, LineStanding, NothingLeft, OrderState, Standing, TooManyUnits, TooMuchMoney
from comanda.payments.gateway import InstantGateway
from comanda.payments.refunds import GiveBack
from comanda.saga import verbs
from comanda.saga.log import Claimed
from comanda.saga.transitions import State
from comanda.saga.verbs import Seen

APPLE, PEAR = UUID(int=1), UUID(int=2)


def order(state: OrderState = OrderState.CONFIRMED, *, apples: int = 5, pears: int = 3) -> Standing:
    lines = {APPLE: LineStanding(APPLE, 100, apples), PEAR: LineStanding(PEAR, 250, pears)}
    total = 100 * apples + 250 * pears
    return Standing(uuid4(), uuid4(), state, True, "USD", "c", total, 0, total, lines)


@pytest.mark.parametrize("state", [one for one in OrderState if one is not OrderState.CONFIRMED])
def test_only_a_confirmed_order_is_shipped(state: OrderState) -> None:
    it = order(state)
    if state in (OrderState.SHIPPED, OrderState.DELIVERED):
        it.sent, it.lines = 1, {APPLE: LineStanding(APPLE, 100, 5, shipped=5)}
    refused = model.ship(it, None)
    assert isinstance(refused, model.WrongState)
    assert set(refused.onward) == model.MOVES[state]


def test_what_is_left_is_shipped_and_no_more() -> None:
    it = order()
    assert model.ship(it, {APPLE: 2}) == {APPLE: 2}
    assert model.progress(it) == []
    assert model.ship(it, {APPLE: 4}) == TooManyUnits(APPLE, 3)
    assert model.ship(it, {uuid4(): 1}) != {}
    assert model.ship(it, None) == {APPLE: 3, PEAR: 3}
    assert model.progress(it) == [OrderState.SHIPPED]
    it.delivered = it.sent
    assert model.progress(it) == [OrderState.SHIPPED, OrderState.DELIVERED]
    assert model.ship(it, None) == NothingLeft()


@pytest.mark.parametrize("state", [OrderState.SHIPPED, OrderState.DELIVERED])
def test_what_was_to_be_put_back_and_was_not_is_shipped_after_all(state: OrderState) -> None:
    it = order(state)
    it.sent, it.lines = 1, {APPLE: LineStanding(APPLE, 100, 3, shipped=2)}
    it.delivered = 1 if state is OrderState.DELIVERED else 0
    assert model.ship(it, None) == {APPLE: 1}
    assert model.progress(it) == [], "what has been delivered stays so"


def test_what_was_withdrawn_is_not_shipped() -> None:
    it = order()
    assert model.refund(it, "REFUND", {PEAR: 3}, None, is_restocked=True) == Granted(750, {PEAR: 3})
    assert model.ship(it, {PEAR: 1}) == TooManyUnits(PEAR, 0)
    assert model.ship(it, None) == {APPLE: 5}
    assert model.refund(it, "REFUND", {APPLE: 1}, None, is_restocked=True) == TooManyUnits(APPLE, 0)


def test_only_what_was_shipped_comes_back() -> None:
    it = order()
    assert model.refund(it, "RETURN", {APPLE: 1}, None, is_restocked=True) == TooManyUnits(APPLE, 0)
    model.ship(it, {APPLE: 2})
    assert model.refund(it, "RETURN", {APPLE: 2}, 150, is_restocked=False) == Granted(150, {APPLE: 2})
    assert model.refund(it, "RETURN", {APPLE: 1}, None, is_restocked=True) == TooManyUnits(APPLE, 0)


def test_no_more_than_its_price_is_given_back_for_a_line() -> None:
    it = order()
    assert model.refund(it, "REFUND", {APPLE: 1}, 101, is_restocked=False) == TooMuchMoney(100)
    assert model.refund(it, "REFUND", None, it.captured + 1, is_restocked=False) == TooMuchMoney(it.captured)
    assert model.refund(it, "REFUND", None, None, is_restocked=False) == Granted(it.captured, {})
    assert model.refund(it, "REFUND", None, None, is_restocked=False) == NothingLeft()


def claimed(state: State, attempt: int) -> Claimed:
    now = time.time()
    return Claimed(
        uuid4(), "refund", 1, uuid4(), state, "refund_payment", "forward", "payment-processing", 1, "STARTED", attempt,
        now, now, None, None, 1, 0, None, None, "c", None, waits=False,
    )  # fmt: skip


@pytest.mark.parametrize("verb", ["compensate", "resolve"])
def test_a_refund_that_may_have_gone_out_is_not_called_off(verb: verbs.Verb) -> None:
    base = timedelta(seconds=2)
    saga = refund_saga(GiveBack(InstantGateway()), Notifications(None), Patience(base, base, base))  # type: ignore[arg-type]
    assert verbs.refused(verb, claimed("RUNNING", 0), saga) is None
    assert "may have gone out" in str(verbs.refused(verb, claimed("RUNNING", 1), saga))
    stuck = claimed("COMPENSATION_FAILED", 8)
    assert "was not asked" in str(verbs.refused(verb, stuck, saga))
    for seen, said in (
        (Seen(stuck.token, is_done=False), "None"),
        (Seen(stuck.token, is_done=True), "it has gone out"),
        (Seen(stuck.token, is_done=None, error="503"), "does not say whether it has gone out (503)"),
        (Seen(stuck.token - 1, is_done=False), "was not asked"),
    ):
        assert said in str(verbs.refused(verb, stuck, saga, seen))


@pytest.mark.parametrize("verb", ["compensate", "resolve"])
def test_a_refund_that_is_past_its_payment_is_not_called_off(verb: verbs.Verb) -> None:
    base = timedelta(seconds=2)
    saga = refund_saga(GiveBack(InstantGateway()), Notifications(None), Patience(base, base, base))  # type: ignore[arg-type]
    beyond = claimed("COMPENSATION_FAILED", 8)
    beyond.step = "take_back"
    assert "has been done" in str(verbs.refused(verb, beyond, saga))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ship", "REFUND", "RETURN"]),
        st.none() | st.dictionaries(st.sampled_from([APPLE, PEAR]), st.integers(1, 6), min_size=1),
        st.none() | st.integers(1, 1500),
        st.booleans(),
    ),
    max_size=12,
)


@given(STEPS)
def test_whatever_is_asked_nothing_exceeds_what_there_was(steps: list[tuple[str, Any, int | None, bool]]) -> None:
    it = order()
    given_back = 0
    for verb, units, amount, is_restocked in steps:
        if verb == "ship":
            model.ship(it, units)
        else:
            kind: Any = verb
            done = model.refund(it, kind, units, amount, is_restocked=is_restocked and units is not None)
            given_back += done.amount if isinstance(done, Granted) else 0
        assert it.left_to_refund == it.captured - given_back >= 0
        for line in it.lines.values():
            assert line.shipped + line.withdrawn <= line.ordered
            assert line.withdrawn + line.returned <= line.refunded <= line.ordered
            assert line.returned <= line.shipped
