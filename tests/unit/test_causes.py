"""An order's story is in the order of causes, whatever the clocks of one transaction say."""

from datetime import UTC, datetime, timedelta

from comanda.checkout.causes import Tried, moments
from comanda.saga.definition import Direction

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: int, micro: int = 0) -> datetime:
    return BEGAN + timedelta(seconds=second, microseconds=micro)


def tried(second: int, micro: int, step: str, direction: Direction = "forward", *, is_failure: bool = False) -> Tried:
    return Tried(at(second, micro), step, direction, is_failure)


def test_what_one_transaction_did_stands_each_after_its_own_attempt() -> None:
    steps = [tried(1, 1, "process_payment"), tried(1, 2, "confirm_reservation"), tried(1, 4, "complete_order")]
    effects = [(at(1), "CONFIRMED"), (at(1), "PaymentProcessed"), (at(1), "ReservationConfirmed")]
    assert moments(effects, steps) == [at(1, 4), at(1, 1), at(1, 2)]


def test_a_charge_is_announced_before_it_is_answered() -> None:
    steps = [tried(1, 1, "verify_stock"), tried(1, 2, "reserve_inventory"), tried(3, 1, "process_payment")]
    effects = [(at(1), "PaymentInitiated"), (at(3), "PaymentProcessed")]
    assert moments(effects, steps) == [at(1, 2), at(3, 1)]
    assert moments(effects, steps[2:]) == [at(1), at(3, 1)], "another worker reserved"


def test_each_try_has_its_own_word() -> None:
    steps = [tried(second, 1, "process_payment", is_failure=True) for second in (1, 2)]
    effects = [(at(1), "PaymentStatusUpdated"), (at(2), "PaymentStatusUpdated"), (at(2), "OrderFailed")]
    assert moments(effects, steps) == [at(1, 1), at(2, 1), at(2, 1)]


def test_an_order_is_cancelled_after_the_last_of_its_undoing() -> None:
    steps = [
        tried(1, 1, "verify_stock"),
        tried(1, 2, "reserve_inventory", is_failure=True),
        tried(1, 3, "verify_stock", "backward"),
    ]
    effects = [(at(1), "PROCESSING"), (at(1), "OrderFailed"), (at(1), "OrderCancelled")]
    assert moments(effects, steps) == [at(1, 1), at(1, 2), at(1, 3)]
    refused = [tried(1, 1, "verify_stock", is_failure=True)]
    assert moments([(at(1), "OrderCancelled")], refused) == [at(1, 1)]


def test_what_no_attempt_caused_stands_where_its_time_is() -> None:
    assert moments([(at(1), "OrderCreated"), (at(1), "OrderShipped")], [tried(1, 1, "verify_stock")]) == [at(1)] * 2
